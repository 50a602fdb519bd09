/**
 * What the tests of `mqtt.listen` stand on: an intake that they control, a store of QoS 2 exchanges that outlives
 * listeners, a client that speaks raw packets, certificates and password files made by the real programs.
 */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectTcp, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { connect as connectTls, type ConnectionOptions } from 'node:tls'
import { promisify } from 'node:util'
import mqttPacket, { type Packet } from 'mqtt-packet'
import { SystemClock } from '../../adapters/host/clock.ts'
import { MqttListener } from '../../adapters/mqtt/listen.ts'
import type { ListenSettings } from '../../adapters/mqtt/listen-settings.ts'
import type { Clock } from '../../daemon/clock.ts'
import type { Delivery, Intake, Log } from '../../daemon/ports.ts'
import { FakeClock } from '../fakes/clock.ts'

const run = promisify(execFile)
const systemClock = new SystemClock()

/** Keeps what is offered; settles at once, or when the test says so. */
export class ControlledIntake implements Intake {
  readonly deliveries: Delivery[] = []
  automatic = true
  /** Called for each offer, before anything else. */
  onOffer: (delivery: Delivery) => void = () => undefined
  readonly #store: ExchangeSet
  #settled = 0

  constructor(store: ExchangeSet) {
    this.#store = store
  }

  offer(delivery: Delivery): void {
    this.deliveries.push(delivery)
    this.onOffer(delivery)
    if (this.automatic) this.settleNext()
  }

  get unsettled(): number {
    return this.deliveries.length - this.#settled
  }

  /** Settles the oldest `count`, in order; their exchanges are stored with them. */
  settleNext(count = this.unsettled): void {
    const batch = this.deliveries.slice(this.#settled, this.#settled + count)
    this.#settled += batch.length
    for (const delivery of batch) this.settle(delivery)
  }

  /** Out of turn: `settleNext` must not be used for the same deliveries. */
  settle(delivery: Delivery): void {
    if (delivery.exchange !== undefined) this.#store.stored.add(delivery.exchange)
    delivery.settle()
  }

  topics(): string[] {
    return this.deliveries.map(({ topic }) => topic)
  }
}

/** The durable set of exchanges; releases complete at once, or when the test says so. */
export class ExchangeSet {
  readonly stored = new Set<string>()
  readonly releases: { readonly exchange: string; readonly done: () => void }[] = []
  automatic = true

  hasExchange(exchange: string): boolean {
    return this.stored.has(exchange)
  }

  releaseExchange(exchange: string, done: () => void): void {
    this.stored.delete(exchange)
    this.releases.push({ exchange, done })
    if (this.automatic) done()
  }
}

/** Keeps log lines. */
export class KeptLog implements Log {
  readonly lines: { readonly level: string; readonly fields: object; readonly message: string }[] = []
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
  text(): string {
    return this.lines.map(({ level, fields, message }) => `${level} ${message} ${JSON.stringify(fields)}`).join('\n')
  }
}

export const DEFAULTS: ListenSettings = {
  url: 'mqtt://127.0.0.1:0',
  auth: 'none',
  maxConnections: 100,
  connectsPerSecond: 1_000,
  maxPacketBytes: 262_144,
  keepaliveMaxSeconds: 60,
  inFlightPerConnection: { messages: 1_000, bytes: 4_194_304 },
  inFlightBytes: 33_554_432,
}

export interface Rig {
  readonly listener: MqttListener
  readonly intake: ControlledIntake
  readonly exchanges: ExchangeSet
  readonly log: KeptLog
  readonly settings: ListenSettings
  readonly port: number
}

/** A listener that stops with the test. */
export async function listen(t: TestContext, settings: Partial<ListenSettings> = {}, clock: Clock = systemClock): Promise<Rig> {
  return open(t, { ...DEFAULTS, ...settings }, clock, new ExchangeSet())
}

/** A listener whose time stands still until the test moves it. */
export async function listenStill(t: TestContext, settings: Partial<ListenSettings> = {}): Promise<Rig & { readonly clock: FakeClock }> {
  const clock = new FakeClock()
  return { ...(await listen(t, settings, clock)), clock }
}

/** A listener that was held before it started. */
export async function listenHeld(t: TestContext, reason: string): Promise<Rig> {
  return open(t, DEFAULTS, systemClock, new ExchangeSet(), (listener) => listener.hold(reason))
}

/** Ends a listener as a kill would: nothing is acknowledged any more. */
export async function kill(rig: Rig): Promise<void> {
  await rig.listener.stop(0)
}

/** The next life of the daemon: what was not settled is gone, what was stored is there, the port is the same. */
export async function restart(t: TestContext, rig: Rig): Promise<Rig> {
  await kill(rig)
  return open(t, { ...rig.settings, url: `mqtt://127.0.0.1:${rig.port}` }, systemClock, rig.exchanges)
}

async function open(
  t: TestContext,
  settings: ListenSettings,
  clock: Clock,
  exchanges: ExchangeSet,
  before?: (listener: MqttListener) => void,
): Promise<Rig> {
  const intake = new ControlledIntake(exchanges)
  const log = new KeptLog()
  const listener = new MqttListener({ name: 'lan', settings, exchanges, clock, log })
  before?.(listener)
  await listener.start(intake, new AbortController().signal)
  t.after(() => listener.stop(0))
  return { listener, intake, exchanges, log, settings, port: listener.port }
}

type Sent = Parameters<typeof mqttPacket.generate>[0]

/** A client of raw packets. */
export class RawClient {
  readonly socket: Socket
  readonly received: Packet[] = []
  closed = false
  #wakes: (() => void)[] = []

