import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { generate } from 'mqtt-packet'
import type { GatewayProgram } from '../fleet/gateway.ts'
import { setUpGateway, setUpTopics } from '../fleet/setup.ts'
import { freePort, startKafka, startProxy, type KafkaService, type Service } from '../services/index.ts'
import { Load, percentile, rateOf, usageOf } from './measure.ts'

export interface BenchPlace {
  readonly dir: string
  readonly kafka: KafkaService
  readonly mosquitto: Service
  readonly topic: string
  readonly listenPort: number
}

const PAYLOAD_BYTES = 200
const SETTLE_MS = 3_000
const MEASURE_MS = 10_000
/** No limit plays a part: what is measured is the way of a message. */
const UNLIMITED = { messagesPerSecond: 1_000_000, bytesPerSecond: '1GiB', burst: '2s' }

export class Scenarios {
  readonly #place: BenchPlace
  #runs = 0

  constructor(place: BenchPlace) {
    this.#place = place
  }

  /** Devices publish to mosquitto, the gateway is its client. */
  connect(): Promise<{ durableAcksPerSecond: number; endToEndPerSecond: number }> {
    const { mosquitto } = this.#place
    const source = { connect: { plant: { url: mosquitto.endpoint, protocolVersion: 5, receiveMaximum: 2_000 } } }
    return this.#flood(source, mosquitto.port)
  }

  /** Devices publish to the gateway. */
  listen(): Promise<{ durableAcksPerSecond: number; endToEndPerSecond: number }> {
    return this.#flood(this.#listener(), this.#place.listenPort)
  }

  /** A steady rate from 50 devices to the gateway's own listener, forwarded to Kafka. */
  async paced(messagesPerSecond: number, measureMs: number): Promise<object> {
    const gateway = await this.#start(this.#listener(), true)
    const load = this.#load(this.#place.listenPort, 50, messagesPerSecond)
    try {
      await sleep(SETTLE_MS)
      load.resetWaits()
      const before = usageOf(gateway.pid)
      const from = (await gateway.status()).received
      await sleep(measureMs)
      const after = usageOf(gateway.pid)
      const to = (await gateway.status()).received
      const messages = to.messages - from.messages
      return {
        messagesPerSecond: Math.round((messages * 1_000) / measureMs),
        pubackP50Ms: round(percentile(load.waitsMs, 0.5)),
        pubackP99Ms: round(percentile(load.waitsMs, 0.99)),
        bytesWrittenPerPayloadByte: round((after.writtenBytes - before.writtenBytes) / (to.bytes - from.bytes)),
        cpuSecondsPer100k: round(((after.cpuSeconds - before.cpuSeconds) * 100_000) / messages),
        rssMiB: Math.round(after.rssMiB),
      }
    } finally {
      await load.end()
      await gateway.end('SIGTERM')
    }
  }

  /** `rows` messages buffered while Kafka is away: start time, and how fast they leave. */
  async backlog(rows: number): Promise<object> {
    const { kafka } = this.#place
    await kafka.stop()
    const gateway = await this.#start(this.#listener(), true)
    const load = this.#load(this.#place.listenPort, 20, 0)
    while ((await gateway.status()).buffer.messages < rows) await sleep(250)
    await load.end()
    const rssMiB = Math.round(usageOf(gateway.pid).rssMiB)
    await gateway.end('SIGKILL')
    const begun = performance.now()
    await gateway.start()
    const startSeconds = round((performance.now() - begun) / 1_000)
    await kafka.start()
    const buffered = async (): Promise<number> => (await gateway.status()).buffer.messages
    while ((await buffered()) > rows * 0.95) await sleep(100)
    const left = await buffered()
    const from = performance.now()
    while ((await buffered()) > rows * 0.2) await sleep(250)
    const drainPerSecond = Math.round(((left - (await buffered())) * 1_000) / (performance.now() - from))
    const drainRssMiB = Math.round(usageOf(gateway.pid).rssMiB)
    await gateway.end('SIGTERM')
    return { rows, rssMiB, startSeconds, drainPerSecond, drainRssMiB }
  }

