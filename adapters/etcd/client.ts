import type { Etcd3, IRangeResponse } from 'etcd3'
import type { Clock } from '../../daemon/clock.ts'
import type {
  Answer,
  Etcd,
  KeyValue,
  Lease,
  LeaseId,
  OnHint,
  Place,
  Query,
  Transaction,
  TransactionAnswer,
  WatchTarget,
} from '../../daemon/patch/ports.ts'
import { EtcdFailure } from '../../daemon/patch/ports.ts'
import { openDriver } from './connection.ts'
import { toFailure } from './failure.ts'
import type { EtcdClientSettings } from './settings.ts'
import { renewOnce, watchStream } from './watching.ts'
import { placeOf, Wire } from './wire.ts'

/** Keys a page, when values are asked for: 32 of etcd's largest (1.5 MiB) fit into one message. */
const PAGE = 32
/** Keys a page, where values are mostly small. */
const PAGE_MOST = 512
/** As a start revision. */
const NOW = 0

/**
 * etcd through the driver's plain calls. Not used of it: its lock (one try, no queue), its lease (says `lost` after
 * 2 × TTL of wall clock), its watcher (loses events), its transactions' builder (no options for a deadline).
 */
export class EtcdClient implements Etcd {
  readonly #settings: EtcdClientSettings
  readonly #clock: Clock
  readonly #wire: Wire
  readonly #streams = new Set<(how: 'quietly' | 'with a hint') => void>()
  #driver: Promise<Etcd3> | undefined
  #closed = false

  constructor(settings: EtcdClientSettings, clock: Clock) {
    this.#settings = settings
    this.#clock = clock
    this.#wire = new Wire(settings.prefix)
  }

