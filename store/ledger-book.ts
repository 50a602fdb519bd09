/**
 * The ledger in memory: one line per (device, stream), their sum, and what each lane holds.
 *
 * Memory follows the disk: a `LedgerDelta` collects what one transaction counts, is written with it, and is
 * applied here after the commit.
 */
import { LANES } from '../daemon/ports.ts'
import type { Counted, LedgerLine, ShedReason } from '../daemon/ports.ts'
import { MalformedBytes } from './bytes.ts'
import { DEAD_LETTERED, DELIVERED, EXPORTED, LedgerWriter, RECEIVED, SHED_CODES } from './ledger-codec.ts'
import type { LedgerSink } from './ledger-codec.ts'

/** Line 0 holds the devices that were folded, and what belongs to no device. */
export const OTHER_ID = 0
export const OTHER = 'other'

/** Device and stream together, in UTF-16 units. */
const MAX_NAME_LENGTH = 256

const ZERO: Counted = { messages: 0, bytes: 0 }

/** Messages and bytes by code. */
export class Tally {
  readonly counts = new Map<number, { messages: number; bytes: number }>()

  add(code: number, messages: number, bytes: number): void {
    const count = this.counts.get(code)
    if (count === undefined) this.counts.set(code, { messages, bytes })
    else {
      count.messages += messages
      count.bytes += bytes
    }
  }

  get(code: number): Counted {
    return this.counts.get(code) ?? ZERO
  }

  /** Received and not yet accounted for: what the line's device still has in the buffer. */
  get balance(): Counted {
    let { messages, bytes } = this.get(RECEIVED)
    for (const [code, count] of this.counts) {
      if (code === RECEIVED) continue
      messages -= count.messages
      bytes -= count.bytes
    }
    return { messages, bytes }
  }

  shed(): Partial<Record<ShedReason, Counted>> {
    const shed: Partial<Record<ShedReason, Counted>> = {}
    for (const [reason, code] of Object.entries(SHED_CODES)) {
      const count = this.counts.get(code)
      if (count !== undefined && (count.messages !== 0 || count.bytes !== 0)) shed[reason as ShedReason] = { ...count }
    }
    return shed
  }
}

export interface Line {
  readonly id: number
  readonly device: string
  readonly stream: string
  readonly tally: Tally
  /** Its `define` is on the disk. */
  durable: boolean
}

export class LedgerBook implements LedgerSink {
  readonly lines = new Map<string, Line>()
  readonly totals = new Tally()
  readonly lanes = LANES.map(() => ({ messages: 0, bytes: 0 }))
  readonly #byId = new Map<number, Line>()
  #nextId = OTHER_ID + 1

  constructor() {
    this.#put({ id: OTHER_ID, device: OTHER, stream: '', tally: new Tally(), durable: false })
  }

  get other(): Line {
    return this.#byId.get(OTHER_ID) as Line
  }

  find(device: string, stream: string): Line | undefined {
    return this.lines.get(keyOf(device, stream))
  }

  /** The line of a device, made when it has none. A name of thousands of letters has none: memory is bounded. */
  lineOf(device: string, stream: string): Line {
    if (device.length + stream.length > MAX_NAME_LENGTH) return this.other
    return this.find(device, stream) ?? this.#put({ id: this.#nextId, device, stream, tally: new Tally(), durable: false })
  }

  define(id: number, device: string, stream: string): void {
    if (id === OTHER_ID) this.other.durable = true
    else this.#put({ id, device, stream, tally: new Tally(), durable: true })
  }

  count(id: number, code: number, messages: number, bytes: number): void {
    const line = this.#byId.get(id)
    if (line === undefined) throw new MalformedBytes(`the ledger counts for line ${id}, which it never defined`)
    line.tally.add(code, messages, bytes)
    this.totals.add(code, messages, bytes)
  }

  lane(index: number, messages: number, bytes: number): void {
    const lane = this.lanes[index]
    if (lane === undefined) throw new MalformedBytes(`the ledger counts for lane ${index}, which does not exist`)
    lane.messages += messages
    lane.bytes += bytes
  }

  /**
   * Folds lines into `other` until `keep` are left: first those with nothing in the buffer, those with the
   * least traffic first. Only right just before a snapshot: the log knows nothing of it.
   */
  fold(keep: number): void {
    const excess = this.lines.size - 1 - keep
    if (excess <= 0) return
    const ranked = [...this.lines.values()]
      .filter((line) => line.id !== OTHER_ID)
      .map((line) => ({
        line,
        open: line.tally.balance.messages > 0 ? 1 : 0,
        received: line.tally.get(RECEIVED).messages,
      }))
      .sort((a, b) => a.open - b.open || a.received - b.received || a.line.id - b.line.id)
    for (const { line } of ranked.slice(0, excess)) this.#foldOne(line)
  }

  top(limit: number): LedgerLine[] {
    return [...this.lines.values()]
      .map((line) => ({ line, shed: shedMessages(line.tally), received: line.tally.get(RECEIVED).messages }))
      .filter(({ line }) => line.tally.counts.size > 0)
      .sort((a, b) => b.shed - a.shed || b.received - a.received || (a.line.device < b.line.device ? -1 : 1))
      .slice(0, limit)
      .map(({ line }) => ledgerLine(line))
  }

