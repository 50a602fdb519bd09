/**
 * Is this patch for this box, and may it? Pure: from the bytes in etcd and what the box knows to one verdict with a
 * sentence. The order of the rules is the order in which trust grows: nothing of a document is used before its
 * signature, its key's scope and its fleet have passed.
 */
import { createHash } from 'node:crypto'
import type { ControlView } from './control.ts'
import type { Patch } from './document.ts'
import type { Accepted } from './kinds.ts'
import type { KeyValue } from './ports.ts'
import { keys, PATCH_TYPE } from './records.ts'
import type { Documents, Envelopes, KeyScope } from './signing.ts'
import { outOfReach, outOfScope, type Reached } from './target.ts'
import { type ClockFacts, type RolloutFacts, timeVerdict } from './time.ts'

/** A spec that can be believed, with the trusted keys that signed it. */
export interface Trusted extends Accepted {
  readonly signedBy: readonly string[]
}

export interface Box extends Reached {
  readonly fleet: string | undefined
}

export interface AdmitContext {
  readonly box: Box
  readonly scopes: ReadonlyMap<string, KeyScope>
  readonly clock: ClockFacts
  /** Undefined before the first cohort stands. */
  readonly rollout: RolloutFacts | undefined
  /** The highest sequence that this box committed to, by channel; from its memory, or from its `applied` after a re-imaging. */
  readonly floors: ReadonlyMap<string, { readonly sequence: number; readonly patch: string }>
  /** What is in force here: digest by patch. */
  readonly applied: ReadonlyMap<string, string>
  /** What this id had in force in an earlier life (its signed `applied`): may come back below the floor. */
  readonly appliedBefore: ReadonlyMap<string, string>
  /** By digest. */
  readonly denied: ReadonlyMap<string, { readonly retry: number; readonly reason: string }>
  readonly control: ControlView
  /** The other trusted patches, with how far their rollouts are. */
  readonly others: readonly Other[]
}

export interface Other {
  readonly patch: Patch
  /** `gone`: cancelled, expired, refused or taken back; it supersedes nothing. */
  readonly phase: 'pending' | 'completed' | 'gone'
}

/**
 * - `refused`: bad for this box, whatever comes; told in its result;
 * - `elsewhere`: not for this box;
 * - `over`: nothing is to be done with it any more here;
 * - `waits`: not now; with `untilMs` (wall clock) when that is known, with `requires` when it waits for these patches.
 */
export type Verdict =
  | { readonly verdict: 'refused' | 'elsewhere' | 'over'; readonly reason: string }
  | { readonly verdict: 'waits'; readonly reason: string; readonly untilMs?: number; readonly requires?: readonly string[] }
  | { readonly verdict: 'eligible'; readonly accepted: Accepted }

/**
 * The part that depends on the bytes and the trusted keys alone, and costs the most: worth keeping by mod revision.
 * `entry` is the spec under its key.
 */
export function readSpec(entry: KeyValue, envelopes: Envelopes, documents: Documents): Trusted | { readonly refused: string } {
  if (entry.modRevision !== entry.createRevision)
    return { refused: 'its spec was changed after it was pushed; push a new patch under another id' }
  const opened = envelopes.open(entry.value, PATCH_TYPE)
  if ('refused' in opened) return opened
  const patch = documents.read(opened.payload)
  if ('refused' in patch) return patch
  if (entry.key !== keys.spec(patch.id)) return { refused: `it stands under ${entry.key}, and says that it is ${patch.id}` }
  const digest = createHash('sha256').update(entry.value).digest('hex')
  return { patch, digest, payload: opened.payload, envelope: entry.value, signedBy: opened.keys }
}

export function admit(spec: Trusted | { readonly refused: string }, context: AdmitContext): Verdict {
  if ('refused' in spec) return { verdict: 'refused', reason: spec.refused }
  for (const rule of RULES) {
    const verdict = rule(spec, context)
    if (verdict !== undefined) return verdict
  }
  const { patch, digest, payload, envelope } = spec
  return { verdict: 'eligible', accepted: { patch, digest, payload, envelope } }
}

type Rule = (spec: Trusted, context: AdmitContext) => Verdict | undefined

const RULES: readonly Rule[] = [scope, fleet, target, alreadyHere, sequence, superseded, denied, controlled, required, time]

function scope({ patch, signedBy }: Trusted, { scopes }: AdmitContext): Verdict | undefined {
  const reason = outOfScope(patch, signedBy, scopes)
  return reason === undefined ? undefined : { verdict: 'refused', reason }
}

