/**
 * What etcd does not know of this box's patches: outcomes that were kept while the lock was lost or etcd away, starts
 * that a crash left open, results that a restored backup does not hold, and refusals. None of it starts anything, so none waits for a lock: it compares the
 * result that it follows and the binding of the id. Waiting in the queue would be worse, since whoever holds the lock
 * waits for our open marker.
 */
import { STEPS } from '../kinds.ts'
import type { Memory } from '../memory.ts'
import type { Compare } from '../ports.ts'
import type { Result } from '../records.ts'
import type { Candidate } from './eligibility.ts'
import type { Outbound, Own } from './own.ts'
import { endOf, tell } from './results.ts'
import type { ResultPorts, ResultSeen } from './results.ts'

export interface UntoldPorts extends ResultPorts {
  nowMs(): number
  readonly memory: Memory
}

export interface Untold {
  readonly own: Own
  readonly candidates: readonly Candidate[]
  readonly results: ReadonlyMap<string, ResultSeen>
  readonly binding: Compare
}

const REASON_MAX = 500

/** True when it wrote something: results must be read again. Rejects with an `EtcdFailure`. */
export async function tellUntold(ports: UntoldPorts, untold: Untold): Promise<boolean> {
  let wrote = false
  for (const outcome of untold.own.outbound.values()) wrote = (await tellOutcome(ports, untold, outcome)) || wrote
  for (const outcome of [...leftOpen(untold), ...forgotten(untold)]) wrote = (await tellOutcome(ports, untold, outcome)) || wrote
  for (const refusal of refusals(ports.gateway, untold, ports.nowMs())) wrote = (await tellRefusal(ports, untold, refusal)) || wrote
  return wrote
}

async function tellOutcome(ports: UntoldPorts, { candidates, results, binding }: Untold, outcome: Outbound): Promise<boolean> {
  const before = results.get(outcome.patch)
  const { token = before?.result.token ?? 0, retry = before?.result.retry ?? 0 } = outcome
  const started = { token, retry, attempt: before?.result.attempt ?? outcome.attempt }
  const result = endOf(ports.gateway, outcome, started)
  const scope = outcome.scope ?? scopeOf(candidates.find(({ id }) => id === outcome.patch))
  const isKnown = before !== undefined && before.result.state === result.state && before.result.at === result.at
  const told = isKnown ? 'told' : await tell(ports, { result, before: before?.mod ?? 0, scope, compare: [binding], also: [] })
  if (told === 'told') await ports.memory.write({ [`outbound/${outcome.patch}`]: undefined })
  return true
}

function scopeOf(candidate: Candidate | undefined): string | undefined {
  return candidate?.patch?.rollout.concurrency.scope
}

type Known = Pick<Outbound, 'patch' | 'digest' | 'attempt' | 'startedMs'>

/** Nothing runs here: what etcd still calls `applying` ended with an earlier life, or in a history that was given up. */
function leftOpen({ own, results }: Untold): Outbound[] {
  return [...results].flatMap(([patch, { result }]) => {
    if (result.state !== 'applying' || own.outbound.has(patch)) return []
    const startedMs = Date.parse(result.startedAt ?? result.at)
    const known: Known = { patch, digest: result.digest, attempt: result.attempt, startedMs }
    const reason = 'the gateway ended before the first step'
    return remembered(known, own, result.retry) ?? { ...known, state: 'interrupted', step: 'prepare', reason, finishedMs: startedMs }
  })
}

/** The rollout waits for results that a restored backup does not hold, and would wait for ever. */
function forgotten({ own, candidates, results }: Untold): Outbound[] {
  return candidates.flatMap(({ id: patch, digest, cohort, rollout, control }) => {
    const phase = rollout?.state.phase
    const isAwaited = cohort !== undefined && (phase === 'running' || phase === 'paused')
    if (!isAwaited || digest === undefined || own.outbound.has(patch) || results.get(patch)?.result.digest === digest) return []
    return remembered({ patch, digest, attempt: 1, startedMs: own.applied.get(patch)?.atMs ?? 0 }, own, control.retry) ?? []
  })
}

/** How it ended here, in this retry or a later one. */
function remembered(known: Known, { applied, denied }: Own, retry: number): Outbound | undefined {
  const here = applied.get(known.patch)
  if (here?.digest === known.digest) return { ...known, state: 'completed', step: 'commit', finishedMs: here.atMs }
  const denial = denied.get(known.digest)
  if (denial === undefined || denial.retry < retry) return undefined
  const { reason, atMs } = denial
  const step = STEPS.find((one) => reason.startsWith(`${one}:`)) ?? 'prepare'
  return { ...known, state: 'failed', step, reason, retry: denial.retry, startedMs: known.startedMs || atMs, finishedMs: atMs }
}

/** Once for each document. */
function refusals(gateway: string, { candidates, results }: Untold, nowMs: number): Result[] {
  return candidates.flatMap(({ id, digest, verdict, control }) => {
    if (digest === undefined || verdict?.verdict !== 'refused' || results.get(id)?.result.digest === digest) return []
    const at = new Date(nowMs).toISOString()
    const reason = verdict.reason.slice(0, REASON_MAX)
    return { schema: 1, gateway, patch: id, digest, state: 'refused', reason, token: 0, attempt: 0, retry: control.retry, at } as const
  })
}

async function tellRefusal(ports: UntoldPorts, { results, binding }: Untold, result: Result): Promise<boolean> {
  await tell(ports, { result, before: results.get(result.patch)?.mod ?? 0, scope: undefined, compare: [binding], also: [] })
  return true
}
