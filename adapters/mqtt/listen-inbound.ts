import { isUtf8 } from 'node:buffer'
import { crc32 } from 'node:zlib'
import type { Delivery, Intake, ShedReason } from '../../daemon/ports.ts'
import { Ack, AckQueue, AckSlot, writeAck, type AckHeader } from './listen-acks.ts'
import { DELIVERY_OVERHEAD_BYTES, type Budget } from './listen-budget.ts'
import { OPEN_PER_SESSION_MAX, type Exchanges } from './listen-exchanges.ts'
import type { Tally } from './listen-counters.ts'

/** Nothing, under the device's own name, or under any. */
export type PublishGrant = 'none' | 'own' | 'any'

/** What all connections of a listener share. */
export interface InboundShared {
  readonly source: string
  readonly intake: Intake
  readonly budget: Budget
  readonly exchanges: Exchanges
  readonly tally: Tally
  readonly limits: { readonly messages: number; readonly bytes: number }
  /** The access list's verdict; `own` without one. */
  publishGrant(device: InboundDevice, topic: string): PublishGrant
  /** Raised at each change of the access list. */
  readonly accessVersion: number
}

/** The connection, as its messages see it. */
export interface InboundEnd {
  /** There is something to acknowledge, or room to read on. */
  flushSoon(): void
}

export interface InboundDevice {
  readonly clientId: string
  readonly username: string | undefined
  readonly identity: string | undefined
  /** What its QoS 2 exchanges are named after. */
  readonly session: string
  /** A clean session ends with its connection, and so do its QoS 2 exchanges (3.1.2.4). */
  readonly clean: boolean
}

const EMPTY = Buffer.alloc(0)
/** Flags of a PUBLISH (3.1.1 section 3.3.1). */
const DUP = 8
const RETAIN = 1
const TOO_MANY_OPEN = 'too many QoS 2 messages without a PUBREL'

class PublishDelivery extends AckSlot implements Delivery {
  readonly source: string
  readonly topic: string
  readonly payload: Buffer
  readonly qos: 0 | 1 | 2
  readonly retained: boolean
  declare readonly identity?: string
  declare readonly speaksForOthers?: true
  declare readonly will?: true
  declare readonly exchange?: string
  declare readonly refused?: { readonly reason: ShedReason; readonly bytes: number }
  readonly #inbound: Inbound
  #settled = false

  constructor(inbound: Inbound, packet: PublishPacket, ack: AckHeader, extras: Extras) {
    super(ack, packet.packetId, packet.payload.length + DELIVERY_OVERHEAD_BYTES)
    this.#inbound = inbound
    this.source = inbound.source
    this.topic = packet.topic
    this.payload = packet.payload
    this.qos = packet.qos
    this.retained = packet.retained
    if (extras.identity !== undefined) this.identity = extras.identity
    if (extras.speaksForOthers) this.speaksForOthers = true
    if (extras.exchange !== undefined) this.exchange = extras.exchange
    if (extras.refused !== undefined) this.refused = extras.refused
    if (extras.will) this.will = true
  }

  settle(): void {
    if (this.#settled) return
    this.#settled = true
    this.#inbound.settled(this)
  }
}

interface PublishPacket {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: 0 | 1 | 2
  readonly retained: boolean
  readonly packetId: number
}

interface Extras {
  readonly identity: string | undefined
  readonly speaksForOthers: boolean
  readonly exchange: string | undefined
  readonly refused: { readonly reason: ShedReason; readonly bytes: number } | undefined
  readonly will: boolean
}

/**
 * PUBLISH and PUBREL of one connection: offers messages, and says which acknowledgements may go out. The connection
 * writes them; when it is gone, what settles later has no effect.
 */
export class Inbound {
  readonly source: string
  readonly #shared: InboundShared
  readonly #device: InboundDevice
  readonly #end: InboundEnd
  readonly #queue = new AckQueue()
  /**
   * Packet ids of QoS 2 messages that wait for PUBREL and live only as long as the connection: all of a clean
   * session. The value tells whether PUBREC may go out.
   */
  readonly #received = new Map<number, boolean>()
  #completed: number[] = []
  #messages = 0
  #bytes = 0
  #ended = false
  #topicBytes: Buffer = EMPTY
  #topic = ''
  #topicFault: ShedReason | undefined
  #speaksForOthers = false
  #topicVersion = -1

  constructor(shared: InboundShared, device: InboundDevice, end: InboundEnd) {
    this.source = shared.source
    this.#shared = shared
    this.#device = device
    this.#end = end
  }