  constructor(socket: Socket) {
    this.socket = socket
    const parser = mqttPacket.parser({ protocolVersion: 4 })
    parser.on('packet', (packet) => {
      this.received.push(packet)
      this.#wakeAll()
    })
    socket.on('data', (chunk: Buffer) => parser.parse(chunk))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.closed = true
      this.#wakeAll()
    })
  }

  send(...packets: readonly (Sent | Buffer)[]): void {
    this.socket.write(Buffer.concat(packets.map((packet) => (Buffer.isBuffer(packet) ? packet : mqttPacket.generate(packet)))))
  }

  publish(
    topic: string,
    messageId: number,
    qos: 0 | 1 | 2 = 1,
    extras: { dup?: boolean; payload?: string | Buffer; retain?: boolean } = {},
  ): void {
    this.send(publishPacket(topic, messageId, qos, extras))
  }

  /** The first packet of this kind that was not taken yet; rejects when the connection closes before. */
  async take(
    cmd: Packet['cmd'],
  ): Promise<Packet & { messageId?: number; returnCode?: number; granted?: unknown; sessionPresent?: boolean }> {
    const packet = await this.#until(() => this.received.find((one) => one.cmd === cmd), `a ${cmd}`)
    this.received.splice(this.received.indexOf(packet), 1)
    return packet
  }

  async takeIds(cmd: Packet['cmd'], count: number): Promise<(number | undefined)[]> {
    const ids = []
    for (let i = 0; i < count; i++) ids.push((await this.take(cmd)).messageId)
    return ids
  }

  /** Resolves once the connection is closed. */
  async end(): Promise<void> {
    while (!this.closed) await this.#change()
  }

  /** A round trip: everything sent before has been read by the listener, and its answers have come. */
  async ping(): Promise<void> {
    this.send({ cmd: 'pingreq' })
    await this.take('pingresp')
  }

  async #until<T>(look: () => T | undefined, what: string): Promise<T> {
    for (;;) {
      const found = look()
      if (found !== undefined) return found
      if (this.closed) throw new Error(`the connection was closed before ${what} came`)
      await this.#change()
    }
  }

  #wakeAll(): void {
    for (const wake of this.#wakes.splice(0)) wake()
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wakes.push(resolve)
    })
  }
}

export function publishPacket(
  topic: string,
  messageId: number,
  qos: 0 | 1 | 2 = 1,
  extras: { dup?: boolean; payload?: string | Buffer; retain?: boolean } = {},
): Buffer {
  const { dup = false, retain = false, payload = 'x' } = extras
  return mqttPacket.generate({ cmd: 'publish', topic, messageId, qos, dup, retain, payload })
}

export interface ConnectOptions {
  readonly clientId?: string
  readonly clean?: boolean
  readonly keepalive?: number
  readonly username?: string
  readonly password?: string
  readonly will?: { topic: string; payload: Buffer; qos?: 0 | 1 | 2; retain?: boolean }
  readonly tls?: ConnectionOptions
}

export async function dial(t: TestContext, port: number, tls?: ConnectionOptions): Promise<RawClient> {
  const socket = tls === undefined ? connectTcp(port, '127.0.0.1') : connectTls({ port, host: '127.0.0.1', ...tls })
  t.after(() => socket.destroy())
  const client = new RawClient(socket)
  await new Promise<void>((resolve) => {
    socket.once(tls === undefined ? 'connect' : 'secureConnect', resolve)
    socket.once('close', () => resolve())
  })
  return client
}

