/** Who stands in a scope's queue, and who has something open there. */
import { scopePrefix } from '../lock-entries.ts'
import type { Etcd, KeyValue } from '../ports.ts'
import { keys } from '../records.ts'
import { readMarked, readOwner } from './values.ts'

export interface Marker {
  readonly mod: number
  /** Undefined when nobody can read it. */
  readonly patch: string | undefined
}

export interface ScopeLocks {
  /** Gateways with an entry in the queue. */
  readonly queued: ReadonlySet<string>
  /** Tokens that are alive. */
  readonly tokens: ReadonlySet<number>
  /** By gateway. */
  readonly markers: ReadonlyMap<string, Marker>
}

export const NO_LOCKS: ScopeLocks = { queued: new Set(), tokens: new Set(), markers: new Map() }

/** At one revision. Rejects with an `EtcdFailure`. */
export async function readLocks(etcd: Etcd, scopes: Iterable<string>): Promise<ReadonlyMap<string, ScopeLocks>> {
  const found = new Map<string, ScopeLocks>()
  for (const scope of new Set(scopes)) {
    const then = [{ list: { prefix: scopePrefix(scope) } }, { list: { prefix: keys.open(scope) } }]
    const { answers } = await etcd.transact({ compare: [], then })
    found.set(scope, toLocks(answers[0]?.entries ?? [], answers[1]?.entries ?? []))
  }
  return found
}

function toLocks(queue: readonly KeyValue[], markers: readonly KeyValue[]): ScopeLocks {
  return {
    queued: new Set(queue.flatMap((entry) => readOwner(entry) ?? [])),
    tokens: new Set(queue.map(({ createRevision }) => createRevision)),
    markers: new Map(markers.map((entry) => [entry.key.slice(entry.key.lastIndexOf('/') + 1), toMarker(entry)])),
  }
}

function toMarker(entry: KeyValue): Marker {
  return { mod: entry.modRevision, patch: readMarked(entry) }
}
