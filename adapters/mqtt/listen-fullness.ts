/** A connection that waits, as the fullness sees it. */
export interface Waiter {
  readonly ready: boolean
  release(): void
}

/** Since when (monotonic ms) no message may come in, and why. */
export interface Full {
  readonly reason: string
  readonly sinceMs: number
}

/** The time in which the gateway is full: who has something that may not come in waits here, first come first served. */
export class Fullness {
  readonly #waiting = new Set<Waiter>()
  #full: Full | undefined

  get full(): Full | undefined {
    return this.#full
  }

  /** A second call names a new reason; it does not begin the wait anew. */
  begin(reason: string, nowMs: number): void {
    this.#full = { reason, sinceMs: this.#full?.sinceMs ?? nowMs }
  }

  end(): void {
    this.#full = undefined
    // In turn: who fills the gateway again stands behind those that are not released yet.
    for (const waiter of this.#waiting) {
      if (this.full !== undefined) return
      this.#waiting.delete(waiter)
      waiter.release()
    }
  }

  wait(waiter: Waiter): void {
    this.#waiting.add(waiter)
  }

  forget(waiter: Waiter): void {
    this.#waiting.delete(waiter)
  }

  /** Newcomers are read from now on, so that each can be told that the gateway is full. */
  turnAway(): void {
    for (const waiter of this.#waiting) if (!waiter.ready) waiter.release()
  }
}
