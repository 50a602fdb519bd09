import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { GatewayError } from '../../daemon/errors.ts'
import { messageIdReader } from '../../daemon/ingest/message-id.ts'
import { JsonPayload } from '../../daemon/ingest/payload-json.ts'
import { TopicPatterns } from '../../daemon/ingest/topic-pattern.ts'
import { traceparentOf } from '../../daemon/ingest/trace-context.ts'
import type { Delivery } from '../../daemon/ports.ts'

const topics = new TopicPatterns([
  { name: 'logs', pattern: 'd/{device}/{id}' },
  { name: 'other', pattern: 'o/{device}' },
])

function hash(text: string): Uint8Array {
  return createHash('sha256').update(text).digest().subarray(0, 16)
}

/** Hex of the id, or undefined. */
function idOf(from: string, payload: string | Uint8Array, more: Partial<Delivery> = {}): string | undefined {
  const delivery: Delivery = {
    source: 's',
    topic: 'd/cam/77',
    payload: Buffer.from(payload as string),
    qos: 1,
    retained: false,
    settle: () => undefined,
    ...more,
  }
  const json = new JsonPayload()
  json.turnTo(delivery.payload)
  const meaning = topics.read(delivery.topic)
  assert.ok(meaning !== undefined)
  const id = messageIdReader(from, topics, hash)?.(delivery, meaning, json)
  return id === undefined ? undefined : Buffer.from(id).toString('hex')
}

describe('message id', () => {
  it('is a hash of device and id, from any of three places', () => {
    const expected = Buffer.from(hash('cam\0s77')).toString('hex')
    assert.equal(idOf('json:/id', '{"id":"77"}'), expected)
    assert.equal(idOf('topic:{id}', 'x'), expected)
    assert.equal(
      idOf('user-property:mid', 'x', {
        userProperties: [
          ['a', 'b'],
          ['mid', '77'],
        ],
      }),
      expected,
    )
    assert.notEqual(idOf('json:/id', '{"id":"77"}', { topic: 'd/dam/77' }), expected, 'two devices may use one id')
    assert.notEqual(idOf('json:/id', '{"id":77}'), expected, 'a number is no text')
  })

  it('is absent where two messages could be taken for one', () => {
    const absent = [
      '{}',
      'no json',
      '',
      '{"id":null}',
      '{"id":""}',
      '{"id":true}',
      '{"id":{"a":1}}',
      '{"id":["a"]}',
      '{"id":12345678901234567890}',
      '{"id":0.1}',
      '{"id":1e400}',
      '{"id":"\\ud800"}',
      '{"id":"\uFFFD"}',
    ]
    for (const payload of absent) assert.equal(idOf('json:/id', payload), undefined, payload)
    assert.equal(
      idOf('json:/id', Uint8Array.from([...Buffer.from('{"id":"'), 0xff, ...Buffer.from('"}')])),
      undefined,
      'bytes that are no UTF-8',
    )
    assert.equal(idOf('topic:{id}', 'x', { topic: 'o/cam' }), undefined)
    assert.equal(idOf('topic:{id}', 'x', { topic: 'd/cam/' }), undefined)
    assert.equal(idOf('user-property:mid', 'x'), undefined)
    assert.ok(idOf('json:/id', `{"id":${Number.MAX_SAFE_INTEGER}}`) !== undefined)
  })

  it('says what to write instead of a source that can not work', () => {
    for (const from of ['', 'id', 'json:id', 'topic:id', 'topic:{nope}', 'topic:{device}', 'topic:{stream}', 'user-property:']) {
      assert.throws(
        () => idOf(from, '{}'),
        (error) => error instanceof GatewayError && error.kind === 'rejected' && (error.remedy ?? '') !== '',
        from,
      )
    }
    assert.equal(messageIdReader('none', topics, hash), undefined)
  })
})

describe('trace context (W3C, 3.2)', () => {
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
  const span = '00f067aa0ba902b7'

  it('takes a valid parent', () => {
    for (const value of [
      `00-${trace}-${span}-01`,
      `00-${trace}-${span}-ff`,
      `cc-${trace}-${span}-01-what-comes-later`,
      `01-${trace}-${span}-00`,
    ]) {
      assert.equal(
        traceparentOf([
          ['other', 'x'],
          ['traceparent', value],
        ]),
        value,
      )
    }
  })

  it('takes none rather than a wrong one', () => {
    const zeros = '0'.repeat(32)
    const wrong = [
      '',
      'x',
      `ff-${trace}-${span}-01`,
      `00-${zeros}-${span}-01`,
      `00-${trace}-${'0'.repeat(16)}-01`,
      `00-${trace.toUpperCase()}-${span}-01`,
      `00-${trace}-${span}-01-more`,
      `00-${trace}-${span}-1`,
      `00-${trace}-${span}`,
      ` 00-${trace}-${span}-01`,
      `cc-${trace}-${span}-01more`,
    ]
    for (const value of wrong) assert.equal(traceparentOf([['traceparent', value]]), undefined, value)
    assert.equal(
      traceparentOf([
        ['traceparent', `00-${trace}-${span}-01`],
        ['traceparent', `00-${trace}-${span}-01`],
      ]),
      undefined,
    )
    assert.equal(traceparentOf([['Traceparent', `00-${trace}-${span}-01`]]), undefined)
    assert.equal(traceparentOf([]), undefined)
  })
})
