/**
 * What the patch path needs of etcd, and nothing of how it is reached. Keys are relative to the fleet's prefix
 * (`etcd.prefix`, DESIGN section 7): the adapter puts it in front. Times are ms. A revision is etcd's, a whole
 * number that only grows in one life of a cluster.
 */
import { GatewayError } from '../errors.ts'
import type { ErrorDetails, ErrorKind } from '../errors.ts'

/** int64 as decimal text: a lease id does not fit a JavaScript number. */
export type LeaseId = string

export interface KeyValue {
  readonly key: string
  /** Empty when only keys were asked for. */
  readonly value: Uint8Array
  readonly createRevision: number
  readonly modRevision: number
}

/** `create`: create revision of the key, 0 when it does not exist. */
export type Compare = { readonly key: string; readonly create: number } | { readonly key: string; readonly mod: number }

export interface Query {
  /** Everything below it; it should end with `/`, or `a` also finds `ab/`. */
  readonly prefix: string
  readonly keysOnly?: boolean
  /** Only keys changed at this revision or later. `count` is of all keys below the prefix all the same. */
  readonly minMod?: number
  /** Only keys created at this revision or earlier. */
  readonly maxCreate?: number
  /** Sorted by create revision, the youngest first; by key otherwise. */
  readonly youngestFirst?: boolean
  readonly limit?: number
  /** As the store was then. A compacted revision is refused (`EtcdFailure.reason` is `compacted`). */
  readonly revision?: number
}

export interface Put {
  readonly put: string
  readonly value: Uint8Array
  readonly lease?: LeaseId
}

export type Operation = Put | { readonly delete: string } | { readonly get: string } | { readonly list: Query }

export interface Transaction {
  readonly compare: readonly Compare[]
  readonly then: readonly Operation[]
  readonly otherwise?: readonly Operation[]
}

export interface Answer {
  readonly entries: readonly KeyValue[]
  /** Keys below the prefix (before `minMod`, `maxCreate` and `limit`), or keys deleted. */
  readonly count: number
}

/** Which cluster answered, and its revision then. */
export interface Place {
  readonly clusterId: string
  readonly revision: number
}

export interface TransactionAnswer extends Place {
  readonly succeeded: boolean
  /** One for each operation that was carried out, in order. */
  readonly answers: readonly Answer[]
}

export interface Lease {
  readonly id: LeaseId
  /** What the server gave, which may be more than what was asked for. */
  readonly ttlMs: number
}

/** `from`, `to`: all keys between these two, both included, in the order of their bytes. */
export type WatchTarget = { readonly key: string } | { readonly prefix: string } | { readonly from: string; readonly to: string }

/** `changed`: something did, look. `ended`: nothing more will come, for whatever reason. */
export type Hint = 'changed' | 'ended'

/** `changed`: the keys that did, as far as is known; each change of a key is told once. */
export type OnHint = (hint: Hint, changed?: readonly string[]) => void

/** One attempt each, with a timeout of its own; rejects with an `EtcdFailure`. Reads are linearizable. */
export interface Etcd {
  transact(transaction: Transaction): Promise<TransactionAnswer>
  list(query: Query): Promise<Answer & Place>
  grantLease(ttlMs: number): Promise<Lease>
  /** The TTL in ms that runs from now on, or `undefined` when the lease has gone. */
  renewLease(id: LeaseId, timeoutMs: number): Promise<number | undefined>
  /** What is left of somebody's lease, in ms, or `undefined` when it has gone. Renews nothing. */
  leaseRemainingMs(id: LeaseId): Promise<number | undefined>
  /** Deletes the lease's keys; succeeds also when it has gone already. */
  revokeLease(id: LeaseId): Promise<void>
  /**
   * Hints of changes from `revision` on. Hints may get lost (etcd #18089, #17529, #19179): whoever watches also looks
   * by itself from time to time. Never throws; `ended` comes at most once and last. Returns the end of the watch.
   */
  watch(targets: readonly WatchTarget[], revision: number, onHint: OnHint): () => void
}

/**
 * - `unavailable`: no answer, or etcd can't decide now;
 * - `credentials`: it does not know us, or does not let us;
 * - `compacted`: the asked revision is gone;
 * - `lease-gone`: the lease that a put named has expired;
 * - `refused`: the request itself is wrong, or etcd is full.
 */
export type EtcdReason = 'unavailable' | 'credentials' | 'compacted' | 'lease-gone' | 'refused'

export interface EtcdFailureDetails extends ErrorDetails {
  readonly reason: EtcdReason
  readonly fate: 'none' | 'unknown'
}

export class EtcdFailure extends GatewayError {
  readonly reason: EtcdReason
  /** `none`: it was not carried out. `unknown`: only a look tells (17 of 18 aborted txns were committed: seen). */
  readonly fate: 'none' | 'unknown'

  constructor(kind: ErrorKind, message: string, details: EtcdFailureDetails) {
    super(kind, message, details)
    this.name = 'EtcdFailure'
    this.reason = details.reason
    this.fate = details.fate
  }
}
