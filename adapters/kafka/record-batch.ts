/** Record batches, format 2 (KIP-98). */
import type { KafkaRecord } from '../../daemon/ports.ts'

export interface BatchIdentity {
  readonly producerId: bigint
  readonly producerEpoch: number
  readonly firstSequence: number
  readonly isTransactional: boolean
  /** Kafka's number of the codec. */
  readonly compression: number
}

/** Wall ms. */
export interface BatchTimes {
  readonly firstMs: number
  readonly maxMs: number
}

/** A record as the format has it: the key may be null, which a compacted topic refuses. */
export type WrittenRecord = Pick<KafkaRecord, 'value' | 'headers' | 'timestampMs'> & { readonly key: string | null }

/** Base offset to the number of records. */
export const BATCH_HEAD_BYTES = 61
const MAGIC = 2
const TRANSACTIONAL = 16
/** The checksum covers what comes behind it. */
const SUMMED_FROM = 21
const LENGTH_FROM = 12

/** The head of a batch, with the checksum over it and over `records`. */
export function sealBatch(batch: BatchIdentity & BatchTimes & { readonly count: number }, records: Buffer): Buffer {
  const head = Buffer.alloc(BATCH_HEAD_BYTES)
  head.writeInt32BE(BATCH_HEAD_BYTES - LENGTH_FROM + records.length, 8)
  head.writeInt8(MAGIC, 16)
  head.writeInt16BE(batch.compression | (batch.isTransactional ? TRANSACTIONAL : 0), 21)
  head.writeInt32BE(batch.count - 1, 23)
  head.writeBigInt64BE(BigInt(batch.firstMs), 27)
  head.writeBigInt64BE(BigInt(batch.maxMs), 35)
  head.writeBigInt64BE(batch.producerId, 43)
  head.writeInt16BE(batch.producerEpoch, 51)
  head.writeInt32BE(batch.firstSequence, 53)
  head.writeInt32BE(batch.count, 57)
  head.writeUInt32BE(crc32c(records, crc32c(head.subarray(SUMMED_FROM))), 17)
  return head
}

const FIRST_BYTES = 64 << 10
/** A larger buffer is not kept for the next batch: topics with huge messages are rare. */
const KEPT_BYTES = 1 << 20
/** More than any integer takes. */
const INTEGER_BYTES = 10
/** Room in front of a record for its length, which is known only when it has been written. */
const LENGTH_BYTES = 5

/** As many as are at work at a time. */
const SPARES_MAX = 2

/** Writes the records of one batch into a buffer that is used again. */
export class RecordWriter {
  static readonly #spares: RecordWriter[] = []
  #bytes = Buffer.allocUnsafeSlow(FIRST_BYTES)
  #length = 0
  #count = 0
  #firstMs = 0
  #maxMs = 0

  /** An empty one: one that was given back, or a new one. */
  static take(): RecordWriter {
    return RecordWriter.#spares.pop() ?? new RecordWriter()
  }

  /** Its bytes are not needed any more. */
  giveBack(): void {
    if (this.#bytes.length > KEPT_BYTES || RecordWriter.#spares.length === SPARES_MAX) return
    this.#length = 0
    this.#count = 0
    RecordWriter.#spares.push(this)
  }

  /** A view; valid until the writer is given back. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }

  get times(): BatchTimes {
    return { firstMs: this.#firstMs, maxMs: this.#maxMs }
  }

  /** Times are differences to the first record's; they may be negative. */
  add(record: WrittenRecord): void {
    const { key, value, headers } = record
    const timestampMs = Math.round(record.timestampMs)
    if (this.#count === 0) this.#firstMs = this.#maxMs = timestampMs
    this.#maxMs = Math.max(this.#maxMs, timestampMs)
    const start = this.#length
    this.#reserve(LENGTH_BYTES + 1 + 2 * INTEGER_BYTES)
    this.#length += LENGTH_BYTES
    this.#bytes[this.#length++] = 0
    this.#integer(timestampMs - this.#firstMs)
    this.#integer(this.#count++)
    if (key === null) this.#integer(-1)
    else this.#text(key)
    this.#value(value)
    this.#reserve(INTEGER_BYTES)
    this.#integer(headers.length)
    for (const [name, content] of headers) {
      this.#text(name)
      this.#text(content)
    }
    this.#close(start)
  }

  /** Puts the length in front, and moves the record up to it. */
  #close(start: number): void {
    const from = start + LENGTH_BYTES
    const end = this.#length
    this.#length = start
    this.#integer(end - from)
    this.#bytes.copyWithin(this.#length, from, end)
    this.#length += end - from
  }

  #value(value: Uint8Array): void {
    this.#reserve(INTEGER_BYTES + value.length)
    this.#integer(value.length)
    this.#bytes.set(value, this.#length)
    this.#length += value.length
  }

  #text(text: string): void {
    this.#reserve(INTEGER_BYTES + 3 * text.length)
    if (text.length < 64 && this.#ascii(text)) return
    this.#integer(Buffer.byteLength(text))
    this.#length += this.#bytes.write(text, this.#length)
  }

  /** Short ASCII is most of what there is, and a loop beats the call into C++ for it. Its length takes one byte. */
  #ascii(text: string): boolean {
    const bytes = this.#bytes
    let at = this.#length + 1
    for (let index = 0; index < text.length; index += 1) {
      const code = text.charCodeAt(index)
      if (code > 0x7f) return false
      bytes[at++] = code
    }
    bytes[this.#length] = 2 * text.length
    this.#length = at
    return true
  }

  /** Zigzag and LEB128 (protocol buffers' signed integers), up to 2^52. */
  #integer(value: number): void {
    let rest = value < 0 ? -2 * value - 1 : 2 * value
    // Bit operations work on 32 bits only.
    for (; rest >= 0x8000_0000; rest = Math.floor(rest / 128)) this.#bytes[this.#length++] = (rest % 128) | 0x80
    for (; rest > 0x7f; rest >>>= 7) this.#bytes[this.#length++] = (rest & 0x7f) | 0x80
    this.#bytes[this.#length++] = rest
  }

  #reserve(count: number): void {
    const needed = this.#length + count
    if (needed <= this.#bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#bytes.length))
    this.#bytes.copy(grown, 0, 0, this.#length)
    this.#bytes = grown
  }
}

/** CRC-32C (Castagnoli), the reflected polynomial; zlib has only the other one. */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte
  for (let bit = 0; bit < 8; bit += 1) sum = (sum & 1) === 0 ? sum >>> 1 : (sum >>> 1) ^ 0x82f6_3b78
  return sum >>> 0
})

/** `before` is the sum of what comes in front. */
export function crc32c(bytes: Uint8Array, before = 0): number {
  let sum = ~before
  for (let index = 0; index < bytes.length; index += 1) sum = (TABLE[(sum ^ (bytes[index] ?? 0)) & 0xff] ?? 0) ^ (sum >>> 8)
  return ~sum >>> 0
}
