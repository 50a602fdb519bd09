import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Envelope, InternalRecord } from '../../daemon/ports.ts'
import { ByteReader, ByteWriter, MalformedBytes } from '../../store/bytes.ts'
import { decodeGroup, FRAMES_VERSION, GroupEncoder, skimGroup } from '../../store/frames.ts'
import { DamagedGroup, openGroup, packFrames, sealGroup } from '../../store/group.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 200 })
const pairs = fc.array(fc.tuple(text, text), { maxLength: 4 })
const payload = fc.uint8Array({ maxLength: 600 })
const envelope: fc.Arbitrary<Envelope> = fc
  .record({
    device: text,
    stream: text,
    topic: text,
    payload,
    receivedMs: fc.integer({ min: -1e12, max: 4e12 }),
    clockTrusted: fc.boolean(),
    bootMs: fc.integer({ min: 0, max: 1e12 }),
  })
  .chain((base) =>
    fc
      .record(
        {
          parts: fc.dictionary(fc.string({ minLength: 1, unit: fc.constantFrom('a', 'b', 'é', '_') }), text, { maxKeys: 4 }),
          contentType: text,
          traceparent: text,
          userProperties: pairs,
        },
        { requiredKeys: [] },
      )
      .map((more) => ({ ...base, ...more })),
  )
const internal: fc.Arbitrary<InternalRecord> = fc.record({
  destination: fc.constantFrom('events', 'ledger', 'dead-letter'),
  key: text,
  value: payload,
  headers: pairs,
  receivedMs: fc.integer({ min: 0, max: 4e12 }),
})
const message = fc.oneof(
  { weight: 4, arbitrary: envelope.map((value) => ({ envelope: value })) },
  { weight: 1, arbitrary: internal.map((value) => ({ internal: value })) },
)
type Message = { envelope: Envelope } | { internal: InternalRecord }

function encode(messages: readonly Message[]): GroupEncoder {
  const encoder = new GroupEncoder(16)
  for (const one of messages) {
    if ('envelope' in one) encoder.add(one.envelope)
    else encoder.addInternal(one.internal)
  }
  return encoder
}

/** Payloads come back as Buffers. */
function plain(one: object): unknown {
  return JSON.parse(
    JSON.stringify(one, (_, value: unknown) =>
      value instanceof Uint8Array || isBufferJson(value) ? Buffer.from(value as Uint8Array).toString('hex') : value,
    ),
  )
}

function isBufferJson(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'type' in value && value.type === 'Buffer'
}

test('what is encoded is decoded again, any part of it', () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 20 }), fc.nat(20), fc.nat(20), (messages, a, b) => {
      const from = Math.min(a, b, messages.length)
      const to = Math.min(Math.max(a, b), messages.length)
      const decoded = decodeGroup(encode(messages).finish(), from, to)
      assert.deepEqual(decoded.map(plain), messages.slice(from, to).map(plain))
    }),
  )
})

test('facts and skimming agree with the messages', () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 20 }), (messages) => {
      const encoder = encode(messages)
      const sizes = messages.map((one) => ('envelope' in one ? one.envelope.payload.length : one.internal.value.length))
      const times = messages.map((one) => ('envelope' in one ? one.envelope.receivedMs : one.internal.receivedMs))
      assert.deepEqual(encoder.facts, {
        count: messages.length,
        bytes: sizes.reduce((sum, size) => sum + size, 0),
        oldestMs: Math.min(...times),
        newestMs: Math.max(...times),
        trusted: messages.every((one) => !('envelope' in one) || one.envelope.clockTrusted),
      })
      const skimmed: unknown[] = []
      skimGroup(encoder.finish(), (...seen) => skimmed.push(seen) > 0)
      assert.deepEqual(
        skimmed,
        messages.map((one, index) =>
          'envelope' in one ? [index, sizes[index], one.envelope.device, one.envelope.stream] : [index, sizes[index], undefined, ''],
        ),
      )
    }),
  )
})

test('skimming stops when it is told to', () => {
  const encoder = encode([1, 2, 3].map(() => ({ envelope: sample() })))
  let visits = 0
  skimGroup(encoder.finish(), (index) => {
    visits++
    return index < 1
  })
  assert.equal(visits, 2)
})

test('integers and texts survive at their limits', () => {
  fc.assert(
    fc.property(
      fc.array(fc.maxSafeNat()),
      fc.array(fc.integer({ min: -(2 ** 51), max: 2 ** 51 })),
      fc.array(fc.string({ unit: 'binary', maxLength: 300 })),
      (naturals, integers, texts) => {
        const out = new ByteWriter(1)
        naturals.forEach((value) => out.varint(value))
        integers.forEach((value) => out.signed(value))
        texts.forEach((value) => out.text(value))
        const reader = new ByteReader(out.view())
        assert.deepEqual(
          naturals.map(() => reader.varint()),
          naturals,
        )
        assert.deepEqual(
          integers.map(() => reader.signed()),
          integers,
        )
        assert.deepEqual(
          texts.map(() => reader.text()),
          texts.map((value) => value.toWellFormed()),
        )
        assert.equal(reader.done, true)
      },
    ),
  )
})

test('bytes that end too early are refused, not read beyond', () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 4 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (messages, share) => {
      const group = encode(messages).finish()
      assert.throws(() => decodeGroup(group.subarray(0, Math.floor(group.length * share)), 0, messages.length), MalformedBytes)
    }),
  )
})

test('frames of another version are refused with what to do', () => {
  const group = Buffer.from(encode([{ envelope: sample() }]).finish())
  group[0] = FRAMES_VERSION + 1
  assert.throws(() => decodeGroup(group, 0, 1), /version 2.*install the release that wrote them/)
  group[0] = FRAMES_VERSION
  group[6] = 0x80
  assert.throws(() => decodeGroup(group, 0, 1), /unknown frame flags 128/)
})

test('a group opens only with the columns that it was sealed with, and unchanged', () => {
  const columns = { lane: 1, first: 17, count: 2, epoch: 3, bytes: 400 }
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 2_000 }),
      fc.constantFrom('lane', 'first', 'count', 'epoch', 'bytes'),
      fc.nat(),
      (frames, column, at) => {
        const packed = packFrames(frames)
        sealGroup(packed, columns)
        assert.deepEqual(Buffer.from(openGroup(packed, columns)), Buffer.from(frames))
        assert.throws(() => openGroup(packed, { ...columns, [column]: columns[column] + 1 }), DamagedGroup)
        const torn = Buffer.from(packed)
        torn[at % torn.length] = (torn[at % torn.length] ?? 0) ^ 0x10
        assert.throws(() => openGroup(torn, columns), DamagedGroup)
      },
    ),
  )
})

test('a compressed group is smaller, and one that would grow is stored as it is', () => {
  assert.ok(packFrames(Buffer.alloc(4_000, 'log line ')).length < 200)
  const noise = Buffer.from(Array.from({ length: 300 }, (_, index) => (index * 7_919 * index) & 0xff))
  assert.ok(packFrames(noise).length <= noise.length + 5)
})

function sample(): Envelope {
  return { device: 'd', stream: 's', topic: 't', payload: Buffer.from('x'), receivedMs: 1, clockTrusted: true, bootMs: 2 }
}
