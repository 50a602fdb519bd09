/** What a delivery costs beside its payload: its objects, and its place in the queues behind. */
export const DELIVERY_OVERHEAD_BYTES = 256
/** Reading goes on when this share of the limit is free again, so that a full budget does not flap. */
const RESUME_SHARE = 0.75

/** A connection as the budget sees it. */
export interface Claimant {
  resumeAfterTotal(): void
}

/**
 * Bytes of all deliveries of a listener that are not settled. When they are used up, a connection that brings more
 * is not read any further; the others are left alone until they bring something.
 */
export class Budget {
  pending = 0
  readonly limit: number
  readonly #waiting = new Set<Claimant>()

  constructor(limitBytes: number) {
    this.limit = limitBytes
  }

  get exhausted(): boolean {
    return this.pending >= this.limit
  }

  wait(claimant: Claimant): void {
    this.#waiting.add(claimant)
  }

  leave(claimant: Claimant): void {
    this.#waiting.delete(claimant)
  }

  /** Resumes who waits, first come first served, while there is room. */
  wake(): void {
    if (this.#waiting.size === 0 || this.pending > this.limit * RESUME_SHARE) return
    for (const claimant of [...this.#waiting]) {
      if (this.exhausted) return
      this.#waiting.delete(claimant)
      claimant.resumeAfterTotal()
    }
  }
}
