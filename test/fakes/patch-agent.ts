/** A box with the real agent and runner, a fake kind, and what a test needs to play the rest of the fleet. */
import { Buffer } from 'node:buffer'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../../daemon/clock.ts'
import { Agent } from '../../daemon/patch/agent/agent.ts'
import type { Box } from '../../daemon/patch/agent/needs.ts'
import type { Belonging } from '../../daemon/patch/agent/presence.ts'
import { TrustingReader } from '../../daemon/patch/agent/reader.ts'
import { MemoryCheckpoint } from '../../daemon/patch/checkpoint.ts'
import type { Patch } from '../../daemon/patch/document.ts'
import { Feed } from '../../daemon/patch/feed.ts'
import type { Windows } from '../../daemon/patch/kinds.ts'
import type { Etcd } from '../../daemon/patch/ports.ts'
import { keys } from '../../daemon/patch/records.ts'
import type { Result, RolloutState } from '../../daemon/patch/records.ts'
import { Runner } from '../../daemon/patch/runner/runner.ts'
import type { BoxKey } from '../../daemon/patch/signing.ts'
import type { Tools } from '../../daemon/patch/wait.ts'
import { systemRandom } from '../../adapters/host/clock.ts'
import { digestOf } from './rollout.ts'
import { FakeBox, FakeChecks, FakeKind } from './patch-kind.ts'
import { FakeMemory } from './patch-memory.ts'

export class FakeWindows implements Windows {
  leftMs = Infinity
  opensAtMs: number | undefined

  remainingMs(): number {
    return this.leftMs
  }

  opensMs(): number | undefined {
    return this.opensAtMs
  }
}

/** Signs with its name alone. */
export function fakeKey(publicKey: string): BoxKey {
  return {
    publicKey,
    signRecord: (record) => Buffer.from(JSON.stringify({ ...record, signature: publicKey })),
    verifyRecord(bytes, key) {
      const { signature, ...record } = JSON.parse(Buffer.from(bytes).toString()) as { signature?: string }
      return signature === key ? { record } : { refused: 'another key signed it' }
    },
  }
}

/** A spec is the patch as JSON; whoever writes it has signed it. */
export function plainReader(): TrustingReader {
  const documents = { read: (payload: Uint8Array) => JSON.parse(Buffer.from(payload).toString()) as Patch }
  const scopes = new Map([['ops', { kinds: ['config', 'files', 'device'] as const, sites: 'all' as const }]])
  return new TrustingReader({ open: (payload) => ({ payload, keys: ['ops'] }) }, documents, scopes)
}

export interface BoxOptions {
  readonly memory?: FakeMemory
  readonly box?: FakeBox
  readonly publicKey?: string
  readonly machine?: string
  readonly ttlMs?: number
  readonly clock?: Clock
}

export type Line = readonly [level: string, message: string, fields: object]

/** One life of one box. */
export class AgentRig {
  readonly gateway: string
  readonly memory: FakeMemory
  readonly kind: FakeKind
  readonly checks = new FakeChecks()
  readonly windows = new FakeWindows()
  readonly belongings: Belonging[] = []
  readonly log: Line[] = []
  readonly agent: Agent
  readonly feed: Feed

  constructor(gateway: string, tools: Tools, options: BoxOptions = {}) {
    this.gateway = gateway
    this.memory = options.memory ?? new FakeMemory()
    this.kind = new FakeKind(options.box)
    const { memory, checks, windows, kind } = this
    const { clock } = tools
    const log = this.#log()
    const kinds = { config: kind, files: kind, device: kind }
    const box: Box = { gateway, site: 'plant-7', labels: {}, fleet: 'acme', timezone: 'UTC', version: '1', controller: false }
    this.agent = new Agent(
      {
        tools,
        memory,
        windows,
        log,
        reader: plainReader(),
        runner: new Runner({ memory, clock, random: systemRandom, log, kinds, checks }),
        key: fakeKey(options.publicKey ?? `key of ${gateway}`),
        box: () => box,
        verdict: () => 'ok: all delivered',
        onBelonging: (belonging) => void this.belongings.push(belonging),
      },
      {
        owner: { gateway, life: `${gateway}-${Math.random()}` },
        machine: options.machine ?? `board of ${gateway}`,
        ttlMs: options.ttlMs ?? 2_000,
      },
    )
    this.feed = new Feed(tools, { prefix: keys.patches, resyncMs: 60_000, retryMostMs: 500 }, this.agent, new MemoryCheckpoint(memory), log)
  }

