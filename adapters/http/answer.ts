/** What an answer to a download request means. Pure: RFC 9110 sections 13 to 15. */

export interface Head {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
}

export interface Asked {
  /** Bytes that we have; 0: no Range was asked for. */
  readonly have: number
  /** Size of the whole artifact. */
  readonly bytes: number
  /** What If-Range named. */
  readonly validator: string | undefined
}

export type Verdict =
  | { readonly kind: 'body'; readonly from: number; readonly validator: string | undefined }
  /** What we have is of no use, or the server can't do ranges: from zero, without a Range. */
  | { readonly kind: 'restart'; readonly reason: string }
  /** The bytes there are not the ones that the patch names. */
  | { readonly kind: 'mismatch'; readonly reason: string }
  | { readonly kind: 'later'; readonly reason: string; readonly retryAfter: string | undefined }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'redirect'; readonly location: string }

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308]
/** Statuses that may pass: RFC 9110 (408), RFC 8470 (425), RFC 6585 (429). */
const PASSING: readonly number[] = [407, 408, 425, 429]

export function judge(head: Head, asked: Asked): Verdict {
  const { status } = head
  if (REDIRECTS.includes(status)) return redirected(head)
  if (status === 416) return { kind: 'restart', reason: 'the server says that the range does not exist' }
  if (status >= 500 || PASSING.includes(status)) {
    return { kind: 'later', reason: `the server answered ${status}`, retryAfter: one(head, 'retry-after') }
  }
  if (status >= 400) return { kind: 'refused', reason: `the server answered ${status}` }
  if (status !== 200 && status !== 206) {
    return { kind: 'later', reason: `the server answered ${status} where 200 or 206 is expected`, retryAfter: undefined }
  }
  const coding = one(head, 'content-encoding')
  if (coding !== undefined && coding.toLowerCase() !== 'identity') {
    return { kind: 'refused', reason: `the server sends it encoded (content-encoding: ${coding}), which was not asked for` }
  }
  return status === 206 ? partial(head, asked) : whole(head, asked)
}

/** A strong ETag, or the time of the last change (RFC 9110 section 13.1.5 allows no weak one in If-Range). */
export function validatorOf(head: Head): string | undefined {
  const etag = one(head, 'etag')
  return etag !== undefined && /^"[^"]*"$/.test(etag) ? etag : one(head, 'last-modified')
}

/** ms to wait; 0 when the header says nothing that can be used. */
export function retryAfterMs(text: string | undefined, nowMs: number, maxMs: number): number {
  if (text === undefined) return 0
  const ms = /^\d+$/.test(text.trim()) ? Number(text) * 1_000 : Date.parse(text) - nowMs
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(0, ms), maxMs)
}

function whole(head: Head, asked: Asked): Verdict {
  const length = one(head, 'content-length')
  if (length !== undefined && Number(length) !== asked.bytes) {
    return { kind: 'mismatch', reason: `the server has ${length} bytes there, the patch says ${asked.bytes}` }
  }
  return { kind: 'body', from: 0, validator: validatorOf(head) }
}

function partial(head: Head, asked: Asked): Verdict {
  if (asked.have === 0) return { kind: 'restart', reason: 'the server sent a part without being asked' }
  const text = one(head, 'content-range') ?? 'nothing'
  const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(text)
  const wrong = (): Verdict => ({ kind: 'restart', reason: `asked for bytes from ${asked.have} on, the server sent "${text}"` })
  if (range === null || Number(range[1]) !== asked.have) return wrong()
  if (Number(range[2]) < asked.have || Number(range[2]) >= asked.bytes) return wrong()
  if (range[3] !== '*' && Number(range[3]) !== asked.bytes) {
    return { kind: 'mismatch', reason: `the server has ${range[3]} bytes there, the patch says ${asked.bytes}` }
  }
  const etag = one(head, 'etag')
  const changed = asked.validator?.startsWith('"') === true && etag !== undefined && etag !== asked.validator
  if (changed) return { kind: 'restart', reason: 'the file changed on the server' }
  return { kind: 'body', from: asked.have, validator: asked.validator }
}

function redirected(head: Head): Verdict {
  const location = one(head, 'location')
  if (location === undefined) return { kind: 'refused', reason: `the server answered ${head.status} without saying where to go` }
  return { kind: 'redirect', location }
}

function one(head: Head, name: string): string | undefined {
  const value = head.headers[name]
  return typeof value === 'string' ? value : value?.[0]
}
