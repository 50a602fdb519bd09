/** Wires the patch path. Only where etcd is named; and whatever fails here, the log path goes on. */
import { createHash } from 'node:crypto'
import { EtcdClient } from '../../adapters/etcd/client.ts'
import { Hooks } from '../../adapters/host/hooks.ts'
import { HostChecks } from '../../adapters/host/checks.ts'
import { systemRandom } from '../../adapters/host/clock.ts'
import { FilesKind } from '../../adapters/host/releases/files-kind.ts'
import { SystemdUnits } from '../../adapters/host/units.ts'
import { CronWindows } from '../../adapters/host/windows.ts'
import { HttpDownloads } from '../../adapters/http/download.ts'
import { HttpProbe } from '../../adapters/http/probe.ts'
import { openBoxKey } from '../../adapters/signing/box-key.ts'
import { TrustedEnvelopes } from '../../adapters/signing/dsse.ts'
import { deriveGatewayId, thisHost } from '../../config/host.ts'
import { parsePatchPayload } from '../../config/patch/parse.ts'
import type { EtcdSettings, Settings } from '../../config/settings.ts'
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { messageOf } from '../errors.ts'
import type { Verdict } from '../health.ts'
import { globMatches } from '../ingest/limit-classes.ts'
import { Agent } from '../patch/agent/agent.ts'
import type { AgentState } from '../patch/agent/agent.ts'
import type { Box } from '../patch/agent/needs.ts'
import type { Belonging } from '../patch/agent/presence.ts'
import { TrustingReader } from '../patch/agent/reader.ts'
import { MemoryCheckpoint } from '../patch/checkpoint.ts'
import { Feed } from '../patch/feed.ts'
import type { FeedState } from '../patch/feed.ts'
import type { Kind } from '../patch/kinds.ts'
import { ConfigKind } from '../patch/kinds/config.ts'
import type { Configuration } from '../patch/kinds/config.ts'
import { DeviceKind } from '../patch/kinds/device.ts'
import type { Memory } from '../patch/memory.ts'
import { keys } from '../patch/records.ts'
import { CONTROLLER_TIMES, RolloutController } from '../patch/rollout/controller.ts'
import type { ControllerState } from '../patch/rollout/controller.ts'
import { trustingReader } from '../patch/rollout/reader.ts'
import type { Trust } from '../patch/rollout/reader.ts'
import { Runner } from '../patch/runner/runner.ts'
import type { DevicePublisher, Log } from '../ports.ts'
import type { RelayHold } from '../relay/relay.ts'
import { VERSION } from '../version.ts'

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
  readonly publishers: () => readonly DevicePublisher[]
  /** Nothing may leave this box. */
  readonly hold: (why: RelayHold | undefined) => void
}

/** What `status` and the commands say of patches. */
export interface PatchPathState {
  readonly feed: FeedState
  readonly agent: AgentState
  readonly controller: ControllerState | undefined
}

export class PatchPath implements Component {
  readonly name = 'patches'
  readonly ended: Promise<never>
  readonly #parts: PatchParts
  readonly #etcd: EtcdSettings
  #die: (error: unknown) => void = () => undefined
  #live: Live | undefined
  /** Why there are no patches on this box although etcd is named. */
  #off: string | undefined

