/**
 * etcd in memory: revisions, leases by the given clock, hints, a history that can be compacted or swapped. Faults are
 * asked for at each call. The contract suite holds it against the real one.
 */
import type { Clock } from '../../daemon/clock.ts'
import { EtcdFailure } from '../../daemon/patch/ports.ts'
import type {
  Answer,
  Compare,
  Etcd,
  KeyValue,
  Lease,
  LeaseId,
  OnHint,
  Operation,
  Place,
  Query,
  Transaction,
  TransactionAnswer,
  WatchTarget,
} from '../../daemon/patch/ports.ts'

export type FakeCall = 'transact' | 'list' | 'grantLease' | 'renewLease' | 'leaseRemainingMs' | 'revokeLease'
/** `lost-request`: nothing happened. `lost-response`: it did, and the caller gets the same failure. */
export type FakeVerdict = 'pass' | 'lost-request' | 'lost-response' | 'denied'

export interface FakeEvent {
  readonly revision: number
  readonly type: 'put' | 'delete'
  readonly key: string
  readonly value: Uint8Array
}

interface Stored extends KeyValue {
  readonly lease: LeaseId | undefined
}

interface Watch {
  readonly targets: readonly WatchTarget[]
  readonly onHint: OnHint
}

export class FakeEtcd implements Etcd {
  clusterId = '1'
  revision = 1
  readonly events: FakeEvent[] = []
  /** Asked before each call. */
  verdict: (call: FakeCall) => FakeVerdict = () => 'pass'
  /** Watches stay, and say nothing more. */
  areHintsLost = false
  /** As etcd does: whole seconds, and not below. */
  minTtlMs = 2_000
  readonly #clock: Clock
  readonly #watches = new Set<Watch>()
  readonly #leases = new Map<LeaseId, { readonly ttlMs: number; endsMs: number; cancel: () => void }>()
  #entries = new Map<string, Stored>()
  #compacted = 0
  #lastLease = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  transact(transaction: Transaction): Promise<TransactionAnswer> {
    return this.#call('transact', () => {
      const succeeded = transaction.compare.every((compare) => this.#holds(compare))
      const answers = this.#apply(succeeded ? transaction.then : (transaction.otherwise ?? []))
      return { ...this.#place(), succeeded, answers }
    })
  }

  list(query: Query): Promise<Answer & Place> {
    return this.#call('list', () => ({ ...this.#list(query), ...this.#place() }))
  }

  grantLease(ttlMs: number): Promise<Lease> {
    return this.#call('grantLease', () => {
      const lease = { id: String(++this.#lastLease), ttlMs: Math.max(this.minTtlMs, Math.ceil(ttlMs / 1_000) * 1_000) }
      this.#leases.set(lease.id, { ttlMs: lease.ttlMs, endsMs: 0, cancel: () => undefined })
      this.#restart(lease.id)
      return lease
    })
  }

  renewLease(id: LeaseId): Promise<number | undefined> {
    return this.#call('renewLease', () => (this.#restart(id) ? this.#leases.get(id)?.ttlMs : undefined))
  }

  leaseRemainingMs(id: LeaseId): Promise<number | undefined> {
    return this.#call('leaseRemainingMs', () => {
      const lease = this.#leases.get(id)
      return lease && lease.endsMs - this.#clock.monotonicMs()
    })
  }

  revokeLease(id: LeaseId): Promise<void> {
    return this.#call('revokeLease', () => this.expire(id))
  }

  watch(targets: readonly WatchTarget[], revision: number, onHint: OnHint): () => void {
    const watch = { targets, onHint }
    this.#watches.add(watch)
    queueMicrotask(() => {
      if (revision <= this.#compacted) this.#end(watch)
      else
        this.#hint(
          watch,
          this.events.filter((event) => event.revision >= revision),
        )
    })
    return () => void this.#watches.delete(watch)
  }

  /** The lease is over, and its keys with it. */
  expire(id: LeaseId): void {
    this.#leases.get(id)?.cancel()
    this.#leases.delete(id)
    const keys = [...this.#entries.values()].filter(({ lease }) => lease === id).map(({ key }) => key)
    if (keys.length > 0) this.#apply(keys.map((key) => ({ delete: key })))
  }

  expireAll(): void {
    for (const id of [...this.#leases.keys()]) this.expire(id)
  }

  compact(): void {
    this.#compacted = this.revision
    this.endWatches()
  }

  endWatches(): void {
    for (const watch of [...this.#watches]) this.#end(watch)
  }

  /** What a restored backup does: an older state and revision, the same cluster id unless the operator cares. */
  snapshot(): () => void {
    const [entries, revision] = [new Map(this.#entries), this.revision]
    return () => {
      this.#entries = new Map(entries)
      this.revision = revision
      this.endWatches()
    }
  }

  async #call<T>(name: FakeCall, carryOut: () => T): Promise<T> {
    const verdict = this.verdict(name)
    await Promise.resolve()
    if (verdict === 'denied') throw new EtcdFailure('transient', 'permission denied', { reason: 'credentials', fate: 'none' })
    if (verdict === 'lost-request') throw unavailable()
    const answer = carryOut()
    await Promise.resolve()
    if (verdict === 'lost-response') throw unavailable()
    return answer
  }

  #place(): Place {
    return { clusterId: this.clusterId, revision: this.revision }
  }

  #holds(compare: Compare): boolean {
    const found = this.#entries.get(compare.key)
    return 'create' in compare ? (found?.createRevision ?? 0) === compare.create : (found?.modRevision ?? 0) === compare.mod
  }

  #apply(operations: readonly Operation[]): Answer[] {
    const gone = operations.find((operation) => 'put' in operation && operation.lease !== undefined && !this.#leases.has(operation.lease))
    if (gone !== undefined) throw new EtcdFailure('fenced', 'requested lease not found', { reason: 'lease-gone', fate: 'none' })
    const first = this.events.length
    const revision = this.revision + 1
    const answers = operations.map((operation) => this.#carryOut(operation, revision))
    const events = this.events.slice(first)
    if (events.length > 0) this.revision = revision
    for (const watch of [...this.#watches]) this.#hint(watch, events)
    return answers
  }

  #carryOut(operation: Operation, revision: number): Answer {
    if ('get' in operation) return answer([...this.#entries.values()].filter(({ key }) => key === operation.get))
    if ('list' in operation) return this.#list(operation.list)
    if ('put' in operation) {
      const createRevision = this.#entries.get(operation.put)?.createRevision ?? revision
      const { put: key, value, lease } = operation
      this.#entries.set(key, { key, value, createRevision, modRevision: revision, lease })
      this.events.push({ revision, type: 'put', key, value })
      return answer([])
    }
    if (!this.#entries.delete(operation.delete)) return answer([])
    this.events.push({ revision, type: 'delete', key: operation.delete, value: new Uint8Array() })
    return { entries: [], count: 1 }
  }

  #list(query: Query): Answer {
    const { prefix, keysOnly = false, minMod = 0, maxCreate = Infinity, youngestFirst = false, limit = Infinity, revision } = query
    if (revision !== undefined && revision < this.#compacted) {
      throw new EtcdFailure('transient', 'required revision has been compacted', { reason: 'compacted', fate: 'none' })
    }
    const all = [...this.#entries.values()].filter(({ key }) => key.startsWith(prefix))
    const wanted = all.filter(({ modRevision, createRevision }) => modRevision >= minMod && createRevision <= maxCreate)
    const sorted = wanted.sort((left, right) =>
      youngestFirst ? right.createRevision - left.createRevision : left.key < right.key ? -1 : 1,
    )
    const entries = sorted.slice(0, limit).map(({ lease: _lease, ...entry }) => (keysOnly ? { ...entry, value: new Uint8Array() } : entry))
    return { entries, count: all.length }
  }

  #restart(id: LeaseId): boolean {
    const lease = this.#leases.get(id)
    lease?.cancel()
    if (lease === undefined) return false
    lease.endsMs = this.#clock.monotonicMs() + lease.ttlMs
    lease.cancel = this.#clock.after(lease.ttlMs, () => this.expire(id))
    return true
  }

  #hint({ targets, onHint }: Watch, events: readonly FakeEvent[]): void {
    const changed = events.map(({ key }) => key).filter((key) => matches(targets, key))
    if (changed.length > 0 && !this.areHintsLost) queueMicrotask(() => onHint('changed', changed))
  }

  #end(watch: Watch): void {
    if (this.#watches.delete(watch)) queueMicrotask(() => watch.onHint('ended'))
  }
}

function answer(entries: readonly KeyValue[]): Answer {
  return { entries, count: entries.length }
}

function matches(targets: readonly WatchTarget[], key: string): boolean {
  return targets.some((target) => {
    if ('key' in target) return target.key === key
    return 'prefix' in target ? key.startsWith(target.prefix) : target.from <= key && key <= target.to
  })
}

function unavailable(): EtcdFailure {
  return new EtcdFailure('transient', 'no answer', { reason: 'unavailable', fate: 'unknown' })
}
