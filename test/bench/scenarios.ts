import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { generate } from 'mqtt-packet'
import type { GatewayProgram } from '../fleet/gateway.ts'
import { setUpGateway, setUpTopics } from '../fleet/setup.ts'
import type { KafkaService, Service, ServiceScope } from '../services/index.ts'
import { CROWD, Load, OPEN, percentile, rateOf, rounded, usageOf, UsageWatch } from './measure.ts'
import type { PublisherReport } from './publisher.ts'

export interface BenchPlace {
  readonly scope: ServiceScope
  readonly dir: string
  readonly kafka: KafkaService
  readonly mosquitto: Service
  readonly topic: string
  readonly listenPort: number
}

export interface Speed {
  readonly durableAcksPerSecond: number
  readonly endToEndPerSecond: number
}

interface Box {
  readonly gateway: GatewayProgram
  readonly dataDir: string
  readonly configFile: string
}

const SETTLE_MS = 3_000
const MEASURE_MS = 8_000
/** No limit plays a part: what is measured is the way of a message. */
const UNLIMITED = { messagesPerSecond: 1_000_000, bytesPerSecond: '1GiB', burst: '2s' }
/** What was published comes in within this time once publishing has stopped, or never. */
const STILL_MS = 30_000

export class Scenarios {
  readonly #place: BenchPlace
  #runs = 0

  constructor(place: BenchPlace) {
    this.#place = place
  }

