/**
 * What this box may do next, and for each patch one sentence why not. Pure: the same sight gives the same answer.
 * `admit` has judged the document by then; here stand the rules of the fleet and of this box's own past.
 */
import type { Verdict } from '../admit.ts'
import type { ControlView } from '../control.ts'
import type { Patch } from '../document.ts'
import type { Accepted, Windows } from '../kinds.ts'
import type { Result } from '../records.ts'
import type { Own } from './own.ts'
import type { ResultSeen } from './results.ts'
import type { RolloutSeen } from './rollouts.ts'

/** One patch as the box sees it. */
export interface Candidate {
  readonly id: string
  /** sha256 of the spec's bytes; undefined when no spec stands in etcd any more. */
  readonly digest: string | undefined
  /** Undefined: there is none, or it is not believed. */
  readonly patch: Patch | undefined
  readonly verdict: Verdict | undefined
  readonly control: Pick<ControlView, 'state' | 'retry' | 'revision'>
  readonly rollout: RolloutSeen | undefined
  /** The stage whose cohort names this box. */
  readonly cohort: number | undefined
  readonly result: ResultSeen | undefined
}

export interface Sight {
  readonly candidates: readonly Candidate[]
  readonly own: Own
  readonly nowMs: number
  readonly windows: Windows
}

export type Standing = 'in force' | 'next' | 'waiting' | 'refused' | 'not for this box' | 'stopped' | 'over'

export interface Why {
  readonly patch: string
  readonly standing: Standing
  /** One sentence, without the patch's name. */
  readonly because: string
  /** Wall ms when it is worth a look again by itself. */
  readonly untilMs?: number
}

export interface Apply {
  readonly do: 'apply'
  readonly candidate: Candidate
  readonly accepted: Accepted
  readonly attempt: number
}

export interface Undo {
  readonly do: 'undo'
  readonly candidate: Candidate
  /** Undefined when what was applied can't be read any more. */
  readonly patch: Patch | undefined
}

export type Action = Apply | Undo

export interface Decided {
  /** Undo first, then in the order of the sequences. */
  readonly actions: readonly Action[]
  readonly why: ReadonlyMap<string, Why>
}

/** A lost lock, a shut window and the like: so often, then a person must look. */
export const ATTEMPTS_MAX = 3
/** Times the number of attempts: between one that was interrupted and the next. */
const AFTER_INTERRUPTION_MS = 60_000

type Objection = Omit<Why, 'patch'> | undefined
type Known = Candidate & { readonly patch: Patch; readonly digest: string }

export function decide(sight: Sight): Decided {
  const why = new Map<string, Why>()
  const actions: Action[] = []
  for (const candidate of [...sight.candidates].sort(inOrder)) {
    const { id } = candidate
    const undo = undoOf(candidate, sight)
    const objection = undo === undefined ? objectionTo(candidate, sight) : holdOf(sight)
    const because = undo === undefined ? 'it may start' : 'it is taken back, as its rollout orders'
    why.set(id, { patch: id, ...(objection ?? { standing: 'next', because }) })
    if (objection !== undefined) continue
    if (undo !== undefined) actions.push(undo)
    else if (candidate.verdict?.verdict === 'eligible') {
      const attempt = attemptsOf(candidate) + 1
      actions.push({ do: 'apply', candidate, accepted: candidate.verdict.accepted, attempt })
    }
  }
  return { actions: actions.sort((left, right) => Number(left.do === 'apply') - Number(right.do === 'apply')), why }
}

function inOrder(left: Candidate, right: Candidate): number {
  const sequence = ({ patch }: Candidate): number => patch?.sequence ?? Number.MAX_SAFE_INTEGER
  return sequence(left) - sequence(right) || (left.id < right.id ? -1 : 1)
}

// ------------------------------------------------------------- taking back

