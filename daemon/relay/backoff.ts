import type { Random } from '../clock.ts'

/**
 * Waits that double up to a limit, each drawn from the whole range ("full jitter"), so that a fleet that lost its
 * broker at one instant does not come back at one instant. Pure but for the draw.
 */
export class Backoff {
  readonly #firstMs: number
  readonly #mostMs: number
  readonly #random: Random
  #failures = 0

  constructor(firstMs: number, mostMs: number, random: Random) {
    this.#firstMs = firstMs
    this.#mostMs = mostMs
    this.#random = random
  }

  /** The wait after one more failure. */
  nextMs(): number {
    const rangeMs = Math.min(this.#mostMs, this.#firstMs * 2 ** Math.min(this.#failures, 30))
    this.#failures += 1
    return rangeMs * this.#random.unit()
  }

  reset(): void {
    this.#failures = 0
  }
}
