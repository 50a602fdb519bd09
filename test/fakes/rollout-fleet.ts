/**
 * Boxes as a controller sees them, in the fewest moves: gate, start, end. They keep to the protocol of real boxes and
 * know nothing of how the controller decides. Each move is one transaction.
 */
import { Buffer } from 'node:buffer'
import { entryKey, encodeOwner } from '../../daemon/patch/lock-entries.ts'
import type { ConfigPatch } from '../../daemon/patch/document.ts'
import type { Compare, Etcd, LeaseId } from '../../daemon/patch/ports.ts'
import { keys } from '../../daemon/patch/records.ts'
import type { Cohort, OpenMarker, Result, ResultState, RolloutState } from '../../daemon/patch/records.ts'
import { digestOf, encode, result } from './rollout.ts'

export class PlayedBox {
  readonly gateway: string
  readonly #etcd: Etcd
  readonly #patch: ConfigPatch
  readonly #digest: string
  #lease: LeaseId | undefined
  #entry: { readonly key: string; readonly create: number } | undefined
  #turn = 0

  constructor(etcd: Etcd, gateway: string, patch: ConfigPatch) {
    this.#etcd = etcd
    this.gateway = gateway
    this.#patch = patch
    this.#digest = digestOf(encode(patch))
  }

  get isHolding(): boolean {
    return this.#entry !== undefined
  }

  async register(atMs: number): Promise<void> {
    const info = { schema: 1, gateway: this.gateway, site: 'plant-7', labels: {}, fleet: 'acme' }
    await this.#etcd.transact({ compare: [], then: [{ put: keys.info(this.gateway), value: encode(info) }] })
    await this.beAlive(atMs)
  }

  async beAlive(atMs: number): Promise<void> {
    const alive = { schema: 1, at: new Date(atMs).toISOString(), clockTrusted: true, verdict: 'ok', turn: ++this.#turn }
    await this.#etcd.transact({ compare: [], then: [{ put: keys.alive(this.gateway), value: encode(alive) }] })
  }

  /** The stage that it may start in, and did; undefined when some gate was shut. */
  async begin(): Promise<number | undefined> {
    const { id, rollout } = this.#patch
    const [state, cohorts, failure, own] = await this.#look(id, rollout.maxFailures)
    const parsed = state && (JSON.parse(Buffer.from(state.value).toString()) as RolloutState)
    const stage = parsed && cohorts.findIndex((one) => one.includes(this.gateway))
    if (parsed?.phase !== 'running' || stage === undefined || stage < 0 || stage > parsed.stage || failure) return undefined
    if (own !== undefined && this.#isEnded(own.result, parsed.retry)) return undefined
    await this.#enqueue(rollout.concurrency.scope)
    const entry = this.#entry
    if (entry === undefined) return undefined
    const compare: Compare[] = [
      entry,
      { key: keys.rolloutState(id), mod: state?.modRevision ?? 0 },
      { key: keys.failure(id, rollout.maxFailures + 1), create: 0 },
      { key: keys.result(this.gateway, id), mod: own?.mod ?? 0 },
    ]
    const marker: OpenMarker = { schema: 1, gateway: this.gateway, patch: id, token: entry.create, at: '' }
    const then = [
      { put: keys.result(this.gateway, id), value: this.#result('applying', parsed.retry) },
      { put: keys.openBy(rollout.concurrency.scope, this.gateway), value: encode(marker) },
    ]
    if ((await this.#etcd.transact({ compare, then })).succeeded) return stage
    await this.vanish()
    return undefined
  }

  async end(state: ResultState, retry = 0): Promise<void> {
    const { id, rollout } = this.#patch
    const entry = this.#entry
    if (entry === undefined) return
    const value = this.#result(state, retry)
    for (let number = 1; ; number++) {
      const isFailure = state === 'failed' || state === 'broken'
      const failure = { schema: 1, gateway: this.gateway, kind: state, reason: 'its checks failed', token: entry.create, at: '' }
      const { succeeded, answers } = await this.#etcd.transact({
        compare: [entry, ...(isFailure ? [{ key: keys.failure(id, number), create: 0 }] : [])],
        then: [
          { put: keys.result(this.gateway, id), value },
          { delete: keys.openBy(rollout.concurrency.scope, this.gateway) },
          { delete: entry.key },
          ...(isFailure ? [{ put: keys.failure(id, number), value: encode(failure) }] : []),
        ],
        otherwise: [{ get: entry.key }],
      })
      if (succeeded || answers[0]?.entries.length === 0) break
    }
    await this.vanish()
  }

  /** Its lease ends, and what it opened stays. */
  async vanish(): Promise<void> {
    const lease = this.#lease
    this.#entry = undefined
    this.#lease = undefined
    if (lease !== undefined) await this.#etcd.revokeLease(lease)
  }

  #isEnded({ state, retry }: Result, now: number): boolean {
    return state === 'completed' || ((state === 'failed' || state === 'applying') && retry >= now)
  }

  async #look(
    id: string,
    maxFailures: number,
  ): Promise<
    [{ value: Uint8Array; modRevision: number } | undefined, (readonly string[])[], boolean, { result: Result; mod: number } | undefined]
  > {
    const { answers } = await this.#etcd.transact({
      compare: [],
      then: [
        { get: keys.rolloutState(id) },
        { list: { prefix: `rollouts/${id}/cohorts/` } },
        { get: keys.failure(id, maxFailures + 1) },
        { get: keys.result(this.gateway, id) },
      ],
    })
    const cohorts: (readonly string[])[] = []
    for (const { key, value } of answers[1]?.entries ?? []) {
      cohorts[Number(key.split('/').at(-1))] = (JSON.parse(Buffer.from(value).toString()) as Cohort).gateways
    }
    const own = answers[3]?.entries[0]
    const parsed = own && { result: JSON.parse(Buffer.from(own.value).toString()) as Result, mod: own.modRevision }
    return [answers[0]?.entries[0], cohorts, (answers[2]?.entries.length ?? 0) > 0, parsed]
  }

  /** A place among the slots, or none: it does not wait. */
  async #enqueue(scope: string): Promise<void> {
    const { id } = await this.#etcd.grantLease(600_000)
    const key = entryKey(scope, id)
    const { revision } = await this.#etcd.transact({
      compare: [{ key, create: 0 }],
      then: [{ put: key, value: encodeOwner({ gateway: this.gateway, life: 'x' }), lease: id }],
    })
    this.#lease = id
    this.#entry = { key, create: revision }
    const queue = await this.#etcd.list({ prefix: `locks/${encodeURIComponent(scope)}/`, keysOnly: true, maxCreate: revision - 1 })
    const open = await this.#etcd.list({ prefix: keys.open(scope) })
    const ahead = queue.entries.filter(({ createRevision }) => createRevision < revision).length
    const orphans = open.entries.filter(({ key: marker }) => !marker.endsWith(`/${this.gateway}`))
    const isBlocked = ahead >= this.#patch.rollout.concurrency.slots || orphans.length > ahead
    if (isBlocked) await this.vanish()
  }

  #result(state: ResultState, retry: number): Uint8Array {
    const changes = { patch: this.#patch.id, digest: this.#digest, token: this.#entry?.create ?? 0, retry }
    return encode(result(this.gateway, state, changes))
  }
}