  /** Nothing is published; Kafka behind a proxy that counts bytes. */
  async idle(measureMs: number): Promise<object> {
    const port = await freePort()
    const proxy = await startProxy({ target: port })
    const kafka = await startKafka({ dir: join(this.#place.dir, 'idle-kafka'), port, advertisedPort: proxy.port })
    const gateway = await this.#start(this.#listener(), true, kafka.endpoint)
    try {
      await sleep(SETTLE_MS)
      const before = usageOf(gateway.pid)
      const from = proxy.bytes.toServer + proxy.bytes.toClient
      await sleep(measureMs)
      const after = usageOf(gateway.pid)
      const traffic = proxy.bytes.toServer + proxy.bytes.toClient - from
      return {
        cpuPercent: round(((after.cpuSeconds - before.cpuSeconds) * 100_000) / measureMs),
        rssMiB: Math.round(after.rssMiB),
        trafficBytesPerHour: Math.round((traffic * 3_600_000) / measureMs),
      }
    } finally {
      await gateway.end('SIGTERM')
      await kafka.kill('SIGKILL')
      await proxy.stop()
    }
  }

  /** Connected and silent. */
  async devices(count: number): Promise<object> {
    const gateway = await this.#start(
      { listen: { lan: { ...this.#listener().listen.lan, maxConnections: count + 100, connectsPerSecond: 5_000 } } },
      true,
    )
    const sockets: Socket[] = []
    try {
      for (let index = 0; index < count; index += 1) {
        sockets.push(silentDevice(this.#place.listenPort, index))
        if (index % 100 === 0) await sleep(20)
      }
      await sleep(SETTLE_MS)
      const status = await gateway.status()
      return { connected: status.sources[0]?.connections ?? 0, rssMiB: Math.round(usageOf(gateway.pid).rssMiB) }
    } finally {
      for (const socket of sockets) socket.destroy()
      await gateway.end('SIGTERM')
    }
  }

  async #flood(source: object, port: number): Promise<{ durableAcksPerSecond: number; endToEndPerSecond: number }> {
    const buffering = await this.#start(source, false)
    const durableAcks = await this.#rate(buffering, port, async () => durable(await buffering.status()))
    const forwarding = await this.#start(source, true)
    const endToEnd = await this.#rate(forwarding, port, async () => delivered(await forwarding.status()))
    return { durableAcksPerSecond: durableAcks, endToEndPerSecond: endToEnd }
  }

  async #rate(gateway: GatewayProgram, port: number, read: () => Promise<number>): Promise<number> {
    const load = this.#load(port, 20, 0)
    try {
      return Math.round(await rateOf(read, SETTLE_MS, MEASURE_MS))
    } finally {
      await load.end()
      await gateway.end('SIGKILL')
    }
  }

  #listener() {
    return { listen: { lan: { url: `mqtt://127.0.0.1:${this.#place.listenPort}`, auth: 'none' } } }
  }

  #load(port: number, connections: number, messagesPerSecond: number): Load {
    this.#runs += 1
    return new Load({
      host: '127.0.0.1',
      port,
      connections,
      window: 200,
      messagesPerSecond,
      payloadBytes: PAYLOAD_BYTES,
      name: `bench${this.#runs}`,
    })
  }

  async #start(source: object, forward: boolean, broker = this.#place.kafka.endpoint): Promise<GatewayProgram> {
    this.#runs += 1
    const { gateway, configFile } = await setUpGateway(join(this.#place.dir, `gateway-${this.#runs}`), {
      gateway: { id: `gw-bench-${this.#runs}` },
      mqtt: source,
      limits: { global: UNLIMITED, perDevice: UNLIMITED },
      buffer: { minFreeBytes: '64MiB' },
      ...(forward ? { kafka: { brokers: [broker], topic: this.#place.topic } } : {}),
      metrics: { listen: 'off' },
    })
    if (forward) await setUpTopics(configFile, 4)
    await gateway.start()
    return gateway
  }
}

/** Messages that were given a position: fsynced. */
function durable(status: Awaited<ReturnType<GatewayProgram['status']>>): number {
  return Object.entries(status.lanes).reduce((sum, [name, lane]) => sum + (name === 'internal' ? 0 : lane.highest), 0)
}

function delivered(status: Awaited<ReturnType<GatewayProgram['status']>>): number {
  return Object.entries(status.lanes).reduce((sum, [name, lane]) => sum + (name === 'internal' ? 0 : lane.delivered), 0)
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

function round(value: number): number {
  return Math.round(value * 100) / 100
}
