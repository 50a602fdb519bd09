import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Partitioners } from 'kafkajs'
import { alarmIfMissing, kafkaError, KafkaError } from '../../adapters/kafka/failure.ts'
import { FieldReader, FrameSplitter } from '../../adapters/kafka/frames.ts'
import { murmur2, partitionFor } from '../../adapters/kafka/murmur2.ts'
import { missingFrom } from '../../adapters/kafka/records.ts'
import { Tap } from '../../adapters/kafka/tap.ts'
import type { KafkaRecord } from '../../daemon/ports.ts'

describe('the partition of a key', () => {
  it("hashes as Java's client does (the vectors of its UtilsTest)", () => {
    const vectors: [string, number][] = [
      ['21', -973932308],
      ['foobar', -790332482],
      ['a-little-bit-long-string', -985981536],
      ['a-little-bit-longer-string', -1486304829],
      ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
      ['abc', 479470107],
    ]
    for (const [key, hash] of vectors) assert.equal(murmur2(Buffer.from(key)), hash, key)
  })

  it("is the one that kafkajs's Java-compatible partitioner gives to any key", () => {
    const partitioner = Partitioners.DefaultPartitioner()
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), fc.integer({ min: 1, max: 500 }), (key, partitions) => {
        const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
          partitionId,
          leader: 1,
          isr: [],
          replicas: [],
          partitionErrorCode: 0,
        }))
        assert.equal(partitionFor(key, partitions), partitioner({ topic: 't', partitionMetadata, message: { key, value: '' } }))
      }),
    )
  })
})

function record(topic: string, partition: number, value: string): KafkaRecord {
  return { topic, partition, key: 'k', value: Buffer.from(value), timestampMs: 1, headers: [] }
}

describe('the result of a request', () => {
  it('shows the record whose partition is not in it', () => {
    const records = [record('t', 0, 'a'), record('t', 1, 'b'), record('u', 0, 'c')]
    const results = records.map(({ topic, partition }) => ({ topicName: topic, partition }))
    assert.equal(missingFrom(results, records), undefined)
    for (const [i, left] of records.entries()) assert.equal(missingFrom(results.toSpliced(i, 1), records), left)
  })
})

/** An answer in Kafka's framing, cut into chunks of any sizes. */
function framed(...bodies: Buffer[]): Buffer {
  return Buffer.concat(bodies.flatMap((body) => [int32(body.length), body]))
}
const int16 = (value: number): Buffer => Buffer.from([(value >> 8) & 255, value & 255])
const int32 = (value: number): Buffer => Buffer.from([value >> 24, value >> 16, value >> 8, value].map((byte) => byte & 255))
const text = (value: string): Buffer => Buffer.concat([int16(Buffer.byteLength(value)), Buffer.from(value)])

function chunks(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const cut: Buffer[] = []
  let at = 0
  for (const size of sizes) cut.push(bytes.subarray(at, (at += size)))
  return [...cut, bytes.subarray(at)].filter((chunk) => chunk.length > 0)
}

describe('frames', () => {
  it('come out whole, however the stream is cut', () => {
    const bodies = fc.array(fc.uint8Array({ minLength: 4, maxLength: 40 }), { maxLength: 8 })
    fc.assert(
      fc.property(bodies, fc.array(fc.integer({ min: 1, max: 30 })), (given, sizes) => {
        const splitter = new FrameSplitter()
        const frames = chunks(framed(...given.map((body) => Buffer.from(body))), sizes).flatMap((chunk) => splitter.push(chunk))
        assert.deepEqual(
          frames,
          given.map((body) => Buffer.from(body)),
        )
      }),
    )
  })

  it('are refused when they are none, and fields end where the answer does', () => {
    assert.throws(() => new FrameSplitter().push(Buffer.from('HTTP/1.1 400')), RangeError)
    assert.throws(() => new FieldReader(Buffer.from([0, 5, 1])).string(), RangeError)
    assert.throws(() => new FieldReader(Buffer.alloc(1)).int32(), RangeError)
  })
})

class FakeSocket extends EventEmitter {
  write(): boolean {
    return true
  }
}

/** The request head of kafkajs; only key, version and correlation id count. */
function ask(socket: FakeSocket, apiKey: number, version: number, correlationId: number): void {
  const write = socket.write.bind(socket) as (bytes: Buffer) => boolean
  write(framed(Buffer.concat([int16(apiKey), int16(version), int32(correlationId), text('client')])))
}

