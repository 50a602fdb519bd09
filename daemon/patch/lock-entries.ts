/** What stands under `locks/<scope>/<leaseHex>`: one entry for each contender, holders first by create revision. */
import { Buffer } from 'node:buffer'
import { GatewayError } from '../errors.ts'
import type { Compare, KeyValue, LeaseId, Operation } from './ports.ts'
import { retrying } from './wait.ts'
import type { Tools } from './wait.ts'

/** Who waits or holds. `life` is drawn at each start of the daemon, so that a start knows what the last one left. */
export interface LockOwner {
  readonly gateway: string
  readonly life: string
}

export interface LockEntry {
  readonly scope: string
  readonly key: string
  readonly leaseHex: string
  /** The fencing token: the create revision. */
  readonly token: number
  /** `undefined` when something else than a gateway wrote the entry. */
  readonly owner: LockOwner | undefined
}

/** Scopes may be prefixes of one another (`plant`, `plant-7`, `plant/7`): each gets one part of the key, with an end. */
export function scopePrefix(scope: string): string {
  if (scope === '' || scope.length > 255 || !scope.isWellFormed()) {
    throw new GatewayError('rejected', 'the name of a lock must have 1 to 255 characters of valid Unicode', {
      remedy: 'Correct concurrency.scope in the patch.',
    })
  }
  return `locks/${encodeURIComponent(scope)}/`
}

export function entryKey(scope: string, lease: LeaseId): string {
  return scopePrefix(scope) + BigInt(lease).toString(16).padStart(16, '0')
}

/** How the hex of a lease begins: the member of etcd that granted it; what follows grows with the time. */
const MEMBER_DIGITS = 4

/**
 * Ranges of keys that hold these entries and few others: those who stand next to each other in the queue have leases next
 * to each other, so that one watch serves for many. Others in between cost a hint, nothing more.
 */
export function spansOf(entries: readonly string[]): { readonly from: string; readonly to: string }[] {
  const spans = new Map<string, { from: string; to: string }>()
  for (const key of entries) {
    const name = key.slice(0, key.lastIndexOf('/') + 1 + MEMBER_DIGITS)
    const span = spans.get(name)
    if (span === undefined) spans.set(name, { from: key, to: key })
    else if (key < span.from) span.from = key
    else if (key > span.to) span.to = key
  }
  return [...spans.values()]
}

export function encodeOwner({ gateway, life }: LockOwner): Uint8Array {
  return Buffer.from(JSON.stringify({ gateway, life }))
}

function decodeOwner(value: Uint8Array): LockOwner | undefined {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(value).toString('utf8'))
    if (typeof parsed !== 'object' || parsed === null) return undefined
    const { gateway, life } = parsed as { gateway?: unknown; life?: unknown }
    return typeof gateway === 'string' && typeof life === 'string' ? { gateway, life } : undefined
  } catch {
    return undefined // not ours; it is shown as such
  }
}

function toEntry({ key, value, createRevision }: KeyValue): LockEntry {
  const [, scope = '', leaseHex = ''] = key.split('/')
  return { scope: decodeScope(scope), key, leaseHex, token: createRevision, owner: decodeOwner(value) }
}

function decodeScope(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part // written by a person; shown as it is
  }
}

/** All entries, or those of one scope, in the order of their turn. Rejects with an `EtcdFailure`. */
export async function listLocks({ etcd }: Pick<Tools, 'etcd'>, scope?: string): Promise<readonly LockEntry[]> {
  const { entries } = await etcd.list({ prefix: scope === undefined ? 'locks/' : scopePrefix(scope) })
  return entries
    .filter(isEntry)
    .map(toEntry)
    .sort((left, right) => left.token - right.token)
}

/** Open markers stand below `locks/` too (`records.ts`); no scope of a patch has a `~`. */
function isEntry({ key }: KeyValue): boolean {
  return !/^locks\/[^/]*~open\//.test(key)
}

/** Of the entry's lease, as etcd takes it; undefined when something else than a gateway wrote the entry. */
export function leaseIdOf({ leaseHex }: Pick<LockEntry, 'leaseHex'>): LeaseId | undefined {
  return /^[0-9a-f]{1,16}$/.test(leaseHex) ? BigInt(`0x${leaseHex}`).toString() : undefined
}

/**
 * Removes what an earlier life of this gateway left in the queue (of all scopes, without one). Compared: an entry that
 * changed meanwhile stays. The data directory admits one daemon, so another life of the same gateway is a dead one.
 */
export async function removeStale({ etcd }: Pick<Tools, 'etcd'>, scope: string | undefined, owner: LockOwner): Promise<void> {
  for (const { key, token, owner: other } of await listLocks({ etcd }, scope)) {
    if (other?.gateway !== owner.gateway || other.life === owner.life) continue
    await etcd.transact({ compare: [{ key, create: token }], then: [{ delete: key }] })
  }
}

export interface BreakOrder {
  /** Who does it, and why: both are kept in the audit record. */
  readonly by: string
  readonly reason: string
  /** Wall ms. */
  readonly atMs: number
  /** Written in the same transaction, for example to pause the rollout. */
  readonly also?: readonly Operation[]
  /** What `also` rests on: if that has changed, nothing is written. */
  readonly compare?: readonly Compare[]
}

/**
 * Takes exactly this entry out of the queue, whoever holds it: its holder is fenced. False when the entry has gone, or
 * what `compare` names has changed; nothing is written then. Rejects with an `EtcdFailure` (`credentials`, `refused`) or with the signal's reason.
 */
export async function breakLock(tools: Tools, entry: LockEntry, order: BreakOrder, signal: AbortSignal): Promise<boolean> {
  const { by, reason, atMs, also = [], compare = [] } = order
  const audit = `audit/${Buffer.from(tools.random.bytes(16)).toString('hex')}`
  const { scope, token, owner, key } = entry
  const record = Buffer.from(
    JSON.stringify({ schema: 1, action: 'lock break', scope, token, owner, by, reason, at: new Date(atMs).toISOString() }),
  )
  return retrying(tools, signal, async () => {
    const { succeeded, answers } = await tools.etcd.transact({
      compare: [{ key, create: token }, ...compare],
      then: [{ delete: key }, { put: audit, value: record }, ...also],
      otherwise: [{ get: audit }],
    })
    // The record is there although the entry has gone: an earlier attempt got through, its answer did not.
    return succeeded || answers[0]?.entries.length === 1
  })
}
