import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { factsOf, isMessage, messageLine, messageOf, sealed, unsealed } from '../../daemon/move/lines.ts'
import { LANES, type Stored } from '../../daemon/ports.ts'

const text = fc.string({ unit: 'binary', maxLength: 40 })
const epoch = fc.stringMatching(/^[0-9a-f]{16}$/)
const at = { epoch, position: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }) }
const bytes = fc.uint8Array({ maxLength: 300 })
const pairs = fc.array(fc.tuple(text, text), { maxLength: 3 })
const time = fc.integer({ min: 0, max: 2 ** 45 })
const stored: fc.Arbitrary<Stored> = fc.oneof(
  fc.record({
    ...at,
    envelope: fc.record(
      {
        ...{ device: text, stream: text, topic: text, payload: bytes, receivedMs: time, clockTrusted: fc.boolean(), bootMs: time },
        parts: fc.dictionary(fc.stringMatching(/^[a-z]{1,5}$/), text, { noNullPrototype: true }),
        contentType: text,
        traceparent: text,
        userProperties: pairs,
      },
      { requiredKeys: ['device', 'stream', 'topic', 'payload', 'receivedMs', 'clockTrusted', 'bootMs'] },
    ),
  }),
  fc.record({
    ...at,
    internal: fc.record({
      destination: fc.constantFrom('events' as const, 'ledger' as const, 'dead-letter' as const),
      key: text,
      value: bytes,
      headers: pairs,
      receivedMs: time,
    }),
  }),
)

function payloadBytes(one: Stored): number {
  return 'internal' in one ? one.internal.value.length : one.envelope.payload.length
}

test('a message is the same after it was a line', () => {
  fc.assert(
    fc.property(fc.constantFrom(...LANES), stored, (lane, one) => {
      const line = messageLine(lane, one)
      assert.ok(!line.includes('\n') && isMessage(line))
      const read = messageOf(unsealed(line))
      const decoded = 'internal' in read.stored ? [...read.stored.internal.value] : [...read.stored.envelope.payload]
      assert.deepEqual(decoded, 'internal' in one ? [...one.internal.value] : [...one.envelope.payload])
      assert.deepEqual([read.lane, read.stored.epoch, read.stored.position], [lane, one.epoch, one.position])
      const bare = (value: Stored): unknown => ('internal' in value ? { ...value.internal, value: [] } : { ...value.envelope, payload: [] })
      assert.deepEqual(bare(read.stored), bare(one))
      assert.deepEqual(factsOf(line), { lane, position: one.position, bytes: payloadBytes(one) })
    }),
  )
})

test('a line with any one character changed is refused', () => {
  fc.assert(
    fc.property(stored, fc.nat(), fc.integer({ min: 1, max: 127 }), (one, place, shift) => {
      const line = Buffer.from(messageLine('normal', one))
      const index = place % line.length
      line[index] = ((line[index] ?? 0) + shift) % 128
      assert.throws(() => messageOf(unsealed(line.toString())))
    }),
  )
})

test('what no gateway writes is refused in words', () => {
  const good = {
    lane: 'normal',
    epoch: '0'.repeat(16),
    position: 1,
    device: 'd',
    stream: 's',
    topic: 't',
    receivedMs: 1,
    bootMs: 1,
    payload: '',
  }
  assert.equal(messageOf(good).lane, 'normal')
  const cases: readonly [object, RegExp][] = [
    [{ lane: 'fast' }, /no lane/],
    [{ epoch: '../../etc' }, /no epoch/],
    [{ position: 0 }, /no position/],
    [{ position: 1.5 }, /no position/],
    [{ device: 7 }, /"device" is missing/],
    [{ receivedMs: '1' }, /"receivedMs" is missing/],
    [{ userProperties: [['a']] }, /no pairs/],
    [{ parts: { a: 1 } }, /no texts/],
    [{ internal: 'passwords', key: '', headers: [] }, /no topic of the gateway/],
  ]
  for (const [change, words] of cases) assert.throws(() => messageOf({ ...good, ...change }), words)
  assert.throws(() => unsealed('{"lane":"normal"}'), /does not end with a checksum/)
  assert.throws(() => unsealed('\u001b[31m'), /does not end with a checksum/)
  assert.deepEqual(unsealed(sealed({ a: 1 })), { a: 1 })
})
