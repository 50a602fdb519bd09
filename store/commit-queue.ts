/**
 * Group commit: gathers entries until a commit pays, keeps one commit under way, settles what it stored.
 *
 * A commit leaves when none is under way and either its delay has passed or enough bytes wait that more would
 * not make it cheaper; so it lingers at low rates and is paced by the disk under load.
 */
import type { Clock } from '../daemon/clock.ts'
import type { Entry, InternalRecord, ShedReason } from '../daemon/ports.ts'
import { Batch } from './batch.ts'
import type { ChunkKind, CommitRequest, Now } from './protocol.ts'
import { Spares } from './spares.ts'

/** From this size on a larger commit hardly saves bytes to flash. */
const ENOUGH_BYTES = 64 << 10

export interface CommitLimits {
  readonly maxDelayMs: number
  readonly maxBytes: number
}

export class CommitQueue {
  limits: CommitLimits
  readonly #clock: Clock
  readonly #send: (request: CommitRequest, transfer: ArrayBuffer[]) => void
  readonly #numbers = { chunk: 1 }
  readonly #spares = new Spares()
  /** Closed for size, in order, not yet sent. */
  readonly #ready: Batch[] = []
  /** Sent; some of their chunks are not durable yet. */
  readonly #sent = new Set<Batch>()
  #open: Batch
  #underWay = false
  #due = false
  #cancelTimer: (() => void) | undefined
  #messages = 0
  #bytes = 0
  #requests = 0
  #idle: (() => void) | undefined

  constructor(clock: Clock, limits: CommitLimits, send: (request: CommitRequest, transfer: ArrayBuffer[]) => void) {
    this.#clock = clock
    this.limits = limits
    this.#send = send
    this.#open = new Batch(this.#numbers, this.#spares)
  }

  /** Entries that are not durable. */
  get inFlight(): { messages: number; bytes: number } {
    return { messages: this.#messages, bytes: this.#bytes }
  }

  add(entry: Entry, kind: ChunkKind, reason: ShedReason | undefined): void {
    this.#messages++
    this.#bytes += entry.bytes
    this.#open.add(entry, kind, reason)
    this.#grown()
  }

  addInternal(record: InternalRecord): void {
    this.#open.addInternal(record)
    this.#grown()
  }

  release(exchange: string, done: () => void): void {
    this.#open.releases.push({ exchange, done })
    this.#grown()
  }

  /** The worker gives back what it has stored or keeps compressed. */
  reuse(spent: readonly ArrayBuffer[]): void {
    this.#spares.give(spent)
  }

  /** The worker has finished a commit; some of its chunks may still wait for room. */
  committed(stored: readonly number[]): Entry[] {
    this.#underWay = false
    const settled = this.stored(stored)
    this.#next()
    return settled
  }

  /** Settles, in order of submission, what became durable. */
  stored(ids: readonly number[]): Entry[] {
    const known = new Set(ids)
    const all: Entry[] = []
    for (const batch of this.#sent) {
      for (const entry of batch.settled(known)) all.push(entry)
      batch.release(known)
      if (batch.done) this.#sent.delete(batch)
    }
    for (const entry of all) {
      this.#messages--
      this.#bytes -= entry.bytes
    }
    return all
  }

  /** Sends what waits without lingering; resolves when the worker has had all of it. */
  async flush(): Promise<void> {
    do {
      this.#due = true
      this.#next()
      if (this.#underWay) {
        await new Promise<void>((resolve) => {
          this.#idle = resolve
        })
      }
    } while (!this.#open.empty || this.#underWay)
  }

  #grown(): void {
    if (this.#open.bytes >= this.limits.maxBytes) this.#close()
    if (this.#open.bytes >= ENOUGH_BYTES || this.#ready.length > 0) this.#next()
    if (this.#open.empty || this.#cancelTimer !== undefined) return
    this.#cancelTimer = this.#clock.after(this.limits.maxDelayMs, () => {
      this.#cancelTimer = undefined
      this.#due = true
      this.#next()
    })
  }

  #close(): void {
    this.#ready.push(this.#open)
    this.#open = new Batch(this.#numbers, this.#spares)
  }

  #next(): void {
    if (this.#underWay) return
    const enough = this.#due || this.#open.bytes >= ENOUGH_BYTES
    if (this.#ready.length === 0 && enough && !this.#open.empty) this.#close()
    const batch = this.#ready.shift()
    if (batch === undefined) {
      this.#due = false
      this.#idle?.()
      this.#idle = undefined
      return
    }
    if (this.#ready.length === 0 && this.#open.empty) this.#rest()
    this.#underWay = true
    this.#sent.add(batch)
    this.#post(batch)
  }

  /** Nothing waits any more, so no delay runs. */
  #rest(): void {
    this.#due = false
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
  }

  #post(batch: Batch): void {
    const chunks = batch.finish()
    const transfer = chunks
      .flatMap((chunk) => [chunk.receipts, ...chunk.groups.map((group) => group.frames)])
      .map((view) => view.buffer as ArrayBuffer)
    this.#send(
      {
        kind: 'commit',
        id: this.#requests++,
        chunks,
        releaseId: batch.releaseId,
        releases: batch.releases.map(({ exchange }) => exchange),
        now: readNow(this.#clock),
      },
      transfer,
    )
  }
}

export function readNow(clock: Clock): Now {
  return { wallMs: Math.round(clock.wallMs()), trusted: clock.wallTrusted(), bootMs: Math.round(clock.bootMs()) }
}
