/** Boxes that began and are not heard of any more. */
import type { Failure } from '../records.ts'
import { standingOf } from './counts.ts'
import { isGood } from './view.ts'
import type { BoxView, RolloutView } from './view.ts'

/** A box off the net, after its lease has gone: it may be on its way back for so long. */
const AWAY_MS = 60_000
const GRACE_MS = 60_000

export interface Silent {
  readonly gateway: string
  readonly resultMod: number
  readonly markerMod: number
  /** Absent: only the marker is to go, of a box that has nothing open any more. */
  readonly failure?: { readonly number: number } & Pick<Failure, 'kind' | 'reason' | 'token'>
}

/** Something is open here, and nothing in the queue stands for it: the lease has expired, and whose it was is not back. */
export function isAbsent(view: RolloutView, box: BoxView): boolean {
  return !box.isQueued && (box.markerMod > 0 || standingOf(view, box.gateway) === 'applying')
}

/**
 * A box that lost its lock after FLIP goes on by itself for as long as checks and bake last, so only then is it given
 * up; at once when it is offline as well. Counted by the controller's own clock, from when it first saw it.
 */
export function findSilent(view: RolloutView): Silent | undefined {
  if (!isGood(view)) return undefined
  const { health } = view.spec.patch
  const patienceMs = health.deadlineMs + health.bakeMs + GRACE_MS
  for (const box of view.boxes.values()) {
    const absentForMs = view.facts.absentForMs.get(box.gateway) ?? 0
    if (!isAbsent(view, box) || absentForMs < (box.online ? patienceMs : AWAY_MS)) continue
    return toSilent(view, box, absentForMs)
  }
  return undefined
}

function toSilent(view: RolloutView, box: BoxView, absentForMs: number): Silent {
  const { gateway, resultMod, markerMod, result } = box
  if (result === undefined || standingOf(view, gateway) !== 'applying') return { gateway, resultMod, markerMod }
  const reason = `it began and has not been heard of for ${Math.round(absentForMs / 1_000)} s`
  return { gateway, resultMod, markerMod, failure: { number: nextFailure(view), kind: 'silent', reason, token: result.token } }
}

function nextFailure(view: RolloutView): number {
  let number = 1
  while (view.failures.has(number)) number += 1
  return number
}