  /** True while the connection must not be read: too much of it is in flight. */
  get full(): boolean {
    const { limits } = this.#shared
    return this.#messages >= limits.messages || this.#bytes >= limits.bytes
  }

  /** Messages and releases whose acknowledgement is owed. */
  get inFlight(): number {
    return this.#messages
  }

  /** `undefined`, or why the packet breaks the protocol. `length` is the declared remaining length. */
  publish(header: number, length: number, body: Buffer, oversize: boolean): string | undefined {
    const qos = (header >> 1) & 3
    if (qos === 3) return 'a PUBLISH with QoS 3'
    if (body.length < 2) return 'a PUBLISH is shorter than its topic'
    const idAt = 2 + body.readUInt16BE(0)
    const payloadAt = qos > 0 ? idAt + 2 : idAt
    if (payloadAt > body.length) return 'a PUBLISH is shorter than its topic'
    const packetId = qos > 0 ? body.readUInt16BE(idAt) : 0
    if (qos > 0 && packetId === 0) return 'a PUBLISH with packet id 0'
    if (qos === 1 && (header & DUP) !== 0 && this.#queue.waitsFor(Ack.PUBACK, packetId)) {
      this.#shared.tally.joined++
      return undefined
    }
    this.#readTopic(body, idAt)
    const packet: PublishPacket = {
      topic: this.#topic,
      qos: qos as 0 | 1 | 2,
      packetId,
      retained: (header & RETAIN) !== 0,
      payload: oversize ? EMPTY : body.subarray(payloadAt),
    }
    const reason = this.#topicFault ?? (oversize ? 'oversize' : undefined)
    const refused = reason === undefined ? undefined : { reason, bytes: length - payloadAt }
    return qos === 2 ? this.#publishOnce(packet, (header & DUP) !== 0, refused) : this.#offer(packet, undefined, refused)
  }

  /** PUBREL: PUBCOMP follows once the exchange is forgotten durably. */
  release(packetId: number): void {
    this.#received.delete(packetId)
    if (this.#device.clean) {
      this.#completed.push(packetId)
      this.#end.flushSoon()
      return
    }
    this.#messages++
    this.#shared.exchanges.release(this.#device.session, this.#exchangeOf(packetId), () => {
      this.#messages--
      if (this.#ended) return
      this.#completed.push(packetId)
      this.#end.flushSoon()
    })
  }

