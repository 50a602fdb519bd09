/**
 * Decisions become transactions. Each compares the controller's token and all that the decision rests on: whoever is
 * no longer elected, or saw less than what stands there now, writes nothing and looks again. So a decision is neither
 * made twice nor lost, also when its answer was.
 */
import { Buffer } from 'node:buffer'
import type { Compare, Etcd, Operation } from '../ports.ts'
import { keys } from '../records.ts'
import type { Cohort, Decision, Failure, RolloutState } from '../records.ts'
import { cohortOf, countsOf } from './counts.ts'
import type { Move } from './decide.ts'
import type { Silent } from './silence.ts'
import { isGood, stageOf } from './view.ts'
import type { RolloutView } from './view.ts'

/** etcd refuses more than 128 operations in one transaction, unless it was started otherwise. */
const MOST_DELETES = 100
/** Decisions kept. */
const KEPT = 30

export interface Reign {
  readonly token: number
  readonly compare: Compare
  readonly by: string
}

/** False when something changed meanwhile. Rejects with an `EtcdFailure`; it may have been carried out all the same. */
export async function carryOut(etcd: Etcd, reign: Reign, view: RolloutView, move: Move): Promise<boolean> {
  const compare = [...base(reign, view), ...gate(view, move)]
  const forgiven = move.forgives ? [...view.failures.keys()].sort((left, right) => right - left) : []
  // From the last one down: the gate stays shut until the transaction that also writes the state.
  for (; forgiven.length > MOST_DELETES; forgiven.splice(0, MOST_DELETES)) {
    const then = forgiven.slice(0, MOST_DELETES).map((number) => ({ delete: keys.failure(view.id, number) }))
    if (!(await etcd.transact({ compare, then })).succeeded) return false
  }
  const at = new Date(view.facts.nowMs).toISOString()
  const then: Operation[] = [
    { put: keys.rolloutState(view.id), value: encode(stateAfter(view, move, reign, at)) },
    ...forgiven.map((number) => ({ delete: keys.failure(view.id, number) })),
  ]
  if (move.cohort !== undefined) {
    const cohort: Cohort = { schema: 1, at, gateways: move.cohort }
    then.push({ put: keys.cohort(view.id, move.stage), value: encode(cohort) })
  }
  return (await etcd.transact({ compare, then })).succeeded
}

function base({ compare }: Reign, { id, stateMod, specMod, control }: RolloutView): Compare[] {
  return [
    compare,
    { key: keys.rolloutState(id), mod: stateMod },
    { key: keys.spec(id), mod: specMod },
    { key: keys.control(id), mod: control.revision },
  ]
}

/** What opens or ends a stage stands on the absence of the failure that would be too many. */
function gate(view: RolloutView, move: Move): Compare[] {
  const compare: Compare[] = []
  if (move.cohort !== undefined) compare.push({ key: keys.cohort(view.id, move.stage), create: 0 })
  if (move.forgives) compare.push({ key: keys.failure(view.id, Math.max(0, ...view.failures.keys()) + 1), create: 0 })
  const isOpening = (move.phase === 'running' && !move.forgives && move.stage > stageOf(view)) || move.phase === 'completed'
  if (isOpening && isGood(view)) compare.push({ key: keys.failure(view.id, view.spec.patch.rollout.maxFailures + 1), create: 0 })
  return compare
}

function stateAfter(view: RolloutView, move: Move, { token, by }: Reign, at: string): RolloutState {
  const { phase, stage, retry, pausedBy, pausedAt, resumed, undo, decided, because } = move
  const counts = countsOf(view, move.cohort ?? cohortOf(view, stage))
  const decision: Decision = { at, decided, because, stage, revision: view.revision, counts }
  return {
    schema: 1,
    patch: view.id,
    digest: view.spec.digest,
    phase,
    stage,
    reason: because,
    at,
    token,
    by,
    retry,
    ...(pausedBy !== undefined && { pausedBy }),
    ...(pausedAt !== undefined && { pausedAt }),
    ...(resumed !== undefined && { resumed }),
    ...(undo !== undefined && { undo }),
    decisions: [...(view.state?.decisions ?? []).slice(1 - KEPT), decision],
  }
}

/** A failure in the name of a box that fell silent; its marker goes, so that others of the scope may start if the gate lets them. */
export async function giveUp(etcd: Etcd, reign: Reign, view: RolloutView, silent: Silent): Promise<boolean> {
  const { gateway, failure, resultMod, markerMod } = silent
  if (!isGood(view)) return false
  const marker = keys.openBy(view.spec.patch.rollout.concurrency.scope, gateway)
  const compare: Compare[] = [reign.compare, { key: keys.result(gateway, view.id), mod: resultMod }, { key: marker, mod: markerMod }]
  const then: Operation[] = markerMod > 0 ? [{ delete: marker }] : []
  if (failure !== undefined) {
    const { number, ...rest } = failure
    const value: Failure = { schema: 1, gateway, ...rest, at: new Date(view.facts.nowMs).toISOString() }
    compare.push({ key: keys.failure(view.id, number), create: 0 })
    then.push({ put: keys.failure(view.id, number), value: encode(value) })
  }
  return (await etcd.transact({ compare, then })).succeeded
}

function encode(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}
