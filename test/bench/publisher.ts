/**
 * The load of the bench, in a process of its own: raw MQTT 3.1.1 over TCP from texts made beforehand, so that it
 * costs little of the cores that it shares with what is measured.
 *
 * Started with `fork`; the first message holds the options. `{ ask }` is answered with a report, `{ grant }` lets so
 * many more leave; after `{ stop }` nothing more is published, the last acknowledgements are waited for, and the last
 * report ends it.
 */
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { generate } from 'mqtt-packet'
import { logLines } from './lines.ts'

export interface PublisherOptions {
  readonly host: string
  readonly port: number
  readonly connections: number
  /** Unacknowledged publishes of one connection at most. */
  readonly window: number
  /** All connections together; Infinity is as fast as acknowledgements come, 0 waits for grants. */
  readonly messagesPerSecond: number
  readonly payloadBytes: number
  /** First part of client ids and device names. */
  readonly name: string
}

export type PublisherOrder = { readonly ask: true } | { readonly grant: number } | { readonly stop: true }

export interface PublisherReport {
  readonly published: number
  readonly acknowledged: number
  /** Acknowledgements of packet ids that had none open: there must be none. */
  readonly unexpected: number
  /** Time from the publish to its acknowledgement; all since the last report, at most so many. */
  readonly waitsMs: readonly number[]
}

const PACED_TICK_MS = 5
const WAITS_MAX = 200_000
const LINES = 16_384
const LAST_ACKNOWLEDGEMENTS_MS = 20_000
const PACKET_IDS = 65_536
const CONNACK = 0x20
const PUBACK = 0x40

class Publisher {
  readonly #socket: Socket
  /** Fixed header and topic: the same for all packets of the connection. */
  readonly #head: Buffer
  readonly #lines: readonly Buffer[]
  readonly #window: number
  readonly #sentAt = new Float64Array(PACKET_IDS).fill(NaN)
  readonly #waits: number[]
  #rest: Buffer = Buffer.alloc(0)
  #nextId = 1
  #next: number
  #ready = false
  published = 0
  acknowledged = 0
  unexpected = 0
  /** How many may leave; Infinity without a pace. */
  allowance: number

  constructor(options: PublisherOptions, index: number, lines: readonly Buffer[], waits: number[]) {
    const device = `${options.name}-${index}`
    const sample = generate({
      cmd: 'publish',
      topic: `devices/${device}/logs/app`,
      payload: Buffer.alloc(options.payloadBytes),
      qos: 1,
      messageId: 1,
      dup: false,
      retain: false,
    })
    this.#head = sample.subarray(0, sample.length - options.payloadBytes - 2)
    this.#lines = lines
    // Devices write different lines at a time.
    this.#next = Math.floor((index * lines.length) / options.connections)
    this.#waits = waits
    this.#window = options.window
    this.allowance = options.messagesPerSecond === Infinity ? Infinity : 0
    this.#socket = connect({ host: options.host, port: options.port })
    this.#socket.setNoDelay(true)
    this.#socket.on('connect', () =>
      this.#socket.write(generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: device, keepalive: 0 })),
    )
    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    this.#socket.on('error', (error) => console.error(`${device}: ${error.message}`))
  }

  get open(): number {
    return this.published - this.acknowledged
  }

  /** Writes what window and allowance permit, in one go. */
  pump(): void {
    if (!this.#ready) return
    const count = Math.min(this.#window - this.open, Math.floor(this.allowance))
    if (count <= 0) return
    const parts: Buffer[] = []
    const now = performance.now()
    for (let left = count; left > 0; left -= 1) {
      const id = this.#nextId
      this.#nextId = id === PACKET_IDS - 1 ? 1 : id + 1
      this.#sentAt[id] = now
      parts.push(this.#head, Buffer.from([id >> 8, id & 0xff]), this.#lines[this.#next++ % this.#lines.length] ?? this.#head)
    }
    this.published += count
    this.allowance -= count
    this.#socket.write(Buffer.concat(parts))
  }

  close(): void {
    this.#socket.destroy()
  }

  /** CONNACK and PUBACK are 4 bytes each. */
  #receive(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const now = performance.now()
    let at = 0
    for (; at + 4 <= bytes.length; at += 4) {
      if (bytes[at] === CONNACK && bytes[at + 3] === 0) this.#ready = true
      else if (bytes[at] === PUBACK) this.#acknowledge(bytes.readUInt16BE(at + 2), now)
      else throw new Error(`the broker sent ${bytes.subarray(at, at + 4).toString('hex')}`)
    }
    this.#rest = bytes.subarray(at)
    this.pump()
  }

  #acknowledge(id: number, now: number): void {
    const sentAt = this.#sentAt[id] ?? NaN
    if (Number.isNaN(sentAt)) {
      this.unexpected += 1
      return
    }
    this.#sentAt[id] = NaN
    this.acknowledged += 1
    if (this.#waits.length < WAITS_MAX) this.#waits.push(now - sentAt)
  }
}

class Crowd {
  readonly #waits: number[] = []
  readonly #publishers: readonly Publisher[]
  #pacer: NodeJS.Timeout | undefined

  constructor(options: PublisherOptions) {
    const lines = logLines(LINES, options.payloadBytes)
    this.#publishers = Array.from({ length: options.connections }, (_, index) => new Publisher(options, index, lines, this.#waits))
    if (options.messagesPerSecond > 0 && options.messagesPerSecond < Infinity) this.#pace(options.messagesPerSecond)
  }

  report(): PublisherReport {
    return {
      published: this.#sum((each) => each.published),
      acknowledged: this.#sum((each) => each.acknowledged),
      unexpected: this.#sum((each) => each.unexpected),
      waitsMs: this.#waits.splice(0),
    }
  }

  grant(messages: number): void {
    for (const publisher of this.#publishers) {
      publisher.allowance += messages / this.#publishers.length
      publisher.pump()
    }
  }

  async end(): Promise<void> {
    clearInterval(this.#pacer)
    for (const publisher of this.#publishers) publisher.allowance = 0
    const untilMs = performance.now() + LAST_ACKNOWLEDGEMENTS_MS
    while (this.#sum((each) => each.open) > 0 && performance.now() < untilMs) await sleep(20)
    for (const publisher of this.#publishers) publisher.close()
  }

  #sum(pick: (publisher: Publisher) => number): number {
    return this.#publishers.reduce((total, publisher) => total + pick(publisher), 0)
  }

  /** Shares the pace among the connections in turn. */
  #pace(messagesPerSecond: number): void {
    let owed = 0
    let turn = 0
    let last = performance.now()
    this.#pacer = setInterval(() => {
      const now = performance.now()
      owed += ((now - last) * messagesPerSecond) / 1_000
      last = now
      for (; owed >= 1; owed -= 1) {
        const publisher = this.#publishers[turn++ % this.#publishers.length]
        if (publisher !== undefined) publisher.allowance += 1
      }
      for (const publisher of this.#publishers) publisher.pump()
    }, PACED_TICK_MS)
  }
}

process.once('message', (sent: PublisherOptions) => {
  // IPC is JSON: Infinity comes as null.
  const options = { ...sent, messagesPerSecond: (sent.messagesPerSecond as number | null) ?? Infinity }
  const crowd = new Crowd(options)
  const report = (then: () => void = () => undefined): void => void process.send?.(crowd.report(), then)
  process.on('message', (order: PublisherOrder) => {
    if ('ask' in order) report()
    else if ('grant' in order) crowd.grant(order.grant)
    else void crowd.end().then(() => report(() => process.exit(0)))
  })
})
// The bench has gone, however it ended.
process.once('disconnect', () => process.exit(0))
