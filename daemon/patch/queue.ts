/** Who stands where in the queues of the locks, for people. Reads only. */
import { leaseIdOf, listLocks } from './lock-entries.ts'
import type { LockEntry } from './lock-entries.ts'
import { markerOf } from './agent/results.ts'
import type { Etcd } from './ports.ts'
import { keys } from './records.ts'

export interface QueuedEntry extends LockEntry {
  /** 1 for the first of its scope. */
  readonly place: number
  /** Of its lease, ms; undefined when it has gone, or was not asked for. A holder that lives renews it. */
  readonly leaseMs: number | undefined
}

/** Somebody who began under the scope and has not told how it ended. */
export interface OpenStart {
  readonly scope: string
  readonly gateway: string
  readonly patch: string | undefined
  readonly token: number
  readonly at: string | undefined
}

export interface Queues {
  readonly entries: readonly QueuedEntry[]
  readonly open: readonly OpenStart[]
}

/** Of each scope so many are near enough to their turn that their leases are of interest. */
const NEAR = 4
const LEASES_MAX = 64

/** All queues, or that of one scope. Rejects with an `EtcdFailure`. */
export async function readQueues(etcd: Etcd, scope?: string): Promise<Queues> {
  const entries = await listLocks({ etcd }, scope)
  const placed = entries.map((entry) => ({ ...entry, place: placeOf(entry, entries) }))
  const near = placed.filter(({ place }) => place <= NEAR).slice(0, LEASES_MAX)
  const leases = new Map(await Promise.all(near.map(async (entry) => [entry.key, await leaseMs(etcd, entry)] as const)))
  const open = await readOpen(etcd, scope)
  return { entries: placed.map((entry) => ({ ...entry, leaseMs: leases.get(entry.key) })), open }
}

function placeOf({ scope, token }: LockEntry, all: readonly LockEntry[]): number {
  return all.filter((other) => other.scope === scope && other.token <= token).length
}

async function leaseMs(etcd: Etcd, entry: LockEntry): Promise<number | undefined> {
  const lease = leaseIdOf(entry)
  return lease === undefined ? undefined : etcd.leaseRemainingMs(lease)
}

async function readOpen(etcd: Etcd, scope: string | undefined): Promise<OpenStart[]> {
  const { entries } = await etcd.list({ prefix: scope === undefined ? 'locks/' : keys.open(scope) })
  return entries.flatMap((entry) => {
    const [, part = '', gateway = ''] = entry.key.split('/')
    if (!part.endsWith('~open')) return []
    const { token, patch, at } = markerOf(entry)
    return [{ scope: scope ?? decodeURIComponent(part.slice(0, -'~open'.length)), gateway, patch, token, at }]
  })
}