/** Connects and returns the client with the CONNACK's return code; -1 when the connection was closed instead. */
export async function tryConnect(
  t: TestContext,
  port: number,
  options: ConnectOptions = {},
): Promise<{ client: RawClient; returnCode: number; sessionPresent: boolean }> {
  const { clientId = 'd1', clean = true, keepalive = 30, username, password, will, tls } = options
  const client = await dial(t, port, tls)
  client.send({
    cmd: 'connect',
    clientId,
    clean,
    keepalive,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password: Buffer.from(password) }),
    ...(will === undefined ? {} : { will: { qos: 0, retain: false, ...will } }),
  })
  const connack = await client.take('connack').catch(() => undefined)
  return { client, returnCode: connack?.returnCode ?? -1, sessionPresent: connack?.sessionPresent === true }
}

export async function connect(t: TestContext, port: number, options: ConnectOptions = {}): Promise<RawClient> {
  const { client, returnCode } = await tryConnect(t, port, options)
  assert.equal(returnCode, 0)
  return client
}

/** Waits until `look` is true; the test runner's own limit ends a wait in vain. */
export async function until(look: () => boolean): Promise<void> {
  while (!look()) await new Promise((resolve) => setTimeout(resolve, 5))
}

export function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'edge-mqtt-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

export interface Authority {
  readonly dir: string
  readonly caFile: string
  /** Makes NAME.crt and NAME.key. */
  issue(name: string, commonName: string): Promise<{ certFile: string; keyFile: string }>
  /** Makes crl.pem, which revokes these certificates. */
  revoke(...certFiles: readonly string[]): Promise<string>
}

/** A CA of its own, made by openssl. */
export async function authority(t: TestContext, name = 'ca'): Promise<Authority> {
  const dir = folder(t)
  const at = (file: string): string => join(dir, file)
  const caFile = at(`${name}.crt`)
  await run('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-keyout',
    at(`${name}.key`),
    '-out',
    caFile,
    '-subj',
    `/CN=${name}`,
    '-days',
    '2',
  ])
  const issue = async (file: string, commonName: string): Promise<{ certFile: string; keyFile: string }> => {
    const [certFile, keyFile] = [at(`${file}.crt`), at(`${file}.key`)]
    await run('openssl', [
      'req',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      keyFile,
      '-out',
      at(`${file}.csr`),
      '-subj',
      `/CN=${commonName}`,
      '-addext',
      'subjectAltName=IP:127.0.0.1',
    ])
    await run('openssl', [
      'x509',
      '-req',
      '-in',
      at(`${file}.csr`),
      '-CA',
      caFile,
      '-CAkey',
      at(`${name}.key`),
      '-out',
      certFile,
      '-days',
      '2',
      '-copy_extensions',
      'copy',
    ])
    return { certFile, keyFile }
  }
  const revoke = async (...certFiles: readonly string[]): Promise<string> => {
    writeFileSync(at('index.txt'), '')
    writeFileSync(at('ca.cnf'), `[ca]\ndefault_ca=d\n[d]\ndatabase=${at('index.txt')}\ndefault_md=sha256\ndefault_crl_days=2\n`)
    const signing = ['ca', '-config', at('ca.cnf'), '-keyfile', at(`${name}.key`), '-cert', caFile]
    for (const certFile of certFiles) await run('openssl', [...signing, '-revoke', certFile])
    await run('openssl', [...signing, '-gencrl', '-out', at('crl.pem')])
    return at('crl.pem')
  }
  return { dir, caFile, issue, revoke }
}

/** mosquitto_passwd, as an administrator would. */
export async function setPassword(file: string, user: string, password: string, ...options: readonly string[]): Promise<void> {
  await run('mosquitto_passwd', [...options, '-b', file, user, password])
}

/** mosquitto_pub; resolves with its exit code and what it said. */
export function mosquittoPub(port: number, args: readonly string[], input?: string): Promise<{ code: number | null; output: string }> {
  const program = spawn('mosquitto_pub', ['-h', '127.0.0.1', '-p', String(port), ...args])
  let output = ''
  program.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  program.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  program.stdin.end(input)
  return new Promise((resolve) => program.on('close', (code) => resolve({ code, output })))
}
