/**
 * What the controller does next with one rollout. Pure: the same view gives the same decision, so a decision that is
 * kept with its revision can be replayed. Read `decide` first; each phase has a function of its own.
 */
import type { RolloutPhase, RolloutState } from '../records.ts'
import { chooseCohort } from './cohort.ts'
import { areFailuresTooMany, cohortOf, countsOf, entered, failuresOf, gateOf, standingOf } from './counts.ts'
import { isForeign, isGood, phaseOf, stageOf } from './view.ts'
import type { GoodView, RolloutView } from './view.ts'
import { hindrance, successorOf } from './order.ts'

export interface Move {
  readonly phase: RolloutPhase
  readonly stage: number
  readonly retry: number
  readonly decided: string
  readonly because: string
  readonly pausedBy?: NonNullable<RolloutState['pausedBy']>
  readonly pausedAt?: number
  readonly resumed?: number
  readonly undo?: 'stage' | 'all'
  /** Frozen as the cohort of `stage`. */
  readonly cohort?: readonly string[]
  /** The failures so far are forgiven. */
  readonly forgives?: true
}

/** `undefined`: everything stands as it should. */
export function decide(view: RolloutView): Move | undefined {
  if (isForeign(view)) return undefined
  const move = isGood(view) ? (ordered(view) ?? byPhase(view)) : refuse(view)
  return move !== undefined && isNews(view.state, move) ? move : undefined
}

function isNews(state: RolloutState | undefined, move: Move): boolean {
  if (state === undefined || move.forgives) return true
  const keys = ['phase', 'stage', 'retry', 'pausedBy', 'pausedAt', 'resumed', 'undo'] as const
  return keys.some((key) => state[key] !== move[key]) || (move.phase === 'waiting' && state.reason !== move.because)
}

function refuse(view: RolloutView): Move | undefined {
  if (isGood(view) || !('refused' in view.spec)) return undefined
  return to(view, 'refused', 'refuse it', view.spec.refused)
}

/** The next state, with what is kept of the last one. */
function to(view: RolloutView, phase: RolloutPhase, decided: string, because: string, changes: Partial<Move> = {}): Move {
  const { state } = view
  return {
    phase,
    stage: stageOf(view),
    retry: state?.retry ?? 0,
    ...(state?.resumed !== undefined && { resumed: state.resumed }),
    decided,
    because,
    ...changes,
  }
}

function byPhase(view: GoodView): Move | undefined {
  switch (phaseOf(view)) {
    case 'waiting':
    case 'refused': // the key that was missing has come
      return fromWaiting(view)
    case 'running':
      return fromRunning(view)
    case 'paused':
      return fromPaused(view)
    case 'completed':
      return areFailuresTooMany(view) ? pause(view, 'failures', tooMany(view)) : undefined
    case 'rolling-back':
    case 'rolled-back':
      return fromRollingBack(view)
    case 'cancelled':
    case 'superseded':
    case 'expired':
      return undefined
  }
}

/** What people, time and newer patches order, whatever the phase. */
function ordered(view: GoodView): Move | undefined {
  const phase = phaseOf(view)
  const { control } = view
  if (control.state === 'cancelled') return cancel(view, control.rollback)
  const isOpen = phase === 'waiting' || phase === 'running' || phase === 'paused'
  const successor = isOpen || phase === 'completed' ? successorOf(view) : undefined
  if (successor !== undefined) return to(view, 'superseded', 'end it', `${successor} supersedes it`)
  if (isOpen && view.facts.nowMs >= view.spec.patch.expires) return to(view, 'expired', 'end it', 'its time has expired')
  if (control.state === 'paused' && (isOpen || phase === 'completed')) return pauseByControl(view)
  return retry(view)
}

function cancel(view: GoodView, isRollback: boolean): Move | undefined {
  const phase = phaseOf(view)
  const isUndone = (phase === 'rolling-back' || phase === 'rolled-back') && view.state?.undo === 'all'
  if (isRollback && (isUndone || hasBegun(view))) {
    return isUndone
      ? fromRollingBack(view)
      : to(view, 'rolling-back', 'take it back everywhere', by(view, 'it was ordered'), { undo: 'all' })
  }
  if (phase === 'rolling-back' || phase === 'rolled-back') return fromRollingBack(view)
  if (phase === 'superseded' || phase === 'expired') return undefined
  return to(view, 'cancelled', 'start it nowhere else', by(view, 'it was cancelled'))
}

function hasBegun(view: GoodView): boolean {
  return stageOf(view) >= 0 || [...view.boxes.values()].some(({ result }) => result !== undefined && result.state !== 'refused')
}

/** The control's own sentence. */
function by({ control }: GoodView, otherwise: string): string {
  return control.reason === '' ? otherwise : control.reason
}

function pauseByControl(view: GoodView): Move | undefined {
  const { revision, reason } = view.control
  if (phaseOf(view) === 'paused' && (view.state?.pausedAt ?? 0) >= revision) return undefined
  const before = phaseOf(view) === 'paused' ? view.state?.pausedBy : undefined
  const pausedBy = before ?? (reason.includes('lock broken') ? 'lock broken' : 'operator')
  return to(view, 'paused', 'pause', by(view, 'it was paused'), { pausedBy, pausedAt: revision })
}

