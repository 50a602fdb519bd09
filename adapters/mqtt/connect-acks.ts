/** Acknowledgements in the order of receipt (MQTT-4.6.0-2, MQTT-4.6.0-3), however the commits come. Pure. */

export interface Unacknowledged {
  /** 1 to 65535. */
  readonly packetId: number
  readonly qos: 0 | 1 | 2
  readonly settled: boolean
}

const PUBACK = 0x40
const PUBREC = 0x50
const ACK_BYTES = 4
const COMPACT_AT = 4_096

/** Belongs to one network connection: packet ids mean nothing on another one. */
export class AckQueue {
  #queue: Unacknowledged[] = []
  #head = 0
  readonly #pending = new Uint16Array(65_536)

  get length(): number {
    return this.#queue.length - this.#head
  }

  push(entry: Unacknowledged): void {
    this.#queue.push(entry)
    this.#pending[entry.packetId]! += 1
  }

  /** Received on this connection and not yet acknowledged. */
  isPending(packetId: number): boolean {
    return this.#pending[packetId] !== 0
  }

  get isHeadSettled(): boolean {
    return this.#queue[this.#head]?.settled === true
  }

  /**
   * Takes the settled ones at the head; their acknowledgements, ready for the wire, or `undefined`.
   * Two bytes of packet id are a whole success, also in MQTT 5 (section 3.4.2.1).
   */
  take(): Buffer | undefined {
    const first = this.#head
    while (this.isHeadSettled) this.#head++
    if (this.#head === first) return undefined
    const bytes = Buffer.allocUnsafe((this.#head - first) * ACK_BYTES)
    for (let index = first; index < this.#head; index++) {
      const { packetId, qos } = this.#queue[index]!
      const at = (index - first) * ACK_BYTES
      bytes[at] = qos === 2 ? PUBREC : PUBACK
      bytes[at + 1] = 2
      bytes[at + 2] = packetId >> 8
      bytes[at + 3] = packetId & 0xff
      this.#pending[packetId]! -= 1
    }
    this.#compact()
    return bytes
  }

  #compact(): void {
    if (this.#head === this.#queue.length) this.#queue = []
    else if (this.#head >= COMPACT_AT && this.#head * 2 >= this.#queue.length) this.#queue = this.#queue.slice(this.#head)
    else return
    this.#head = 0
  }
}
