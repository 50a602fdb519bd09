/** The framing and the plain field types of Kafka's protocol (protocol guide, "Protocol Primitive Types"). */

/** Brokers refuse requests above this, and no answer comes near it. */
const FRAME_MAX_BYTES = 104_857_600

/** Cuts a byte stream into frames; the size in front is taken off. Throws when the bytes are no such stream. */
export class FrameSplitter {
  #chunks: Buffer[] = []
  #length = 0
  #wanted = 4

  /** Returns the frames that this chunk completes; the rest waits for the next one. */
  push(chunk: Buffer): readonly Buffer[] {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    const frames: Buffer[] = []
    while (this.#length >= this.#wanted) {
      const bytes = this.#join()
      this.#wanted = 4 + sizeOf(bytes)
      if (bytes.length < this.#wanted) break
      frames.push(bytes.subarray(4, this.#wanted))
      this.#keep(bytes.subarray(this.#wanted))
    }
    return frames
  }

  #join(): Buffer {
    const [first, ...more] = this.#chunks
    const bytes = first !== undefined && more.length === 0 ? first : Buffer.concat(this.#chunks)
    this.#chunks = [bytes]
    return bytes
  }

  #keep(rest: Buffer): void {
    this.#chunks = rest.length === 0 ? [] : [rest]
    this.#length = rest.length
    this.#wanted = 4
  }
}

function sizeOf(bytes: Buffer): number {
  const size = bytes.readInt32BE(0)
  if (size < 4 || size > FRAME_MAX_BYTES) throw new RangeError(`${size} is no size of a Kafka answer`)
  return size
}

/** Reads one field after the other; throws a RangeError beyond the end. */
export class FieldReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  int16(): number {
    this.#at += 2
    return this.#bytes.readInt16BE(this.#at - 2)
  }

  int32(): number {
    this.#at += 4
    return this.#bytes.readInt32BE(this.#at - 4)
  }

  /** Null reads as an empty string. */
  string(): string {
    const length = Math.max(0, this.int16())
    this.skip(length)
    return this.#bytes.toString('utf8', this.#at - length, this.#at)
  }

  skip(bytes: number): void {
    this.#at += bytes
    if (bytes < 0 || this.#at > this.#bytes.length) throw new RangeError('the answer ends too early')
  }
}
