import type { Clock } from '../clock.ts'

/** Lets the loop sleep until time has passed or something rings. A ring while nobody sleeps is kept for the next sleep. */
export class Wake {
  readonly #clock: Clock
  #rung = false
  #resolve: (() => void) | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  ring(): void {
    this.#rung = true
    this.#resolve?.()
  }

  /** Resolves after `ms` (without `ms`: never by itself), or at the first ring since the last sleep. */
  async sleep(ms?: number): Promise<void> {
    if (!this.#rung) await this.#pause(ms)
    this.#rung = false
  }

  #pause(ms: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        cancel?.()
        this.#resolve = undefined
        resolve()
      }
      const cancel = ms === undefined ? undefined : this.#clock.after(ms, done)
      this.#resolve = done
    })
  }
}