  constructor(parts: PatchParts, etcd: EtcdSettings) {
    this.#parts = parts
    this.#etcd = etcd
    this.ended = new Promise((_, reject) => (this.#die = reject))
    this.ended.catch(() => undefined) // the supervisor may look later than it dies
  }

  /** Waits for no etcd. What can't be set up is said, and leaves the log path alone. */
  async start(signal: AbortSignal): Promise<void> {
    try {
      const live = liveOf(this.#parts, this.#etcd)
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
  }

  /** The settings are others now: what the box is aimed by, its window's zone, its sources. */
  async settingsChanged(): Promise<void> {
    await this.#live?.device.refresh()
    this.#live?.agent.lookAgain()
  }

  lookAgain(): void {
    this.#live?.agent.lookAgain()
  }

  state(): PatchPathState | { readonly off: string } {
    if (this.#live === undefined) return { off: this.#off ?? 'not started yet' }
    const { feed, agent, controller } = this.#live
    return { feed: feed.state(), agent: agent.state(), controller: controller?.state() }
  }
}

class Live {
  readonly agent: Agent
  readonly feed: Feed
  readonly device: DeviceKind
  readonly controller: RolloutController | undefined
  readonly #closing: () => Promise<void>
  readonly #log: Log
  #isLeading = false

  constructor(parts: Omit<Live, 'start' | 'stop' | 'onBelonging'> & { readonly log: Log; readonly close: () => Promise<void> }) {
    this.agent = parts.agent
    this.feed = parts.feed
    this.device = parts.device
    this.controller = parts.controller
    this.#closing = parts.close
    this.#log = parts.log
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.device.refresh()
    await this.agent.start(signal)
    await this.feed.start(signal)
  }

  /** Only a box that is who it says may lead. */
  onBelonging({ kind }: Belonging): void {
    const { controller } = this
    if (controller === undefined || this.#isLeading === (kind === 'ours')) return
    this.#isLeading = kind === 'ours'
    const change = this.#isLeading ? controller.start(new AbortController().signal) : controller.stop(0)
    change.catch((error: unknown) => this.#log.error({ err: error }, 'the rollout controller did not follow'))
  }

  async stop(deadlineMs: number): Promise<void> {
    await this.controller?.stop(deadlineMs)
    await this.feed.stop(deadlineMs)
    await this.agent.stop(deadlineMs)
    await this.device.stop()
    await this.#closing()
  }
}

function liveOf(parts: PatchParts, etcd: EtcdSettings): Live {
  const { settings, memory, clock, log } = parts
  const { gateway, patches } = settings()
  const client = new EtcdClient({ ...etcd, endpoints: etcd.endpoints, timeoutMs: CALL_MS }, clock)
  const tools = { etcd: client, clock, random: systemRandom }
  const trust = trustOf(settings())
  const reader = new TrustingReader(trust.envelopes, trust.documents, trust.scopes)
  const downloads = new HttpDownloads({ clock, random: systemRandom })
  const probe = new HttpProbe()
  const units = new SystemdUnits()
  const device = deviceKindOf(parts)
  const files = new FilesKind({
    roots: patches.roots,
    allowedUnits: patches.units,
    units,
    downloads,
    hooks: new Hooks(),
    reserveBytes: settings().buffer.minFreeBytes,
  })
  const config = new ConfigKind(parts.configuration, memory, () => settings().shutdown.drainMs)
  const checks = new HostChecks({ units, probe, pipeline: () => pipelineOf(parts.verdict(), settings()) })
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
  const controller = patches.controller ? new RolloutController(tools, leads, trustingReader(trust), log) : undefined
  const close = async (): Promise<void> => {
    client.close()
    await downloads.stop()
    await probe.stop()
  }
  const live = new Live({ agent, feed, device, controller, log, close })
  return live
}

function deviceKindOf({ memory, clock, log, publishers, settings }: PatchParts): DeviceKind {
  const logFilters = (): readonly string[] => Object.values(settings().mqtt.topics).map(({ filter }) => filter)
  return new DeviceKind({ memory, clock, log, publishers, logFilters, matches: globMatches })
}

/** Whom this box believes, and for what. */
function trustOf({ patches, gateway }: Settings): Trust {
  const trusted = Object.entries(patches.trustedKeys)
  const documents = {
    read(payload: Uint8Array) {
      try {
        return parsePatchPayload(payload)
      } catch (error) {
        return { refused: messageOf(error) }
      }
    },
  }
  const envelopes = new TrustedEnvelopes(Object.fromEntries(trusted.map(([name, { ed25519 }]) => [name, ed25519])))
  return { envelopes, documents, scopes: new Map(trusted), fleet: gateway.fleet }
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
