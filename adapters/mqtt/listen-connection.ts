import type { Socket } from 'node:net'
import type { Clock } from '../../daemon/clock.ts'
import { encodeFrame, FrameReader, PacketType, type FrameLimits, type FrameResult } from './framing.ts'
import type { BridgeEnd } from './listen-bridge.ts'
import { Bridge } from './listen-bridge.ts'
import type { Claimant } from './listen-budget.ts'
import type { Ending } from './listen-counters.ts'
import { Inbound, type InboundDevice, type InboundEnd, type InboundShared } from './listen-inbound.ts'

/** Why a socket is not read; several can hold at once. */
const Pause = { CONNECT: 1, IN_FLIGHT: 2, TOTAL: 4, HELD: 8, WRITES: 16, BROKER: 32, STOPPING: 64, ENDED: 128 } as const
/** While only these hold, the silence is the peer's own: it does not read what we send. */
const PEERS_OWN = Pause.WRITES

const PINGRESP = Buffer.from([(PacketType.PINGREQ + 1) << 4, 0])
/** A peer that is in the middle of a large packet over a thin link is alive, one byte a second is not. */
const ALIVE_BYTES = 1_000

const TO_BROKER: ReadonlySet<number> = new Set([
  PacketType.PUBACK,
  PacketType.PUBREC,
  PacketType.PUBCOMP,
  PacketType.SUBSCRIBE,
  PacketType.UNSUBSCRIBE,
  PacketType.DISCONNECT,
])

/**
 * 3.1.1 section 3.1.2.5 names the endings that publish a will: failures of the device or the network. A gateway that
 * stops, or that is full, says nothing about the device.
 */
const WITHOUT_WILL: ReadonlySet<Ending> = new Set(['disconnect', 'held', 'stopped', 'refused'])

/** What a connection needs of its listener. */
export interface ConnectionOwner {
  readonly clock: Clock
  readonly shared: InboundShared
  readonly frameLimits: FrameLimits
  /** True while the gateway is full: no message may come in. */
  isHeld(): boolean
  /** This connection has a message that may not come in; `release` is owed to it. */
  heldBack(connection: Connection): void
  /** The first packet: give it to the broker (`connection.openBridge`), or refuse it. */
  connectCame(connection: Connection, frame: Buffer): void
  ended(connection: Connection, reason: Ending, detail: string | undefined): void
  /** The socket is closed; nothing of the connection is left. */
  gone(connection: Connection): void
  /** Asks for `connection.flush` once the current burst of settlements is over. */
  flushLater(connection: Connection): void
}

/**
 * One device's connection. It reads the socket, takes PUBLISH, PUBREL and PINGREQ itself, and hands the rest to the
 * broker over a bridge: so an acknowledgement that waits for the disk never stands before a PINGREQ, a SUBSCRIBE or
 * another device.
 */
export class Connection implements BridgeEnd, Claimant, InboundEnd {
  readonly socket: Socket
  readonly peer: string
  /** Common name of the verified client certificate. */
  readonly commonName: string | undefined
  readonly openedMs: number
  /** The password hash that let it in; when the file says another, it has to go. */
  credential: string | undefined
  device: InboundDevice | undefined
  /** The client left it to us to name it. */
  anonymous = false
  /** As the client asked, seconds; 0 for none. */
  keepaliveSeconds = 0
  inbound: Inbound | undefined
  /** When it last sent a packet, monotonic ms. */
  heardMs: number
  /** Since when a message of it may not come in, since the gateway is full. */
  heldBackMs: number | undefined
  /** When it was closed by us, monotonic ms. */
  endedMs: number | undefined
  /** Since when it does not read what we send; undefined while it does. */
  stuckSinceMs: number | undefined
  readonly #owner: ConnectionOwner
  readonly #reader: FrameReader
  #bridge: Bridge<Connection> | undefined
  #paused: number = Pause.STOPPING
  #pumping = false
  /** A message that the reader holds, and that may not come in yet. */
  #waiting: FrameResult | undefined
  #flushing = false
  /** PINGREQs of the chunk in hand; answered in one write. */
  #pings = 0
  #unheardBytes = 0
  #ending: Ending | undefined
  #expected: { readonly reason: Ending; readonly detail: string | undefined } | undefined

