/** Who has logged in. Kept in memory: a restart of the daemon asks for the password again. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'

const IDLE_MS = 30 * 60_000
const WHOLE_MS = 12 * 60 * 60_000
const SESSIONS_MAX = 200
const TOKEN_BYTES = 32

export interface Session {
  readonly user: string
  /** The password hash that let the user in; empty where no login is asked for. */
  readonly credential: string
  /** Goes with each request that changes something. Another site can neither read nor send it. */
  readonly proof: string
  readonly startedMs: number
  seenMs: number
}

export function newToken(): string {
  return randomBytes(TOKEN_BYTES).toString('base64url')
}

/** In constant time for texts of equal length. */
export function isSame(left: string, right: string): boolean {
  const [one, other] = [Buffer.from(left), Buffer.from(right)]
  return one.length === other.length && timingSafeEqual(one, other)
}

export class Sessions {
  /** By a digest of the token: what a core dump shows lets nobody in. */
  readonly #sessions = new Map<string, Session>()
  readonly #nowMs: () => number

  /** `nowMs` is monotonic. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** The token for the cookie. The oldest session ends when there are too many. */
  open(user: string, credential: string): string {
    const token = newToken()
    const now = this.#nowMs()
    this.#sweep(now)
    const [oldest] = this.#sessions.keys()
    if (this.#sessions.size >= SESSIONS_MAX && oldest !== undefined) this.#sessions.delete(oldest)
    this.#sessions.set(digest(token), { user, credential, proof: newToken(), startedMs: now, seenMs: now })
    return token
  }

  /** Undefined when there is none, or it has ended: after half an hour unused, or half a day. */
  find(token: string): Session | undefined {
    const session = this.#sessions.get(digest(token))
    const now = this.#nowMs()
    if (session === undefined || isOver(session, now)) return undefined
    session.seenMs = now
    return session
  }

  end(token: string): void {
    this.#sessions.delete(digest(token))
  }

  #sweep(now: number): void {
    for (const [key, session] of this.#sessions) if (isOver(session, now)) this.#sessions.delete(key)
  }
}

function isOver({ startedMs, seenMs }: Session, now: number): boolean {
  return now - seenMs > IDLE_MS || now - startedMs > WHOLE_MS
}

function digest(token: string): string {
  return createHash('sha256').update(token).digest('base64')
}
