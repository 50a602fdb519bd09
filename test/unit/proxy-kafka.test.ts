import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FrameSplitter, KAFKA_API, readRequestHead } from '../services/kafka-frames.ts'
import { kafkaFilter, noFaults } from '../services/proxy-filter.ts'
import type { Faults, Filter } from '../services/proxy-filter.ts'

function request(apiKey: number, correlationId: number, body = ''): Buffer {
  const frame = Buffer.alloc(12 + body.length)
  frame.writeInt32BE(8 + body.length, 0)
  frame.writeInt16BE(apiKey, 4)
  frame.writeInt16BE(7, 6)
  frame.writeInt32BE(correlationId, 8)
  frame.write(body, 12)
  return frame
}

function response(correlationId: number, body = ''): Buffer {
  const frame = Buffer.alloc(8 + body.length)
  frame.writeInt32BE(4 + body.length, 0)
  frame.writeInt32BE(correlationId, 4)
  frame.write(body, 8)
  return frame
}

interface Connection extends Filter {
  readonly toServer: Buffer[]
  readonly toClient: Buffer[]
  cuts: number
}

function connection(faults: Faults): Connection {
  const ends = { toServer: [] as Buffer[], toClient: [] as Buffer[], cuts: 0 }
  const filter = kafkaFilter(faults, {
    toServer: (bytes) => void ends.toServer.push(bytes),
    toClient: (bytes) => void ends.toClient.push(bytes),
    cut: () => void (ends.cuts += 1),
  })
  return Object.assign(ends, filter)
}

const { produce, endTxn, metadata } = KAFKA_API

test('frames come out whole and in order, however the stream is cut', () => {
  const bodies = fc.array(fc.string({ unit: 'grapheme-ascii', maxLength: 40 }), { maxLength: 12 })
  fc.assert(
    fc.property(bodies, fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), (texts, cuts) => {
      const frames = texts.map((text, index) => request(produce, index, text))
      const stream = Buffer.concat(frames)
      const splitter = new FrameSplitter()
      const seen: Buffer[] = []
      for (let start = 0, turn = 0; start < stream.length; turn++) {
        const end = start + (cuts[turn % cuts.length] as number)
        seen.push(...splitter.push(stream.subarray(start, end)))
        start = end
      }
      assert.deepEqual(seen, frames)
    }),
  )
})

test('a request names its api key, version and correlation id', () => {
  assert.deepEqual(readRequestHead(request(endTxn, -5)), { apiKey: endTxn, apiVersion: 7, correlationId: -5 })
})

test('bytes that are not Kafka are refused with a hint', () => {
  assert.throws(() => new FrameSplitter().push(Buffer.from([0x16, 3, 1, 2, 0])), /is it TLS/)
  assert.throws(() => new FrameSplitter().push(Buffer.from([0, 0, 0, 3, 0])), /not Kafka's framing/)
})

test('the hook sees each request with its frame; "cut" keeps it, and all behind it, from the server', () => {
  const faults = noFaults()
  const seen: unknown[] = []
  faults.hook = (apiKey, apiVersion, correlationId, frame) => {
    seen.push([apiKey, apiVersion, correlationId, frame.length])
    return apiKey === endTxn ? 'cut' : 'pass'
  }
  const one = connection(faults)
  one.request(Buffer.concat([request(produce, 1, 'abc'), request(endTxn, 2), request(produce, 3)]))
  assert.deepEqual(one.toServer, [request(produce, 1, 'abc')])
  assert.equal(one.cuts, 1)
  assert.deepEqual(seen, [
    [produce, 7, 1, 15],
    [endTxn, 7, 2, 12],
  ])
})

test('"dropResponse" discards exactly the answer with its correlation id', () => {
  const faults = noFaults()
  faults.hook = (apiKey) => (apiKey === produce ? 'dropResponse' : 'pass')
  const one = connection(faults)
  one.request(Buffer.concat([request(metadata, 1), request(produce, 2), request(metadata, 3)]))
  one.response(Buffer.concat([response(1), response(2), response(3)]))
  assert.equal(one.toServer.length, 3)
  assert.deepEqual(one.toClient, [response(1), response(3)])
  assert.deepEqual([one.cuts, faults.swallowed], [0, 1])
})

test('"cutAfterResponseSwallowed" waits for the answer, discards it and cuts', () => {
  const faults = noFaults()
  faults.hook = (apiKey) => (apiKey === endTxn ? 'cutAfterResponseSwallowed' : 'pass')
  const one = connection(faults)
  one.request(request(endTxn, 9))
  assert.deepEqual([one.toServer.length, one.cuts], [1, 0])
  one.response(response(9, 'done'))
  assert.deepEqual([one.toClient.length, one.cuts, faults.swallowed], [0, 1, 1])
})

test('a count of drops by api key is shared by all connections and runs out', () => {
  const faults = noFaults()
  faults.drops.set(produce, 2)
  const first = connection(faults)
  const second = connection(faults)
  for (const one of [first, second]) {
    one.request(Buffer.concat([request(produce, 1), request(metadata, 2), request(produce, 3)]))
    one.response(Buffer.concat([response(1), response(2), response(3)]))
  }
  assert.deepEqual(first.toClient, [response(2)])
  assert.deepEqual(second.toClient, [response(1), response(2), response(3)])
})

test('a correlation id used again after a drop is an ordinary one', () => {
  const faults = noFaults()
  faults.drops.set(produce, 1)
  const one = connection(faults)
  for (let round = 0; round < 2; round++) {
    one.request(request(produce, 1))
    one.response(response(1))
  }
  assert.deepEqual(one.toClient, [response(1)])
})

test('a predicate on responses sees whole frames', () => {
  const faults = noFaults()
  faults.dropResponse = (frame) => frame.includes('secret')
  const one = connection(faults)
  const bytes = Buffer.concat([response(1, 'a secret'), response(2, 'open')])
  one.response(bytes.subarray(0, 11))
  one.response(bytes.subarray(11))
  assert.deepEqual(one.toClient, [response(2, 'open')])
  assert.equal(faults.swallowed, 1)
})
