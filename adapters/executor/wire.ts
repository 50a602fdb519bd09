/** How the daemon and the executor speak: HTTP over a unix socket. Bodies are small JSON, but for the artifacts. */
import { GatewayError, kindOf, messageOf, type ErrorKind } from '../../daemon/errors.ts'

/** An envelope of the largest payload in base64, with room for its signatures. */
export const ENVELOPE_BYTES_MAX = 512 * 1024
/** A plan of that. */
export const ANSWER_BYTES_MAX = 2 * 1024 * 1024
/** During a step a line end is sent so often: who hears nothing for `SILENCE_MS` takes the other for dead. */
export const BEAT_MS = 5_000
export const SILENCE_MS = 30_000

export interface Failure {
  readonly error: string
  readonly kind: ErrorKind
  readonly remedy?: string
}

/** What no port declared is for the executor's journal; the daemon may try again. */
export function failureOf(error: unknown): Failure {
  const kind = kindOf(error)
  if (kind === undefined) return { error: `the executor failed: ${messageOf(error)}`, kind: 'transient' }
  const { remedy } = error as GatewayError
  // Nothing that goes wrong there ends the daemon.
  return { error: messageOf(error), kind: kind === 'fatal' ? 'saturated' : kind, ...(remedy !== undefined && { remedy }) }
}

/** Throws what the other side rejected with. */
export function resultOf(answer: unknown): Readonly<Record<string, unknown>> {
  if (typeof answer !== 'object' || answer === null) throw new GatewayError('transient', 'the executor gave no answer that can be read')
  const { error, kind, remedy } = answer as Partial<Failure>
  if (error === undefined) return answer as Readonly<Record<string, unknown>>
  const known = (['transient', 'saturated', 'rejected', 'fenced'] as const).find((one) => one === kind) ?? 'transient'
  throw new GatewayError(known, String(error), remedy === undefined ? {} : { remedy: String(remedy) })
}
