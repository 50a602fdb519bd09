/**
 * One network connection to a broker, from CONNECT to close; never reused. MQTT.js speaks the protocol, the
 * acknowledgements are our own.
 *
 * MQTT.js takes the next packet only when the present one is done, and would acknowledge it at that moment.
 * So each message is declared done at once, with an error, which skips the PUBACK (read in 5.16:
 * handlers/publish.js; pinned by the contract test), and acknowledged later, from here, on the very stream
 * that brought it: on any other one its packet id names another message, and acknowledging that one loses it.
 */
import type { Socket } from 'node:net'
import { MqttClient } from 'mqtt'
import type { IClientOptions, IConnackPacket, IPublishPacket, ISubscriptionMap } from 'mqtt'
import type { Clock } from '../../daemon/clock.ts'
import { GatewayError } from '../../daemon/errors.ts'
import { AckQueue } from './connect-acks.ts'
import { PendingDelivery } from './connect-delivery.ts'
import type { DeliveryOwner, InFlight } from './connect-delivery.ts'
import { grantable } from './connect-filters.ts'
import type { BrokerAddress, CheckedSettings, ConnectFilter } from './connect-settings.ts'
import { openStream } from './connect-stream.ts'
import type { Secrets } from './connect-stream.ts'
import { failureWords, refusalWords, takenOverWords } from './connect-words.ts'
import './packet-numbers.ts'

export interface LinkPorts {
  readonly name: string
  readonly settings: CheckedSettings
  readonly clock: Clock
  readonly inFlight: InFlight
  offer(delivery: PendingDelivery): void
  /** False: a retained message on this topic is refused. */
  takesRetained(topic: string): boolean
  /** A message on the broker's own topics; never offered. True when it was one. */
  readOwnTopic(topic: string, payload: Uint8Array): boolean
}

export interface Accepted {
  readonly isSessionPresent: boolean
  /** MQTT 5: what the broker makes of the wish; `undefined` when it takes it as it is. */
  readonly sessionExpirySeconds: number | undefined
}

export interface LinkEnd {
  readonly reason: string
  /** `ours`: we closed it. `broker`: it closed an accepted connection without a word of error. */
  readonly cause: 'ours' | 'broker' | 'taken-over' | 'fault'
}

// Both are the same in MQTT 3.1.1 and 5: reason 0 needs no byte. A DISCONNECT without properties leaves the
// session expiry of the CONNECT in force (MQTT 5 section 3.14.2.2.2).
const DISCONNECT = Buffer.from([0xe0, 0x00])
const PINGREQ = Buffer.from([0xc0, 0x00])
/** How long the broker may take at least to close after our DISCONNECT, ms. */
export const CLOSE_GRACE_MS = 1_000
const SESSION_TAKEN_OVER = 0x8e
const NOT_YET = new Error('acknowledged later')
const ignore = (): void => undefined

interface Parked {
  readonly packet: IPublishPacket
  readonly next: () => void
}

export class Link implements DeliveryOwner {
  readonly broker: BrokerAddress
  readonly closed: Promise<LinkEnd>
  readonly #ports: LinkPorts
  readonly #stream: Socket
  readonly #client: MqttClient
  readonly #acks = new AckQueue()
  readonly #close: (end: LinkEnd) => void
  #end: LinkEnd | undefined
  #isPaused = false
  #parked: Parked | undefined
  #taken = 0
  #isFlushDue = false
  #whenDrained: () => void = ignore

  /** Throws when the certificate files can't be used. */
  constructor(ports: LinkPorts, broker: BrokerAddress, secrets: Secrets) {
    this.#ports = ports
    this.broker = broker
    const { promise, resolve } = Promise.withResolvers<LinkEnd>()
    this.closed = promise
    this.#close = resolve
    const stream = openStream(broker, secrets)
    this.#stream = stream
    this.#client = new MqttClient(() => stream, clientOptions(ports.settings, secrets))
  }

