import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { describe, it } from 'node:test'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import { produceRequest, type ProduceRequest, type ProduceRequestMaker } from '../../adapters/kafka/produce-request.ts'
import { BATCH_HEAD_BYTES, crc32c } from '../../adapters/kafka/record-batch.ts'
import type { KafkaRecord } from '../../daemon/ports.ts'

const load = createRequire(import.meta.url)
/** As the package has it: nothing in this program replaces it before this line. */
const original = load('kafkajs/src/protocol/requests/produce/v3/request') as ProduceRequestMaker

const WALL_MS = Date.UTC(2026, 10, 24)

/** Texts short and long, ASCII and not, and lengths about the limits of one and two bytes of an integer. */
const text = fc.oneof(
  fc.string({ maxLength: 80 }),
  fc.string({ unit: 'grapheme', maxLength: 80 }),
  fc.constantFrom('x'.repeat(63), 'x'.repeat(64), 'é'.repeat(32)),
)
const record = fc.record({
  key: text,
  value: fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.constantFrom(63, 64, 8_191, 8_192, 200_000).map((bytes) => new Uint8Array(bytes)),
  ),
  headers: fc.uniqueArray(fc.tuple(text, text), { maxLength: 6, selector: ([name]) => name }),
  timestampMs: fc.integer({ min: -3_000_000_000, max: 3_000_000_000 }).map((ms) => WALL_MS + ms),
})
const topicData = fc.array(
  fc.record({
    topic: fc.string({ minLength: 1, maxLength: 20 }),
    partitions: fc.array(
      fc.record({ partition: fc.nat(99), firstSequence: fc.nat(), messages: fc.array(record, { minLength: 1, maxLength: 12 }) }),
      { minLength: 1, maxLength: 3 },
    ),
  }),
  { minLength: 1, maxLength: 3 },
)
const identity = fc.record({
  transactionalId: fc.option(fc.string({ minLength: 1, maxLength: 20 })),
  producerId: fc.nat().map(String),
  producerEpoch: fc.nat(32_767),
  acks: fc.constantFrom(-1, 1),
  timeout: fc.nat(),
})

type Contents = ProduceRequest['topicData']

function ours(
  contents: readonly {
    readonly topic: string
    readonly partitions: readonly {
      readonly partition: number
      readonly firstSequence: number
      readonly messages: readonly Omit<KafkaRecord, 'topic' | 'partition'>[]
    }[]
  }[],
): Contents {
  return contents.map(({ topic, partitions }) => ({
    topic,
    partitions: partitions.map((data) => ({
      ...data,
      messages: data.messages.map((message) => ({ ...message, topic, partition: data.partition })),
    })),
  }))
}

/** The oldest first: from it kafkajs counts the others' times, and we count from the first. */
function oldestFirst(contents: Contents): Contents {
  return contents.map(({ topic, partitions }) => ({
    topic,
    partitions: partitions.map((data) => ({ ...data, messages: [...data.messages].sort((a, b) => a.timestampMs - b.timestampMs) })),
  }))
}

function theirs(contents: Contents): Contents {
  const messageOf = ({ key, value, headers, timestampMs }: KafkaRecord): unknown => ({
    key,
    value: Buffer.from(value),
    timestamp: String(timestampMs),
    headers: Object.assign(Object.create(null), Object.fromEntries(headers)) as object,
  })
  return contents.map(({ topic, partitions }) => ({
    topic,
    partitions: partitions.map((data) => ({ ...data, messages: data.messages.map(messageOf) as KafkaRecord[] })),
  }))
}

async function bytesOf(maker: ProduceRequestMaker, request: ProduceRequest): Promise<Buffer> {
  return Buffer.from((await maker(request).encode()).buffer)
}

/** Request of one partition: what stands between the batch's head and the end. */
function recordsIn(request: Buffer, topic: string): Buffer {
  return request.subarray(2 + 10 + 2 + Buffer.byteLength(topic) + 4 + 8 + BATCH_HEAD_BYTES)
}

