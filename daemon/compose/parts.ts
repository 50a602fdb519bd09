/** The parts that a reload may change, and how each is made from the settings. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { HttpEndpoint } from '../../adapters/control/server.ts'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { KnownDevices } from '../../adapters/host/known-devices.ts'
import { SystemLog } from '../../adapters/host/log.ts'
import { FileMemory } from '../../adapters/mqtt/connect-memory.ts'
import { MqttConnection } from '../../adapters/mqtt/connect.ts'
import { MqttListener } from '../../adapters/mqtt/listen.ts'
import type { ConnectionSettings, HostPort, ListenerSettings, Settings } from '../../config/settings.ts'
import { Outbox } from '../../store/outbox.ts'
import { Account } from '../account.ts'
import type { DeviceWatch } from '../ingest/device-watch.ts'
import { parseDeviceList } from '../ingest/device-list.ts'
import { DeviceIntake } from '../ingest/intake.ts'
import type { Route } from '../ports.ts'
import { Relay } from '../relay/relay.ts'
import { deviceWatch } from './device-watch.ts'
import { kafkaOf } from './kafka.ts'
import { connectSettings, ingestSettings, listenSettings, outboxSettings, relaySettings } from './settings.ts'
import { Page, pageOf, type PageSources, type PageWanted } from './page.ts'
import { Sources, type SourcePlan } from './sources.ts'
import { Swap, type Waiting } from './swap.ts'

export interface Parts {
  readonly clock: SystemClock
  readonly log: SystemLog
  readonly outbox: Outbox
  /** Empty: every device is known. */
  readonly knownDevices: Swap<string, KnownDevices>
  readonly metrics: Swap<HostPort, HttpEndpoint>
  readonly page: Swap<PageWanted, Page>
  readonly devices: DeviceWatch
  readonly intake: DeviceIntake
  readonly relay: Relay
  readonly account: Account
  readonly sources: Sources
}

type SourceParts = Pick<Parts, 'outbox' | 'clock' | 'log' | 'devices'>

export interface Surroundings {
  /** The settings of each moment. */
  readonly inForce: () => Settings
  readonly metricsRoutes: readonly Route[]
  /** For the events topic. */
  readonly report: (type: string, document: object) => void
  readonly page: Omit<PageSources, 'clock' | 'log'>
  /** The sources' publishers are others now. Never rejects. */
  readonly settle: () => Promise<void>
}

export function partsOf(settings: Settings, { inForce, metricsRoutes, report, settle, page: pageSources }: Surroundings): Parts {
  const clock = new SystemClock()
  const random = systemRandom
  const log = new SystemLog(settings.log.level, clock)
  const outbox = new Outbox({ dataDir: settings.gateway.dataDir, settings: outboxSettings(settings), clock, random, log })
  const hash = (text: string): Uint8Array => createHash('sha256').update(text).digest().subarray(0, 16)
  const onNotice = (kind: string, device: string, text: string, suppressed: number): void => log.warn({ kind, device, suppressed }, text)
  const onWaiting = ({ name, reason, remedy }: Waiting): void =>
    log.error({ part: name, reason, remedy }, `${name} is not there, and is tried again; messages flow`)
  const knownDevices = new Swap('known devices', knownDevicesOf(settings), {
    make: (path: string) => new KnownDevices({ path, parse: parseDeviceList, clock, log }),
    excludes: () => false,
    clock,
  })
  const metrics = new Swap('metrics', metricsOf(settings), {
    make: (listen: HostPort) => new HttpEndpoint('metrics', listen, metricsRoutes, log),
    excludes: (one, other) => one.port === other.port,
    clock,
    onWaiting,
  })
  const page = new Swap('page', pageOf(settings), {
    make: (wanted: PageWanted) => new Page(wanted, { ...pageSources, clock, log }),
    excludes: (one, other) => one.listen.port === other.listen.port,
    clock,
    onWaiting,
  })
  const isKnown = (device: string): boolean => knownDevices.part?.isKnown(device) ?? true
  const devices = deviceWatch(settings, { clock, log, outbox, sources: () => sources }, report)
  const intake = new DeviceIntake(ingestSettings(settings), { clock, random, outbox, hash, isKnown, onNotice, watch: devices })
  const relay = new Relay({ outbox, internal: outbox, kafka: kafkaOf(settings, clock, log), clock, random, log }, relaySettings(settings))
  const drainMs = (): number => inForce().shutdown.drainMs
  const sources: Sources = new Sources(sourcePlans(settings, { outbox, clock, log, devices }), { intake, clock, log, drainMs, settle })
  const account = new Account(outbox.ledger, () => intake.counters().received)
  return { clock, log, outbox, knownDevices, metrics, page, devices, intake, relay, account, sources }
}

/** Path of the list, or undefined. */
export function knownDevicesOf({ limits }: Settings): string | undefined {
  return limits.knownDevices?.file
}

export function metricsOf({ metrics }: Settings): HostPort | undefined {
  return metrics.listen
}

export function sourcePlans(settings: Settings, parts: SourceParts): readonly SourcePlan[] {
  return [
    ...Object.entries(settings.mqtt.listen).map(([name, listener]) => listenerPlan(name, listener, settings, parts)),
    ...Object.entries(settings.mqtt.connect).map(([name, connection]) => connectionPlan(name, connection, settings, parts)),
  ]
}

function listenerPlan(
  name: string,
  listener: ListenerSettings,
  all: Settings,
  { outbox: exchanges, clock, log, devices: links }: SourceParts,
): SourcePlan {
  const settings = listenSettings(listener, all)
  return {
    kind: 'listen',
    name,
    settings,
    port: listener.url.port === 0 ? undefined : listener.url.port,
    make: () => new MqttListener({ name, settings, exchanges, clock, log, links }),
  }
}

function connectionPlan(name: string, connection: ConnectionSettings, all: Settings, { clock, log }: SourceParts): SourcePlan {
  const settings = connectSettings(name, connection, all)
  const memory = (): FileMemory => new FileMemory(join(all.gateway.dataDir, `mqtt-${name}.json`))
  return {
    kind: 'connect',
    name,
    settings,
    port: undefined,
    make: () => new MqttConnection({ name, settings, clock, random: systemRandom, log, memory: memory() }),
  }
}
