/**
 * An outbox in memory as the relay sees it: lanes, epochs, watermarks, dead letters, protection and a ledger, with
 * the rules of the real one. What is appended is durable at once. `restart` is a new start of the daemon on the
 * same file; what the life before had under way has then no effect any more.
 */
import { LANES } from '../../daemon/ports.ts'
import type {
  Advance,
  DeadLetter,
  EpochId,
  EpochState,
  Envelope,
  InternalRecord,
  Lane,
  OutboxReader,
  OutboxState,
  Stored,
} from '../../daemon/ports.ts'
import type { Clock } from '../../daemon/clock.ts'

export const DOUBT_MESSAGES = 10_000
export const DOUBT_BYTES = 4 << 20
const READ_MESSAGES = 10_000

interface FakeLane {
  rows: Stored[]
  watermark: number
  highest: number
  /** Positions above the watermark that were set aside. */
  readonly holes: Set<number>
  protectedTo: number
}

interface EpochRow {
  readonly epoch: EpochId
  readonly bootId: string
  readonly createdMs: number
  touchedMs: number
}

/** What an outbox call may do instead of its work. */
export type OutboxFault = 'fail' | 'never-answer' | 'apply-and-never-answer'

export class FakeOutboxReader implements OutboxReader {
  readonly letters: DeadLetter[] = []
  readonly counts = { received: 0, delivered: 0, deadLettered: 0, evicted: 0 }
  readonly calls = { reads: 0, advances: 0, protects: 0, epochs: 0 }
  /** Decides what an `advanceTo` does. */
  fault: ((advances: readonly Advance[], letters: readonly DeadLetter[]) => OutboxFault | undefined) | undefined
  readonly #clock: Clock
  readonly #lanes: Record<Lane, FakeLane>
  readonly #epochs: EpochRow[] = []
  readonly #listeners = new Set<() => void>()
  #epoch: EpochId | undefined
  #starts = 0
  #bootId: string

  constructor(clock: Clock) {
    this.#clock = clock
    this.#bootId = clock.bootId
    this.#lanes = Object.fromEntries(LANES.map((lane) => [lane, emptyLane()])) as Record<Lane, FakeLane>
    this.restart()
  }

  /** A new daemon start: a new epoch at the next append, and what the last transaction can have held is guarded. */
  restart(bootId = this.#clock.bootId): void {
    this.#starts += 1
    this.#bootId = bootId
    this.#epoch = undefined
    this.#listeners.clear()
    for (const lane of LANES) this.#lanes[lane].protectedTo = guardEnd(this.#lanes[lane].rows)
  }

