/** Wires the daemon: the one place where flows, adapters and the store meet. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { HttpEndpoint } from '../adapters/control/server.ts'
import { SystemClock, systemRandom } from '../adapters/host/clock.ts'
import { KnownDevices } from '../adapters/host/known-devices.ts'
import { SystemLog } from '../adapters/host/log.ts'
import { FileMemory } from '../adapters/mqtt/connect-memory.ts'
import { MqttConnection } from '../adapters/mqtt/connect.ts'
import { MqttListener } from '../adapters/mqtt/listen.ts'
import { changes } from '../config/changes.ts'
import type { LoadedConfig } from '../config/load.ts'
import type { Settings } from '../config/settings.ts'
import { Outbox } from '../store/outbox.ts'
import { Account } from './account.ts'
import type { Component } from './component.ts'
import { controlRoutes, metricsRoutes } from './compose/routes.ts'
import { kafkaOf } from './compose/kafka.ts'
import { reconfigure } from './compose/reload.ts'
import { connectSettings, ingestSettings, listenSettings, outboxSettings, relaySettings } from './compose/settings.ts'
import { SourceComponent } from './compose/source.ts'
import { parseDeviceList } from './ingest/device-list.ts'
import { DeviceIntake } from './ingest/intake.ts'
import { Monitor } from './monitor.ts'
import type { Log, Source } from './ports.ts'
import { Relay } from './relay/relay.ts'
import { Supervisor } from './supervisor.ts'
import { VERSION } from './version.ts'

/** The parts that a reload may change. */
export interface Parts {
  readonly clock: SystemClock
  readonly log: SystemLog
  readonly outbox: Outbox
  /** Undefined: every device is known. */
  readonly knownDevices: KnownDevices | undefined
  readonly intake: DeviceIntake
  readonly relay: Relay
  readonly account: Account
  readonly sources: readonly Source[]
}

/** A wired daemon, not yet started. */
export class Gateway {
  readonly log: Log
  readonly #parts: Parts
  readonly #monitor: Monitor
  readonly #supervisor: Supervisor
  #loaded: LoadedConfig
  /** Behind `#loaded` where a change waits for a restart. */
  #inForce: Settings

