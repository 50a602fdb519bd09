/**
 * What may go from etcd after a time: audit records, and results of rollouts that ended long ago. A box tells such a
 * result no more, whatever it remembers (`agent/untold.ts` tells only what a rollout waits for), so none comes back.
 */
import { Buffer } from 'node:buffer'
import type { Clock } from '../../clock.ts'
import type { Etcd, KeyValue } from '../ports.ts'
import type { RolloutPhase } from '../records.ts'
import type { Reign } from './carry-out.ts'
import type { Entries, Snapshot } from './snapshot.ts'
import { readResult, readState } from './values.ts'

const DAY_MS = 86_400_000
export const KEEP_RESULTS_MS = 90 * DAY_MS
export const KEEP_AUDIT_MS = 400 * DAY_MS
const EVERY_MS = 60 * 60_000
/** etcd takes 128 operations and as many comparisons in one transaction. */
const AT_ONCE = 100

/** Nothing is asked of these any more. `completed` is: its results say where it is in force. */
const OVER: ReadonlySet<RolloutPhase> = new Set(['cancelled', 'superseded', 'expired', 'refused', 'rolled-back'])

export class Retention {
  readonly #clock: Clock
  #dueMs: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#dueMs = clock.bootMs() + EVERY_MS
  }

  /**
   * Once an hour; to be called only while the wall clock is trusted. Returns how many records it removed. Rejects with an
   * `EtcdFailure`. What changed meanwhile stays until the next hour.
   */
  async clear(etcd: Etcd, reign: Reign, { parts }: Snapshot): Promise<number> {
    const nowMs = this.#clock.wallMs()
    if (this.#clock.bootMs() < this.#dueMs) return 0
    this.#dueMs = this.#clock.bootMs() + EVERY_MS
    const { entries } = await etcd.list({ prefix: 'audit/' })
    const old = [...oldResults(parts.gateways, parts.rollouts, nowMs), ...entries.filter((entry) => isOldAudit(entry, nowMs))]
    let removed = 0
    for (let at = 0; at < old.length; at += AT_ONCE) {
      const some = old.slice(at, at + AT_ONCE)
      const compare = [reign.compare, ...some.map(({ key, modRevision }) => ({ key, mod: modRevision }))]
      const { succeeded } = await etcd.transact({ compare, then: some.map(({ key }) => ({ delete: key })) })
      if (succeeded) removed += some.length
    }
    return removed
  }
}

function oldResults(gateways: Entries, rollouts: Entries, nowMs: number): KeyValue[] {
  const over = new Set([...rollouts.values()].flatMap((entry) => endedBefore(entry, nowMs - KEEP_RESULTS_MS) ?? []))
  return [...gateways.values()].filter((entry) => {
    const patch = /^gateways\/[^/]+\/results\/([^/]+)$/.exec(entry.key)?.[1]
    if (patch === undefined || !over.has(patch)) return false
    const state = readResult(entry)?.state
    // A person is still needed, or the box would tell it again: a refusal stands as long as its patch.
    return state !== undefined && state !== 'applying' && state !== 'broken' && state !== 'refused'
  })
}

/** The patch, when its rollout ended before `limitMs`. */
function endedBefore(entry: KeyValue, limitMs: number): string | undefined {
  const state = readState(entry)
  return state !== undefined && OVER.has(state.phase) && Date.parse(state.at) < limitMs ? state.patch : undefined
}

/** What has no readable time stays: it is not ours to judge. */
function isOldAudit({ value }: KeyValue, nowMs: number): boolean {
  try {
    const record = JSON.parse(Buffer.from(value).toString('utf8')) as { readonly at?: unknown } | null
    return typeof record?.at === 'string' && Date.parse(record.at) < nowMs - KEEP_AUDIT_MS
  } catch {
    return false
  }
}
