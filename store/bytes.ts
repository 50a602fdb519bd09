/**
 * Growing byte buffers and a cursor over bytes: the alphabet of the frame and ledger codecs.
 *
 * Integers are LEB128 (7 bits a byte, low first), up to 2^53 − 1; signed ones are zigzag coded; text is UTF-8
 * behind its length in bytes.
 */
import { textOf } from './texts.ts'

const MAX_VARINT_BYTES = 8
const SPLIT = 0x1000_0000

export class ByteWriter {
  bytes: Buffer
  length = 0

  /** `first`: bytes to begin with, ours from now on; or how many. */
  constructor(first: number | Buffer) {
    this.bytes = typeof first === 'number' ? Buffer.allocUnsafeSlow(first) : first
  }

  /** Makes room for `count` more bytes. The single writes below do not check. */
  reserve(count: number): void {
    const needed = this.length + count
    if (needed <= this.bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2))
    this.bytes.copy(grown, 0, 0, this.length)
    this.bytes = grown
  }

  byte(value: number): void {
    this.reserve(1)
    this.bytes[this.length++] = value
  }

  varint(value: number): void {
    this.reserve(MAX_VARINT_BYTES)
    let rest = value
    // Bit operations work on 32 bits only; the high part is divided down first.
    while (rest >= SPLIT) {
      this.bytes[this.length++] = (rest % 128) | 0x80
      rest = Math.floor(rest / 128)
    }
    while (rest > 0x7f) {
      this.bytes[this.length++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.bytes[this.length++] = rest
  }

  signed(value: number): void {
    this.varint(value < 0 ? -value * 2 - 1 : value * 2)
  }

  text(value: string): void {
    const worst = value.length * 3
    this.reserve(worst + MAX_VARINT_BYTES)
    if (value.length < 0x80 && this.#ascii(value)) return
    const size = Buffer.byteLength(value)
    this.varint(size)
    this.length += this.bytes.write(value, this.length)
  }

  raw(value: Uint8Array): void {
    this.reserve(value.length)
    this.bytes.set(value, this.length)
    this.length += value.length
  }

  /** A view of what was written; valid until the next write. */
  view(): Buffer {
    return this.bytes.subarray(0, this.length)
  }

  /** Short ASCII is most of what we write, and a loop beats the call into C++ for it. */
  #ascii(value: string): boolean {
    const { bytes } = this
    let at = this.length + 1
    for (let index = 0; index < value.length; index++) {
      const code = value.charCodeAt(index)
      if (code > 0x7f) return false
      bytes[at++] = code
    }
    bytes[this.length] = value.length
    this.length = at
    return true
  }
}

/** Thrown when bytes end too early or hold an impossible value. */
export class MalformedBytes extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'MalformedBytes'
  }
}

export class ByteReader {
  at: number
  readonly #bytes: Buffer
  readonly #end: number

  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = at
    this.#end = end
  }

  get done(): boolean {
    return this.at >= this.#end
  }

  byte(): number {
    const value = this.at < this.#end ? this.#bytes[this.at] : undefined
    if (value === undefined) throw new MalformedBytes(`bytes end at ${this.#end}`)
    this.at++
    return value
  }

  varint(): number {
    let value = 0
    let scale = 1
    for (let count = 0; count < MAX_VARINT_BYTES; count++) {
      const byte = this.byte()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return this.#safe(value)
      scale *= 128
    }
    throw new MalformedBytes(`integer at ${this.at} is too long`)
  }

  signed(): number {
    const value = this.varint()
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }

  text(): string {
    const size = this.varint()
    const from = this.#skip(size)
    return textOf(this.#bytes, from, from + size)
  }

  /** A view, not a copy. */
  raw(size: number): Buffer {
    const from = this.#skip(size)
    return this.#bytes.subarray(from, from + size)
  }

  #skip(size: number): number {
    const from = this.at
    if (from + size > this.#end) throw new MalformedBytes(`${size} bytes wanted at ${from}, but bytes end at ${this.#end}`)
    this.at = from + size
    return from
  }

  #safe(value: number): number {
    if (!Number.isSafeInteger(value)) throw new MalformedBytes(`integer before ${this.at} is too large`)
    return value
  }
}
