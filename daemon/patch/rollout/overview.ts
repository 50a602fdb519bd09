/** A rollout in words and counts, for people who look at it. */
import type { Decision, Failure, RolloutPhase, StageCounts } from '../records.ts'
import { chooseCohort } from './cohort.ts'
import { cohortOf, countsOf, failuresOf, gateOf } from './counts.ts'
import { toUndo } from './decide.ts'
import { hindrance } from './order.ts'
import { isGood, phaseOf, stageOf } from './view.ts'
import type { GoodView, RolloutView } from './view.ts'

export interface StageOverview {
  /** From 1. */
  readonly number: number
  readonly state: 'not begun' | 'under way' | 'done'
  readonly counts: StageCounts
  /** Of the pending ones. */
  readonly offline: number
}

export interface RolloutOverview {
  readonly patch: string
  readonly digest: string
  readonly phase: RolloutPhase
  readonly reason: string
  /** What it waits for, one sentence each; empty when nothing more is to come. */
  readonly waitsFor: readonly string[]
  readonly stages: readonly StageOverview[]
  readonly failures: readonly { readonly number: number; readonly gateway: string; readonly kind: string; readonly reason: string }[]
  readonly maxFailures: number
  readonly decisions: readonly Decision[]
}

export function rolloutOverview(view: RolloutView): RolloutOverview {
  const isWell = isGood(view)
  return {
    patch: view.id,
    digest: view.spec.digest,
    phase: phaseOf(view),
    reason: view.state?.reason ?? ('refused' in view.spec ? view.spec.refused : 'no controller has looked at it yet'),
    waitsFor: isWell ? waitsFor(view) : [],
    stages: isWell ? stages(view) : [],
    failures: [...view.failures].sort(([left], [right]) => left - right).map(([number, failure]) => toFailure(number, failure)),
    maxFailures: isWell ? view.spec.patch.rollout.maxFailures : 0,
    decisions: view.state?.decisions ?? [],
  }
}

function toFailure(number: number, failure: Failure | undefined): RolloutOverview['failures'][number] {
  const { gateway = '?', kind = '?', reason = 'the record is not readable' } = failure ?? {}
  return { number, gateway, kind, reason }
}

function stages(view: GoodView): StageOverview[] {
  return view.spec.patch.rollout.stages.map((_, index) => {
    const cohort = cohortOf(view, index)
    const counts = countsOf(view, cohort)
    const offline = cohort.filter((gateway) => view.boxes.get(gateway)?.online !== true && view.boxes.get(gateway)?.result === undefined)
    return { number: index + 1, state: stageState(view, index), counts, offline: offline.length }
  })
}

function stageState(view: GoodView, stage: number): StageOverview['state'] {
  if (stage > stageOf(view)) return 'not begun'
  return stage < stageOf(view) || phaseOf(view) === 'completed' ? 'done' : 'under way'
}

function waitsFor(view: GoodView): string[] {
  switch (phaseOf(view)) {
    case 'waiting':
      return forStart(view)
    case 'running':
      return forStage(view)
    case 'paused':
      return forPerson(view)
    case 'rolling-back':
      return forUndo(view)
    case 'completed':
    case 'cancelled':
    case 'superseded':
    case 'expired':
    case 'refused':
    case 'rolled-back':
      return []
  }
}

function forStart(view: GoodView): string[] {
  const reason = hindrance(view)
  if (reason !== undefined) return [reason]
  const [first] = view.spec.patch.rollout.stages
  const choice = first === undefined ? { wait: 'it has no stages' } : chooseCohort(view, first)
  if ('wait' in choice) return [choice.wait]
  return ['a controller: set "patches.controller: true" on one to three gateways, and look whether they are online']
}

function forStage(view: GoodView): string[] {
  const { counts, needed, isDone } = gateOf(view)
  const number = stageOf(view) + 1
  const stage = view.spec.patch.rollout.stages[stageOf(view)]
  if (!isDone) return forBoxes(view, counts, needed)
  if ((view.facts.doneForMs ?? 0) < (stage?.bakeMs ?? 0))
    return [`stage ${number} is done, and must stay healthy for ${seconds(stage?.bakeMs ?? 0)}`]
  const next = view.spec.patch.rollout.stages[number]
  const choice = next && chooseCohort(view, next)
  return [choice !== undefined && 'wait' in choice ? choice.wait : 'the controller to go on']
}

function forBoxes(view: GoodView, counts: StageCounts, needed: number): string[] {
  const cohort = cohortOf(view, stageOf(view))
  const offline = cohort.filter((id) => view.boxes.get(id)?.online !== true && view.boxes.get(id)?.result === undefined)
  const lines = [`stage ${stageOf(view) + 1}: ${counts.done} of the ${needed} gateways that it needs are done`]
  if (counts.applying > 0) lines.push(`${counts.applying} are applying it`)
  if (counts.pending > 0)
    lines.push(`${counts.pending} have not begun${offline.length > 0 ? `, ${offline.length} of them are offline` : ''}`)
  return lines
}

function forPerson(view: GoodView): string[] {
  const { maxFailures } = view.spec.patch.rollout
  const how = failuresOf(view) > maxFailures ? 'retry or cancel it' : 'resume, retry or cancel it'
  const other = hindrance(view)
  return [`a person: ${how}`, ...(other === undefined ? [] : [other])]
}

function forUndo(view: GoodView): string[] {
  const left = toUndo(view)
  const offline = left.filter((gateway) => view.boxes.get(gateway)?.online !== true).length
  return [`${left.length} gateways to take it back${offline > 0 ? `, ${offline} of them are offline` : ''}`]
}

function seconds(ms: number): string {
  return ms >= 120_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 1_000)} s`
}