describe('the Produce request', () => {
  it('is byte for byte what kafkajs makes of the same records', async () => {
    await fc.assert(
      fc.asyncProperty(topicData.map(ours).map(oldestFirst), identity, async (contents, who) => {
        // Names that look like array indices would change places in kafkajs' object of headers.
        fc.pre(
          contents.every(({ partitions }) =>
            partitions.every(({ messages }) => messages.every(({ headers }) => headers.every(([name]) => !/^\d+$/.test(name)))),
          ),
        )
        const mine = await bytesOf(produceRequest, { ...who, topicData: contents })
        assert.ok(mine.equals(await bytesOf(original, { ...who, topicData: theirs(contents) })))
      }),
      { numRuns: 200 },
    )
  })

  it('keeps header names that come twice, in their order', async () => {
    const headers = [
      ['mqtt-user-a', '1'],
      ['b', '2'],
      ['mqtt-user-a', '3'],
      ['7', '4'],
    ] as const
    const record = { topic: 't', partition: 0, key: 'k', value: Buffer.from('v'), headers, timestampMs: WALL_MS }
    const request = await bytesOf(produceRequest, {
      acks: -1,
      timeout: 1,
      topicData: [{ topic: 't', partitions: [{ partition: 0, firstSequence: 0, messages: [record] }] }],
    })
    const written = recordsIn(request, 't')
    const places = headers.map(([name, value]) =>
      written.indexOf(`${String.fromCharCode(2 * name.length)}${name}${String.fromCharCode(2 * value.length)}${value}`),
    )
    assert.ok(
      places.every((place, index) => place > (places[index - 1] ?? 0)),
      String(places),
    )
  })

  it('carries the same records compressed, and a checksum over them', async () => {
    const messages = Array.from({ length: 2_000 }, (_, index) => ({
      topic: 't',
      partition: 3,
      key: `device-${index % 7}`,
      value: Buffer.from(`line ${index}`),
      headers: [['pos', String(index)]] as const,
      timestampMs: WALL_MS + index,
    }))
    const request = {
      acks: -1,
      timeout: 1,
      transactionalId: 'edge.gw',
      producerId: '9007199254740993',
      producerEpoch: 2,
      topicData: [{ topic: 't', partitions: [{ partition: 3, firstSequence: 5, messages }] }],
    }
    const skip = Buffer.byteLength(request.transactionalId)
    const plain = recordsIn((await bytesOf(produceRequest, request)).subarray(skip), 't')
    for (const [compression, decompress] of [
      [1, gunzipSync],
      [4, zstdDecompressSync],
    ] as const) {
      const bytes = (await bytesOf(produceRequest, { ...request, compression })).subarray(skip)
      const records = recordsIn(bytes, 't')
      assert.ok(decompress(records).equals(plain))
      const batch = bytes.subarray(bytes.length - records.length - BATCH_HEAD_BYTES)
      assert.equal(batch.readUInt32BE(17), crc32c(batch.subarray(21)))
      assert.equal(batch.readInt16BE(21) & 7, compression)
      assert.equal(batch.readBigInt64BE(43), 9_007_199_254_740_993n)
    }
  })

  it('counts times from the first record, also where the clock went back', async () => {
    const messages = [1_000, 400, 2_000].map((ms) => ({
      topic: 't',
      partition: 0,
      key: '',
      value: Buffer.alloc(0),
      headers: [],
      timestampMs: WALL_MS + ms,
    }))
    const bytes = await bytesOf(produceRequest, {
      acks: -1,
      timeout: 1,
      topicData: [{ topic: 't', partitions: [{ partition: 0, firstSequence: 0, messages }] }],
    })
    const records = recordsIn(bytes, 't')
    const batch = bytes.subarray(bytes.length - records.length - BATCH_HEAD_BYTES)
    assert.deepEqual([batch.readBigInt64BE(27), batch.readBigInt64BE(35)], [BigInt(WALL_MS + 1_000), BigInt(WALL_MS + 2_000)])
    // Zigzag of -600 and 1,000, behind the length and the attributes.
    assert.deepEqual(
      [records.subarray(2, 3), records.subarray(9, 11), records.subarray(17, 19)].map((part) => part.toString('hex')),
      ['00', 'af09', 'd00f'],
    )
  })

  it('stands in kafkajs where its own stood, under all later versions, and leaves records of its own shape to it', async () => {
    await import('../../adapters/kafka/kafkajs.ts')
    const version7 = load('kafkajs/src/protocol/requests/produce/v7/request') as ProduceRequestMaker
    const record = {
      topic: 't',
      partition: 1,
      key: 'k',
      value: Buffer.from('v'),
      headers: [
        ['twice', '1'],
        ['twice', '2'],
      ] as const,
      timestampMs: WALL_MS,
    }
    const request = {
      acks: -1,
      timeout: 1,
      topicData: [{ topic: 't', partitions: [{ partition: 1, firstSequence: 0, messages: [record] }] }],
    }
    assert.equal(version7(request).apiVersion, 7)
    assert.ok((await bytesOf(version7, request)).equals(await bytesOf(produceRequest, request)))
    const foreign = { ...request, topicData: theirs(ours(request.topicData)) }
    assert.ok((await bytesOf(version7, foreign)).equals(await bytesOf(original, foreign)))
    const group = load('kafkajs/src/producer/groupMessagesPerPartition') as (choice: object) => object
    const messages = [3, 1, 3].map((partition, index) => ({ partition, index }))
    const grouped = group({
      topic: 't',
      partitionMetadata: [{}],
      messages,
      partitioner: ({ message }: { message: { partition: number } }) => message.partition,
    })
    assert.deepEqual(grouped, { 1: [messages[1]], 3: [messages[0], messages[2]] })
  })

  it('sums as in RFC 3720, B.4', () => {
    assert.equal(crc32c(Buffer.alloc(32)), 0x8a91_36aa)
    assert.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8_ab43)
    assert.equal(crc32c(Buffer.from('56789'), crc32c(Buffer.from('1234'))), crc32c(Buffer.from('123456789')))
  })
})
