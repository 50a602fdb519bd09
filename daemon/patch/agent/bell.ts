import { sleep } from '../../clock.ts'
import type { Clock } from '../../clock.ts'

/** Wakes all who sleep on it. A ring that nobody heard is kept for the next one who would sleep. */
export class Bell {
  readonly #clock: Clock
  #rung = false
  #ringing = new AbortController()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  ring(): void {
    this.#rung = true
    this.#ringing.abort()
    this.#ringing = new AbortController()
  }

  /** Resolves at a ring, after `ms`, or when `signal` aborts. */
  async next(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#rung) await sleep(this.#clock, ms, AbortSignal.any([this.#ringing.signal, signal]))
    this.#rung = false
  }
}
