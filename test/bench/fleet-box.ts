/**
 * Simulated boxes, some hundreds in one program: the real client, feed and lock on etcd; what a patch does to a box is
 * a wait of `applyMs`. Started by `fleet.ts`, and told what to do by messages.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdClient } from '../../adapters/etcd/client.ts'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { jittered } from '../../daemon/patch/backoff.ts'
import { Feed } from '../../daemon/patch/feed.ts'
import { withLease } from '../../daemon/patch/lock.ts'
import type { FencingToken } from '../../daemon/patch/lock.ts'
import type { View } from '../../daemon/patch/mirror.ts'
import type { Put } from '../../daemon/patch/ports.ts'
import { ALIVE_EVERY_MS, keys } from '../../daemon/patch/records.ts'
import type { OpenMarker } from '../../daemon/patch/records.ts'
import { readCohort, readState } from '../../daemon/patch/rollout/values.ts'
import type { Tools } from '../../daemon/patch/wait.ts'
import { untilChange } from '../../daemon/patch/wait.ts'
import type { ConfigPatch } from '../../daemon/patch/document.ts'
import { digestOf, encode, result } from '../fakes/rollout.ts'

export interface BoxOrder {
  readonly port: number
  readonly from: number
  readonly count: number
  readonly applyMs: number
  readonly lockTtlMs: number
}

export interface BoxReport {
  readonly ready?: true
  readonly done?: string
  readonly failed?: string
}

const LOG = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
/** As the daemon's own: between two looks without a hint. */
const RESYNC_MS = 15 * 60_000
const SPREAD_MS = 5_000
const forever = new AbortController().signal
const clock = new SystemClock()

function tell(report: BoxReport): void {
  process.send?.(report)
}

class Box {
  readonly #name: string
  readonly #order: BoxOrder
  readonly #tools: Tools
  readonly #begun = new Set<string>()

  constructor(name: string, order: BoxOrder) {
    this.#name = name
    this.#order = order
    const endpoints = [{ host: '127.0.0.1', port: order.port, secure: false }]
    const settings = { endpoints, prefix: '/edge/v1/', tls: undefined, username: undefined, passwordFile: undefined, timeoutMs: 10_000 }
    this.#tools = { etcd: new EtcdClient(settings, clock), clock, random: systemRandom }
  }

  async start(): Promise<void> {
    await sleep(Math.random() * SPREAD_MS)
    const info = {
      schema: 1,
      gateway: this.#name,
      site: 'plant-7',
      labels: {},
      fleet: 'acme',
      timezone: 'UTC',
      version: '1',
      controller: false,
      at: '',
    }
    await this.#put(keys.info(this.#name), info)
    await this.#beAlive()
    void this.#stayAlive()
    const consumer = { reconcile: (view: View) => this.#see(view.entries.values()), reset: async () => undefined }
    const checkpoint = { read: async () => undefined, write: async () => undefined }
    await new Feed(this.#tools, { prefix: keys.patches, resyncMs: RESYNC_MS, retryMostMs: 60_000 }, consumer, checkpoint, LOG).start(
      forever,
    )
  }

  async #put(key: string, value: object): Promise<void> {
    await this.#tools.etcd.transact({ compare: [], then: [{ put: key, value: encode(value) }] })
  }

  #beAlive(): Promise<void> {
    return this.#put(keys.alive(this.#name), { schema: 1, at: new Date().toISOString(), clockTrusted: true, verdict: 'ok' })
  }

  async #stayAlive(): Promise<void> {
    // As if it had run for long: right after a common start nobody is due, and the figure would be too good.
    await sleep(Math.random() * ALIVE_EVERY_MS)
    for (;;) {
      await this.#beAlive()
      await sleep(jittered(ALIVE_EVERY_MS, systemRandom))
    }
  }

  async #see(entries: Iterable<{ readonly key: string; readonly value: Uint8Array }>): Promise<void> {
    for (const { key, value } of entries) {
      if (!key.endsWith('/spec') || this.#begun.has(key)) continue
      this.#begun.add(key)
      const patch = JSON.parse(Buffer.from(value).toString()) as ConfigPatch
      this.#take(patch, digestOf(value)).catch((error: unknown) => tell({ failed: `${this.#name}: ${String(error)}` }))
    }
  }

  async #take(patch: ConfigPatch, digest: string): Promise<void> {
    await this.#untilLetIn(patch.id)
    const { scope, slots } = patch.rollout.concurrency
    const request = {
      scope,
      slots: { count: slots, onChange: () => () => undefined },
      owner: { gateway: this.#name, life: '1' },
      ttlMs: this.#order.lockTtlMs,
    }
    await withLease(this.#tools, request, forever, async (token) => {
      const at = { startedAt: new Date().toISOString() }
      await this.#begin(patch, digest, token)
      await sleep(this.#order.applyMs)
      const value = encode({ ...result(this.#name, 'completed', { patch: patch.id, digest, token: token.revision }), ...at })
      const results: Put[] = [{ put: keys.result(this.#name, patch.id), value }]
      await this.#tools.etcd.transact({ compare: [token.compare], then: [{ delete: keys.openBy(scope, this.#name) }] })
      return { value: undefined, results }
    })
    tell({ done: this.#name })
  }

  /** Watches the state of the rollout; reads each cohort once. */
  async #untilLetIn(id: string): Promise<void> {
    const target = { key: keys.rolloutState(id) }
    for (let read = 0; ;) {
      const { revision, answers } = await this.#tools.etcd.transact({ compare: [], then: [{ get: target.key }] })
      const entry = answers[0]?.entries[0]
      const state = entry && readState(entry)
      for (; state !== undefined && read <= state.stage; read++) {
        const cohort = await this.#tools.etcd.transact({ compare: [], then: [{ get: keys.cohort(id, read) }] })
        const found = cohort.answers[0]?.entries[0]
        if (found !== undefined && readCohort(found)?.includes(this.#name)) return
      }
      await untilChange(this.#tools, { targets: [target], revision: revision + 1, mostMs: RESYNC_MS }, forever)
    }
  }

  async #begin({ id, rollout }: ConfigPatch, digest: string, token: FencingToken): Promise<void> {
    const { scope } = rollout.concurrency
    const marker: OpenMarker = { schema: 1, gateway: this.#name, patch: id, token: token.revision, at: new Date().toISOString() }
    await this.#tools.etcd.list({ prefix: keys.open(scope), keysOnly: true })
    const { succeeded } = await this.#tools.etcd.transact({
      compare: [token.compare, { key: keys.failure(id, rollout.maxFailures + 1), create: 0 }, { key: keys.result(this.#name, id), mod: 0 }],
      then: [
        { put: keys.result(this.#name, id), value: encode(result(this.#name, 'applying', { patch: id, digest, token: token.revision })) },
        { put: keys.openBy(scope, this.#name), value: encode(marker) },
      ],
    })
    if (!succeeded) throw new Error('its gate was shut')
  }
}

async function main(order: BoxOrder): Promise<void> {
  const boxes = Array.from({ length: order.count }, (_, index) => new Box(`gw-${order.from + index}`, order))
  await Promise.all(boxes.map((box) => box.start()))
  tell({ ready: true })
}

process.once('disconnect', () => process.exit())
process.once('message', (order: BoxOrder) => void main(order).catch((error: unknown) => tell({ failed: String(error) })))