  constructor(loaded: LoadedConfig) {
    const { settings } = loaded
    this.#loaded = loaded
    this.#inForce = settings
    this.#parts = wire(settings)
    const { clock, log, outbox, knownDevices, intake, relay, account, sources } = this.#parts
    this.log = log
    this.#monitor = new Monitor(
      watched(() => this.#inForce, this.#parts),
      clock,
      log,
    )
    const snapshot = () => this.#monitor.snapshot()
    const routes = controlRoutes({
      snapshot,
      outbox,
      ledger: account,
      deadLetters: outbox.deadLetters,
      effective: () => this.#loaded.effective,
      pending: () => this.#pending(),
    })
    const endpoints = [new HttpEndpoint('control', { socketPath: settings.control.socket }, routes, log)]
    const { listen } = settings.metrics
    if (listen !== undefined) endpoints.push(new HttpEndpoint('metrics', listen, metricsRoutes(snapshot), log))
    // The buffer first, since its lock proves that no other daemon runs here; the sources last, when all can accept.
    // The socket answers before the rest starts and until it has stopped: a drain must be seen.
    const components: Component[] = [
      outbox,
      account,
      ...endpoints,
      relay,
      this.#monitor,
      ...(knownDevices === undefined ? [] : [knownDevices]),
      intake,
      ...sources.map((source) => new SourceComponent(source, intake)),
    ]
    this.#supervisor = new Supervisor(components, clock, log)
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.#supervisor.start(signal)
    this.#monitor.running()
    this.log.info({ version: VERSION, gateway: this.#loaded.settings.gateway.id }, 'the pipeline accepts deliveries')
  }

  ended(): Promise<never> {
    return this.#supervisor.ended()
  }

  get drainMs(): number {
    return this.#inForce.shutdown.drainMs
  }

  /** Ends at once, as a kill would; resolves when the buffer's thread has gone. */
  abandon(): Promise<void> {
    return this.#parts.outbox.abandon()
  }

  /** Finishes accepted work within `shutdown.drain`. */
  async stop(): Promise<void> {
    this.#monitor.stopping()
    await this.#supervisor.stop(this.#parts.clock.monotonicMs() + this.#inForce.shutdown.drainMs)
    this.log.info({}, 'stopped')
  }

  /** Applies what can change while it runs, and names what waits for a restart. */
  reload(loaded: LoadedConfig): void {
    this.#inForce = reconfigure(this.#parts, this.#inForce, loaded.settings, this.log)
    this.#loaded = loaded
  }

  /** Keys whose new values wait for a restart. */
  #pending(): readonly string[] {
    return changes(this.#inForce, this.#loaded.settings).map((change) => change.path)
  }
}

export function compose(loaded: LoadedConfig): Gateway {
  return new Gateway(loaded)
}

function wire(settings: Settings): Parts {
  const clock = new SystemClock()
  const random = systemRandom
  const log = new SystemLog(settings.log.level, clock)
  const outbox = new Outbox({ dataDir: settings.gateway.dataDir, settings: outboxSettings(settings), clock, random, log })
  const hash = (text: string): Uint8Array => createHash('sha256').update(text).digest().subarray(0, 16)
  const onNotice = (kind: string, device: string, text: string, suppressed: number): void => log.warn({ kind, device, suppressed }, text)
  const knownDevices = knownDevicesOf(settings, clock, log)
  const isKnown = (device: string): boolean => knownDevices?.isKnown(device) ?? true
  const intake = new DeviceIntake(ingestSettings(settings), { clock, random, outbox, hash, isKnown, onNotice })
  const relay = new Relay({ outbox, internal: outbox, kafka: kafkaOf(settings, clock, log), clock, random, log }, relaySettings(settings))
  const sources = [...listeners(settings, outbox, clock, log), ...connections(settings, clock, log)]
  for (const source of sources) intake.add(source)
  const account = new Account(outbox.ledger, () => intake.counters().received)
  return { clock, log, outbox, knownDevices, intake, relay, account, sources }
}

function knownDevicesOf({ limits }: Settings, clock: SystemClock, log: Log): KnownDevices | undefined {
  const path = limits.knownDevices?.file
  return path === undefined ? undefined : new KnownDevices({ path, parse: parseDeviceList, clock, log })
}

function listeners(settings: Settings, exchanges: Outbox, clock: SystemClock, log: Log): Source[] {
  return Object.entries(settings.mqtt.listen).map(
    ([name, listener]) => new MqttListener({ name, settings: listenSettings(listener, settings), exchanges, clock, log }),
  )
}

function connections(settings: Settings, clock: SystemClock, log: Log): Source[] {
  const { dataDir } = settings.gateway
  return Object.entries(settings.mqtt.connect).map(([name, connection]) => {
    const memory = new FileMemory(join(dataDir, `mqtt-${name}.json`))
    return new MqttConnection({ name, settings: connectSettings(name, connection, settings), clock, random: systemRandom, log, memory })
  })
}

function watched(
  inForce: () => Settings,
  { outbox, intake, relay, account, sources, clock }: Parts,
): ConstructorParameters<typeof Monitor>[0] {
  return {
    identity: { pid: process.pid, version: VERSION, gateway: inForce().gateway.id, startedMs: clock.wallMs() },
    sources: () => sources.map((source) => source.state()),
    intake: () => intake.counters(),
    outbox: () => outbox.state(),
    relay: () => relay.state(),
    whenFull: () => {
      const { urgent, normal, deferred } = inForce().buffer.lanes
      return { urgent: urgent.whenFull, normal: normal.whenFull, deferred: deferred.whenFull }
    },
    ledger: account,
    report: (record) => {
      if (inForce().kafka !== undefined) outbox.submitInternal(record)
    },
  }
}
