/**
 * Time and randomness as the flows see them. The real ones are in adapters/host; tests pass their own.
 * Nothing else in the flows reads a clock or draws a number.
 */
export interface Clock {
  /** Unix time, ms. May jump either way, and may be wrong by decades after a boot without network. */
  wallMs(): number
  /** ms from an arbitrary start; never jumps; stands still while the machine is suspended. */
  monotonicMs(): number
  /** ms since this boot, suspend included (CLOCK_BOOTTIME). Meaningful only together with `bootId`. */
  bootMs(): number
  /** Random id that the kernel draws at each boot. */
  readonly bootId: string
  /**
   * False while the wall clock can't be right (earlier than this release was made): then no age limit
   * acts, and receive times are corrected from `bootMs` before they leave the box.
   */
  wallTrusted(): boolean
  /** Calls `fn` once after `ms`, unless the returned function is called first. Does not keep Node alive. */
  after(ms: number, fn: () => void): () => void
}

export interface Random {
  /** Uniform in [0, 1). */
  unit(): number
  /** `count` random bytes, from the kernel. */
  bytes(count: number): Uint8Array
}

/** Resolves after `ms`, or at once when `signal` aborts (it never rejects: the caller looks at the signal). */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = (): void => {
      cancel()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const cancel = clock.after(ms, done)
    signal.addEventListener('abort', done, { once: true })
  })
}
