/**
 * What the caller of a failed operation should do.
 *
 * - `transient`: retry with backoff; nothing was decided.
 * - `saturated`: stop pulling until there is room.
 * - `rejected`: this one item can never succeed; set it aside with the reason.
 * - `fenced`: a newer life of the same identity exists; this life makes no further change.
 * - `fatal`: the component can't go on; the daemon ends and systemd restarts it.
 */
export type ErrorKind = 'transient' | 'saturated' | 'rejected' | 'fenced' | 'fatal'

export interface ErrorDetails {
  /** What a person should do about it, one sentence; absent when nothing helps but waiting. */
  readonly remedy?: string
  readonly cause?: unknown
}

/** Every error that crosses a port is one of these. `message` is one sentence in plain words. */
export class GatewayError extends Error {
  readonly kind: ErrorKind
  readonly remedy: string | undefined

  constructor(kind: ErrorKind, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'GatewayError'
    this.kind = kind
    this.remedy = details.remedy
  }
}

/** `undefined` for a failure that no port declared: a fault in our own program. */
export function kindOf(error: unknown): ErrorKind | undefined {
  return error instanceof GatewayError ? error.kind : undefined
}

/** The message of anything that was thrown, for a log line or a verdict. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
