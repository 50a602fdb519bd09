/** One rollout as the controller sees it at one revision of etcd, typed, with what only time can tell. */
import type { Patch } from '../document.ts'
import type { Failure, Result, RolloutPhase, RolloutState } from '../records.ts'
import type { ControlView } from '../control.ts'
import type { Addressee } from './targets.ts'

export type SpecSeen = { readonly patch: Patch; readonly digest: string } | { readonly refused: string; readonly digest: string }

export interface BoxView extends Addressee {
  /** Its `alive` is young enough, by the controller's own clock. */
  readonly online: boolean
  /** Of this patch and this digest. */
  readonly result: Result | undefined
  readonly resultMod: number
  /** Mod revision of its open marker in the patch's scope; 0 when there is none. */
  readonly markerMod: number
  /** It stands in the queue of the patch's scope, as a holder or a waiter. */
  readonly isQueued: boolean
}

export interface OtherRollout {
  readonly id: string
  readonly channel: string
  readonly sequence: number
  readonly supersedes: readonly string[]
  readonly phase: RolloutPhase
  readonly stage: number
}

export interface Facts {
  /** Wall clock; trusted, or nothing is decided at all. */
  readonly nowMs: number
  /** How long the opened stage has been seen done, by this controller; undefined when it is not. */
  readonly doneForMs: number | undefined
  /** For boxes with something open and no place in the queue: since when this controller has seen it so. */
  readonly absentForMs: ReadonlyMap<string, number>
}

/** What stands in etcd of one rollout. */
export interface FleetRollout {
  readonly id: string
  readonly spec: SpecSeen
  readonly specMod: number
  readonly control: ControlView
  readonly state: RolloutState | undefined
  /** Mod revision; 0 when there is none. */
  readonly stateMod: number
  /** By stage. */
  readonly cohorts: ReadonlyMap<number, readonly string[]>
  /** Keys of cohorts that nobody can read. */
  readonly spoiled: readonly string[]
  /** By number. What nobody can read counts: the gate of the boxes looks at the key alone. */
  readonly failures: ReadonlyMap<number, Failure | undefined>
}

export interface RolloutView extends FleetRollout {
  readonly revision: number
  /** Every known box that the target names, or a cohort, or that has a result. */
  readonly boxes: ReadonlyMap<string, BoxView>
  readonly others: ReadonlyMap<string, OtherRollout>
  readonly facts: Facts
}

/** A view whose document is good. */
export interface GoodView extends RolloutView {
  readonly spec: { readonly patch: Patch; readonly digest: string }
}

export function isGood(view: RolloutView): view is GoodView {
  return 'patch' in view.spec
}

export function phaseOf({ state }: RolloutView): RolloutPhase {
  return state?.phase ?? 'waiting'
}

export function stageOf({ state }: RolloutView): number {
  return state?.stage ?? -1
}

/**
 * Its stages were opened for another document: one that somebody cleared away, and took the id for this one. Stages that
 * are open already would let it in everywhere at once.
 */
export function isForeign({ state, spec }: Pick<RolloutView, 'spec' | 'state'>): boolean {
  return state !== undefined && state.stage >= 0 && state.digest !== spec.digest
}
