/** Which broker next, and after how long. Pure. */
import type { Random } from '../../daemon/clock.ts'

export interface RetryPolicy {
  /** Upper bound of the first wait, ms; doubles with each round over the brokers. */
  readonly firstMs: number
  readonly maxMs: number
  /**
   * A connection that lived this long was a good one: the next wait is short again. Above `maxMs`, or two
   * clients that take one session from each other would do so for ever at full speed.
   */
  readonly stableMs: number
  /** For name lookup, TCP, TLS and CONNACK; then for SUBACK, while nothing else comes. */
  readonly attemptMs: number
}

export const DEFAULT_RETRY: RetryPolicy = { firstMs: 1_000, maxMs: 30_000, stableMs: 60_000, attemptMs: 20_000 }

/** Brokers in the configured order, a wait that grows with each full round. */
export class Attempts {
  readonly #brokers: number
  readonly #policy: RetryPolicy
  readonly #random: Random
  #failures = 0
  #isFirst = true

  constructor(brokers: number, policy: RetryPolicy, random: Random) {
    this.#brokers = brokers
    this.#policy = policy
    this.#random = random
  }

  /** Failures since the last good connection. */
  get failures(): number {
    return this.#failures
  }

  next(): { readonly broker: number; readonly delayMs: number } {
    const broker = this.#failures % this.#brokers
    if (this.#isFirst) {
      this.#isFirst = false
      return { broker, delayMs: 0 }
    }
    // Within a round the next broker is tried soon: it may well be up.
    const rounds = broker === 0 ? Math.floor(this.#failures / this.#brokers) : 0
    const bound = Math.min(this.#policy.maxMs, this.#policy.firstMs * 2 ** Math.min(rounds, 30))
    // Nearly full jitter: a thousand gateways that lost one broker must not come back in step.
    return { broker, delayMs: bound * (0.1 + 0.9 * this.#random.unit()) }
  }

  /** A connection ended, or was never made (`livedMs` 0). */
  ended(livedMs: number): void {
    this.#failures = livedMs >= this.#policy.stableMs ? 0 : this.#failures + 1
  }

  /** What stood in the way has gone (files changed, released): begin again, at once. */
  reset(): void {
    this.#failures = 0
    this.#isFirst = true
  }
}
