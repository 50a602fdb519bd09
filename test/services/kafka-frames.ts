/**
 * Kafka's framing, as the protocol guide has it. A request is: int32 size, int16 api key,
 * int16 api version, int32 correlation id, the rest. A response is: int32 size, int32 correlation id, the rest.
 */
export interface KafkaRequestHead {
  readonly apiKey: number
  readonly apiVersion: number
  readonly correlationId: number
}

/** Names for the api keys that tests aim at. */
export const KAFKA_API = {
  produce: 0,
  fetch: 1,
  listOffsets: 2,
  metadata: 3,
  offsetCommit: 8,
  offsetFetch: 9,
  findCoordinator: 10,
  joinGroup: 11,
  heartbeat: 12,
  syncGroup: 14,
  saslHandshake: 17,
  apiVersions: 18,
  createTopics: 19,
  initProducerId: 22,
  addPartitionsToTxn: 24,
  addOffsetsToTxn: 25,
  endTxn: 26,
  txnOffsetCommit: 28,
  saslAuthenticate: 36,
} as const

// The broker's own limit (socket.request.max.bytes). TLS or MQTT read as a size is far above it or negative.
const FRAME_BYTES_MAX = 104_857_600

/** Cuts a byte stream into frames; each returned frame has its size in front. */
export class FrameSplitter {
  #chunks: Buffer[] = []
  #length = 0
  #wanted = 4

  /** Returns the frames that this chunk completes; the rest waits for the next one. */
  push(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    const frames: Buffer[] = []
    while (this.#length >= this.#wanted) {
      const bytes = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks)
      const total = 4 + frameSize(bytes)
      this.#chunks = [bytes]
      this.#wanted = total
      if (bytes.length < total) break
      frames.push(bytes.subarray(0, total))
      this.#keep(bytes.subarray(total))
    }
    return frames
  }

  #keep(rest: Buffer): void {
    this.#chunks = rest.length === 0 ? [] : [rest]
    this.#length = rest.length
    this.#wanted = 4
  }
}

function frameSize(bytes: Buffer): number {
  const size = bytes.readInt32BE(0)
  if (size >= 4 && size <= FRAME_BYTES_MAX) return size
  throw new Error(`these bytes are not Kafka's framing (size ${size}); is it TLS? Start the proxy without "kafka: true"`)
}

export function readRequestHead(frame: Buffer): KafkaRequestHead {
  return { apiKey: frame.readInt16BE(4), apiVersion: frame.readInt16BE(6), correlationId: frame.readInt32BE(8) }
}

export function readResponseCorrelationId(frame: Buffer): number {
  return frame.readInt32BE(4)
}