  /** Devices publish to mosquitto, the gateway is its client: it acknowledges to mosquitto what is durable. */
  async connect(): Promise<Speed> {
    const { mosquitto } = this.#place
    const source = { connect: { plant: { url: mosquitto.endpoint, protocolVersion: 5, receiveMaximum: 2_000 } } }
    const buffering = await this.#start(source, false)
    const load = this.#load(mosquitto.port, 0)
    const acknowledged = async (): Promise<number> => durable(await buffering.gateway.status())
    load.feed(OPEN, acknowledged)
    const durableAcks = await rateOf(acknowledged, SETTLE_MS, MEASURE_MS)
    await this.#account(allAcknowledged(await load.end()), buffering)
    return { durableAcksPerSecond: Math.round(durableAcks), endToEndPerSecond: await this.#endToEnd(source, mosquitto.port) }
  }

  /** Devices publish to the gateway: what they count is its acknowledgements. */
  async listen(): Promise<Speed> {
    const buffering = await this.#start(this.#listener(), false)
    const load = this.#load(this.#place.listenPort, Infinity)
    const durableAcks = await rateOf(() => load.acknowledged(), SETTLE_MS, MEASURE_MS)
    await this.#account(allAcknowledged(await load.end()), buffering)
    return {
      durableAcksPerSecond: Math.round(durableAcks),
      endToEndPerSecond: await this.#endToEnd(this.#listener(), this.#place.listenPort),
    }
  }

  /** A steady rate to the gateway's own listener, forwarded to Kafka. */
  async paced(messagesPerSecond: number, measureMs: number): Promise<object> {
    const { gateway } = await this.#start(this.#listener(), true)
    const load = this.#load(this.#place.listenPort, messagesPerSecond)
    await sleep(SETTLE_MS)
    await load.report()
    const from = (await gateway.status()).received
    const watch = new UsageWatch(gateway.pid)
    await sleep(measureMs)
    const used = watch.end()
    const to = (await gateway.status()).received
    const { waitsMs } = await load.report()
    allAcknowledged(await load.end())
    await gateway.end('SIGTERM')
    const messages = to.messages - from.messages
    return {
      messagesPerSecond: Math.round((messages * 1_000) / measureMs),
      pubackP50Ms: rounded(percentile(waitsMs, 0.5)),
      pubackP99Ms: rounded(percentile(waitsMs, 0.99)),
      bytesWrittenPerPayloadByte: rounded(used.writtenBytes / (to.bytes - from.bytes)),
      cpuSecondsPer100k: rounded((used.cpuSeconds * 100_000) / messages),
      rssMiB: used.rssMiB,
    }
  }

  /** `rows` messages buffered while Kafka is away, a kill, a start, and how fast they leave. */
  async backlog(rows: number): Promise<object> {
    const { kafka } = this.#place
    const { gateway } = await this.#start(this.#listener(), true)
    await kafka.stop()
    const filling = new UsageWatch(gateway.pid)
    const load = this.#load(this.#place.listenPort, Infinity)
    while ((await gateway.status()).buffer.messages < rows) await sleep(250)
    const sent = allAcknowledged(await load.end())
    const { rssMiB } = filling.end()
    await gateway.end('SIGKILL')
    const begun = performance.now()
    await gateway.start()
    const startSeconds = rounded((performance.now() - begun) / 1_000)
    const found = await buffered(gateway)
    if (found !== sent.acknowledged)
      throw new Error(`${sent.acknowledged} messages were acknowledged, and ${found} are buffered after a kill`)
    await kafka.start()
    return { rows: found, rssMiB, startSeconds, ...(await this.#drain(gateway, found)) }
  }

  /**
   * Nothing is published; Kafka stands behind a proxy that counts bytes. A status record leaves every 15 min, over a
   * connection that is opened anew since the last one has grown old: what a start costs, four times an hour.
   */
  async idle(measureMs: number): Promise<object> {
    const { kafka, proxy } = await this.#place.scope.kafkaBehindProxy()
    const { gateway } = await this.#start(this.#listener(), true, kafka.endpoint)
    const bytes = (): number => proxy.bytes.toServer + proxy.bytes.toClient
    await gateway.end('SIGTERM')
    const before = bytes()
    await gateway.start()
    await sleep(3 * SETTLE_MS)
    const startBytes = bytes() - before
    const watch = new UsageWatch(gateway.pid)
    await sleep(measureMs)
    const used = watch.end()
    const silentBytes = bytes() - before - startBytes
    await gateway.end('SIGTERM')
    await kafka.kill('SIGKILL')
    return {
      cpuPercent: rounded((used.cpuSeconds * 100_000) / measureMs),
      rssMiB: used.rssMiB,
      trafficBytesPerHour: 4 * startBytes + Math.round((silentBytes * 3_600_000) / measureMs),
    }
  }

  /** Connected and silent. */
  async devices(count: number): Promise<object> {
    const { gateway } = await this.#start(
      { listen: { lan: { ...this.#listener().listen.lan, maxConnections: count + 100, connectsPerSecond: 5_000 } } },
      true,
    )
    const sockets: Socket[] = []
    for (let index = 0; index < count; index += 1) {
      sockets.push(silentDevice(this.#place.listenPort, index))
      if (index % 100 === 0) await sleep(20)
    }
    const connected = async (): Promise<number> => (await gateway.status()).sources[0]?.connections ?? 0
    for (const untilMs = performance.now() + STILL_MS; (await connected()) < count && performance.now() < untilMs;) await sleep(250)
    const status = await gateway.status()
    const rssMiB = Math.round(usageOf(gateway.pid).rssMiB)
    for (const socket of sockets) socket.destroy()
    await gateway.end('SIGTERM')
    return { connected: status.sources[0]?.connections ?? 0, rssMiB }
  }

  async #endToEnd(source: object, port: number): Promise<number> {
    const { gateway } = await this.#start(source, true)
    const load = this.#load(port, 0)
    const taken = async (): Promise<number> => delivered(await gateway.status())
    load.feed(OPEN, taken)
    const perSecond = await rateOf(taken, SETTLE_MS, MEASURE_MS)
    const sent = allAcknowledged(await load.end())
    for (const untilMs = performance.now() + STILL_MS; (await taken()) < sent.published && performance.now() < untilMs;) await sleep(100)
    if ((await taken()) !== sent.published) throw new Error(`${sent.published} messages were published, and ${await taken()} delivered`)
    await gateway.end('SIGKILL')
    return Math.round(perSecond)
  }

  /** Between the first twentieth and the last fifth, so that neither Kafka's start nor the end plays a part. */
  async #drain(gateway: GatewayProgram, rows: number): Promise<object> {
    const watch = new UsageWatch(gateway.pid)
    while ((await buffered(gateway)) > rows * 0.95) await sleep(50)
    const before = await buffered(gateway)
    const from = performance.now()
    while ((await buffered(gateway)) > rows * 0.2) await sleep(100)
    const drainPerSecond = Math.round(((before - (await buffered(gateway))) * 1_000) / (performance.now() - from))
    const { rssMiB } = watch.end()
    await gateway.end('SIGKILL')
    return { drainPerSecond, drainRssMiB: rssMiB }
  }

  /** Waits until the gateway has taken in all that was published, kills it, and counts what lies in its file. */
  async #account({ published }: PublisherReport, { gateway, dataDir }: Box): Promise<void> {
    for (const untilMs = performance.now() + STILL_MS; durable(await gateway.status()) < published && performance.now() < untilMs;)
      await sleep(100)
    await gateway.end('SIGKILL')
    const stored = storedMessages(join(dataDir, 'outbox.db'))
    if (stored !== published) throw new Error(`${published} messages were published and acknowledged, and ${stored} are stored`)
  }

  #listener() {
    return { listen: { lan: { url: `mqtt://127.0.0.1:${this.#place.listenPort}`, auth: 'none' } } }
  }

  #load(port: number, messagesPerSecond: number): Load {
    this.#runs += 1
    const load = new Load({ ...CROWD, host: '127.0.0.1', port, messagesPerSecond, name: `bench${this.#runs}` })
    this.#place.scope.atEnd(() => load.kill())
    return load
  }

  async #start(source: object, forward: boolean, broker = this.#place.kafka.endpoint): Promise<Box> {
    this.#runs += 1
    const dir = join(this.#place.dir, `gateway-${this.#runs}`)
    const { gateway, configFile } = await setUpGateway(dir, {
      gateway: { id: `gw-bench-${this.#runs}` },
      mqtt: source,
      limits: { global: UNLIMITED, perDevice: UNLIMITED },
      buffer: { minFreeBytes: '64MiB' },
      ...(forward ? { kafka: { brokers: [broker], topic: this.#place.topic } } : {}),
      metrics: { listen: 'off' },
    })
    if (forward) await setUpTopics(configFile, 4)
    this.#place.scope.atEnd(async () => void (await gateway.end('SIGKILL')))
    await gateway.start()
    return { gateway, dataDir: join(dir, 'state'), configFile }
  }
}

type Status = Awaited<ReturnType<GatewayProgram['status']>>

/** Messages that were given a position: fsynced. */
function durable(status: Status): number {
  return Object.entries(status.lanes).reduce((sum, [name, lane]) => sum + (name === 'internal' ? 0 : lane.highest), 0)
}

function delivered(status: Status): number {
  return Object.entries(status.lanes).reduce((sum, [name, lane]) => sum + (name === 'internal' ? 0 : lane.delivered), 0)
}

async function buffered(gateway: GatewayProgram): Promise<number> {
  const { lanes } = await gateway.status()
  return Object.entries(lanes).reduce((sum, [name, lane]) => sum + (name === 'internal' ? 0 : lane.messages), 0)
}

/** Past the gateway: straight from the file that it left. */
function storedMessages(path: string): number {
  const database = new Database(path, { readonly: true })
  try {
    const lanes = ['urgent', 'normal', 'deferred']
    return lanes.reduce(
      (sum, lane) => sum + (database.prepare(`SELECT coalesce(sum(count), 0) FROM outbox_${lane}`).pluck().get() as number),
      0,
    )
  } finally {
    database.close()
  }
}

function allAcknowledged(report: PublisherReport): PublisherReport {
  const { published, acknowledged, unexpected } = report
  if (published === 0 || acknowledged !== published || unexpected !== 0) {
    throw new Error(
      `${published} messages were published, ${acknowledged} acknowledged, and ${unexpected} acknowledgements were for nothing`,
    )
  }
  return report
}

function silentDevice(port: number, index: number): Socket {
  const socket = connect({ host: '127.0.0.1', port })
  socket.on('connect', () =>
    socket.write(
      generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: `silent-${index}`, keepalive: 600 }),
    ),
  )
  socket.on('error', (error) => console.error(`silent-${index}: ${error.message}`))
  socket.resume()
  return socket
}