  async transact({ compare, then, otherwise = [] }: Transaction): Promise<TransactionAnswer> {
    const request = {
      compare: compare.map((one) => this.#wire.compare(one)),
      success: then.map((one) => this.#wire.operation(one)),
      failure: otherwise.map((one) => this.#wire.operation(one)),
    }
    const { header, succeeded, responses } = await this.#call('transaction', (driver, options) => driver.kv.txn(request, options))
    return { ...placeOf(header), succeeded, answers: responses.map((response) => this.#wire.answer(response)) }
  }

  async list(query: Query): Promise<Answer & Place> {
    if (query.keysOnly || query.limit !== undefined) return this.#listed(await this.#range(query))
    const entries: KeyValue[] = []
    let first: (Answer & Place) | undefined
    for await (const page of this.pages(query)) {
      first ??= page
      for (const entry of page.entries) entries.push(entry)
    }
    return { count: 0, clusterId: '', revision: 0, ...first, entries }
  }

  /**
   * The same, as of one revision and some hundred entries at a time: for what may be too large to be held at once. There
   * is a first page also when there is nothing. Rejects with an `EtcdFailure`.
   */
  async *pages(query: Query): AsyncGenerator<Answer & Place> {
    let at = query
    let after: string | undefined
    // Each page costs etcd a walk over all keys that are left, so there should be few.
    for (let limit = PAGE_MOST; ;) {
      const page = await this.#page({ ...at, limit }, after, limit > PAGE)
      if (page === undefined) {
        limit = PAGE
        continue
      }
      const answer = this.#listed(page)
      at = { ...query, revision: query.revision ?? answer.revision }
      after = answer.entries.at(-1)?.key
      yield answer
      if (!page.more) return
    }
  }

  /** `undefined`: somebody wrote values so large that fewer must do. */
  async #page(query: Query, after: string | undefined, mayShrink: boolean): Promise<IRangeResponse | undefined> {
    try {
      return await this.#range(query, after)
    } catch (error) {
      if (mayShrink && error instanceof EtcdFailure && error.reason === 'refused') return undefined
      throw error
    }
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    const ask = { TTL: Math.ceil(ttlMs / 1_000) }
    const { ID, TTL } = await this.#call('grant of a lease', (driver, options) => driver.leaseClient.leaseGrant(ask, options))
    return { id: ID, ttlMs: Number(TTL) * 1_000 }
  }

  /** etcd renews on a stream only; one for each renewal keeps nothing open that could be half-open. */
  async renewLease(id: LeaseId, timeoutMs: number): Promise<number | undefined> {
    const ttl = await this.#call('renewal of a lease', (driver, options) => renewOnce(driver, id, options), timeoutMs)
    return ttl > 0 ? ttl * 1_000 : undefined
  }

  async leaseRemainingMs(id: LeaseId): Promise<number | undefined> {
    const ask = { ID: id, keys: false }
    const { TTL } = await this.#call('look at a lease', (driver, options) => driver.leaseClient.leaseTimeToLive(ask, options))
    return Number(TTL) > 0 ? Number(TTL) * 1_000 : undefined
  }

  async revokeLease(id: LeaseId): Promise<void> {
    try {
      await this.#call('revocation of a lease', (driver, options) => driver.leaseClient.leaseRevoke({ ID: id }, options))
    } catch (error) {
      if (!(error instanceof EtcdFailure) || error.reason !== 'lease-gone') throw error
    }
  }

  watch(targets: readonly WatchTarget[], revision: number, onHint: OnHint): () => void {
    // etcd looks at a watch that begins in the past every 100 ms only, until it has caught up; on a busy cluster that is
    // every watch. A lock is handed over faster by a second one from now on. A prefix is not worth its values twice.
    const requests = targets.flatMap((target) =>
      ('prefix' in target ? [revision] : [revision, NOW]).map((from) => this.#wire.watch(target, from)),
    )
    const nameOf = (key: Buffer): string => this.#wire.name(key)
    const end = watchStream(this.#open(), requests, nameOf, (hint, changed) => {
      if (hint === 'ended') this.#streams.delete(end)
      onHint(hint, changed)
    })
    this.#streams.add(end)
    return () => {
      this.#streams.delete(end)
      end('quietly')
    }
  }

  /** Ends all streams. The client can't be used afterwards. */
  close(): void {
    this.#closed = true
    this.#drop(this.#driver)
  }

  #listed({ header, kvs, count }: IRangeResponse): Answer & Place {
    const entries: KeyValue[] = kvs.map((found) => this.#wire.entry(found))
    return { entries, count: Number(count), ...placeOf(header) }
  }

  #range(query: Query, after?: string): Promise<IRangeResponse> {
    const request = this.#wire.range(query, after)
    return this.#call('read', (driver, options) => driver.kv.range(request, options))
  }

  async #call<T>(
    name: string,
    attempt: (driver: Etcd3, options: { deadline: number }) => Promise<T>,
    timeoutMs = this.#settings.timeoutMs,
  ): Promise<T> {
    const opening = this.#open()
    try {
      return await this.#within(
        timeoutMs,
        opening.then((driver) => attempt(driver, { deadline: Date.now() + timeoutMs })),
      )
    } catch (error) {
      const failure = toFailure(name, error)
      // A black hole keeps its connection, an old login its token: both go only with the driver.
      if (failure.reason === 'unavailable' || failure.reason === 'credentials') this.#drop(opening)
      throw failure
    }
  }
  /** Besides gRPC's deadline, which goes by the wall clock and moves when that is set. */
  #within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(timeoutMs, () => reject(new Error(`no answer within ${Math.round(timeoutMs)} ms`)))
      promise.then(resolve, reject).finally(cancel)
    })
  }

  #open(): Promise<Etcd3> {
    if (this.#closed)
      return Promise.reject(new EtcdFailure('transient', 'etcd: the client is closed', { reason: 'unavailable', fate: 'none' }))
    this.#driver ??= openDriver(this.#settings)
    return this.#driver
  }

  #drop(opened: Promise<Etcd3> | undefined): void {
    if (this.#driver !== opened) return
    this.#driver = undefined
    for (const end of [...this.#streams]) end('with a hint')
    opened?.then(
      (driver) => driver.close(),
      () => undefined, // it never came to be; whoever opened it was told
    )
  }
}
