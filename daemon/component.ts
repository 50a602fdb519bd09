/**
 * A part of the daemon with a life of its own.
 *
 * The constructor does nothing. `start` resolves when the component is ready, or rejects; a component whose
 * start rejected needs no stop. `stop` is idempotent: it finishes accepted work until `deadlineMs`
 * (monotonic ms), then abandons it, and never rejects. `ended` settles only when the component dies by
 * itself: it rejects with the reason, and the daemon then ends (crash-only).
 */
export interface Component {
  readonly name: string
  start(signal: AbortSignal): Promise<void>
  stop(deadlineMs: number): Promise<void>
  readonly ended?: Promise<never>
}
