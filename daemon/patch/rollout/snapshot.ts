/** What stands in etcd about all rollouts, mirrored at one revision, with few bytes for what did not change. */
import { GatewayError } from '../../errors.ts'
import { rewrittenSince } from '../mirror.ts'
import type { Etcd, KeyValue, Place } from '../ports.ts'
import { keys } from '../records.ts'

export const PARTS = ['patches', 'rollouts', 'failures', 'gateways'] as const
export type Part = (typeof PARTS)[number]
export type Entries = ReadonlyMap<string, KeyValue>

export interface Snapshot extends Place {
  readonly parts: Readonly<Record<Part, Entries>>
}

const NOTHING: Snapshot = {
  clusterId: '',
  revision: 0,
  parts: { patches: new Map(), rollouts: new Map(), failures: new Map(), gateways: new Map() },
}

/**
 * From nothing, or from `known`. Rejects with an `EtcdFailure`, and with a `fenced` error when etcd's history is
 * another one: then nothing of what was known means anything, the lock included.
 */
export async function takeSnapshot(etcd: Etcd, known: Snapshot = NOTHING): Promise<Snapshot> {
  const lead = await etcd.list({ prefix: keys.patches, minMod: known.revision + 1 })
  const why = known.revision === 0 ? undefined : rewrittenSince(known, lead)
  if (why !== undefined) throw new GatewayError('fenced', `etcd was restored or replaced: ${why}`)
  const { clusterId, revision } = lead
  const changed = await Promise.all(
    PARTS.map(async (part) => (part === 'patches' ? lead : etcd.list({ prefix: `${part}/`, minMod: known.revision + 1, revision }))),
  )
  const merged = await Promise.all(PARTS.map((part, index) => merge(etcd, part, known.parts[part], changed[index] ?? lead, revision)))
  const [patches = new Map(), rollouts = new Map(), failures = new Map(), gateways = new Map()] = merged
  return { clusterId, revision, parts: { patches, rollouts, failures, gateways } }
}

async function merge(
  etcd: Etcd,
  part: Part,
  known: Entries,
  changed: { readonly entries: readonly KeyValue[]; readonly count: number },
  revision: number,
): Promise<Entries> {
  if (changed.entries.length === 0 && changed.count === known.size) return known
  const merged = new Map(known)
  for (const entry of changed.entries) merged.set(entry.key, entry)
  if (merged.size === changed.count) return merged
  const { entries } = await etcd.list({ prefix: `${part}/`, keysOnly: true, revision })
  return new Map(entries.flatMap(({ key }) => merged.get(key) ?? []).map((entry) => [entry.key, entry]))
}
