/**
 * Simulated boxes, some hundreds in one program: each with the daemon's own agent, runner, feed, lock, key and client.
 * Of a box only the disk is missing: its memory is a map, and a patch is a wait of `applyMs`. Started by `fleet.ts`.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdClient } from '../../adapters/etcd/client.ts'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { openBoxKey } from '../../adapters/signing/box-key.ts'
import { Agent } from '../../daemon/patch/agent/agent.ts'
import type { Box } from '../../daemon/patch/agent/needs.ts'
import { TrustingReader } from '../../daemon/patch/agent/reader.ts'
import { MemoryCheckpoint } from '../../daemon/patch/checkpoint.ts'
import { Feed } from '../../daemon/patch/feed.ts'
import { keys } from '../../daemon/patch/records.ts'
import { Runner } from '../../daemon/patch/runner/runner.ts'
import { FakeWindows } from '../fakes/patch-agent.ts'
import { FakeChecks, FakeKind } from '../fakes/patch-kind.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'
import { FastClock } from './fleet-clock.ts'
import { FLEET_NAME, trustIn } from './fleet-patch.ts'

export interface BoxOrder {
  readonly port: number
  readonly from: number
  readonly count: number
  readonly applyMs: number
  /** For the keys of the boxes. */
  readonly dir: string
  /** Of who signs patches, in base64. */
  readonly publicKey: string
}

/** How fast time runs from now on; see `FastClock`. */
export interface RateOrder {
  readonly rate: number
}

export interface BoxReport {
  readonly ready?: true
  readonly failed?: string
}

/** As in the product. */
const CALL_MS = 5_000
const LOCK_TTL_MS = 15_000
const RESYNC_MS = 10 * 60_000
const RETRY_MOST_MS = 60_000
const SPREAD_MS = 5_000
const clock = new FastClock()
const realClock = new SystemClock()

function tell(report: BoxReport): void {
  process.send?.(report)
}

/** Whatever a box warns of belongs into the result of the bench. */
function logOf(gateway: string) {
  const told = (fields: object, message: string): void => tell({ failed: `${gateway}: ${message} ${JSON.stringify(fields)}` })
  return { debug: () => undefined, info: () => undefined, warn: told, error: told }
}

async function startBox(gateway: string, { port, applyMs, dir, publicKey }: BoxOrder): Promise<void> {
  await sleep(Math.random() * SPREAD_MS)
  const endpoints = [{ host: '127.0.0.1', port, secure: false }]
  const settings = { endpoints, prefix: '/edge/v1/', tls: undefined, username: undefined, passwordFile: undefined, timeoutMs: CALL_MS }
  const tools = { etcd: new EtcdClient(settings, realClock), clock, random: systemRandom }
  const [memory, log, kind] = [new FakeMemory(), logOf(gateway), new FakeKind()]
  kind.fault = (call) => (call === 'activate' ? sleep(applyMs) : undefined)
  const { envelopes, documents, scopes } = trustIn(publicKey)
  const box: Box = {
    ...{ gateway, site: 'plant-7', labels: { role: 'packaging' }, fleet: FLEET_NAME },
    ...{ timezone: 'Europe/Berlin', version: '0.1.0', controller: false },
  }
  const home = join(dir, gateway)
  mkdirSync(home)
  const kinds = { config: kind, files: kind, device: kind }
  const agent = new Agent(
    {
      ...{ tools, memory, log, windows: new FakeWindows(), key: openBoxKey(home) },
      reader: new TrustingReader(envelopes, documents, scopes),
      runner: new Runner({ memory, clock, random: systemRandom, log, kinds, checks: new FakeChecks() }),
      box: () => box,
      verdict: () => 'ok: all that was accepted is delivered',
      onBelonging: ({ kind: what }) => what === 'duplicate' && tell({ failed: `${gateway} is a duplicate` }),
    },
    { owner: { gateway, life: Buffer.from(systemRandom.bytes(8)).toString('hex') }, machine: gateway, ttlMs: LOCK_TTL_MS },
  )
  const feedSettings = { prefix: keys.patches, resyncMs: RESYNC_MS, retryMostMs: RETRY_MOST_MS }
  const { signal } = new AbortController()
  await agent.start(signal)
  await new Feed(tools, feedSettings, agent, new MemoryCheckpoint(memory), log).start(signal)
  while (agent.state().belonging.kind !== 'ours') await sleep(250)
}

async function main(order: BoxOrder): Promise<void> {
  process.on('message', ({ rate }: RateOrder) => (clock.rate = rate))
  await Promise.all(Array.from({ length: order.count }, (_, index) => startBox(`gw-${order.from + index}`, order)))
  tell({ ready: true })
}

if (import.meta.main) {
  process.once('disconnect', () => process.exit())
  process.once('message', (order: BoxOrder) => void main(order).catch((error: unknown) => tell({ failed: String(error) })))
}
