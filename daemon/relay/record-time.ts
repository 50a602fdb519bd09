/** Which time a record carries, when the clock of the box was wrong at receipt or is wrong now. */
import type { Envelope } from '../ports.ts'

/** One reading of all clocks, taken once for a transaction. */
export interface Now {
  readonly wallMs: number
  readonly bootMs: number
  readonly bootId: string
  readonly wallTrusted: boolean
}

export interface RecordTime {
  /** Kafka's timestamp. */
  readonly timestampMs: number
  /** Header `ts`. */
  readonly tsMs: number
  /** Header `clock`. */
  readonly clock?: 'corrected' | 'unsynced'
}

/** A difference between wall and boot clock up to this is drift, not a step. */
const STEP_MS = 5_000
/** Kafka refuses records that are further ahead (`message.timestamp.after.max.ms`). */
const AHEAD_MS = 3_600_000
/** A time this close to ours differs by nothing that a broker would refuse. */
const FRESH_MS = 10 * 60_000
/** No record of ours is older; a time before it comes from a clock that was never set. */
const NEVER_BEFORE_MS = Date.UTC(2020, 0, 1)

/**
 * Within one boot the boot clock tells the true receive time once the wall clock is right. From another boot
 * there is nothing to correct by: such a record says so, and Kafka gets the time of sending, since a record of
 * 1970 would be deleted at once by the topic's retention, and one of the future refused.
 */
export function timeOfEnvelope(envelope: Envelope, epochBootId: string | undefined, now: Now): RecordTime {
  const recordedMs = wholeMs(envelope.receivedMs)
  if (!now.wallTrusted) return unsynced(recordedMs, now)
  if (epochBootId === now.bootId) {
    const correctedMs = wholeMs(now.wallMs - (now.bootMs - envelope.bootMs))
    if (Math.abs(correctedMs - recordedMs) <= STEP_MS) return { timestampMs: recordedMs, tsMs: recordedMs }
    return { timestampMs: correctedMs, tsMs: correctedMs, clock: 'corrected' }
  }
  if (!envelope.clockTrusted || recordedMs > now.wallMs + AHEAD_MS) return unsynced(recordedMs, now)
  return { timestampMs: recordedMs, tsMs: recordedMs }
}

/** A record of the gateway's own has no boot time beside it. */
export function timeOfInternal(receivedMs: number, now: Now): RecordTime {
  const recordedMs = wholeMs(receivedMs)
  const plausible = recordedMs >= NEVER_BEFORE_MS && recordedMs <= now.wallMs + AHEAD_MS
  return plausible && now.wallTrusted ? { timestampMs: recordedMs, tsMs: recordedMs } : unsynced(recordedMs, now)
}

/** Kafka did not take the time of this record. One of now gains nothing from the time of sending. */
export function withSendTime(time: RecordTime, now: Now): RecordTime {
  return isFresh(time.timestampMs, now.wallMs) ? time : unsynced(time.tsMs, now)
}

export function isFresh(timestampMs: number, wallMs: number): boolean {
  return Math.abs(timestampMs - wallMs) <= FRESH_MS
}

/** Kafka gets the time of sending; what was recorded stays in the header. */
function unsynced(recordedMs: number, now: Now): RecordTime {
  return { timestampMs: wholeMs(now.wallMs), tsMs: recordedMs, clock: 'unsynced' }
}

/** Kafka's timestamps are whole and not negative; dates end at 8.64e15. */
function wholeMs(ms: number): number {
  return Number.isFinite(ms) ? Math.min(8.64e15, Math.max(0, Math.round(ms))) : 0
}
