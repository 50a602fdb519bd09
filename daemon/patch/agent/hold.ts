/** A technician's hold: no patch starts on this box until it ends by itself, or is cleared. */
import type { Clock } from '../../clock.ts'
import { remainingMs } from '../config-layers.ts'
import type { TimeLimit } from '../config-layers.ts'
import type { Json, JsonObject } from '../memory.ts'

/** Its key in the memory. */
export const HOLD = 'hold'
/** A clock that is set right by so much does not move the end that people were told. */
const SAME_MS = 60_000

export interface Hold {
  /** Wall ms. */
  readonly untilMs: number
  readonly by: string
  readonly reason: string
}

export type StoredHold = Hold & TimeLimit
export type HoldClock = Pick<Clock, 'bootId' | 'bootMs' | 'wallMs' | 'wallTrusted'>

/** The one that stands, with its end by the wall clock as it now is; undefined when there is none, or it is over. */
export function holdIn(memory: ReadonlyMap<string, Json>, clock: HoldClock): Hold | undefined {
  const stored = storedHold(memory.get(HOLD))
  const leftMs = stored === undefined ? 0 : holdLeftMs(stored, clock)
  if (stored === undefined || leftMs <= 0) return undefined
  const { by, reason } = stored
  const endMs = clock.wallMs() + leftMs
  const untilMs = Math.abs(endMs - stored.untilMs) < SAME_MS ? stored.untilMs : Math.ceil(endMs / SAME_MS) * SAME_MS
  return { untilMs, by, reason }
}

/**
 * As for overrides the boot clock counts, and after a reboot the wall clock. But where no clock can tell, the hold goes
 * on, for at most its whole length from this boot: whoever works at a machine also switches it off and on.
 */
export function holdLeftMs(hold: StoredHold, clock: HoldClock): number {
  const isTold = hold.bootId === clock.bootId || (hold.trusted && clock.wallTrusted() && clock.wallMs() >= hold.setMs)
  return isTold ? remainingMs(hold, clock) : Math.max(0, hold.untilMs - hold.setMs - clock.bootMs())
}

export function newHold(words: { readonly forMs: number; readonly by: string; readonly reason: string }, clock: HoldClock): StoredHold {
  const { forMs, by, reason } = words
  const setMs = clock.wallMs()
  return { untilMs: setMs + forMs, by, reason, setMs, trusted: clock.wallTrusted(), bootId: clock.bootId, bootMs: clock.bootMs() }
}

/** Bound to this boot: a step of its wall clock neither ends nor extends it. Undefined when it is over. */
export function anchoredHold(hold: StoredHold, clock: HoldClock): StoredHold | undefined {
  if (hold.bootId === clock.bootId) return hold
  const { by, reason } = hold
  const forMs = holdLeftMs(hold, clock)
  return forMs <= 0 ? undefined : newHold({ forMs, by, reason }, clock)
}

/** What nobody can read holds nothing; a value without clocks is bound to the wall clock alone. */
export function storedHold(value: Json | undefined): StoredHold | undefined {
  if (!isObject(value) || typeof value['untilMs'] !== 'number') return undefined
  const { untilMs, by, reason, setMs, trusted, bootId, bootMs } = value
  const clocks = { setMs: Number(setMs ?? 0), trusted: trusted !== false, bootId: String(bootId ?? ''), bootMs: Number(bootMs ?? 0) }
  return { untilMs, by: String(by ?? ''), reason: String(reason ?? ''), ...clocks }
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
