/** What the tests of `mqtt.connect` share: an intake that settles on demand, a publisher, and settings. */
import { connectAsync } from 'mqtt'
import type { IClientOptions, MqttClient } from 'mqtt'
import { setTimeout as sleep } from 'node:timers/promises'
import { MqttConnection } from '../../adapters/mqtt/connect.ts'
import type { MqttConnectionOptions } from '../../adapters/mqtt/connect.ts'
import type { RetryPolicy } from '../../adapters/mqtt/connect-attempts.ts'
import type { ConnectSettings } from '../../adapters/mqtt/connect-settings.ts'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import type { Delivery, Intake, Log } from '../../daemon/ports.ts'
import type { ServiceScope } from '../services/index.ts'

export const clock = new SystemClock()
export const VERSIONS = [4, 5] as const

/** Waits for a condition with a timer that keeps the program alive; says what it waited for when it gives up. */
export async function until(what: string, condition: () => boolean, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!condition()) {
    if (performance.now() >= deadline) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`)
    await sleep(5)
  }
}

/** Keeps what it is offered; settles at once, or when the test says so. */
export class TestIntake implements Intake {
  readonly deliveries: Delivery[] = []
  isSettling = true

  offer(delivery: Delivery): void {
    this.deliveries.push(delivery)
    if (this.isSettling) delivery.settle()
  }

  get payloads(): string[] {
    return this.deliveries.map(({ payload }) => Buffer.from(payload).toString())
  }

  settleAll(): void {
    for (const delivery of this.deliveries) delivery.settle()
  }
}

export interface LogLine {
  readonly level: keyof Log
  readonly fields: object
  readonly message: string
}

export class TestLog implements Log {
  readonly lines: LogLine[] = []
  debug(fields: object, message: string): void {
    this.lines.push({ level: 'debug', fields, message })
  }
  info(fields: object, message: string): void {
    this.lines.push({ level: 'info', fields, message })
  }
  warn(fields: object, message: string): void {
    this.lines.push({ level: 'warn', fields, message })
  }
  error(fields: object, message: string): void {
    this.lines.push({ level: 'error', fields, message })
  }
}

/** As by default, but quick: tests must not wait half a minute for a reconnect. */
export const QUICK: RetryPolicy = { firstMs: 50, maxMs: 400, stableMs: 1_000, attemptMs: 5_000 }

let connections = 0

export function settingsFor(url: string | readonly string[], changes: Partial<ConnectSettings> = {}): ConnectSettings {
  return {
    urls: typeof url === 'string' ? [url] : url,
    clientId: `gw-${++connections}`,
    protocolVersion: 5,
    sessionExpirySeconds: 3_600,
    receiveMaximum: 100,
    keepaliveSeconds: 30,
    filters: [{ filter: 'devices/+/logs/#', qos: 1 }],
    retained: 'ignore',
    inFlight: { messages: 1_000, bytes: 1_000_000 },
    ...changes,
  }
}

export interface Running {
  readonly connection: MqttConnection
  readonly intake: TestIntake
  readonly log: TestLog
  /** Ends it in good order, as a restart of the daemon does. */
  readonly stop: () => Promise<void>
}

/** Starts a connection that ends with the scope. Does not wait until it is up. */
export async function run(
  scope: ServiceScope,
  settings: ConnectSettings,
  changes: Partial<MqttConnectionOptions> = {},
  intake = new TestIntake(),
): Promise<Running> {
  const log = new TestLog()
  const connection = new MqttConnection({ name: 'plant', settings, clock, random: systemRandom, log, retry: QUICK, ...changes })
  const stop = (): Promise<void> => connection.stop(clock.monotonicMs() + 2_000)
  scope.atEnd(stop)
  await connection.start(intake, new AbortController().signal)
  return { connection, intake, log, stop }
}

export async function isUp(connection: MqttConnection): Promise<void> {
  await until(`${connection.name} is up; it says: ${connection.state().reason}`, () => connection.state().state === 'up')
}

/** Waits until the reason matches; gives the whole state. */
export async function reasonMatches(connection: MqttConnection, pattern: RegExp): Promise<string> {
  let last = ''
  await until(`the reason matches ${pattern}`, () => {
    last = connection.state().reason ?? last
    return pattern.test(last)
  }).catch((error: unknown) => {
    throw new Error(`it is "${last}"`, { cause: error })
  })
  return last
}

/** A device's client; it ends with the scope. */
export async function device(scope: ServiceScope, url: string, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await connectAsync(url, { protocolVersion: 5, reconnectPeriod: 0, ...options })
  scope.atEnd(() => client.endAsync(true))
  return client
}
