/** Wires the patch path. Only where etcd is named; and whatever fails here, the log path goes on. */
import { createHash } from 'node:crypto'
import { EtcdClient } from '../../adapters/etcd/client.ts'
import { Hooks } from '../../adapters/host/hooks.ts'
import { HostChecks } from '../../adapters/host/checks.ts'
import { systemRandom } from '../../adapters/host/clock.ts'
import { SystemdUnits } from '../../adapters/host/units.ts'
import { CronWindows } from '../../adapters/host/windows.ts'
import { HttpDownloads } from '../../adapters/http/download.ts'
import { HttpProbe } from '../../adapters/http/probe.ts'
import { openBoxKey } from '../../adapters/signing/box-key.ts'
import { deriveGatewayId, thisHost } from '../../config/host.ts'
import type { EtcdSettings, Settings } from '../../config/settings.ts'
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { GatewayError, messageOf } from '../errors.ts'
import type { Verdict } from '../health.ts'
import { globMatches } from '../ingest/limit-classes.ts'
import { Agent } from '../patch/agent/agent.ts'
import type { Box } from '../patch/agent/needs.ts'
import type { Belonging } from '../patch/agent/presence.ts'
import type { Hold } from '../patch/agent/hold.ts'
import { TrustingReader } from '../patch/agent/reader.ts'
import { MemoryCheckpoint } from '../patch/checkpoint.ts'
import { Feed } from '../patch/feed.ts'
import type { Kind } from '../patch/kinds.ts'
import { ConfigKind } from '../patch/kinds/config.ts'
import type { Configuration } from '../patch/kinds/config.ts'
import { DeviceKind } from '../patch/kinds/device.ts'
import type { Memory } from '../patch/memory.ts'
import { keys } from '../patch/records.ts'
import { CONTROLLER_TIMES, RolloutController } from '../patch/rollout/controller.ts'
import { trustingReader } from '../patch/rollout/reader.ts'
import { Runner } from '../patch/runner/runner.ts'
import { figuresOf, noPatches, type PatchFigures } from '../patch-figures.ts'
import type { DevicePublisher, Log } from '../ports.ts'
import type { RelayHold } from '../relay/relay.ts'
import { VERSION } from '../version.ts'
import { FilesByWhom } from './files.ts'
import { PatchDesk } from './patch-desk.ts'
import { trustOf } from './trust.ts'

const CALL_MS = 5_000
const RESYNC_MS = 10 * 60_000
const RETRY_MOST_MS = 60_000

export interface PatchParts {
  readonly settings: () => Settings
  readonly memory: Memory
  readonly clock: Clock
  readonly log: Log
  readonly configuration: Configuration
  readonly verdict: () => Verdict
  /** Of the log path alone. */
  readonly pipeline: () => Verdict
  readonly publishers: () => readonly DevicePublisher[]
  /** Nothing may leave this box. */
  readonly hold: (why: RelayHold | undefined) => void
}

export class PatchPath implements Component {
  readonly name = 'patches'
  readonly ended: Promise<never>
  readonly #parts: PatchParts
  readonly #etcd: EtcdSettings
  readonly #device: DeviceKind
  #die: (error: unknown) => void = () => undefined
  #live: Live | undefined
  /** Why there are no patches on this box although etcd is named. */
  #off: string | undefined

