/** Rates over a sliding window, from counters that only grow. Memory: one sample a second. */
export interface Sample {
  readonly atMs: number
  readonly counts: Readonly<Record<string, number>>
}

export class Rates {
  readonly #windowMs: number
  readonly #samples: Sample[] = []

  constructor(windowMs: number) {
    this.#windowMs = windowMs
  }

  /** `atMs` is monotonic. */
  add(atMs: number, counts: Readonly<Record<string, number>>): void {
    this.#samples.push({ atMs, counts })
    while (this.#samples.length > 2 && atMs - (this.#samples[0]?.atMs ?? atMs) > this.#windowMs) this.#samples.shift()
  }

  /** Growth of a counter per second over the window; 0 until two samples exist. */
  perSecond(name: string): number {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (first === undefined || last === undefined || last.atMs === first.atMs) return 0
    const grown = (last.counts[name] ?? 0) - (first.counts[name] ?? 0)
    return (grown * 1_000) / (last.atMs - first.atMs)
  }
}
