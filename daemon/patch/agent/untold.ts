/**
 * What etcd does not know yet of this box's patches: outcomes that were kept while the lock was lost or etcd away,
 * starts that a crash left open, and refusals. None of it starts anything, so none waits for a lock: it compares the
 * result that it follows and the binding of the id. Waiting in the queue would be worse, since whoever holds the lock
 * waits for our open marker.
 */
import type { Outcome } from '../kinds.ts'
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
  for (const outcome of leftOpen(untold)) wrote = (await tellOutcome(ports, untold, outcome)) || wrote
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

/** Nothing runs here: what etcd still calls `applying` ended with an earlier life. Memory knows whether it got through. */
function leftOpen({ own, results }: Untold): Outcome[] {
  return [...results].flatMap(([patch, { result }]) => {
    if (result.state !== 'applying' || own.outbound.has(patch)) return []
    const applied = own.applied.get(patch)
    const isDone = applied?.digest === result.digest
    const startedMs = Date.parse(result.startedAt ?? result.at)
    return {
      patch,
      digest: result.digest,
      state: isDone ? 'completed' : 'interrupted',
      step: isDone ? 'commit' : 'prepare',
      ...(!isDone && { reason: 'the gateway ended before the first step' }),
      attempt: result.attempt,
      startedMs,
      finishedMs: isDone ? applied.atMs : startedMs,
    } satisfies Outcome
  })
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