  #put(line: Line): Line {
    this.lines.set(line.id === OTHER_ID ? '' : keyOf(line.device, line.stream), line)
    this.#byId.set(line.id, line)
    this.#nextId = Math.max(this.#nextId, line.id + 1)
    return line
  }

  #foldOne(line: Line): void {
    for (const [code, count] of line.tally.counts) this.other.tally.add(code, count.messages, count.bytes)
    this.lines.delete(keyOf(line.device, line.stream))
    this.#byId.delete(line.id)
  }
}

/** NUL stands in no MQTT topic (MQTT 3.1.1, 1.5.3), so two pairs never make one key. */
function keyOf(device: string, stream: string): string {
  return `${device}\0${stream}`
}

function shedMessages(tally: Tally): number {
  let sum = 0
  for (const code of Object.values(SHED_CODES)) sum += tally.get(code).messages
  return sum
}

function ledgerLine({ device, stream, tally }: Line): LedgerLine {
  return {
    device,
    stream,
    shed: tally.shed(),
    received: { ...tally.get(RECEIVED) },
    delivered: { ...tally.get(DELIVERED) },
    deadLettered: { ...tally.get(DEAD_LETTERED) },
    ...(tally.get(EXPORTED).messages === 0 ? {} : { exported: { ...tally.get(EXPORTED) } }),
  }
}

/** What one transaction counts. */
export class LedgerDelta {
  readonly #book: LedgerBook
  readonly #lines = new Map<Line, Tally>()
  readonly #lanes = new Map<number, { messages: number; bytes: number }>()

  constructor(book: LedgerBook) {
    this.#book = book
  }

  get empty(): boolean {
    return this.#lines.size === 0 && this.#lanes.size === 0
  }

  received(device: string, stream: string, messages: number, bytes: number): void {
    this.#tally(this.#book.lineOf(device, stream)).add(RECEIVED, messages, bytes)
  }

  /** An outcome that is decided together with the receipt, so the line exists. */
  shed(device: string, stream: string, code: number, messages: number, bytes: number): void {
    this.#tally(this.#book.lineOf(device, stream)).add(code, messages, bytes)
  }

  /**
   * The outcome of messages that were received earlier. A line that was folded meanwhile took its receipts to
   * `other`, so what the line can't answer for is counted there: no line ever shows more out than in.
   */
  outcome(device: string, stream: string, code: number, messages: number, bytes: number): void {
    const line = this.#book.find(device, stream)
    const open = line === undefined ? ZERO : this.#open(line)
    const own = Math.min(messages, Math.max(0, open.messages))
    // Each for itself: a message of the folded time may be large or small beside the one that the line still has open.
    const ownBytes = Math.min(bytes, Math.max(0, open.bytes))
    if (line !== undefined && (own > 0 || ownBytes > 0)) this.#tally(line).add(code, own, ownBytes)
    if (own < messages || ownBytes < bytes) this.#tally(this.#book.other).add(code, messages - own, bytes - ownBytes)
  }

  /** Takes dead letters out again: their line answers, or `other` if it was folded. */
  revive(device: string, stream: string, bytes: number): void {
    const line = this.#book.find(device, stream)
    const known = line !== undefined && line.tally.get(DEAD_LETTERED).messages > 0 ? line : this.#book.other
    this.#tally(known).add(DEAD_LETTERED, -1, -bytes)
  }

  /** Counts that belong to no device. */
  unowned(code: number, messages: number, bytes: number): void {
    this.#tally(this.#book.other).add(code, messages, bytes)
  }

  lane(index: number, messages: number, bytes: number): void {
    const lane = this.#lanes.get(index) ?? { messages: 0, bytes: 0 }
    this.#lanes.set(index, { messages: lane.messages + messages, bytes: lane.bytes + bytes })
  }

  encode(): Buffer {
    const out = new LedgerWriter()
    for (const [line, tally] of this.#lines) {
      if (!line.durable) out.define(line.id, line.device, line.stream)
      for (const [code, count] of tally.counts) out.count(line.id, code, count.messages, count.bytes)
    }
    for (const [index, lane] of this.#lanes) out.lane(index, lane.messages, lane.bytes)
    return out.finish()
  }

  /** After the commit. */
  apply(): void {
    for (const [line, tally] of this.#lines) {
      line.durable = true
      for (const [code, count] of tally.counts) this.#book.count(line.id, code, count.messages, count.bytes)
    }
    for (const [index, lane] of this.#lanes) this.#book.lane(index, lane.messages, lane.bytes)
  }

  #tally(line: Line): Tally {
    let tally = this.#lines.get(line)
    if (tally === undefined) {
      tally = new Tally()
      this.#lines.set(line, tally)
    }
    return tally
  }

  #open(line: Line): Counted {
    const before = line.tally.balance
    const now = this.#lines.get(line)?.balance ?? ZERO
    return { messages: before.messages + now.messages, bytes: before.bytes + now.bytes }
  }
}
