/** First byte of the acknowledgement that a packet gets (3.1.1 sections 3.4, 3.5, 3.7). */
export const Ack = { NONE: 0, PUBACK: 0x40, PUBREC: 0x50, PUBCOMP: 0x70 } as const
export type AckHeader = (typeof Ack)[keyof typeof Ack]

/** A received packet's place in the order of acknowledgements. */
export class AckSlot {
  readonly ack: AckHeader
  readonly packetId: number
  /** Bytes that it counts in flight; given back when it is acknowledged. */
  readonly cost: number
  ready = false
  next: AckSlot | undefined

  constructor(ack: AckHeader, packetId: number, cost: number) {
    this.ack = ack
    this.packetId = packetId
    this.cost = cost
  }
}

/**
 * Acknowledgements of one connection, in the order in which the packets came (3.1.1 section 4.6): a slot that is
 * ready waits for those before it.
 */
export class AckQueue {
  #head: AckSlot | undefined
  #tail: AckSlot | undefined

  push(slot: AckSlot): void {
    if (this.#tail === undefined) this.#head = slot
    else this.#tail.next = slot
    this.#tail = slot
  }

  /** Takes the first slot if it is ready. */
  shiftReady(): AckSlot | undefined {
    const slot = this.#head
    if (slot?.ready !== true) return undefined
    this.#head = slot.next
    if (this.#head === undefined) this.#tail = undefined
    slot.next = undefined
    return slot
  }

  /** True while a packet with this id waits for its acknowledgement of this kind. */
  waitsFor(ack: AckHeader, packetId: number): boolean {
    for (let slot = this.#head; slot !== undefined; slot = slot.next) {
      if (slot.packetId === packetId && slot.ack === ack) return true
    }
    return false
  }

  /** Empties the queue; the bytes of those that were ready. */
  abandon(): number {
    let ready = 0
    for (let slot = this.#head; slot !== undefined; slot = slot.next) ready += slot.ready ? slot.cost : 0
    this.#head = this.#tail = undefined
    return ready
  }
}

/** PUBACK, PUBREC and PUBCOMP are four bytes each. */
export function writeAck(into: Buffer, at: number, ack: AckHeader, packetId: number): void {
  into[at] = ack
  into[at + 1] = 2
  into.writeUInt16BE(packetId, at + 2)
}
