import type { InternalRecord, Lane, Stored } from '../ports.ts'
import type { RefusedRecord } from './plan.ts'

/** A dead letter's record shows this much of the payload; the whole stays on the box. */
const PAYLOAD_HEAD_BYTES = 16 * 1_024
const REASON_CHARS = 1_000
/** A device that sends nothing but poison must not fill the uplink with notices about it. */
const NOTICES_PER_SECOND = 20
const NOTICES_BURST = 200

/** Tells the centre of dead letters, through the internal lane. */
export class DeadLetterNotices {
  #used = 0
  #atMs = 0
  #suppressed = 0

  /** The record for `<prefix>.dead-letter`; `undefined` when there were too many of late (counted in the next). */
  about(letter: RefusedRecord, lane: Lane, wallMs: number, monotonicMs: number): InternalRecord | undefined {
    const { stored, reason } = letter
    // No notice about a notice: it would be refused for the same reason.
    if ('internal' in stored) return undefined
    if (!this.#admits(monotonicMs)) {
      this.#suppressed += 1
      return undefined
    }
    const { envelope } = stored
    return {
      destination: 'dead-letter',
      key: envelope.device,
      value: envelope.payload.subarray(0, PAYLOAD_HEAD_BYTES),
      headers: this.#headers(stored, lane, reason),
      receivedMs: wallMs,
    }
  }

  #headers(stored: Extract<Stored, { envelope: unknown }>, lane: Lane, reason: string): [string, string][] {
    const { envelope } = stored
    const headers: [string, string][] = [
      ['type', 'dead-letter'],
      ['reason', reason.slice(0, REASON_CHARS)],
      // A crash may send the notice again: this tells that it is the same dead letter.
      ['letter-pos', `${stored.epoch}:${lane}:${stored.position}`],
      ['mqtt-topic', envelope.topic],
      ['payload-bytes', String(envelope.payload.length)],
    ]
    if (this.#suppressed > 0) headers.push(['notices-left-out', String(this.#suppressed)])
    this.#suppressed = 0
    return headers
  }

  #admits(nowMs: number): boolean {
    this.#used = Math.max(0, this.#used - ((nowMs - this.#atMs) * NOTICES_PER_SECOND) / 1_000)
    this.#atMs = nowMs
    if (this.#used + 1 > NOTICES_BURST) return false
    this.#used += 1
    return true
  }
}