/** A patch of the test fleet, well signed, must do nothing in production; a box that has no fleet can't tell them apart. */
function fleet({ patch }: Trusted, { box }: AdmitContext): Verdict | undefined {
  if (box.fleet === undefined)
    return {
      verdict: 'refused',
      reason: `it is for the fleet ${patch.fleet}, and this box has none; write gateway: { fleet: ${patch.fleet} } if it belongs to it`,
    }
  if (patch.fleet === box.fleet) return undefined
  return { verdict: 'refused', reason: `it is for the fleet ${patch.fleet}, and this box belongs to ${box.fleet}` }
}

function target({ patch }: Trusted, { box }: AdmitContext): Verdict | undefined {
  const reason = outOfReach(patch.target, box)
  return reason === undefined ? undefined : { verdict: 'elsewhere', reason: `not for this box: ${reason}` }
}

function alreadyHere({ patch, digest }: Trusted, { applied }: AdmitContext): Verdict | undefined {
  const here = applied.get(patch.id)
  if (here === digest) return { verdict: 'over', reason: 'it is in force here' }
  return here === undefined
    ? undefined
    : { verdict: 'refused', reason: 'another patch with this id is in force here; push it under another id' }
}

function sequence({ patch, digest }: Trusted, { floors, appliedBefore }: AdmitContext): Verdict | undefined {
  const floor = floors.get(patch.channel)
  if (floor === undefined || patch.sequence > floor.sequence || patch.id === floor.patch) return undefined
  // A box that was made anew takes back what it had, which lies below the floor that it took over as well.
  if (appliedBefore.get(patch.id) === digest) return undefined
  return {
    verdict: 'refused',
    reason: `its sequence ${patch.sequence} is not above ${floor.sequence} (${floor.patch}), which the channel ${patch.channel} has reached here; push it with a higher one`,
  }
}

function superseded({ patch }: Trusted, { others, box, rollout }: AdmitContext): Verdict | undefined {
  const by = others.find((other) => supersedes(other, patch, box, rollout?.phase === 'completed'))
  return by && { verdict: 'over', reason: `${by.patch.id} supersedes it` }
}

/** What is in force stays until its successor is; what is not yet, gives way to a successor that is merely there. */
function supersedes({ patch: other, phase }: Other, patch: Patch, box: Box, inForce: boolean): boolean {
  if (phase === 'gone' || (inForce && phase !== 'completed')) return false
  if (other.channel !== patch.channel || other.fleet !== patch.fleet || other.sequence <= patch.sequence) return false
  return other.supersedes.includes(patch.id) && outOfReach(other.target, box) === undefined
}

function denied({ patch, digest }: Trusted, { denied: denials, control }: AdmitContext): Verdict | undefined {
  const denial = denials.get(digest)
  if (denial === undefined || control.retry > denial.retry) return undefined
  return { verdict: 'waits', reason: `it failed here (${denial.reason}); \`edgectl patch retry ${patch.id}\` lets it try again` }
}

function controlled(_: Trusted, { control }: AdmitContext): Verdict | undefined {
  if (control.state === 'active') return undefined
  return { verdict: control.state === 'paused' ? 'waits' : 'over', reason: control.reason }
}

function required({ patch }: Trusted, { applied, others }: AdmitContext): Verdict | undefined {
  const missing = patch.requires.filter((id) => !stands(id, applied, others))
  if (missing.length === 0) return undefined
  return { verdict: 'waits', reason: `it requires ${missing.join(', ')}, not applied here yet`, requires: missing }
}

/** It is applied here, or what superseded it is: a box that came later has never had the first one. */
function stands(id: string, applied: AdmitContext['applied'], others: readonly Other[], behind: readonly string[] = []): boolean {
  if (applied.has(id)) return true
  const before = others.find((other) => other.patch.id === id)?.patch
  return others.some(
    ({ patch }) =>
      patch.supersedes.includes(id) &&
      patch.channel === (before?.channel ?? patch.channel) &&
      !behind.includes(patch.id) &&
      stands(patch.id, applied, others, [...behind, id]),
  )
}

function time({ patch }: Trusted, { clock, rollout }: AdmitContext): Verdict | undefined {
  const result = timeVerdict(patch, clock, rollout)
  if (result.may) return undefined
  if (result.expired === true) return { verdict: 'over', reason: result.reason }
  return { verdict: 'waits', reason: result.reason, ...(result.untilMs === undefined ? {} : { untilMs: result.untilMs }) }
}
