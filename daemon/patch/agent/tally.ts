import type { Outcome } from '../kinds.ts'

export interface Tallied {
  /** Runs that ended since the start, by how. */
  readonly outcomes: Readonly<Partial<Record<Outcome['state'], number>>>
  /** Times that a patch stood in the queue of its lock since the start. */
  readonly lockWaits: number
}

/** Counts for the metrics. */
export class Tally {
  readonly #outcomes: Partial<Record<Outcome['state'], number>> = {}
  #lockWaits = 0

  ended(state: Outcome['state']): void {
    this.#outcomes[state] = (this.#outcomes[state] ?? 0) + 1
  }

  queued(): void {
    this.#lockWaits += 1
  }

  now(): Tallied {
    return { outcomes: { ...this.#outcomes }, lockWaits: this.#lockWaits }
  }
}