function undoOf(candidate: Candidate, { own }: Sight): Undo | undefined {
  const { id, rollout, cohort, patch } = candidate
  const here = own.applied.get(id)
  if (here === undefined || rollout === undefined || rollout.state.digest !== here.digest) return undefined
  const { phase, undo = 'all', stage } = rollout.state
  if (phase !== 'rolling-back' && phase !== 'rolled-back') return undefined
  if (undo === 'stage' && cohort !== stage) return undefined
  return { do: 'undo', candidate, patch: here.document ?? patch }
}

// ------------------------------------------------------------- starting

function objectionTo(candidate: Candidate, sight: Sight): Objection {
  const { id, verdict } = candidate
  const here = sight.own.applied.get(id)
  if (here !== undefined && (candidate.digest === undefined || candidate.digest === here.digest)) {
    return { standing: 'in force', because: `it is in force here since ${iso(here.atMs)}` }
  }
  if (verdict === undefined || !isKnown(candidate)) {
    if (verdict?.verdict === 'refused') return { standing: 'refused', because: verdict.reason }
    return { standing: 'over', because: 'it is no longer in etcd' }
  }
  const admitted = ofVerdict(verdict)
  if (admitted !== undefined) return admitted
  for (const rule of RULES) {
    const objection = rule(candidate, sight)
    if (objection !== undefined) return objection
  }
  return undefined
}

function isKnown(candidate: Candidate): candidate is Known {
  return candidate.patch !== undefined && candidate.digest !== undefined
}

function ofVerdict(verdict: Verdict): Objection {
  switch (verdict.verdict) {
    case 'eligible':
      return undefined
    case 'refused':
      return { standing: 'refused', because: verdict.reason }
    case 'elsewhere':
      return { standing: 'not for this box', because: verdict.reason.replace(/^not for this box: /, '') }
    case 'over':
      return { standing: 'over', because: verdict.reason }
    case 'waits':
      return waiting(verdict.reason, verdict.untilMs)
  }
}

type Rule = (candidate: Known, sight: Sight) => Objection

const RULES: readonly Rule[] = [undone, staged, tried, behindOthers, (_, sight) => holdOf(sight), shut]

function undone({ id, result, control }: Known, { own }: Sight): Objection {
  if (!own.undone.has(id) || (result !== undefined && control.retry > result.result.retry)) return undefined
  return { standing: 'over', because: 'it was taken back on order' }
}

function staged({ digest, patch, rollout, cohort, control }: Known): Objection {
  if (rollout === undefined) return waiting('no controller has opened its rollout yet')
  const { state } = rollout
  if (state.digest !== digest) return waiting('its rollout is that of another document with the same id')
  if (state.retry < control.retry) return waiting('no controller has followed the retry yet')
  switch (state.phase) {
    case 'completed':
      return undefined
    case 'running':
      if (cohort !== undefined && cohort <= state.stage) return undefined
      return waiting(`its turn has not come: stage ${state.stage + 1} of ${patch.rollout.stages.length} is open`)
    case 'waiting':
    case 'paused':
      return waiting(`its rollout is ${state.phase}: ${state.reason}`)
    default:
      return { standing: 'over', because: `its rollout is ${state.phase}: ${state.reason}` }
  }
}

/** Of this document and this retry; what came before is forgiven. */
function resultOf({ digest, control, result }: Candidate): ResultSeen | undefined {
  return result !== undefined && result.result.digest === digest && result.result.retry >= control.retry ? result : undefined
}

function attemptsOf(candidate: Candidate): number {
  const own = resultOf(candidate)?.result
  return own === undefined || own.state === 'completed' || own.state === 'refused' ? 0 : own.attempt
}

