import type { Clock } from '../../daemon/clock.ts'
import type { Ending } from './listen-counters.ts'

const CONNECT_TIMEOUT_MS = 10_000
const STUCK_MAX_MS = 60_000
/** Longest wait for an acknowledgement, or for a message to come in, while the gateway is full (or half the keepalive, if shorter). */
export const HELD_MAX_MS = 10_000

/** A connection as its deadlines see it; times are monotonic ms. */
export interface Timed {
  readonly ready: boolean
  readonly openedMs: number
  readonly heardMs: number
  readonly stuckSinceMs: number | undefined
  /** True while we do not read it, so that its silence says nothing. */
  readonly unread: boolean
  /** Since when a message of it may not come in; undefined when there is none. */
  readonly heldBackMs: number | undefined
  /** True while an acknowledgement is owed to it. */
  readonly owed: boolean
  /** As the client asked; 0 for none. */
  readonly keepaliveSeconds: number
}

export interface Overdue {
  readonly reason: Ending
  readonly detail: string
}

/**
 * Whether a connection's time is over. Silence may last 1.5 times the keepalive (3.1.1 section 3.1.2.10), and never
 * longer than 1.5 times `keepaliveMaxSeconds`. `held`: since when the gateway is full, and why; who has nothing to say
 * and nothing to wait for is left alone then.
 */
export function overdue(
  connection: Timed,
  nowMs: number,
  keepaliveMaxSeconds: number,
  held: { readonly sinceMs: number; readonly reason: string } | undefined,
): Overdue | undefined {
  const { keepaliveSeconds, stuckSinceMs } = connection
  if (!connection.ready) {
    return nowMs - connection.openedMs > CONNECT_TIMEOUT_MS ? { reason: 'connect-timeout', detail: 'no CONNECT came in time' } : undefined
  }
  const waitsSinceMs = connection.heldBackMs ?? (connection.owed ? held?.sinceMs : undefined)
  if (held !== undefined && waitsSinceMs !== undefined && nowMs - waitsSinceMs > patienceMs(keepaliveSeconds)) {
    return { reason: 'held', detail: `the gateway is full: ${held.reason}` }
  }
  if (stuckSinceMs !== undefined && nowMs - stuckSinceMs > STUCK_MAX_MS) {
    return { reason: 'slow-reader', detail: 'it does not read what the gateway sends' }
  }
  const silenceMaxMs = Math.min(keepaliveSeconds || keepaliveMaxSeconds, keepaliveMaxSeconds) * 1_500
  if (connection.unread || nowMs - connection.heardMs <= silenceMaxMs) return undefined
  return { reason: 'keepalive', detail: `silent for more than ${silenceMaxMs / 1_000} s` }
}

function patienceMs(keepaliveSeconds: number): number {
  return keepaliveSeconds === 0 ? HELD_MAX_MS : Math.min(HELD_MAX_MS, keepaliveSeconds * 500)
}

export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => void clock.after(ms, resolve))
}
