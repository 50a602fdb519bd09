/**
 * An `OutboxWriter` in memory: entries wait until the test commits them, first in, first out.
 */
import { DEVICE_LANES, LANES } from '../../daemon/ports.ts'
import type { DeviceLane, Entry, InternalRecord, Lane, LaneState, OutboxState, OutboxWriter, ShedReason } from '../../daemon/ports.ts'

export class FakeOutboxWriter implements OutboxWriter {
  readonly submitted: Entry[] = []
  readonly committed: Entry[] = []
  readonly internal: InternalRecord[] = []
  readonly #pending: Entry[] = []
  readonly #seen = new Set<string>()
  readonly #exchanges = new Set<string>()
  readonly #listeners = new Set<() => void>()
  readonly #blockedLanes = new Set<Lane>()
  #blockedReason: string | undefined

  submit(entry: Entry): void {
    this.submitted.push(entry)
    this.#pending.push(entry)
    if (entry.messageId !== undefined) this.#seen.add(hex(entry.messageId))
    if (entry.exchange !== undefined) this.#exchanges.add(entry.exchange)
  }

  submitInternal(record: InternalRecord): void {
    this.internal.push(record)
  }

  hasExchange(exchange: string): boolean {
    return this.#exchanges.has(exchange)
  }

  releaseExchange(exchange: string, done: () => void): void {
    this.#exchanges.delete(exchange)
    done()
  }

  seen(id: Uint8Array): boolean {
    return this.#seen.has(hex(id))
  }

  state(): OutboxState {
    const lanes = Object.fromEntries(LANES.map((lane) => [lane, this.#laneState(lane)]))
    return {
      lanes: lanes as Record<Lane, LaneState>,
      usedBytes: 0,
      maxBytes: 1 << 30,
      freeDiskBytes: 1 << 30,
      inFlight: { messages: this.#pending.length, bytes: this.#pending.reduce((sum, entry) => sum + entry.bytes, 0) },
      blockedReason: this.#blockedReason,
      epoch: undefined,
      commits: 0,
      deadLetters: 0,
      notices: [],
    }
  }

  onRoomChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  /** Settles the oldest `count` entries that wait; all of them without a count. */
  commit(count = this.#pending.length): void {
    for (const entry of this.#pending.splice(0, count)) {
      this.committed.push(entry)
      entry.settle()
    }
  }

  block(reason: string, lanes: readonly Lane[] = ['normal']): void {
    this.#blockedReason = reason
    for (const lane of lanes) this.#blockedLanes.add(lane)
    this.#tell()
  }

  unblock(): void {
    this.#blockedReason = undefined
    this.#blockedLanes.clear()
    this.#tell()
  }

  get listeners(): number {
    return this.#listeners.size
  }

  inLane(lane: DeviceLane): readonly Entry[] {
    return this.submitted.filter((entry) => 'lane' in entry.verdict && entry.verdict.lane === lane)
  }

  shed(reason: ShedReason): readonly Entry[] {
    return this.submitted.filter((entry) => 'shed' in entry.verdict && entry.verdict.shed === reason)
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }

  #laneState(lane: Lane): LaneState {
    const entries = DEVICE_LANES.some((name) => name === lane) ? this.inLane(lane as DeviceLane) : []
    const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0)
    const oldestMs = entries[0]?.envelope.receivedMs
    return {
      messages: entries.length,
      bytes,
      watermark: 0,
      highest: entries.length,
      oldestMs,
      blocked: this.#blockedLanes.has(lane),
    }
  }
}

function hex(id: Uint8Array): string {
  return Buffer.from(id).toString('hex')
}
