/** A rate that forgets: exponential decay with the given time constant. Pure; times are monotonic ms. */
export class Meter {
  readonly #tauMs: number
  #perMs = 0
  #atMs: number | undefined

  constructor(tauMs: number) {
    this.#tauMs = tauMs
  }

  add(amount: number, nowMs: number): void {
    this.#perMs = this.#decayed(nowMs) + amount / this.#tauMs
    this.#atMs = nowMs
  }

  perSecond(nowMs: number): number {
    return this.#decayed(nowMs) * 1_000
  }

  #decayed(nowMs: number): number {
    if (this.#atMs === undefined) return 0
    return this.#perMs * Math.exp(-Math.max(0, nowMs - this.#atMs) / this.#tauMs)
  }
}