  async start(): Promise<this> {
    const { signal } = new AbortController()
    await this.agent.start(signal)
    await this.feed.start(signal)
    return this
  }

  async stop(): Promise<void> {
    await this.feed.stop(performance.now() + 5_000)
    await this.agent.stop(performance.now() + 5_000)
  }

  why(patch: string): string | undefined {
    return this.agent.state().why.find((one) => one.patch === patch)?.because
  }

  async until(what: string, holds: () => boolean | Promise<boolean>, limitMs = 30_000): Promise<void> {
    for (const endMs = performance.now() + limitMs; !(await holds()); await sleep(25)) {
      if (performance.now() < endMs) continue
      const { why, trouble, running, belonging } = this.agent.state()
      throw new Error(`not yet: ${what}; ${JSON.stringify({ why, trouble, running, belonging, log: this.log.slice(-5) })}`)
    }
  }

  #log() {
    const at =
      (level: string) =>
      (fields: object, message: string): void =>
        void this.log.push([level, message, fields])
    return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
  }
}

/** What operators and the controller write. */
export class FakeFleet {
  readonly #etcd: Etcd

  constructor(etcd: Etcd) {
    this.#etcd = etcd
  }

  async push(patch: Patch): Promise<Uint8Array> {
    const value = Buffer.from(JSON.stringify(patch))
    await this.#put(keys.spec(patch.id), value)
    return value
  }

  async state(patch: Patch, changes: Partial<RolloutState>): Promise<void> {
    const state: RolloutState = {
      schema: 1,
      patch: patch.id,
      digest: digestOf(Buffer.from(JSON.stringify(patch))),
      phase: 'running',
      stage: 0,
      reason: 'as the test says',
      at: new Date().toISOString(),
      token: 1,
      by: 'gw-ctl',
      retry: 0,
      decisions: [],
      ...changes,
    }
    await this.#put(keys.rolloutState(patch.id), Buffer.from(JSON.stringify(state)))
  }

  /** A stage with these boxes is open. */
  async open(patch: Patch, gateways: readonly string[], stage = 0): Promise<void> {
    const cohort = { schema: 1, at: new Date().toISOString(), gateways }
    await this.#put(keys.cohort(patch.id, stage), Buffer.from(JSON.stringify(cohort)))
    await this.state(patch, { stage })
  }

  async control(patch: string, value: object): Promise<void> {
    await this.#put(keys.control(patch), Buffer.from(JSON.stringify({ schema: 1, ...value })))
  }

  async get(key: string): Promise<Record<string, unknown> | undefined> {
    const { answers } = await this.#etcd.transact({ compare: [], then: [{ get: key }] })
    const entry = answers[0]?.entries[0]
    return entry && (JSON.parse(Buffer.from(entry.value).toString()) as Record<string, unknown>)
  }

  async result(gateway: string, patch: string): Promise<Result | undefined> {
    return (await this.get(keys.result(gateway, patch))) as unknown as Result | undefined
  }

  async keysBelow(prefix: string): Promise<readonly string[]> {
    return (await this.#etcd.list({ prefix, keysOnly: true })).entries.map(({ key }) => key)
  }

  async remove(key: string): Promise<void> {
    await this.#etcd.transact({ compare: [], then: [{ delete: key }] })
  }

  async #put(key: string, value: Uint8Array): Promise<void> {
    await this.#etcd.transact({ compare: [], then: [{ put: key, value }] })
  }
}
