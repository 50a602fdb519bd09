/** What status, metrics and the verdict say of patches. */
import { duration, type Verdict } from './health.ts'
import type { Metric } from './ports.ts'
import type { AgentState } from './patch/agent/state.ts'
import type { Hold } from './patch/agent/hold.ts'
import { appliedRecord } from './patch/agent/own.ts'
import type { FeedState } from './patch/feed.ts'
import { STEPS, type Outcome } from './patch/kinds.ts'
import type { ControllerState } from './patch/rollout/controller.ts'
import type { RunnerState } from './patch/runner/journal.ts'

export interface PatchFigures {
  /** Why no patch comes to this box although etcd is named. */
  readonly off: string | undefined
  readonly feed: Omit<FeedState, 'checkpoint'> | undefined
  /** Undefined: this box is not named to lead, or is not who it says. */
  readonly controller: ControllerState | undefined
  readonly belonging: AgentState['belonging']
  readonly running: RunnerState | undefined
  /** The patch that stands in the queue of its lock. */
  readonly waitsForLock: string | undefined
  readonly inForce: number
  readonly waiting: number
  readonly hold: Hold | undefined
  readonly trouble: AgentState['trouble']
  readonly tally: AgentState['tally']
  readonly hangsForMs: AgentState['hangsForMs']
}

export interface PatchStates {
  readonly feed: FeedState
  readonly agent: AgentState
  readonly controller: ControllerState | undefined
  readonly hold: Hold | undefined
}

export function figuresOf({ feed, agent, controller, hold }: PatchStates): PatchFigures {
  const { belonging, running, turn, waitsForLock, own, why, trouble, tally, hangsForMs } = agent
  return {
    off: undefined,
    feed,
    controller,
    belonging,
    running,
    waitsForLock: waitsForLock ? turn : undefined,
    inForce: appliedRecord(own).inForce.length,
    waiting: why.filter(({ standing }) => standing === 'waiting' || standing === 'next').length,
    hold,
    trouble,
    tally,
    hangsForMs,
  }
}

/** `off`: undefined while the daemon starts. */
export function noPatches(off: string | undefined, hold: Hold | undefined): PatchFigures {
  return {
    off,
    feed: undefined,
    controller: undefined,
    belonging: { kind: 'unmet' },
    running: undefined,
    waitsForLock: undefined,
    inForce: 0,
    waiting: 0,
    hold,
    trouble: undefined,
    tally: { outcomes: {}, lockWaits: 0 },
    hangsForMs: undefined,
  }
}

const FEEDS = ['starting', 'current', 'unreachable', 'refused', 'failing'] as const
const POINTS: readonly RunnerState['step'][] = [...STEPS, 'unflip', 'reactivate', 'recheck', 'discard']
const OUTCOMES: readonly Outcome['state'][] = ['completed', 'failed', 'inconclusive', 'interrupted', 'rolled-back', 'broken']

export function patchStatus({ feed, controller, belonging, running, hold, tally, trouble, hangsForMs, ...rest }: PatchFigures) {
  return {
    ...rest,
    feed: feed && { state: feed.state, reason: feed.reason, remedy: feed.remedy, since: iso(feed.sinceMs) },
    identity: belonging.kind === 'duplicate' ? { kind: belonging.kind, reason: belonging.reason } : { kind: belonging.kind },
    controller: controller && { leading: controller.state === 'deciding', state: controller.state, reason: controller.reason },
    running: running && {
      patch: running.patch,
      step: running.step,
      since: iso(running.since),
      attempt: running.attempt,
      direction: running.direction,
      broken: running.broken,
    },
    hold: hold && { until: iso(hold.untilMs), by: hold.by, reason: hold.reason },
    trouble: trouble?.reason,
    hangsForSeconds: hangsForMs === undefined ? undefined : Math.round(hangsForMs / 1_000),
    outcomes: tally.outcomes,
    lockWaits: tally.lockWaits,
  }
}