  append(lane: Lane, ...envelopes: Partial<Envelope>[]): readonly Stored[] {
    return this.#push(
      lane,
      envelopes.map((given) => ({ envelope: { ...this.#envelope(), ...given } })),
    )
  }

  submitInternal(internal: InternalRecord): void {
    this.#push('internal', [{ internal }])
  }

  /** Sheds the oldest messages that nobody protects. Returns them. */
  evict(lane: Lane, count: number): readonly Stored[] {
    const state = this.#lanes[lane]
    const evicted = state.rows.filter(({ position }) => position > state.protectedTo).slice(0, count)
    state.rows = state.rows.filter((row) => !evicted.includes(row))
    this.counts.evicted += evicted.length
    this.#raise(state)
    return evicted
  }

  /** Sets when an epoch was last touched, as if long ago. */
  touch(epoch: EpochId, wallMs: number): void {
    const row = this.#epochs.find((known) => known.epoch === epoch)
    if (row !== undefined) row.touchedMs = wallMs
  }

  rows(lane: Lane): readonly Stored[] {
    return this.#lanes[lane].rows
  }

  async readAfter(lane: Lane, position: number, maxBytes: number): Promise<readonly Stored[]> {
    this.calls.reads += 1
    await Promise.resolve()
    const state = this.#lanes[lane]
    const open = state.rows.filter((row) => row.position > Math.max(position, state.watermark))
    const run = denseRun(open, maxBytes)
    state.protectedTo = Math.max(state.protectedTo, run.at(-1)?.position ?? 0)
    return run
  }

  protect(ends: readonly { readonly lane: Lane; readonly position: number }[]): void {
    this.calls.protects += 1
    for (const { lane, position } of ends) this.#lanes[lane].protectedTo = Math.max(this.#lanes[lane].protectedTo, position)
  }

  unprotect(): void {
    for (const lane of LANES) this.#lanes[lane].protectedTo = 0
  }

  async advanceTo(advances: readonly Advance[], letters: readonly DeadLetter[]): Promise<void> {
    this.calls.advances += 1
    const start = this.#starts
    const fault = this.fault?.(advances, letters)
    await Promise.resolve()
    // The file belongs to the daemon that was started last.
    if (start !== this.#starts) return new Promise(() => undefined)
    if (fault === 'fail') throw new Error('the disk is gone')
    if (fault !== 'never-answer') this.#apply(advances, letters)
    if (fault !== undefined) return new Promise(() => undefined)
  }

  async epochs(): Promise<readonly EpochState[]> {
    this.calls.epochs += 1
    const spans = this.#spans()
    return this.#epochs.map((row) => ({ ...row, lanes: spans.get(row.epoch) ?? {} }))
  }

  state(): OutboxState {
    const lanes = Object.fromEntries(
      LANES.map((lane) => {
        const { rows, watermark, highest } = this.#lanes[lane]
        const bytes = rows.reduce((sum, row) => sum + payloadBytes(row), 0)
        return [lane, { messages: rows.length, bytes, watermark, highest, oldestMs: undefined, blocked: false }]
      }),
    ) as unknown as OutboxState['lanes']
    return {
      lanes,
      usedBytes: 0,
      maxBytes: 1 << 30,
      freeDiskBytes: 1 << 30,
      inFlight: { messages: 0, bytes: 0 },
      blockedReason: undefined,
      epoch: this.#epoch,
      commits: 0,
      deadLetters: this.letters.length,
      notices: [],
    }
  }

  onAppend(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  get listeners(): number {
    return this.#listeners.size
  }

  /** received = delivered + buffered + dead-lettered + evicted, over all lanes. */
  get balance(): number {
    const { received, delivered, deadLettered, evicted } = this.counts
    return received - delivered - deadLettered - evicted - LANES.reduce((sum, lane) => sum + this.#lanes[lane].rows.length, 0)
  }

  #push(lane: Lane, contents: readonly ({ envelope: Envelope } | { internal: InternalRecord })[]): readonly Stored[] {
    const state = this.#lanes[lane]
    const epoch = this.#ensureEpoch()
    const stored = contents.map((content) => ({ epoch, position: (state.highest += 1), ...content }))
    state.rows.push(...stored)
    this.counts.received += stored.length
    for (const listener of this.#listeners) listener()
    return stored
  }

  #ensureEpoch(): EpochId {
    if (this.#epoch === undefined) {
      this.#epoch = this.#starts.toString(16).padStart(16, '0')
      const nowMs = this.#clock.wallMs()
      this.#epochs.push({ epoch: this.#epoch, bootId: this.#bootId, createdMs: nowMs, touchedMs: nowMs })
    }
    return this.#epoch
  }

  #apply(advances: readonly Advance[], letters: readonly DeadLetter[]): void {
    for (const letter of letters) this.#setAside(letter)
    for (const { lane, epoch, position } of advances) {
      const state = this.#lanes[lane]
      const before = state.rows.length
      state.rows = state.rows.filter((row) => row.epoch !== epoch || row.position > position)
      this.counts.delivered += before - state.rows.length
      this.#raise(state)
      const known = this.#epochs.find((row) => row.epoch === epoch)
      if (known !== undefined) known.touchedMs = this.#clock.wallMs()
    }
    this.#forgetEmpty()
  }

  #setAside(letter: DeadLetter): void {
    const state = this.#lanes[letter.lane]
    const index = state.rows.findIndex((row) => row.position === letter.position && row.epoch === letter.epoch)
    if (index < 0) return
    state.rows.splice(index, 1)
    state.holes.add(letter.position)
    this.letters.push(letter)
    this.counts.deadLettered += 1
  }

  /** The watermark: all below the first row that is left. */
  #raise(state: FakeLane): void {
    state.watermark = Math.max(state.watermark, (state.rows[0]?.position ?? state.highest + 1) - 1)
  }

  #spans(): Map<EpochId, Partial<Record<Lane, { first: number; last: number }>>> {
    const spans = new Map<EpochId, Partial<Record<Lane, { first: number; last: number }>>>()
    for (const lane of LANES) {
      for (const { epoch, position } of this.#lanes[lane].rows) {
        const known = spans.get(epoch) ?? {}
        known[lane] = { first: known[lane]?.first ?? position, last: position }
        spans.set(epoch, known)
      }
    }
    return spans
  }

  #forgetEmpty(): void {
    const spans = this.#spans()
    const keep = (row: EpochRow): boolean => row.epoch === this.#epoch || spans.has(row.epoch)
    const left = this.#epochs.filter(keep)
    this.#epochs.splice(0, this.#epochs.length, ...left)
  }

  #envelope(): Envelope {
    return {
      device: 'dev-1',
      stream: 'app',
      topic: 'devices/dev-1/logs/app',
      payload: new TextEncoder().encode('hello'),
      receivedMs: this.#clock.wallMs(),
      clockTrusted: this.#clock.wallTrusted(),
      bootMs: this.#clock.bootMs(),
    }
  }
}

function emptyLane(): FakeLane {
  return { rows: [], watermark: 0, highest: 0, holes: new Set(), protectedTo: 0 }
}

function payloadBytes(row: Stored): number {
  return 'internal' in row ? row.internal.value.length : row.envelope.payload.length
}

function denseRun(open: readonly Stored[], maxBytes: number): readonly Stored[] {
  const run: Stored[] = []
  let bytes = 0
  for (const row of open) {
    const last = run.at(-1)
    bytes += payloadBytes(row)
    if (
      last !== undefined &&
      (bytes > maxBytes || row.position !== last.position + 1 || row.epoch !== last.epoch || run.length >= READ_MESSAGES)
    )
      break
    run.push(row)
  }
  return run
}

function guardEnd(rows: readonly Stored[]): number {
  let bytes = 0
  let end = 0
  for (const row of rows.slice(0, DOUBT_MESSAGES)) {
    if (bytes >= DOUBT_BYTES) break
    bytes += payloadBytes(row)
    end = row.position
  }
  return end
}