describe('the tap', () => {
  const zero = Buffer.alloc(64)
  const produced = (code: number): Buffer =>
    Buffer.concat([int32(1), text('t'), int32(2), int32(0), int16(0), zero.subarray(0, 24), int32(7), int16(code), zero.subarray(0, 24)])
  const partitions = (...codes: number[]): Buffer =>
    Buffer.concat([int32(0), int32(codes.length), ...codes.flatMap((code, i) => [text(`t${i}`), int32(1), int32(i), int16(code)])])
  const metadata = Buffer.concat([
    int32(0),
    int32(1),
    int32(1),
    text('host'),
    int32(9092),
    int16(-1),
    text('cluster'),
    int32(1),
    int32(2),
    int16(0),
    text('fine'),
    Buffer.from([0]),
    int32(1),
    int16(5),
    int32(3),
    int32(-1),
    int32(1),
    int32(1),
    int32(0),
    int32(1),
    int32(1),
    int16(3),
    text('gone'),
    Buffer.from([0]),
    int32(0),
  ])

  function heard(apiKey: number, version: number, body: Buffer): unknown {
    const tap = new Tap()
    const socket = new FakeSocket()
    tap.watch(socket as unknown as Socket)
    ask(socket, apiKey, version, 42)
    socket.emit('data', framed(Buffer.concat([int32(42), body])))
    return tap.take()
  }

  it('tells the place of each refusal that kafkajs drops', () => {
    assert.deepEqual(heard(0, 7, produced(10)), [{ topic: 't', partition: 7, code: 10 }])
    assert.deepEqual(heard(24, 1, partitions(55, 29)), [
      { topic: 't0', partition: 0, code: 55 },
      { topic: 't1', partition: 1, code: 29 },
    ])
    assert.deepEqual(heard(28, 1, partitions(0, 3)), [{ topic: 't1', partition: 1, code: 3 }])
    assert.deepEqual(heard(10, 2, Buffer.concat([int32(0), int16(53), zero])), [{ code: 53 }])
    assert.deepEqual(heard(3, 6, metadata), [
      { code: 5, topic: 'fine', partition: 3 },
      { code: 3, topic: 'gone' },
    ])
  })

  it('stays silent about what it does not know, and survives any bytes', () => {
    assert.deepEqual(heard(0, 12, produced(10)), [])
    assert.deepEqual(heard(1, 4, produced(10)), [])
    fc.assert(
      fc.property(fc.constantFrom(0, 3, 10, 24, 28), fc.uint8Array({ maxLength: 200 }), (apiKey, bytes) => {
        const tap = new Tap()
        const socket = new FakeSocket()
        tap.watch(socket as unknown as Socket)
        ask(socket, apiKey, 1, 0)
        socket.emit('data', Buffer.from(bytes))
        socket.emit('data', framed(Buffer.concat([int32(0), Buffer.from(bytes)])))
        tap.take()
      }),
    )
  })
})

/** As kafkajs makes them. */
function clientError(name: string, fields: object, message = 'why', cause?: Error): Error {
  return Object.assign(new Error(message, { cause }), { name, ...fields })
}
const answer = (code: number, type = 'X'): Error => clientError('KafkaJSProtocolError', { code, type })

describe('a failure', () => {
  it('is what the innermost error says, however it is wrapped', () => {
    const wrapped = clientError('KafkaJSNumberOfRetriesExceeded', {}, 'x', clientError('KafkaJSNonRetriableError', {}, 'x', answer(47)))
    const failure = kafkaError(wrapped, 'none', [])
    assert.deepEqual([failure.kind, failure.code, failure.fate], ['fenced', 47, 'none'])
  })

  it('takes the place from the answer with the same code, and looks behind "not attempted" and lost coordinators', () => {
    const seen = [{ code: 15 }, { code: 29, topic: 'a', partition: 1 }, { code: 55, topic: 'b', partition: 0 }]
    assert.equal(kafkaError(answer(55), 'none', seen).message, 'we are not allowed to use the topic "a"')
    assert.equal(kafkaError(clientError('KafkaJSGroupCoordinatorNotFound', {}), 'none', [{ code: 53 }]).alarm, true)
    assert.equal(kafkaError(answer(53), 'none', seen).code, 53)
    assert.equal(kafkaError(clientError('KafkaJSRequestTimeoutError', {}), 'none', seen).code, undefined)
    const refused = kafkaError(answer(10), 'none', [{ code: 10, topic: 't', partition: 2 }])
    assert.deepEqual([refused.kind, refused.refused], ['rejected', { topic: 't', partition: 2 }])
  })

  it('keeps what it was, and takes the fate of the call it came through', () => {
    const alarm = new KafkaError({ kind: 'transient', message: 'm', fate: 'none', alarm: true, remedy: 'r' })
    const seen = kafkaError(clientError('KafkaJSNonRetriableError', {}, 'x', alarm), 'unknown', [])
    assert.deepEqual([seen.message, seen.alarm, seen.remedy, seen.fate], ['m', true, 'r', 'unknown'])
  })

  it('knows codes that are newer than kafkajs', () => {
    const newer = clientError('KafkaJSProtocolError', { type: 'KAFKAJS_UNKNOWN_ERROR_CODE', code: -99 }, 'Unknown error code 90')
    assert.equal(kafkaError(newer, 'none', []).kind, 'fenced')
  })

  it('is never without words, whatever was thrown', () => {
    for (const thrown of [undefined, 'text', new TypeError('broken'), clientError('KafkaJSBrokerNotFound', {}), answer(123, 'NEW')]) {
      const failure = kafkaError(thrown, 'unknown', [])
      assert.deepEqual([failure.kind, failure.alarm, failure.fate], ['transient', false, 'unknown'])
      assert.ok(failure.message.length > 0)
    }
  })

  it('of a missing topic is an alarm only for who asked for that topic', () => {
    const missing = kafkaError(answer(3), 'none', [{ code: 3, topic: 'a' }])
    assert.equal(missing.alarm, false)
    assert.equal(alarmIfMissing(missing, 'a').alarm, true)
    assert.equal(alarmIfMissing(missing, 'b').alarm, false)
  })
})
