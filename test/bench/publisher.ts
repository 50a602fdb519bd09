/**
 * The load of the bench, in a process of its own: raw MQTT 3.1.1 over TCP with packets made beforehand, so that
 * the load costs little of the two cores that it shares with what is measured.
 *
 * Started with `fork`; the first message holds the options, each `{ stop: true }` ends it. It reports once a second
 * and at the end.
 */
import { connect, type Socket } from 'node:net'
import { generate } from 'mqtt-packet'

export interface PublisherOptions {
  readonly host: string
  readonly port: number
  readonly connections: number
  /** Unacknowledged publishes of one connection at most. */
  readonly window: number
  /** All connections together; 0 is as fast as acknowledgements come. */
  readonly messagesPerSecond: number
  readonly payloadBytes: number
  /** First part of client ids and device names. */
  readonly name: string
}

export interface PublisherReport {
  readonly published: number
  readonly acknowledged: number
  /** Sorted sample of the time from the publish to its acknowledgement; all since the last report. */
  readonly waitsMs: readonly number[]
}

const PACED_TICK_MS = 5
const WAITS_MAX = 20_000

/** Log text that compresses like log text: words repeat, numbers do not. */
function line(seed: number, bytes: number): string {
  const at = new Date(1_700_000_000_000 + seed * 7_919).toISOString()
  const text = `${at} INFO pump-${seed % 13} pressure=${(seed * 31) % 997} kPa flow=${((seed * 17) % 773) / 10} l/min valve=${seed % 2 === 0 ? 'open' : 'closed'} temp=${20 + ((seed * 7) % 41)} C id=${(seed * 2_654_435_761).toString(36)} `
  return text.repeat(Math.ceil(bytes / text.length)).slice(0, bytes)
}

class Publisher {
  readonly #socket: Socket
  readonly #packets: readonly { readonly bytes: Buffer; readonly idAt: number }[]
  readonly #window: number
  readonly #sentAt = new Float64Array(65_536)
  readonly #waits: number[]
  #rest: Buffer = Buffer.alloc(0)
  #nextId = 1
  #next = 0
  #ready = false
  published = 0
  acknowledged = 0
  /** How many may leave; Infinity without a pace. */
  allowance: number

  constructor(options: PublisherOptions, index: number, waits: number[]) {
    const device = `${options.name}-${index}`
    this.#waits = waits
    this.#window = options.window
    this.allowance = options.messagesPerSecond === 0 ? Infinity : 0
    this.#packets = Array.from({ length: 64 }, (_, sample) => packetFor(device, index * 64 + sample, options.payloadBytes))
    this.#socket = connect({ host: options.host, port: options.port })
    this.#socket.setNoDelay(true)
    this.#socket.on('connect', () =>
      this.#socket.write(generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: device, keepalive: 0 })),
    )
    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    this.#socket.on('error', (error) => console.error(`${device}: ${error.message}`))
  }

  /** Writes what window and allowance permit, in one go. */
  pump(): void {
    if (!this.#ready) return
    const batch: Buffer[] = []
    const now = performance.now()
    while (this.published - this.acknowledged < this.#window && this.allowance >= 1) {
      const packet = this.#packets[this.#next++ % this.#packets.length]
      if (packet === undefined) return
      const id = this.#nextId
      this.#nextId = id === 65_535 ? 1 : id + 1
      packet.bytes.writeUInt16BE(id, packet.idAt)
      batch.push(Buffer.from(packet.bytes))
      this.#sentAt[id] = now
      this.published += 1
      this.allowance -= 1
    }
    if (batch.length > 0) this.#socket.write(batch.length === 1 ? (batch[0] ?? '') : Buffer.concat(batch))
  }

  close(): void {
    this.#socket.destroy()
  }

  /** CONNACK, then PUBACKs, which are 4 bytes each. */
  #receive(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const now = performance.now()
    let at = 0
    for (; at + 4 <= bytes.length; at += 4) {
      if (bytes[at] === 0x20) this.#ready = true
      else this.#acknowledge(bytes.readUInt16BE(at + 2), now)
    }
    this.#rest = bytes.subarray(at)
    this.pump()
  }

  #acknowledge(id: number, now: number): void {
    this.acknowledged += 1
    if (this.#waits.length < WAITS_MAX) this.#waits.push(now - (this.#sentAt[id] ?? now))
  }
}

function packetFor(device: string, seed: number, bytes: number): { bytes: Buffer; idAt: number } {
  const topic = `devices/${device}/logs/app`
  const packet = generate({
    cmd: 'publish',
    topic,
    payload: Buffer.from(line(seed, bytes)),
    qos: 1,
    messageId: 1,
    dup: false,
    retain: false,
  })
  return { bytes: packet, idAt: packet.indexOf(topic) + Buffer.byteLength(topic) }
}

function run(options: PublisherOptions): void {
  const waits: number[] = []
  const publishers = Array.from({ length: options.connections }, (_, index) => new Publisher(options, index, waits))
  const report = (): void => {
    const sum = (pick: (publisher: Publisher) => number): number => publishers.reduce((total, publisher) => total + pick(publisher), 0)
    process.send?.({
      published: sum((each) => each.published),
      acknowledged: sum((each) => each.acknowledged),
      waitsMs: waits.splice(0),
    } satisfies PublisherReport)
  }
  if (options.messagesPerSecond > 0) pace(options.messagesPerSecond, publishers)
  setInterval(report, 1_000)
  process.on('message', () => {
    report()
    for (const publisher of publishers) publisher.close()
    process.disconnect()
    process.exit(0)
  })
}

/** Shares the pace among the connections in turn. */
function pace(messagesPerSecond: number, publishers: readonly Publisher[]): void {
  let owed = 0
  let turn = 0
  let last = performance.now()
  setInterval(() => {
    const now = performance.now()
    owed += ((now - last) * messagesPerSecond) / 1_000
    last = now
    for (; owed >= 1; owed -= 1) {
      const publisher = publishers[turn++ % publishers.length]
      if (publisher !== undefined) publisher.allowance += 1
    }
    for (const publisher of publishers) publisher.pump()
  }, PACED_TICK_MS)
}

process.once('message', (options: PublisherOptions) => run(options))
