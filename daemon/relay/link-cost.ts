/**
 * What a transaction costs: a fixed time for its round trips, and a time per byte. Fitted to the transactions of
 * late by least squares with forgetting. While all are of one size the two can't be told apart; then a prior of the
 * fixed time (from measured round trips) decides. Pure.
 */

/** Weight that an observation keeps after one more. */
const KEEP = 0.9
/** The same, when the one more is off by this factor: the link has changed. */
const KEEP_SURPRISED = 0.1
const SURPRISE = 3
/** Weight of the prior, in observations. Small: it yields as soon as sizes differ. */
const PRIOR_WEIGHT = 0.3
/** The fixed time can't be more than the shortest transaction among so many. */
const SHORTEST_OF = 8
/** No link is faster than 1 GB/s. */
const LEAST_MS_PER_BYTE = 1e-6

export interface LinkCost {
  readonly fixedMs: number
  readonly msPerByte: number
}

export class LinkCosts {
  #weight = 0
  #bytes = 0
  #ms = 0
  #bytesBytes = 0
  #bytesMs = 0
  #roundTripsMs = 0
  readonly #latestMs: number[] = []

  add(bytes: number, ms: number): void {
    const keep = this.#isSurprised(bytes, ms) ? KEEP_SURPRISED : KEEP
    this.#weight = this.#weight * keep + 1
    this.#bytes = this.#bytes * keep + bytes
    this.#ms = this.#ms * keep + ms
    this.#bytesBytes = this.#bytesBytes * keep + bytes * bytes
    this.#bytesMs = this.#bytesMs * keep + bytes * ms
    this.#latestMs.push(ms)
    if (this.#latestMs.length > SHORTEST_OF) this.#latestMs.shift()
  }

  /** What the round trips of a transaction take, as far as single requests tell. */
  expectFixed(ms: number): void {
    this.#roundTripsMs = ms
  }

  /** Before the first transaction `msPerByte` is 0. */
  cost(): LinkCost {
    const priorMs = Math.min(this.#roundTripsMs, ...this.#latestMs)
    if (this.#weight === 0) return { fixedMs: priorMs, msPerByte: 0 }
    const weight = this.#weight + PRIOR_WEIGHT
    const ms = this.#ms + PRIOR_WEIGHT * priorMs
    const spread = this.#bytesBytes - (this.#bytes * this.#bytes) / weight
    const slope = spread > 0 ? (this.#bytesMs - (this.#bytes * ms) / weight) / spread : 0
    const msPerByte = Math.max(LEAST_MS_PER_BYTE, slope)
    return { fixedMs: Math.max(0, (ms - msPerByte * this.#bytes) / weight), msPerByte }
  }

  #isSurprised(bytes: number, ms: number): boolean {
    const { fixedMs, msPerByte } = this.cost()
    const expectedMs = fixedMs + bytes * msPerByte
    return ms > SURPRISE * expectedMs || ms * SURPRISE < expectedMs
  }
}