/** What a person must mend although messages flow. A duplicate's relay is held, and says so itself. */
export function patchTrouble({ running, belonging, off, feed, trouble, hangsForMs }: PatchFigures): Verdict | undefined {
  if (hangsForMs !== undefined) {
    const line = `patches have stood still for ${duration(hangsForMs)}, and no outside cause is known; messages flow`
    return { state: 'degraded', line, reason: 'patches stand still', remedy: 'restart the service, and keep its journal' }
  }
  if (running?.broken === true) {
    const line = `patch ${running.patch} could not be taken back; messages flow`
    const remedy = `\`edgectl why patch ${running.patch}\`; then restart the service: it tries once more`
    return { state: 'degraded', line, reason: 'a patch is broken', remedy, sinceMs: running.since }
  }
  if (belonging.kind === 'duplicate') {
    const { reason, remedy } = belonging
    return { state: 'degraded', line: reason, reason, remedy }
  }
  if (off !== undefined) {
    const remedy = 'mend what it names, then restart the service'
    return { state: 'degraded', line: `no patches come to this box: ${off}; messages flow`, reason: 'no patches', remedy }
  }
  const refusal = feed?.state === 'refused' ? feed : trouble?.isRefused === true ? trouble : undefined
  if (refusal === undefined) return undefined
  return {
    state: 'degraded',
    line: `no patches come to this box: ${refusal.reason ?? 'etcd refuses'}; messages flow`,
    reason: 'etcd refuses this box',
    remedy: refusal.remedy ?? 'look at etcd, and at its log',
    ...('sinceMs' in refusal && { sinceMs: refusal.sinceMs }),
  }
}

export function patchMetrics(figures: PatchFigures): readonly Metric[] {
  const { feed, running, controller, belonging, tally } = figures
  const states = FEEDS.map((state) => ({ labels: { state }, value: feed?.state === state ? 1 : 0 }))
  const steps = POINTS.map((step) => ({ labels: { step }, value: running?.step === step ? 1 : 0 }))
  const outcomes = OUTCOMES.map((state) => ({ labels: { state }, value: tally.outcomes[state] ?? 0 }))
  return [
    { name: 'patch_feed', type: 'gauge', help: '1 for the state of the feed of patches', samples: states },
    gauge('patch_in_force', 'Patches in force', figures.inForce),
    gauge('patch_waiting', 'Patches that wait to start here', figures.waiting),
    { name: 'patch_step', type: 'gauge', help: '1 for the step of the patch that runs', samples: steps },
    gauge('patch_broken', '1 while a patch could not be taken back', running?.broken === true ? 1 : 0),
    gauge('patch_held', '1 while a technician holds all patches', figures.hold === undefined ? 0 : 1),
    gauge('patch_duplicate_identity', '1 while another box has the id of this one', belonging.kind === 'duplicate' ? 1 : 0),
    gauge('patch_controller_leading', '1 while this box decides the rollouts', controller?.state === 'deciding' ? 1 : 0),
    { name: 'patch_outcomes_total', type: 'counter', help: 'Patches that ended here since the start, by how', samples: outcomes },
    {
      name: 'patch_lock_waits_total',
      type: 'counter',
      help: 'Times that a patch stood in the queue of its lock since the start',
      samples: [{ labels: {}, value: tally.lockWaits }],
    },
  ]
}

/** Two lines at most. */
export function patchLines(figures: ReturnType<typeof patchStatus>, nowMs: number): string[] {
  const { feed, inForce, waiting, off } = figures
  const etcd = off === undefined ? feedWords(feed, nowMs) : `off: ${off}`
  const leads = figures.controller?.leading === true ? ', leads the rollouts' : ''
  const now = happening(figures, nowMs)
  return [`${inForce} in force, ${waiting} waiting, ${etcd}${leads}`, ...(now === undefined ? [] : [now])]
}

function feedWords(feed: ReturnType<typeof patchStatus>['feed'], nowMs: number): string {
  if (feed === undefined || feed.state === 'current') return `etcd ${feed?.state ?? 'not asked'}`
  return `etcd ${feed.state} for ${duration(nowMs - Date.parse(feed.since))}: ${feed.reason ?? 'no reason is known'}`
}

function happening({ running, hold, waitsForLock, trouble }: ReturnType<typeof patchStatus>, nowMs: number): string | undefined {
  if (running?.broken === true) return `${running.patch} could not be taken back: a person is needed`
  if (running !== undefined) {
    const what = running.direction === 'forward' ? 'runs' : 'is taken back'
    return `${running.patch} ${what}: ${running.step} for ${duration(nowMs - Date.parse(running.since))}, attempt ${running.attempt}`
  }
  if (hold !== undefined) return `held until ${hold.until} by ${hold.by}${hold.reason === '' ? '' : `: ${hold.reason}`}`
  if (waitsForLock !== undefined) return `${waitsForLock} waits for its lock`
  return trouble
}

function gauge(name: string, help: string, value: number): Metric {
  return { name, type: 'gauge', help, samples: [{ labels: {}, value }] }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
