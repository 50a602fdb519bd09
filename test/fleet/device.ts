/**
 * A simulated device: MQTT 3.1.1 over TCP, QoS 1, persistent session. It keeps every publish that was not
 * acknowledged and sends it again, in order and marked DUP, after a reconnect (MQTT 3.1.1 section 4.4), as a real
 * device's library does. It remembers what it published and what was acknowledged, for the judge.
 */
import { connect, type Socket } from 'node:net'
import { generate, parser, type Packet } from 'mqtt-packet'

export interface Message {
  readonly topic: string
  readonly payload: Buffer
}

export interface DeviceOptions {
  readonly clientId: string
  readonly host: string
  readonly port: number
  /** Publishes without an acknowledgement at most; more wait inside the device. */
  readonly inFlightMax?: number
  readonly username?: string
  readonly password?: string
  /** Default 30. Silence of one and a half times this ends the connection, as a device's library does. */
  readonly keepaliveSeconds?: number
  readonly onAcknowledged?: (message: Message, waitedMs: number) => void
}

interface Sent {
  readonly message: Message
  readonly atMs: number
  /** Written to a socket at least once: the next time it carries DUP. */
  tried: boolean
}

const RECONNECT_MS = 200

export class Device {
  readonly #options: DeviceOptions
  /** In order of publication; keys are packet ids. */
  readonly #unacknowledged = new Map<number, Sent>()
  readonly #waiting: Message[] = []
  #socket: Socket | undefined
  #ready = false
  #closed = false
  #nextId = 1
  #ping: NodeJS.Timeout | undefined
  #heardMs = 0
  published = 0
  acknowledged = 0
  connects = 0
  /** Connections that ended without our wish. */
  lost = 0

  constructor(options: DeviceOptions) {
    this.#options = options
  }

  open(): void {
    this.#dial()
  }

  /** Takes the message at once; it leaves as soon as the connection and the in-flight limit allow. */
  publish(message: Message): void {
    this.published += 1
    this.#waiting.push(message)
    this.#pump()
  }

  /** Messages published and not yet acknowledged. */
  get pending(): number {
    return this.#waiting.length + this.#unacknowledged.size
  }

  /** Messages that left at least once and have no acknowledgement. */
  get inDoubt(): number {
    let count = 0
    for (const sent of this.#unacknowledged.values()) if (sent.tried) count += 1
    return count
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#ping)
    if (this.#ready) this.#socket?.end(generate({ cmd: 'disconnect' }))
    else this.#socket?.destroy()
  }

  /** Cuts the connection without a word, as a dead battery does. */
  cut(): void {
    this.#socket?.destroy()
  }

  #dial(): void {
    const socket = connect({ host: this.#options.host, port: this.#options.port })
    this.#socket = socket
    socket.setNoDelay(true)
    const incoming = parser({ protocolVersion: 4 })
    incoming.on('packet', (packet: Packet) => this.#receive(packet))
    socket.on('connect', () => socket.write(this.#connectPacket()))
    socket.on('data', (chunk: Buffer) => void incoming.parse(chunk))
    // The close event follows and redials; the reason does not matter to a device.
    socket.on('error', () => undefined)
    socket.on('close', () => this.#lost())
  }

  #connectPacket(): Buffer {
    const { clientId, username, password } = this.#options
    return generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: false,
      clientId,
      keepalive: this.#keepaliveSeconds,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password: Buffer.from(password) }),
    })
  }

  get #keepaliveSeconds(): number {
    return this.#options.keepaliveSeconds ?? 30
  }

  #lost(): void {
    if (this.#ready && !this.#closed) this.lost += 1
    this.#ready = false
    clearInterval(this.#ping)
    if (this.#closed) return
    setTimeout(
      () => {
        if (!this.#closed) this.#dial()
      },
      RECONNECT_MS * (0.5 + Math.random()),
    )
  }

  #receive(packet: Packet): void {
    this.#heardMs = performance.now()
    if (packet.cmd === 'connack') this.#connected(packet.returnCode ?? 0)
    if (packet.cmd === 'puback') this.#acknowledge(packet.messageId ?? 0)
  }

  #connected(returnCode: number): void {
    if (returnCode !== 0) return void this.#socket?.destroy()
    this.connects += 1
    this.#ready = true
    this.#ping = setInterval(() => this.#beat(), this.#keepaliveSeconds * 500)
    this.#socket?.cork()
    for (const [id, sent] of this.#unacknowledged) this.#write(id, sent)
    this.#socket?.uncork()
    this.#pump()
  }

  #beat(): void {
    if (performance.now() - this.#heardMs > this.#keepaliveSeconds * 1_500) this.#socket?.destroy()
    else this.#socket?.write(generate({ cmd: 'pingreq' }))
  }

  #acknowledge(id: number): void {
    const sent = this.#unacknowledged.get(id)
    if (sent === undefined) return
    this.#unacknowledged.delete(id)
    this.acknowledged += 1
    this.#options.onAcknowledged?.(sent.message, performance.now() - sent.atMs)
    this.#pump()
  }

  #pump(): void {
    const limit = this.#options.inFlightMax ?? 20
    while (this.#ready && this.#unacknowledged.size < limit && this.#waiting.length > 0) {
      const message = this.#waiting.shift()
      if (message === undefined) return
      const id = this.#nextId
      this.#nextId = id === 65_535 ? 1 : id + 1
      const sent: Sent = { message, atMs: performance.now(), tried: false }
      this.#unacknowledged.set(id, sent)
      this.#write(id, sent)
    }
  }

  #write(id: number, sent: Sent): void {
    const { topic, payload } = sent.message
    this.#socket?.write(generate({ cmd: 'publish', topic, payload, qos: 1, messageId: id, dup: sent.tried, retain: false }))
    sent.tried = true
  }
}