function tried(candidate: Known, { nowMs }: Sight): Objection {
  const own = resultOf(candidate)
  if (own === undefined) return undefined
  const { state, attempt, reason = 'no reason was kept' } = own.result
  const retry = `\`edgectl patch retry ${candidate.id}\` lets it try again`
  if (state === 'failed') return { standing: 'stopped', because: `it failed here (${reason}); ${retry}` }
  if (state === 'broken') return { standing: 'stopped', because: `it could not be taken back (${reason}): a person is needed` }
  if (state === 'rolled-back') return { standing: 'over', because: 'it was taken back on order' }
  if (state !== 'interrupted' && state !== 'inconclusive') return undefined
  if (attempt >= ATTEMPTS_MAX) return { standing: 'stopped', because: `it was ${state} ${attempt} times (${reason}); ${retry}` }
  if (state === 'inconclusive' && (candidate.rollout?.mod ?? 0) < own.mod) {
    return waiting(`it was inconclusive here (${reason}); the controller must look first`)
  }
  return beforeNext(own.result, nowMs)
}

function beforeNext({ state, attempt, reason, at }: Result, nowMs: number): Objection {
  const againMs = Date.parse(at) + AFTER_INTERRUPTION_MS * attempt
  // A wall clock that was set back must not stretch the wait.
  if (nowMs >= againMs || nowMs < Date.parse(at)) return undefined
  return waiting(
    `it was ${state} (${reason ?? 'no reason was kept'}); attempt ${attempt + 1} of ${ATTEMPTS_MAX} comes at ${iso(againMs)}`,
    againMs,
  )
}

/** In a channel the lower sequence goes first: once a higher one is in, the lower one never comes. */
function behindOthers({ id, patch }: Known, sight: Sight): Objection {
  const ahead = sight.candidates.find(
    (one) =>
      one.id !== id && isKnown(one) && one.patch.channel === patch.channel && one.patch.sequence < patch.sequence && isComing(one, sight),
  )
  return ahead && waiting(`${ahead.id} comes before it in the channel ${patch.channel}`)
}

/** As things stand it will be applied here, now or after a wait that ends by itself, or when what it requires has come. */
function isComing(candidate: Known, sight: Sight, behind: readonly string[] = []): boolean {
  const { id, verdict } = candidate
  if (sight.own.applied.has(id) || verdict === undefined || candidate.control.state !== 'active' || behind.includes(id)) return false
  if (undone(candidate, sight) !== undefined || staged(candidate) !== undefined) return false
  if (tried(candidate, sight)?.standing === 'stopped') return false
  if (verdict.verdict !== 'waits') return verdict.verdict === 'eligible'
  if (verdict.requires === undefined) return verdict.untilMs !== undefined
  return verdict.requires.every((required) =>
    sight.candidates.some((one) => one.id === required && isKnown(one) && isComing(one, sight, [...behind, id])),
  )
}

function holdOf({ own: { hold }, nowMs }: Sight): Objection {
  if (hold === undefined || hold.untilMs <= nowMs) return undefined
  const reason = hold.reason === '' ? '' : `: ${hold.reason}`
  return waiting(`${hold.by} holds all patches of this box until ${iso(hold.untilMs)}${reason}`, hold.untilMs)
}

function shut({ patch: { window } }: Known, { windows, nowMs }: Sight): Objection {
  if (window === undefined || windows.remainingMs(window, nowMs) > 0) return undefined
  const opensMs = windows.opensMs(window, nowMs)
  if (opensMs === undefined) return waiting('its maintenance window never opens')
  return waiting(`its maintenance window opens at ${iso(opensMs)}`, opensMs)
}

/** Why a patch that has begun should end; undefined: it goes on. */
export function cancellation(candidate: Candidate | undefined): string | undefined {
  const phase = candidate?.rollout?.state.phase
  const isOver = candidate?.control.state === 'cancelled' || phase === 'cancelled' || phase === 'rolling-back'
  return isOver ? 'the patch was cancelled' : undefined
}

export function waiting(because: string, untilMs?: number): Omit<Why, 'patch'> {
  return { standing: 'waiting', because, ...(untilMs !== undefined && { untilMs }) }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