  /** Resolves at CONNACK; rejects when the connection ends before. */
  open(): Promise<Accepted> {
    const client = this.#client
    client.handleMessage = (packet, done) => this.#take(packet, () => done(NOT_YET))
    client.options.customHandleAcks = (_topic, _payload, packet: IPublishPacket, decide) => {
      // QoS 2 comes only from what an earlier subscription left in the session.
      if (packet.qos === 2) this.#take(packet, () => decide(NOT_YET))
      else decide(0)
    }
    client.on('error', (error) => {
      if (error !== NOT_YET) this.fail(failureWords(error, this.broker))
    })
    client.on('disconnect', ({ reasonCode }) => this.#told(reasonCode ?? 0))
    this.#stream.on('error', (error) => this.fail(failureWords(error, this.broker)))
    this.#stream.once('close', () => this.#closed())
    client.connect()
    return new Promise((resolve, reject) => {
      client.once('connect', (packet) => {
        this.#keepAlive()
        resolve(accepted(packet))
      })
      void this.closed.then((end) => reject(new Error(end.reason)))
    })
  }

  /** What the broker granted, in order: a QoS, or a reason code from 0x80 on. Rejects when the connection ends. */
  subscribe(filters: readonly ConnectFilter[], retainHandling: 0 | 1 | 2): Promise<readonly number[]> {
    const wanted: ISubscriptionMap = {}
    // Retain-as-published stays off: then the flag marks only copies sent because of a new subscription.
    for (const one of filters) wanted[one.filter] = { qos: grantable(one), nl: false, rap: false, rh: retainHandling }
    return new Promise((resolve, reject) => {
      this.#client.subscribe(wanted, { qos: 1 }, (error, _subscriptions, packet) => {
        if (packet !== undefined) resolve(packet.granted as number[])
        else reject(error ?? new Error('no SUBACK'))
      })
    })
  }

  /** Retained, QoS 1. Resolves at PUBACK, rejects with `rejected` when the broker refuses it (MQTT 5 only). */
  publish(topic: string, payload: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#client.publish(topic, Buffer.from(payload), { qos: 1, retain: true }, (error) => {
        if (error)
          reject(new GatewayError('rejected', `${this.broker.url} refuses settings on ${topic}: ${error.message}`, { cause: error }))
        else resolve()
      })
    })
  }

  unsubscribe(filters: readonly string[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#client.unsubscribe([...filters], (error) => (error ? reject(error) : resolve()))
    })
  }

  /** Stops taking messages. Settled ones are still acknowledged, and the keepalive goes on. */
  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    // Not at once: whoever lets us go on may be in the middle of settling, and a message offered then would cut in.
    setImmediate(() => this.#unpark())
  }

  /** Not yet ended, nor about to. */
  get isOpen(): boolean {
    return this.#end === undefined
  }

  /** ms; the broker may have asked for another than ours (MQTT 5 section 3.2.2.3.14). */
  get keepaliveMs(): number {
    return this.#client.keepalive * 1_000
  }

  /** Resolves when nothing waits for its acknowledgement any more, or the connection has ended. */
  drained(): Promise<void> {
    if (this.#acks.length === 0 || this.#end !== undefined) return Promise.resolve()
    return new Promise((resolve) => {
      this.#whenDrained = resolve
    })
  }

  /** Acknowledges what is settled and says goodbye; the session stays at the broker. `graceMs`: for the broker's answer. */
  close(reason: string, graceMs = CLOSE_GRACE_MS): void {
    if (this.#end !== undefined) return
    this.#flush()
    this.#end = { reason, cause: 'ours' }
    this.#parked = undefined
    if (!this.#client.connected) return void this.#stream.destroy()
    // What still comes is read and forgotten: a close with unread bytes is a reset, which may overtake the last PUBACK.
    this.#stream.unpipe()
    this.#stream.resume()
    this.#stream.end(DISCONNECT)
    this.#ports.clock.after(graceMs, () => this.#stream.destroy())
  }

  /** Ends the connection at once; the first reason given is kept. */
  fail(reason: string): void {
    this.#end ??= { reason, cause: 'fault' }
    this.#stream.destroy()
  }

  settled(delivery: PendingDelivery): void {
    this.#ports.inFlight.remove(delivery.payload.length)
    if (this.#end !== undefined || delivery.qos === 0) return
    // Many settle in one turn, after one commit: their acknowledgements leave in one write.
    if (this.#isFlushDue || !this.#acks.isHeadSettled) return
    this.#isFlushDue = true
    setImmediate(() => this.#flush())
  }

  /** Messages that came so far. */
  get taken(): number {
    return this.#taken
  }

  /** A message waits for room or for `resume`, and everything behind it with it. */
  get isWaiting(): boolean {
    return this.#parked !== undefined
  }

  #take(packet: IPublishPacket, next: () => void): void {
    this.#taken++
    if (this.#end !== undefined || this.#isOwnTopic(packet)) return next()
    if (this.#isPaused || this.#ports.inFlight.isFull) return this.#park({ packet, next })
    this.#offer(packet)
    next()
  }

  #isOwnTopic(packet: IPublishPacket): boolean {
    return packet.topic.startsWith('$') && this.#ports.readOwnTopic(packet.topic, packet.payload as Buffer)
  }

  #offer(packet: IPublishPacket): void {
    // Sent again on this very connection, while the first one waits for its commit: one acknowledgement serves both.
    if (packet.dup && packet.qos > 0 && this.#acks.isPending(packet.messageId ?? 0)) return
    const isRefused = packet.retain && !this.#ports.takesRetained(packet.topic)
    const delivery = new PendingDelivery(this.#ports.name, packet, isRefused, this)
    if (delivery.qos > 0) this.#acks.push(delivery)
    this.#ports.inFlight.add(delivery.payload.length)
    this.#ports.offer(delivery)
  }

  #park(parked: Parked): void {
    this.#parked = parked
    if (!this.#isPaused) this.#ports.inFlight.whenRoom(() => setImmediate(() => this.#unpark()))
  }

  #unpark(): void {
    const parked = this.#parked
    this.#parked = undefined
    if (parked !== undefined) this.#take(parked.packet, parked.next)
  }

  #flush(): void {
    this.#isFlushDue = false
    if (this.#end !== undefined || !this.#client.connected || !this.#stream.writable) return
    const bytes = this.#acks.take()
    if (bytes !== undefined) this.#stream.write(bytes)
    if (this.#acks.length === 0) this.#whenDrained()
  }

  /**
   * MQTT.js takes only PINGRESP for a sign of life. That one stays unread behind a parked message, and behind a
   * backlog on a thin line it comes late. So as long as messages come or wait, MQTT.js is told to count anew, and
   * the broker is pinged from here, or it would take us for dead.
   */
  #keepAlive(seen = 0): void {
    this.#ports.clock.after(this.keepaliveMs / 4, () => {
      if (this.#end !== undefined) return
      const taken = this.#taken
      if (taken !== seen || this.isWaiting) {
        this.#stream.write(PINGREQ)
        this.#client.reschedulePing(true)
      }
      this.#keepAlive(taken)
    })
  }

  /** The broker's DISCONNECT (MQTT 5 section 3.14). */
  #told(code: number): void {
    this.#end ??=
      code === SESSION_TAKEN_OVER
        ? { reason: takenOverWords(this.#ports.settings.clientId, this.broker), cause: 'taken-over' }
        : { reason: refusalWords(code, this.broker), cause: 'fault' }
    this.#stream.destroy()
  }

  #closed(): void {
    this.#parked = undefined
    this.#end ??= this.#client.connected
      ? { reason: `${this.broker.url} closed the connection`, cause: 'broker' }
      : {
          reason: `${this.broker.url} closed the connection before it answered: is it an MQTT broker${this.broker.isSecure ? '' : ', and without TLS'}?`,
          cause: 'fault',
        }
    this.#whenDrained()
    this.#close(this.#end)
  }
}

function clientOptions(settings: CheckedSettings, secrets: Secrets): IClientOptions {
  const { protocolVersion, clientId, keepaliveSeconds, username } = settings
  return {
    protocolVersion,
    clientId,
    keepalive: keepaliveSeconds,
    clean: false,
    ...(username === undefined ? {} : { username }),
    ...(secrets.password === undefined ? {} : { password: secrets.password }),
    // No Maximum Packet Size: the broker would drop larger messages in silence (section 3.1.2.11.4). No Topic
    // Alias Maximum: an alias saves bytes, and a broken one costs the connection.
    ...(protocolVersion === 5 ? { properties: sessionProperties(settings) } : {}),
    manualConnect: true,
    // Its reconnects have no jitter, and would carry the state of one stream over to the next.
    reconnectPeriod: 0,
    resubscribe: false,
    // A table of all 65,536 packet ids, 17 MB (measured), to write the few packets that it writes for us.
    writeCache: false,
    // Ours covers the name lookup, TLS and the subscriptions as well.
    connectTimeout: 2 ** 31 - 1,
    log: ignore,
  }
}

function sessionProperties(settings: CheckedSettings): NonNullable<IClientOptions['properties']> {
  return {
    sessionExpiryInterval: settings.sessionExpirySeconds,
    // MQTT.js holds the broker to it only for QoS 2; the broker itself keeps to it for both.
    receiveMaximum: Math.min(settings.receiveMaximum, settings.inFlight.messages),
  }
}

function accepted(packet: IConnackPacket): Accepted {
  return { isSessionPresent: packet.sessionPresent, sessionExpirySeconds: packet.properties?.sessionExpiryInterval }
}
