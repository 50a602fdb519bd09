/** A PUBLISH from the broker, as the intake sees it and as its connection keeps it until it is acknowledged. */
import type { IPublishPacket } from 'mqtt-packet'
import type { Delivery } from '../../daemon/ports.ts'
import type { Unacknowledged } from './connect-acks.ts'

/** Where a delivery reports that its fate is durable. */
export interface DeliveryOwner {
  settled(delivery: PendingDelivery): void
}

/** One object for both views: at 100,000 a second a closure for each would be felt. */
export class PendingDelivery implements Delivery, Unacknowledged {
  readonly source: string
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos: 0 | 1 | 2
  readonly retained: boolean
  readonly packetId: number
  declare readonly refused?: NonNullable<Delivery['refused']>
  declare readonly contentType?: string
  declare readonly userProperties?: readonly (readonly [string, string])[]
  settled = false
  readonly #owner: DeliveryOwner

  constructor(source: string, packet: IPublishPacket, isRefused: boolean, owner: DeliveryOwner) {
    this.source = source
    this.topic = packet.topic
    this.payload = packet.payload as Buffer
    this.qos = packet.qos
    this.retained = packet.retain
    this.packetId = packet.messageId ?? 0
    this.#owner = owner
    if (isRefused) this.refused = { reason: 'retained', bytes: this.payload.length }
    const { properties } = packet
    if (properties === undefined) return
    if (properties.contentType !== undefined) this.contentType = properties.contentType
    if (properties.userProperties !== undefined) this.userProperties = pairs(properties.userProperties)
  }

  settle(): void {
    if (this.settled) return
    this.settled = true
    this.#owner.settled(this)
  }
}

/**
 * mqtt-packet groups user properties by name, in the order of each name's first appearance (names that look
 * like array indices come first): values of one name keep their order, the interleaving of names is gone.
 */
function pairs(grouped: Readonly<Record<string, unknown>>): (readonly [string, string])[] {
  return Object.entries(grouped).flatMap(([name, values]) =>
    (Array.isArray(values) ? values : [values]).map((value) => [name, String(value)] as const),
  )
}

/** Offered and not yet settled, over all connections of one source. */
export class InFlight {
  readonly #limit: { readonly messages: number; readonly bytes: number }
  messages = 0
  bytes = 0
  #waiter: (() => void) | undefined

  constructor(limit: { readonly messages: number; readonly bytes: number }) {
    this.#limit = limit
  }

  /** One message above the bytes is let through, or a large one would wait for ever. */
  get isFull(): boolean {
    return this.messages >= this.#limit.messages || this.bytes >= this.#limit.bytes
  }

  add(bytes: number): void {
    this.messages += 1
    this.bytes += bytes
  }

  remove(bytes: number): void {
    this.messages -= 1
    this.bytes -= bytes
    if (this.#waiter === undefined || this.isFull) return
    const waiter = this.#waiter
    this.#waiter = undefined
    waiter()
  }

  /** Calls `waiter` once, when there is room again. There is one waiter at most: the present connection. */
  whenRoom(waiter: () => void): void {
    this.#waiter = waiter
  }
}