  /** A last will, offered as a message of this device; nobody waits for its acknowledgement. */
  offerWill(topic: string, payload: Buffer, qos: 0 | 1 | 2, retained: boolean): void {
    const body = Buffer.from(`\0\0${topic}`)
    this.#readTopic(body, body.length)
    const reason = this.#topicFault
    this.#offer(
      { topic, payload, qos, retained, packetId: 0 },
      undefined,
      reason === undefined ? undefined : { reason, bytes: payload.length },
      Ack.NONE,
      true,
    )
  }

  settled(delivery: PublishDelivery): void {
    if (delivery.exchange !== undefined) this.#shared.exchanges.settled(delivery.exchange)
    if (delivery.ack === Ack.PUBREC && this.#received.has(delivery.packetId)) this.#received.set(delivery.packetId, true)
    delivery.ready = true
    if (this.#ended || delivery.ack === Ack.NONE) this.#giveBack(delivery)
    this.#end.flushSoon()
  }

  /** The acknowledgements that may go out now, in order; undefined when there are none. */
  takeAcks(): Buffer | undefined {
    const ready: AckSlot[] = []
    for (let slot = this.#queue.shiftReady(); slot !== undefined; slot = this.#queue.shiftReady()) {
      ready.push(slot)
      this.#giveBack(slot)
    }
    if (ready.length + this.#completed.length === 0) return undefined
    const acks = Buffer.allocUnsafe(4 * (ready.length + this.#completed.length))
    let at = 0
    for (const slot of ready) {
      writeAck(acks, at, slot.ack, slot.packetId)
      at += 4
    }
    for (const packetId of this.#completed) {
      writeAck(acks, at, Ack.PUBCOMP, packetId)
      at += 4
    }
    this.#completed = []
    return acks
  }

  /** The connection is gone: nothing is acknowledged any more. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#shared.budget.pending -= this.#queue.abandon()
    this.#end.flushSoon()
  }

  #publishOnce(packet: PublishPacket, dup: boolean, refused: Extras['refused']): string | undefined {
    const { exchanges } = this.#shared
    const { packetId } = packet
    if (this.#device.clean || this.#received.has(packetId)) return this.#publishBriefly(packet, refused)
    const exchange = this.#exchangeOf(packetId)
    const state = exchanges.stateOf(exchange)
    const checksum = crc32(packet.payload, crc32(packet.topic))
    if (state !== 'new') {
      if (dup || !exchanges.differs(this.#device.session, exchange, checksum)) return this.#join(packetId, exchange, state)
      // A client that lost its state counts from 1 again. A repetition says DUP (3.3.1.1), so this is another message.
      this.#shared.tally.warn(
        'reused id',
        { clientId: this.#device.clientId, packetId },
        'a client used a QoS 2 packet id again before PUBREL: taken for a new message',
      )
      exchanges.release(this.#device.session, exchange, () => undefined)
      return this.#publishBriefly(packet, refused)
    }
    if (!exchanges.hasRoom(this.#device.session)) return TOO_MANY_OPEN
    exchanges.begin(this.#device.session, exchange, checksum)
    return this.#offer(packet, exchange, refused)
  }

  /** QoS 2 within this connection only. */
  #publishBriefly(packet: PublishPacket, refused: Extras['refused']): string | undefined {
    const { packetId } = packet
    const stored = this.#received.get(packetId)
    if (stored !== undefined) return this.#join(packetId, '', stored ? 'stored' : 'pending')
    if (this.#received.size >= OPEN_PER_SESSION_MAX) return TOO_MANY_OPEN
    this.#received.set(packetId, false)
    return this.#offer(packet, undefined, refused)
  }

  /** One PUBREC answers a PUBLISH and its repetitions: a second could acknowledge a later message of the same id. */
  #join(packetId: number, exchange: string, state: 'pending' | 'stored'): undefined {
    this.#shared.tally.joined++
    if (this.#queue.waitsFor(Ack.PUBREC, packetId)) return
    const slot = new AckSlot(Ack.PUBREC, packetId, 0)
    this.#queue.push(slot)
    this.#messages++
    const ready = (): void => {
      slot.ready = true
      this.#end.flushSoon()
    }
    if (state === 'stored') ready()
    else this.#shared.exchanges.whenSettled(exchange, ready)
  }

  #offer(
    packet: PublishPacket,
    exchange: string | undefined,
    refused: Extras['refused'],
    ack = ackOf(packet.qos),
    will = false,
  ): undefined {
    const delivery = new PublishDelivery(this, packet, ack, {
      identity: this.#device.identity,
      speaksForOthers: this.#speaksForOthers,
      exchange,
      refused,
      will,
    })
    this.#messages++
    this.#bytes += delivery.cost
    this.#shared.budget.pending += delivery.cost
    if (ack !== Ack.NONE) this.#queue.push(delivery)
    this.#shared.intake.offer(delivery)
  }

  #giveBack(slot: AckSlot): void {
    this.#messages--
    this.#bytes -= slot.cost
    this.#shared.budget.pending -= slot.cost
  }

  /** Devices repeat their topics: the last one is kept decoded, with its verdict. */
  #readTopic(body: Buffer, end: number): void {
    const same = body.compare(this.#topicBytes, 0, this.#topicBytes.length, 2, end) === 0
    if (same && this.#topicVersion === this.#shared.accessVersion) return
    if (!same) {
      this.#topicBytes = Buffer.allocUnsafeSlow(end - 2)
      body.copy(this.#topicBytes, 0, 2, end)
      this.#topic = this.#topicBytes.toString('utf8')
    }
    this.#topicVersion = this.#shared.accessVersion
    const malformed = topicIsMalformed(this.#topicBytes)
    const grant = malformed ? 'none' : this.#shared.publishGrant(this.#device, this.#topic)
    this.#topicFault = malformed ? 'malformed-topic' : grant === 'none' ? 'not-own-topic' : undefined
    this.#speaksForOthers = grant === 'any'
  }

  #exchangeOf(packetId: number): string {
    return `${this.#device.session}\0${packetId}`
  }
}

function ackOf(qos: 0 | 1 | 2): AckHeader {
  return qos === 0 ? Ack.NONE : qos === 1 ? Ack.PUBACK : Ack.PUBREC
}

/** Topic names of a PUBLISH: not empty, valid UTF-8, no wildcard, no U+0000 (3.1.1 sections 3.3.2.1, 4.7). */
function topicIsMalformed(topic: Buffer): boolean {
  if (topic.length === 0 || !isUtf8(topic)) return true
  for (const byte of topic) if (byte === 0x23 || byte === 0x2b || byte === 0) return true
  return false
}