  constructor(owner: ConnectionOwner, socket: Socket, commonName: string | undefined) {
    this.#owner = owner
    this.socket = socket
    this.commonName = commonName
    this.peer = `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? 0}`
    this.openedMs = this.heardMs = owner.clock.monotonicMs()
    this.#reader = new FrameReader(owner.frameLimits)
  }

  get ending(): Ending | undefined {
    return this.#ending
  }

  /** True once CONNACK was sent. */
  get ready(): boolean {
    return this.inbound !== undefined
  }

  /** Bytes that came and were not taken yet. */
  get heldBytes(): number {
    return this.#reader.heldBytes + this.#reader.body.length + this.socket.readableLength
  }

  /** True while an acknowledgement is owed to it. */
  get owed(): boolean {
    return this.inbound !== undefined && this.inbound.inFlight > 0
  }

  /** True while the silence can't be blamed on the peer, since we do not read. */
  get unread(): boolean {
    return (this.#paused & ~PEERS_OWN) !== 0
  }

  open(): void {
    const { socket } = this
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.on('drain', () => this.#drained())
    socket.on('error', () => this.end('peer-closed'))
    socket.on('end', () => this.end(this.#expected?.reason ?? 'peer-closed'))
    socket.on('close', () => {
      this.end(this.#expected?.reason ?? 'peer-closed')
      this.#owner.gone(this)
    })
    this.#resume(Pause.STOPPING)
  }

  /** Gives the CONNECT to the broker; nothing is read until the broker has answered. */
  openBridge(frame: Buffer): Bridge<Connection> {
    const bridge = new Bridge(this)
    this.#bridge = bridge
    bridge.push(frame)
    return bridge
  }

  /** CONNACK went out: messages may come. */
  begin(): void {
    if (this.#ending !== undefined || this.device === undefined) return
    this.inbound = new Inbound(this.#owner.shared, this.device, this)
    this.#resume(Pause.CONNECT)
  }

  /** Reads nothing until `release`. */
  hold(): void {
    this.#pause(Pause.HELD)
  }

  release(): void {
    this.heldBackMs = undefined
    this.#resume(Pause.HELD)
  }

  /** Reads nothing more; acknowledgements still go out. */
  drain(): void {
    this.#pause(Pause.STOPPING)
  }

  resumeAfterTotal(): void {
    this.#resume(Pause.TOTAL)
  }

  flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    this.#owner.flushLater(this)
  }

  /** Writes what may be acknowledged, and reads on if that made room. */
  flush(): void {
    const { inbound } = this
    this.#flushing = false
    if (inbound === undefined || this.#ending !== undefined) return
    const acks = inbound.takeAcks()
    if (acks !== undefined) this.write(acks)
    if (!inbound.full) this.#resume(Pause.IN_FLIGHT)
  }

  /** The device's last will; not when it said goodbye, nor when it was the gateway that closed. */
  offerWill(topic: string, payload: Buffer, qos: 0 | 1 | 2, retained: boolean): void {
    const reason = this.#ending ?? this.#expected?.reason
    if (this.device === undefined || (reason !== undefined && WITHOUT_WILL.has(reason))) return
    const inbound = this.inbound ?? new Inbound(this.#owner.shared, this.device, this)
    inbound.offerWill(topic, payload, qos, retained)
  }

  /** Says in advance why the broker is going to close the connection. */
  expectEnd(reason: Ending, detail?: string): void {
    this.#expected ??= { reason, detail }
  }

  /** Closes after what was written has gone; idempotent. */
  end(reason: Ending, detail?: string): void {
    if (this.#ending !== undefined) return
    this.#ending = reason
    this.endedMs = this.#owner.clock.monotonicMs()
    this.#pause(Pause.ENDED)
    this.inbound?.end()
    this.#owner.shared.budget.leave(this)
    this.#owner.ended(this, reason, detail)
    this.#bridge?.destroy()
    this.socket.destroySoon()
  }

  write(bytes: Buffer, done?: (error?: Error | null) => void): void {
    if (this.socket.write(bytes, done)) return
    this.stuckSinceMs ??= this.#owner.clock.monotonicMs()
    this.#pause(Pause.WRITES)
  }

  wanted(): void {
    this.#resume(Pause.BROKER)
  }

  brokerClosed(error: Error | null): void {
    const { reason, detail } = this.#expected ?? { reason: 'protocol-error', detail: error?.message ?? 'the broker closed it' }
    this.end(reason, detail)
  }

  #drained(): void {
    this.stuckSinceMs = undefined
    this.#resume(Pause.WRITES)
  }

  #pause(why: number): void {
    if (this.#paused === 0) this.socket.pause()
    this.#paused |= why
  }

  #resume(why: number): void {
    if ((this.#paused & why) === 0) return
    this.#paused &= ~why
    if (this.#paused !== 0) return
    this.heardMs = this.#owner.clock.monotonicMs()
    this.#pump()
    if (this.#paused === 0) this.socket.resume()
  }

  #read(chunk: Buffer): void {
    if (this.#ending !== undefined) return
    this.#unheardBytes += chunk.length
    if (this.#unheardBytes >= ALIVE_BYTES) this.#heard()
    this.#reader.feed(chunk)
    if (this.#paused === 0) this.#pump()
  }

  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    while (this.#paused === 0) {
      const result = this.#waiting ?? this.#reader.next()
      this.#waiting = undefined
      if (result === 'more') break
      if (result === 'broken') this.end(this.ready ? 'protocol-error' : 'not-mqtt', this.#reader.fault)
      else if (this.#mustWait()) this.#waiting = result
      else this.#take(result === 'oversize')
    }
    if (this.#waiting === undefined) this.#reader.drop()
    this.#pumping = false
    if (this.#pings > 0 && this.#ending === undefined) this.write(Buffer.alloc(this.#pings * PINGRESP.length, PINGRESP))
    this.#pings = 0
  }

  /** Reading stops only before a message that may not come in: what stands before it, a PINGREQ, is answered. */
  #mustWait(): boolean {
    const { inbound } = this
    if (inbound === undefined || this.#reader.header >> 4 !== PacketType.PUBLISH) return false
    const {
      shared: { budget },
      clock,
    } = this.#owner
    if (inbound.full) this.#pause(Pause.IN_FLIGHT)
    if (budget.exhausted) {
      this.#pause(Pause.TOTAL)
      budget.wait(this)
    }
    if (this.#owner.isHeld()) {
      this.#pause(Pause.HELD)
      this.heldBackMs ??= clock.monotonicMs()
      this.#owner.heldBack(this)
    }
    return this.#paused !== 0
  }

  #heard(): void {
    this.#unheardBytes = 0
    this.heardMs = this.#owner.clock.monotonicMs()
  }

  #take(oversize: boolean): void {
    this.#heard()
    const { header, length, body } = this.#reader
    const type = header >> 4
    if (this.inbound === undefined) {
      this.#pause(Pause.CONNECT)
      this.#owner.connectCame(this, encodeFrame(header, body))
    } else if (type === PacketType.PUBLISH) this.#publish(this.inbound, header, length, body, oversize)
    else if (type === PacketType.PUBREL) this.#pubrel(this.inbound, header, body)
    else if (type === PacketType.PINGREQ) this.#pings++
    else if (TO_BROKER.has(type)) this.#toBroker(header, body)
    else this.end('protocol-error', `a client does not send packets of type ${type}`)
  }

  #publish(inbound: Inbound, header: number, length: number, body: Buffer, oversize: boolean): void {
    const fault = inbound.publish(header, length, body, oversize)
    if (fault !== undefined) this.end('protocol-error', fault)
  }

  #pubrel(inbound: Inbound, header: number, body: Buffer): void {
    if (header !== 0x62 || body.length !== 2) return this.end('protocol-error', 'a malformed PUBREL')
    inbound.release(body.readUInt16BE(0))
  }

  #toBroker(header: number, body: Buffer): void {
    if (header === PacketType.DISCONNECT << 4 && body.length === 0) this.expectEnd('disconnect')
    if (this.#bridge?.push(encodeFrame(header, body)) === false) this.#pause(Pause.BROKER)
  }
}
