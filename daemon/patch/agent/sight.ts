/** What stands in etcd and in memory, as the candidates that `decide` looks at. */
import { createHash } from 'node:crypto'
import { admit } from '../admit.ts'
import type { AdmitContext, Other, Trusted } from '../admit.ts'
import type { View } from '../mirror.ts'
import { keys } from '../records.ts'
import type { RolloutPhase } from '../records.ts'
import type { ClockFacts, RolloutFacts } from '../time.ts'
import type { Candidate } from './eligibility.ts'
import type { Box, PatchReader } from './needs.ts'
import type { Own } from './own.ts'
import type { ResultSeen } from './results.ts'
import type { RolloutSeen } from './rollouts.ts'

export interface Sources {
  readonly box: Box
  readonly reader: PatchReader
  readonly own: Own
  readonly results: ReadonlyMap<string, ResultSeen>
  readonly rollouts: {
    state(patch: string): RolloutSeen | undefined
    cohort(patch: string): number | undefined
    beganMs(patch: string): number | undefined
  }
  readonly clock: ClockFacts
}

type Spec = Trusted | { readonly refused: string }

/** Ids with a spec in etcd, and those that are applied here without one. */
export function idsOf(entries: View['entries'], own: Own): Set<string> {
  const inEtcd = [...entries.keys()].flatMap((key) => /^patches\/([^/]+)\/spec$/.exec(key)?.[1] ?? [])
  return new Set([...inEtcd, ...own.applied.keys()])
}

export function candidatesOf(entries: View['entries'], sources: Sources): Candidate[] {
  const specs = new Map<string, Spec>()
  for (const id of idsOf(entries, sources.own)) {
    const entry = entries.get(keys.spec(id))
    if (entry !== undefined) specs.set(id, sources.reader.spec(entry))
  }
  const others = [...specs].flatMap(([id, spec]) => otherOf(id, spec, sources))
  return [...idsOf(entries, sources.own)].map((id) => candidateOf(id, specs.get(id), entries, others, sources))
}

const LIVING: ReadonlySet<RolloutPhase> = new Set(['waiting', 'running', 'paused'])

function otherOf(id: string, spec: Spec, { rollouts }: Sources): Other[] {
  if ('refused' in spec) return []
  const phase = rollouts.state(id)?.state.phase ?? 'waiting'
  return [{ patch: spec.patch, phase: phase === 'completed' ? 'completed' : LIVING.has(phase) ? 'pending' : 'gone' }]
}

const NO_CONTROL: Candidate['control'] = { state: 'active', retry: 0, revision: 0 }

function candidateOf(id: string, spec: Spec | undefined, entries: View['entries'], others: readonly Other[], sources: Sources): Candidate {
  const rollout = sources.rollouts.state(id)
  const rest = { id, rollout, cohort: sources.rollouts.cohort(id), result: sources.results.get(id) }
  const entry = entries.get(keys.spec(id))
  if (spec === undefined || entry === undefined)
    return { ...rest, digest: undefined, patch: undefined, verdict: undefined, control: NO_CONTROL }
  if ('refused' in spec) {
    const digest = createHash('sha256').update(entry.value).digest('hex')
    return { ...rest, digest, patch: undefined, verdict: { verdict: 'refused', reason: spec.refused }, control: NO_CONTROL }
  }
  const control = sources.reader.control(entries.get(keys.control(id)), spec.patch)
  const context = contextOf(
    sources,
    factsOf(id, sources),
    others.filter(({ patch }) => patch.id !== id),
    control,
  )
  return { ...rest, digest: spec.digest, patch: spec.patch, verdict: admit(spec, context), control }
}

function contextOf(
  { box, reader, own, clock }: Sources,
  rollout: RolloutFacts | undefined,
  others: readonly Other[],
  control: AdmitContext['control'],
): AdmitContext {
  const { gateway: id, site, labels, fleet } = box
  return {
    box: { id, site: site ?? undefined, labels, fleet: fleet ?? undefined },
    scopes: reader.scopes(),
    clock,
    rollout,
    floors: own.floors,
    applied: new Map([...own.applied].map(([patch, { digest }]) => [patch, digest])),
    appliedBefore: own.before,
    denied: own.denied,
    control,
    others,
  }
}

function factsOf(id: string, { rollouts }: Sources): RolloutFacts | undefined {
  const state = rollouts.state(id)?.state
  const beganMs = rollouts.beganMs(id)
  if (state === undefined || beganMs === undefined) return undefined
  return { phase: state.phase === 'completed' ? 'completed' : 'begun', beganMs, decidedMs: Date.parse(state.at) || 0 }
}
