/**
 * One patch on its way, as the journal holds it. The record says what was *begun*; whether FLIP happened is asked of the
 * box itself. Everything that a recovery needs is in it: no other part, no etcd, and no parser of a later release.
 */
import type { Health, PatchKind } from '../document.ts'
import { STEPS } from '../kinds.ts'
import type { Outcome, Step } from '../kinds.ts'
import type { Json, JsonObject } from '../memory.ts'

/** Steps forward, and those of the way back. */
export type Point = Step | 'unflip' | 'reactivate' | 'recheck' | 'discard'

/** Why the way leads back, and what the run will be called at its end. */
export interface Cause {
  readonly state: 'failed' | 'interrupted' | 'rolled-back'
  readonly reason: string
}

/** `undo`: back from a committed patch. */
export type Direction = 'forward' | 'back' | 'undo'

export interface Run {
  readonly patch: string
  readonly digest: string
  readonly kind: PatchKind
  readonly channel: string
  readonly sequence: number
  readonly health: Pick<Health, 'checks' | 'consecutive' | 'deadlineMs' | 'bakeMs'>
  /** The signed payload, base64. */
  readonly payload: string
  /** Retry number of the control that it was started under. */
  readonly retry: number
  readonly plan: Json
  readonly direction: Direction
  /** The last step forward that was begun. */
  readonly step: Step
  readonly point: Point
  readonly phase: 'begin' | 'done'
  /** Of the patch: grows with each life of the daemon that ended within it, and each run that its surroundings stopped. */
  readonly attempt: number
  /** Of the step. */
  readonly tries: number
  readonly cause: Cause | null
  /** The daemon was told to stop: the next start goes on, and counts no attempt. */
  readonly paused: boolean
  /** It could not be taken back; the next start tries again. */
  readonly broken: boolean
  /** Wall ms. */
  readonly startedMs: number
  readonly sinceMs: number
}

/** `applied/<patch>`: a committed patch, with all that an undo needs. */
export type AppliedPatch = Pick<Run, 'digest' | 'kind' | 'channel' | 'sequence' | 'health' | 'payload' | 'plan'> & { readonly atMs: number }

export const ATTEMPTS_MAX = 3

export function hasReached(run: Run, step: Step): boolean {
  return STEPS.indexOf(run.step) >= STEPS.indexOf(step)
}

/** Records are JSON already; only their types have names. */
export function toJson(record: Run | AppliedPatch | Outcome): JsonObject {
  return record as unknown as JsonObject
}

/** Undefined when the record is none of ours. */
export function runOf(stored: Json | undefined): Run | undefined {
  return isRecord(stored, ['patch', 'digest', 'kind', 'plan', 'direction', 'step', 'point']) ? (stored as unknown as Run) : undefined
}

export function appliedOf(stored: Json | undefined): AppliedPatch | undefined {
  return isRecord(stored, ['digest', 'kind', 'channel', 'health', 'payload', 'plan']) ? (stored as unknown as AppliedPatch) : undefined
}

function isRecord(stored: Json | undefined, names: readonly string[]): boolean {
  return typeof stored === 'object' && stored !== null && names.every((name) => name in stored)
}
