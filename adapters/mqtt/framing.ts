/** MQTT control packet types (3.1.1 section 2.2.1). */
export const PacketType = {
  CONNECT: 1,
  PUBLISH: 3,
  PUBACK: 4,
  PUBREC: 5,
  PUBREL: 6,
  PUBCOMP: 7,
  SUBSCRIBE: 8,
  UNSUBSCRIBE: 10,
  PINGREQ: 12,
  DISCONNECT: 14,
} as const

/**
 * - `more`: feed the next chunk.
 * - `packet`: `header`, `length` and `body` hold one whole packet.
 * - `oversize`: a PUBLISH above the limit; `body` holds topic and packet id only, `length` what was declared.
 * - `broken`: `fault` says why; the stream can't be read any further.
 */
export type FrameResult = 'more' | 'packet' | 'oversize' | 'broken'

export interface FrameLimits {
  /** Largest remaining length (bytes after the fixed header) that is buffered. */
  readonly packetBytesMax: number
  /** The same before the peer has proved who it is. */
  readonly connectBytesMax: number
}

const EMPTY = Buffer.alloc(0)
const FIRST_ALLOCATION = 1_024

/**
 * Cuts a byte stream into MQTT packets (3.1.1 section 2.2) without holding more than one packet of at most the
 * limit: a larger PUBLISH is reduced to topic and packet id while its payload passes by, so that it can be counted
 * and acknowledged; anything else that is too large breaks the stream.
 *
 * The first packet must be a CONNECT. `body` is a view of what was fed; it stays valid.
 */
export class FrameReader {
  /** First byte of the packet: type and flags. */
  header = 0
  /** Remaining length as declared, bytes. */
  length = 0
  body: Buffer = EMPTY
  fault = ''
  readonly #limits: FrameLimits
  #connected = false
  #chunk: Buffer = EMPTY
  #at = 0
  /** Bytes of the fixed header read so far; 0 between packets, -1 once it is complete. */
  #headerBytes = 0
  #partial: Buffer | undefined
  #filled = 0
  /** Bytes of the body to keep; less than `length` for an oversize PUBLISH; -1 until the topic's length is known. */
  #keep = 0
  #skip = 0

  constructor(limits: FrameLimits) {
    this.#limits = limits
  }

  /** Bytes held: the unread rest of the chunk and the incomplete packet. */
  get heldBytes(): number {
    return this.#chunk.length - this.#at + this.#filled
  }

  /** True between the first byte of a packet and its last. */
  get incomplete(): boolean {
    return this.#headerBytes !== 0
  }

  feed(chunk: Buffer): void {
    const rest = this.#chunk.length - this.#at
    this.#chunk = rest === 0 ? chunk : Buffer.concat([this.#chunk.subarray(this.#at), chunk])
    this.#at = 0
  }

  /** Lets go of the last packet: an idle connection would keep its whole chunk alive. */
  drop(): void {
    this.body = EMPTY
  }

  next(): FrameResult {
    if (this.fault !== '') return 'broken'
    if (this.#headerBytes !== -1) {
      const result = this.#readHeader()
      if (result !== undefined) return this.#release(result)
    }
    return this.#release(this.#readBody())
  }

  #release(result: FrameResult): FrameResult {
    if (this.#at === this.#chunk.length) {
      this.#chunk = EMPTY
      this.#at = 0
    }
    return result
  }

  /** `undefined` when the fixed header is complete. */
  #readHeader(): FrameResult | undefined {
    const chunk = this.#chunk
    while (this.#at < chunk.length) {
      const byte = chunk[this.#at++] ?? 0
      if (this.#headerBytes === 0) {
        this.#headerBytes = 1
        this.header = byte
        this.length = 0
        if (!this.#connected && byte !== PacketType.CONNECT << 4) return this.#break('the first packet is no CONNECT')
        continue
      }
      this.length += (byte & 0x7f) * 128 ** (this.#headerBytes - 1)
      this.#headerBytes++
      if (byte < 0x80) return this.#startBody()
      if (this.#headerBytes > 4) return this.#break('the remaining length has more than four bytes')
    }
    return 'more'
  }

  #startBody(): FrameResult | undefined {
    this.#headerBytes = -1
    this.#filled = 0
    this.#skip = 0
    this.#keep = this.length
    const max = this.#connected ? this.#limits.packetBytesMax : this.#limits.connectBytesMax
    if (this.length <= max) return undefined
    if (this.header >> 4 !== PacketType.PUBLISH) return this.#break(`a packet of ${this.length} bytes, ${max} are allowed`)
    this.#keep = -1
    return undefined
  }

  #readBody(): FrameResult {
    if (this.#keep === this.length && this.#filled === 0 && this.#chunk.length - this.#at >= this.length) {
      this.body = this.#chunk.subarray(this.#at, this.#at + this.length)
      this.#at += this.length
      return this.#finish('packet')
    }
    if (this.#keep === -1 && !this.#measureOversize()) return this.fault === '' ? 'more' : 'broken'
    if (!this.#fill(this.#keep)) return 'more'
    if (this.#keep === this.length) return this.#finish('packet')
    const step = Math.min(this.length - this.#keep - this.#skip, this.#chunk.length - this.#at)
    this.#skip += step
    this.#at += step
    return this.#keep + this.#skip === this.length ? this.#finish('oversize') : 'more'
  }

  /** Reads the topic's length, so that topic and packet id can be kept. False while it has not come. */
  #measureOversize(): boolean {
    if (!this.#fill(2)) return false
    const topicBytes = this.#partial?.readUInt16BE(0) ?? 0
    const keep = 2 + topicBytes + (((this.header >> 1) & 3) > 0 ? 2 : 0)
    if (keep > this.length) {
      this.#break('a PUBLISH is shorter than its topic')
      return false
    }
    this.#keep = keep
    return true
  }

  /** Moves bytes into the partial packet until it holds `target` of them. False while more are needed. */
  #fill(target: number): boolean {
    const step = Math.min(target - this.#filled, this.#chunk.length - this.#at)
    if (step > 0) {
      const partial = this.#grown(this.#filled + step)
      this.#chunk.copy(partial, this.#filled, this.#at, this.#at + step)
      this.#filled += step
      this.#at += step
    }
    return this.#filled >= target
  }

  /** Doubles, so that a peer that sends byte by byte costs neither quadratic copies nor memory that it did not fill. */
  #grown(needed: number): Buffer {
    const old = this.#partial
    if (old !== undefined && old.length >= needed) return old
    const whole = this.#keep === -1 ? needed : this.#keep
    const size = Math.min(Math.max(needed, FIRST_ALLOCATION, (old?.length ?? 0) * 2), Math.max(whole, needed))
    const partial = Buffer.allocUnsafeSlow(size)
    old?.copy(partial, 0, 0, this.#filled)
    this.#partial = partial
    return partial
  }

  #finish(result: 'packet' | 'oversize'): FrameResult {
    if (this.#filled > 0) this.body = this.#partial?.subarray(0, this.#filled) ?? EMPTY
    this.#partial = undefined
    this.#filled = 0
    this.#headerBytes = 0
    this.#connected = true
    return result
  }

  #break(fault: string): 'broken' {
    this.fault = fault
    return 'broken'
  }
}

/** The packet again, with its fixed header, for a parser that wants whole packets. */
export function encodeFrame(header: number, body: Buffer): Buffer {
  const head = [header]
  let rest = body.length
  do {
    head.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0))
    rest >>= 7
  } while (rest > 0)
  return Buffer.concat([Buffer.from(head), body])
}