function pause(view: GoodView, pausedBy: 'failures' | 'inconclusive', because: string): Move {
  return to(view, 'paused', 'pause', because, { pausedBy, pausedAt: view.control.revision })
}

/** Only what is signed, and came after the pause, speeds up. (That it answers the pause was checked with its signature.) */
function isAnswered(view: GoodView): boolean {
  const { revision, signed, state } = view.control
  return signed && state === 'active' && revision > (view.state?.pausedAt ?? 0)
}

function retry(view: GoodView): Move | undefined {
  const phase = phaseOf(view)
  const number = view.control.retry
  if (number <= (view.state?.retry ?? 0) || !isAnswered(view)) return undefined
  if (phase !== 'running' && phase !== 'paused' && phase !== 'completed' && phase !== 'rolled-back') return undefined
  if (hindrance(view) !== undefined) return undefined
  const next = stageOf(view) < 0 ? 'waiting' : 'running'
  return to(view, next, 'try again', 'a signed order says so', { retry: number, resumed: view.control.revision, forgives: true })
}

function fromWaiting(view: GoodView): Move | undefined {
  const reason = hindrance(view)
  if (reason !== undefined) return to(view, 'waiting', 'wait', reason, { stage: -1 })
  if (areFailuresTooMany(view)) return pause(view, 'failures', tooMany(view))
  return open(view, 0, 'its time has come') ?? undefined
}

function open(view: GoodView, stage: number, because: string): Move | undefined {
  const plan = view.spec.patch.rollout.stages[stage]
  if (plan === undefined) return undefined
  const name = `cohorts/${stage}`
  if (view.spoiled.some((key) => key.endsWith(`/${name}`))) return waitOrStay(view, stage, `${name} can't be read: delete it`)
  const choice = chooseCohort(view, plan)
  if ('wait' in choice) return waitOrStay(view, stage, choice.wait)
  const frozen = view.cohorts.get(stage)
  const size = (frozen ?? choice.gateways).length
  const decided = `open stage ${stage + 1} for ${size} more`
  return to(view, 'running', decided, because, { stage, ...(frozen === undefined && { cohort: choice.gateways }) })
}

/** Between stages the state stays as it is; the overview says what it waits for. */
function waitOrStay(view: GoodView, stage: number, reason: string): Move | undefined {
  return stage === 0 ? to(view, 'waiting', 'wait', reason, { stage: -1 }) : undefined
}

function fromRunning(view: GoodView): Move | undefined {
  if (areFailuresTooMany(view)) return stop(view)
  const inconclusive = countsOf(view, [...view.boxes.keys()]).inconclusive
  if (inconclusive > 0) return pause(view, 'inconclusive', `on ${inconclusive} the old version fails its checks as well`)
  const gate = gateOf(view)
  if (gate.isOutOfReach)
    return pause(view, 'failures', `only ${gate.counts.done} of the ${gate.needed} that stage ${stageOf(view) + 1} needs`)
  if (!gate.isDone || !isBaked(view)) return undefined
  const last = view.spec.patch.rollout.stages.length - 1
  const because = `stage ${stageOf(view) + 1} is done: ${gate.counts.done} of ${gate.counts.cohort}`
  return stageOf(view) >= last ? to(view, 'completed', 'put it in force', because) : open(view, stageOf(view) + 1, because)
}

/** A stage that let nobody in has nothing to bake. */
function isBaked(view: GoodView): boolean {
  const stage = stageOf(view)
  if (cohortOf(view, stage).length === 0) return true
  return (view.facts.doneForMs ?? -1) >= (view.spec.patch.rollout.stages[stage]?.bakeMs ?? 0)
}

function stop(view: GoodView): Move {
  const { onFailure } = view.spec.patch.rollout
  if (onFailure === 'pause') return pause(view, 'failures', tooMany(view))
  const undo = onFailure === 'rollback-all' ? 'all' : 'stage'
  return to(view, 'rolling-back', undo === 'all' ? 'take it back everywhere' : 'take the stage back', tooMany(view), { undo })
}

function tooMany(view: GoodView): string {
  return `${failuresOf(view)} failed, ${view.spec.patch.rollout.maxFailures} may`
}

function fromPaused(view: GoodView): Move | undefined {
  if (!isAnswered(view) || hindrance(view) !== undefined) return undefined
  const next = stageOf(view) < 0 ? 'waiting' : 'running'
  return to(view, next, 'go on', 'it was resumed by a signed order', { resumed: view.control.revision })
}

/** Who still has it, or may have it soon. */
export function toUndo(view: RolloutView): readonly string[] {
  const from = view.state?.undo === 'stage' ? cohortOf(view, stageOf(view)) : [...new Set([...view.boxes.keys(), ...entered(view)])]
  return from.filter((gateway) => ['done', 'applying'].includes(standingOf(view, gateway)))
}

function fromRollingBack(view: GoodView): Move | undefined {
  const undo = view.state?.undo ?? 'all'
  const left = toUndo(view)
  if (left.length === 0) return to(view, 'rolled-back', 'end it', 'nobody has it any more', { undo })
  return to(view, 'rolling-back', 'take it back', 'some have it still', { undo })
}