  constructor(parts: PatchParts, etcd: EtcdSettings) {
    this.#parts = parts
    this.#etcd = etcd
    this.#device = deviceKindOf(parts)
    this.ended = new Promise((_, reject) => (this.#die = reject))
    this.ended.catch(() => undefined) // the supervisor may look later than it dies
  }

  /** Waits for no etcd. What can't be set up is said, and leaves the log path alone. */
  async start(signal: AbortSignal): Promise<void> {
    try {
      const live = liveOf(this.#parts, this.#etcd, this.#device)
      await live.start(signal)
      live.agent.ended.catch((error: unknown) => this.#die(error))
      this.#live = live
    } catch (error) {
      signal.throwIfAborted()
      this.#off = messageOf(error)
      this.#parts.log.error({ err: error }, `no patches on this box: ${this.#off}`)
    }
  }

  async stop(deadlineMs: number): Promise<void> {
    await this.#live?.stop(deadlineMs)
    await this.#device.stop()
  }

  /** Those that carry settings to devices are others now. Never rejects: devices get theirs late, and logs flow. */
  async sourcesChanged(): Promise<void> {
    await this.#device.refresh().catch((error: unknown) => this.#parts.log.error({ err: error }, 'settings of devices wait'))
  }

  /** The settings are others now: what the box is aimed by, its window's zone, its sources. */
  settingsChanged(): void {
    void this.sourcesChanged()
    this.lookAgain()
  }

  lookAgain(): void {
    this.#live?.agent.lookAgain()
  }

  /** Throws with the reason while there are no patches. */
  get desk(): PatchDesk {
    if (this.#live !== undefined) return this.#live.desk
    throw new GatewayError('rejected', `no patches on this box: ${this.#off ?? 'the daemon is starting'}`)
  }

  /** For status, metrics and the verdict. */
  figures(hold: Hold | undefined): PatchFigures {
    if (this.#live === undefined) return noPatches(this.#off, hold)
    const { feed, agent, controller } = this.#live
    return figuresOf({ feed: feed.state(), agent: agent.state(), controller: controller?.state(), hold })
  }
}

interface LiveParts {
  readonly agent: Agent
  readonly feed: Feed
  readonly desk: PatchDesk
  /** Undefined where this box may not lead. */
  readonly leads: (() => RolloutController) | undefined
  readonly log: Log
  readonly close: () => Promise<void>
}

class Live {
  readonly agent: Agent
  readonly feed: Feed
  readonly desk: PatchDesk
  readonly #parts: LiveParts
  #controller: RolloutController | undefined
  #changing: Promise<void> = Promise.resolve()

  constructor(parts: LiveParts) {
    this.#parts = parts
    this.agent = parts.agent
    this.feed = parts.feed
    this.desk = parts.desk
  }

  get controller(): RolloutController | undefined {
    return this.#controller
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.agent.start(signal)
    await this.feed.start(signal)
  }

  /** Only a box that is who it says may lead. One that was stopped leads no more, so each time it is another one. */
  onBelonging({ kind }: Belonging): void {
    const { leads, log } = this.#parts
    const before = this.#controller
    if (leads === undefined || (before !== undefined) === (kind === 'ours')) return
    this.#controller = kind === 'ours' ? leads() : undefined
    const change = before === undefined ? this.#controller?.start(new AbortController().signal) : before.stop(0)
    this.#changing = Promise.all([this.#changing, change])
      .then(() => undefined)
      .catch((error: unknown) => log.error({ err: error }, 'the rollout controller did not follow'))
  }

  async stop(deadlineMs: number): Promise<void> {
    await this.#controller?.stop(deadlineMs)
    await this.feed.stop(deadlineMs)
    await this.agent.stop(deadlineMs)
    await this.#changing
    await this.#parts.close()
  }
}

function liveOf(parts: PatchParts, etcd: EtcdSettings, device: DeviceKind): Live {
  const { settings, memory, clock, log } = parts
  const { gateway, patches } = settings()
  const client = new EtcdClient({ ...etcd, endpoints: etcd.endpoints, timeoutMs: CALL_MS }, clock)
  const tools = { etcd: client, clock, random: systemRandom }
  const trust = trustOf(settings())
  const reader = new TrustingReader(trust.envelopes, trust.documents, trust.scopes)
  const downloads = new HttpDownloads({ clock, random: systemRandom })
  const probe = new HttpProbe()
  const units = new SystemdUnits()
  const files = new FilesByWhom({
    executor: patches.executor,
    dataDir: gateway.dataDir,
    clock,
    roots: patches.roots,
    allowedUnits: patches.units,
    units,
    downloads,
    hooks: new Hooks(),
    reserveBytes: settings().buffer.minFreeBytes,
  })
  const config = new ConfigKind(parts.configuration, memory, () => settings().shutdown.drainMs)
  const checks = new HostChecks({ units, probe, pipeline: () => pipelineOf(parts.pipeline(), settings()) })
  const kinds = { config: config as unknown as Kind, files: files as unknown as Kind, device: device as unknown as Kind }
  const runner = new Runner({ memory, clock, random: systemRandom, log, kinds, checks })
  const owner = { gateway: gateway.id, life: Buffer.from(systemRandom.bytes(8)).toString('hex') }
  const agent = new Agent(
    {
      tools,
      memory,
      reader,
      runner,
      log,
      windows: new CronWindows(() => settings().gateway.timezone),
      key: openBoxKey(gateway.dataDir),
      box: () => boxOf(settings()),
      verdict: () => wordsOf(parts.verdict()),
      onBelonging(belonging) {
        parts.hold(belonging.kind === 'duplicate' ? belonging : undefined)
        live.onBelonging(belonging)
      },
    },
    { owner, machine: machineOf(), ttlMs: patches.lockTtlMs },
  )
  const feedSettings = { prefix: keys.patches, resyncMs: RESYNC_MS, retryMostMs: RETRY_MOST_MS }
  const feed = new Feed(tools, feedSettings, agent, new MemoryCheckpoint(memory), log)
  const leads = { owner, ttlMs: patches.lockTtlMs, ...CONTROLLER_TIMES }
  const controller = patches.controller ? () => new RolloutController(tools, leads, trustingReader(trust), log) : undefined
  const desk = new PatchDesk({ tools, memory, agent, feed, reader, owner })
  const close = async (): Promise<void> => {
    client.close()
    await downloads.stop()
    await probe.stop()
  }
  const live = new Live({ agent, feed, desk, leads: controller, log, close })
  return live
}

function deviceKindOf({ memory, clock, log, publishers, settings }: PatchParts): DeviceKind {
  const logFilters = (): readonly string[] => Object.values(settings().mqtt.topics).map(({ filter }) => filter)
  return new DeviceKind({ memory, clock, log, publishers, logFilters, matches: globMatches })
}

/**
 * Waiting for Kafka is no fault of a patch; but while nothing moves, none can be judged either: inconclusive. A box for
 * which no Kafka is named can't do better than to buffer.
 */
function pipelineOf(verdict: Verdict, { kafka }: Settings): { readonly ok: boolean; readonly reason?: string } {
  const isWell = verdict.state === 'ok' || (verdict.state === 'buffering' && kafka === undefined)
  return isWell ? { ok: true } : { ok: false, reason: wordsOf(verdict) }
}

function wordsOf({ state, line }: Verdict): string {
  return `${state}: ${line}`
}

function boxOf({ gateway, patches }: Settings): Box {
  const { id, site = null, labels, fleet = null, timezone } = gateway
  return { gateway: id, site, labels, fleet, timezone, version: VERSION, controller: patches.controller }
}

/** One that has no number of any kind is known by its key alone. */
function machineOf(): string {
  return createHash('sha256')
    .update(deriveGatewayId(thisHost())?.id ?? 'unknown')
    .digest('hex')
}
