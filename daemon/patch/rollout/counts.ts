/** How the boxes of a rollout stand, and whether a stage is done. */
import type { StageCounts } from '../records.ts'
import { isTarget } from './targets.ts'
import { stageOf } from './view.ts'
import type { BoxView, GoodView, RolloutView } from './view.ts'

export type Standing = 'done' | 'applying' | 'failed' | 'inconclusive' | 'pending'

/** A box that never began is pending, whether it is online or not. What a retry forgave counts as never begun. */
export function standingOf(view: RolloutView, gateway: string): Standing {
  const box = view.boxes.get(gateway)
  if (box?.result === undefined) return 'pending'
  const isForgiven = box.result.retry < (view.state?.retry ?? 0)
  switch (box.result.state) {
    case 'completed':
      return 'done'
    case 'applying':
      if (isSilent(view, box)) return 'failed'
      return isForgiven && box.markerMod === 0 ? 'pending' : 'applying'
    case 'failed':
    case 'broken':
    case 'refused':
      return isForgiven ? 'pending' : 'failed'
    case 'inconclusive':
      return isForgiven || box.resultMod < (view.state?.resumed ?? 0) ? 'pending' : 'inconclusive'
    case 'interrupted':
    case 'rolled-back':
      return 'pending'
  }
}

/** It began, and the controller has given it up. */
function isSilent(view: RolloutView, { gateway, result }: BoxView): boolean {
  return [...view.failures.values()].some((failure) => failure?.gateway === gateway && failure.token === result?.token)
}

export function countsOf(view: RolloutView, gateways: readonly string[]): StageCounts {
  const counts = { cohort: gateways.length, done: 0, applying: 0, failed: 0, inconclusive: 0, pending: 0 }
  for (const gateway of gateways) counts[standingOf(view, gateway)] += 1
  return counts
}

export function cohortOf(view: RolloutView, stage: number): readonly string[] {
  return view.cohorts.get(stage) ?? []
}

/** All that were let in so far. */
export function entered(view: RolloutView): readonly string[] {
  return Array.from({ length: stageOf(view) + 1 }, (_, stage) => cohortOf(view, stage)).flat()
}

/** Failure keys, or boxes that say they failed, whichever are more: a key may have been deleted by hand. */
export function failuresOf(view: RolloutView): number {
  const failed = [...view.boxes.values()].filter(
    ({ gateway, result }) => result !== undefined && result.state !== 'refused' && standingOf(view, gateway) === 'failed',
  )
  return Math.max(view.failures.size, failed.length)
}

export function areFailuresTooMany(view: GoodView): boolean {
  return failuresOf(view) > view.spec.patch.rollout.maxFailures
}

/** The opened stage as its gate sees it. */
export interface Gate {
  readonly counts: StageCounts
  /** Of the pending ones: those that are offline, and are not waited for. */
  readonly away: number
  readonly needed: number
  /** Without the bake. */
  readonly isDone: boolean
  /** All have answered, and too few with success. */
  readonly isOutOfReach: boolean
}

/**
 * Boxes that went offline before they began are not waited for, but at least half of the cohort (or `minDone` of it,
 * if that is less) must have done it in any case: success by absence is none.
 */
export function gateOf(view: GoodView): Gate {
  const stage = stageOf(view)
  const cohort = cohortOf(view, stage)
  const counts = countsOf(view, cohort)
  const pending = cohort.filter((gateway) => standingOf(view, gateway) === 'pending')
  const away = pending.filter((gateway) => view.boxes.get(gateway)?.online !== true).length
  const minDone = view.spec.patch.rollout.stages[stage]?.minDone ?? 1
  const least = Math.ceil(round(Math.min(minDone, 0.5) * cohort.length))
  const needed = Math.max(Math.ceil(round(minDone * (cohort.length - away))), least, Math.min(1, cohort.length))
  const isQuiet = countsOf(view, entered(view)).applying === 0
  const isDone = view.cohorts.has(stage) && isQuiet && counts.done >= needed
  return { counts, away, needed, isDone, isOutOfReach: isQuiet && counts.pending === 0 && counts.done < needed }
}

/** 0.07 × 100 is 7.000000000000001. */
function round(value: number): number {
  return Number(value.toFixed(6))
}

export function isStageDone(view: GoodView): boolean {
  return stageOf(view) >= 0 && gateOf(view).isDone
}

/** The known boxes that the patch is for. */
export function targetBoxes(view: GoodView): readonly BoxView[] {
  return [...view.boxes.values()].filter((box) => isTarget(view.spec.patch.target, box))
}
