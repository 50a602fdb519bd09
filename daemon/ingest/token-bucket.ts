/**
 * Token bucket in messages and bytes: both or nothing.
 *
 * A level is kept as the *used share* of the burst, per dimension: 0 is full, 1 is empty, more than 1 is debt.
 * The burst is given in time, so both dimensions refill by `elapsed / burstMs`, whatever the rates are. That
 * makes a live change simple: a level keeps its share of the burst, so a change gives nobody a fresh burst
 * and leaves nobody in a debt of the old rate.
 *
 * Bound, in any window: admitted ≤ max(burst, largest cost) + rate × window. Across a change: the larger burst, each rate
 * for its time, and once more the largest cost if that is above a burst.
 */

export interface Limit {
  /** `Infinity` is no limit; 0 lets nothing through. */
  readonly messagesPerSecond: number
  /** `Infinity` is no limit; 0 lets nothing through. */
  readonly bytesPerSecond: number
  /** How long a full bucket feeds a sender that has no refill. */
  readonly burstMs: number
}

/** A limit as shares of its burst. */
export interface Tariff {
  readonly perMessage: number
  readonly perByte: number
  readonly burstMs: number
}

/** Room for rounding of sums of shares: a billionth of the burst, once, since the level is kept. */
const ROUNDING = 1e-9

export function tariffOf(limit: Limit): Tariff {
  return {
    perMessage: 1000 / (limit.messagesPerSecond * limit.burstMs),
    perByte: 1000 / (limit.bytesPerSecond * limit.burstMs),
    burstMs: limit.burstMs,
  }
}

/**
 * May `cost` be taken when `used` is gone and only `ceiling` (at most 1) may be used? A cost above the ceiling
 * is let through when the bucket is full, else it never could be; it leaves a debt.
 */
export function fits(used: number, cost: number, ceiling: number): boolean {
  return used + cost <= ceiling + ROUNDING || (cost > ceiling && cost < Infinity && used <= ROUNDING)
}

/** The used share after `elapsedMs`, which is above 0: a clock that stands still or went back refills nothing. */
export function refilled(used: number, elapsedMs: number, burstMs: number): number {
  return Math.max(0, used - elapsedMs / burstMs)
}

/** One bucket, refilled lazily. Ask `fits` and `take` after a `refill` of the same instant. */
export class TokenBucket {
  #tariff: Tariff
  #usedMessages = 0
  #usedBytes = 0
  #atMs = -Infinity

  constructor(limit: Limit) {
    this.#tariff = tariffOf(limit)
  }

  /** Time up to `nowMs` counts at the old rate. */
  configure(limit: Limit, nowMs: number): void {
    this.refill(nowMs)
    this.#tariff = tariffOf(limit)
  }

  refill(nowMs: number): void {
    if (!(nowMs > this.#atMs)) return
    const elapsedMs = nowMs - this.#atMs
    this.#usedMessages = refilled(this.#usedMessages, elapsedMs, this.#tariff.burstMs)
    this.#usedBytes = refilled(this.#usedBytes, elapsedMs, this.#tariff.burstMs)
    this.#atMs = nowMs
  }

  fits(bytes: number, ceiling: number): boolean {
    const { perMessage, perByte } = this.#tariff
    return fits(this.#usedMessages, perMessage, ceiling) && fits(this.#usedBytes, bytes * perByte, ceiling)
  }

  take(bytes: number): void {
    this.#usedMessages += this.#tariff.perMessage
    this.#usedBytes += bytes * this.#tariff.perByte
  }

  /** Share of the burst that is left, the scarcer dimension; for metrics. */
  level(): number {
    return Math.max(0, 1 - Math.max(this.#usedMessages, this.#usedBytes))
  }
}
