import { SystemClock } from '../../adapters/host/clock.ts'
import type { Clock } from '../../daemon/clock.ts'

interface Timer {
  readonly dueMs: number
  readonly fn: () => void
  cancel: () => void
}

/**
 * The machine's clock, whose monotonic time can run faster: boxes that all have just started are brought in little time
 * to where boxes are that have run for long, each at its own point between two beats.
 */
export class FastClock implements Clock {
  readonly bootId: string
  readonly #real: SystemClock
  readonly #timers = new Set<Timer>()
  #rate = 1
  #sinceRealMs = 0
  #sinceMs = 0

  constructor(real = new SystemClock()) {
    this.#real = real
    this.bootId = real.bootId
  }

  set rate(rate: number) {
    this.#sinceMs = this.monotonicMs()
    this.#sinceRealMs = this.#real.monotonicMs()
    this.#rate = rate
    for (const timer of this.#timers) this.#arm(timer)
  }

  wallMs(): number {
    return this.#real.wallMs()
  }

  monotonicMs(): number {
    return this.#sinceMs + (this.#real.monotonicMs() - this.#sinceRealMs) * this.#rate
  }

  bootMs(): number {
    return this.#real.bootMs()
  }

  wallTrusted(): boolean {
    return this.#real.wallTrusted()
  }

  after(ms: number, fn: () => void): () => void {
    const timer = { dueMs: this.monotonicMs() + ms, fn, cancel: () => undefined }
    this.#timers.add(timer)
    this.#arm(timer)
    return () => {
      timer.cancel()
      this.#timers.delete(timer)
    }
  }

  #arm(timer: Timer): void {
    timer.cancel()
    timer.cancel = this.#real.after((timer.dueMs - this.monotonicMs()) / this.#rate, () => {
      this.#timers.delete(timer)
      timer.fn()
    })
  }
}
