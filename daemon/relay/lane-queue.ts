import type { Lane, OutboxReader, Stored } from '../ports.ts'
import { TRANSACTION_MAX_MESSAGES } from './settings.ts'

/** What a message is taken to hold before any was seen; small, so that the first look reads few. */
const FIRST_MEAN_BYTES = 16

/**
 * The front of one lane, read ahead: about one transaction's worth, so that the next transaction is at hand when
 * the last one is answered. Memory is bounded by that.
 */
export class LaneQueue {
  readonly lane: Lane
  #waiting: Stored[] = []
  #payloadBytes = 0
  #meanBytes = FIRST_MEAN_BYTES
  /** Position of the last message read; `undefined` before the first. */
  #readTo: number | undefined

  constructor(lane: Lane) {
    this.lane = lane
  }

  get waiting(): readonly Stored[] {
    return this.#waiting
  }

  /** Nothing of the lane is left to read. */
  isWhole(outbox: OutboxReader): boolean {
    const { watermark, highest } = outbox.state().lanes[this.lane]
    return (this.#readTo ?? watermark) >= highest
  }

  /** Forget what was read: the next `fill` begins after the watermark. */
  reset(): void {
    this.#waiting = []
    this.#payloadBytes = 0
    this.#readTo = undefined
  }

  /** Reads until `bytes` of payload or a transaction's worth of messages wait, or the lane has no more. */
  async fill(outbox: OutboxReader, bytes: number): Promise<void> {
    const { watermark, highest } = outbox.state().lanes[this.lane]
    let readTo = Math.max(this.#readTo ?? watermark, watermark)
    while (readTo < highest && this.#payloadBytes < bytes && this.#waiting.length < TRANSACTION_MAX_MESSAGES) {
      const chunk = await outbox.readAfter(this.lane, readTo, this.#nextBytes(bytes))
      const last = chunk.at(-1)
      if (last === undefined) break
      readTo = last.position
      this.#append(chunk)
    }
    this.#readTo = readTo
  }

  /** The first `count` are on their way. */
  drop(count: number): void {
    for (let index = 0; index < count; index += 1) this.#payloadBytes -= payloadBytes(this.#waiting[index])
    this.#waiting = this.#waiting.slice(count)
  }

  /** Limited by count as well: thousands of tiny messages fit into few bytes. */
  #nextBytes(bytes: number): number {
    const room = TRANSACTION_MAX_MESSAGES - this.#waiting.length
    return Math.max(1, Math.min(bytes - this.#payloadBytes, Math.ceil(room * this.#meanBytes)))
  }

  #append(chunk: readonly Stored[]): void {
    let bytes = 0
    for (const stored of chunk) {
      this.#waiting.push(stored)
      bytes += payloadBytes(stored)
    }
    this.#payloadBytes += bytes
    this.#meanBytes = Math.max(1, bytes / chunk.length)
  }
}

function payloadBytes(stored: Stored | undefined): number {
  if (stored === undefined) return 0
  return 'internal' in stored ? stored.internal.value.length : stored.envelope.payload.length
}
