/**
 * What the time is, as far as a patch is concerned. A box that booted in 1970 must not take an expired patch for a
 * new one, and must not wait for ever either. Three lower bounds are known: the own wall clock when it can be right,
 * the highest time ever believed (durable), and the instant that a controller wrote beside its decision.
 */
export interface ClockFacts {
  readonly wallMs: number
  readonly trusted: boolean
  /** `time/floor` of the box's memory; 0 without one. */
  readonly floorMs: number
}

/** What the controller has decided on this patch. */
export interface RolloutFacts {
  readonly phase: 'begun' | 'completed'
  /** `at` of the first cohort: the rollout began then, by a controller's clock. */
  readonly beganMs: number
  /** `at` of the state: no earlier than this is it now. */
  readonly decidedMs: number
}

/** ms; only a lower bound while the clock is not trusted. */
export function believedMs(clock: ClockFacts, rollout: RolloutFacts | undefined): number {
  return Math.max(clock.floorMs, clock.trusted ? clock.wallMs : 0, rollout?.decidedMs ?? 0, rollout?.beganMs ?? 0)
}

export type TimeVerdict =
  { readonly may: true } | { readonly may: false; readonly reason: string; readonly untilMs?: number; readonly expired?: true }

/**
 * `expires` bars a rollout from beginning, and is so counted against its beginning: boxes that come to it later are
 * not barred by it, and what is completed stays in force. Without a rollout only a trusted clock can say that it has
 * not expired yet.
 */
export function timeVerdict(
  { notBefore, expires }: { readonly notBefore: number | undefined; readonly expires: number },
  clock: ClockFacts,
  rollout: RolloutFacts | undefined,
): TimeVerdict {
  if (rollout?.phase === 'completed') return { may: true }
  const nowMs = believedMs(clock, rollout)
  const startMs = rollout?.beganMs ?? nowMs
  if (startMs >= expires) return { may: false, expired: true, reason: `it expired on ${instant(expires)} before its rollout began` }
  if (notBefore !== undefined && nowMs < notBefore) return { may: false, reason: `it begins on ${instant(notBefore)}`, untilMs: notBefore }
  if (rollout === undefined && !clock.trusted)
    return { may: false, reason: 'the clock of this box is not set, and no controller has decided on this patch yet' }
  return { may: true }
}

/** Dates beyond what JavaScript can write stand for themselves. */
function instant(ms: number): string {
  return Number.isFinite(ms) && Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : String(ms)
}
