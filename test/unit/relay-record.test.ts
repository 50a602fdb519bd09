import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { GatewayError } from '../../daemon/errors.ts'
import type { Envelope, KafkaRecord, StoredEnvelope, StoredInternal } from '../../daemon/ports.ts'
import { recordBytes, RecordMaker } from '../../daemon/relay/record.ts'
import { timeOfEnvelope, timeOfInternal, type Now } from '../../daemon/relay/record-time.ts'
import { TopicTemplate } from '../../daemon/relay/topic-template.ts'
import { wireBytes } from '../fakes/kafka.ts'

const NOON = Date.UTC(2026, 10, 24, 12)
const NOW: Now = { wallMs: NOON, bootMs: 600_000, bootId: 'boot-b', wallTrusted: true }
const PLAIN = { redelivery: false, sendTime: false }

function envelope(changes: Partial<Envelope> = {}): Envelope {
  return {
    device: 'pump-7',
    stream: 'app',
    topic: 'devices/pump-7/logs/app',
    payload: Buffer.from('hello'),
    receivedMs: NOON - 1_000,
    clockTrusted: true,
    bootMs: 599_000,
    ...changes,
  }
}

function stored(changes: Partial<Envelope> = {}): StoredEnvelope {
  return { epoch: '00000000000000aa', position: 42, envelope: envelope(changes) }
}

function make(message: StoredEnvelope | StoredInternal, marks = PLAIN, now = NOW, bootId = 'boot-b'): KafkaRecord {
  return new RecordMaker('gw-001', now, () => bootId).make(message, 'normal', 'device-logs', 2, marks)
}

function header(record: KafkaRecord, name: string): string | undefined {
  return record.headers.find(([key]) => key === name)?.[1]
}

describe('record', () => {
  it('key, value and time are those of the message; headers say where it comes from', () => {
    const payload = Buffer.from([0, 255, 13, 10, 195, 40])
    const record = make(stored({ payload }))
    assert.equal(record.key, 'pump-7')
    assert.equal(record.value, payload)
    assert.equal(record.partition, 2)
    assert.equal(record.timestampMs, NOON - 1_000)
    assert.deepEqual(record.headers, [
      ['gw', 'gw-001'],
      ['pos', '00000000000000aa:normal:42'],
      ['ts', '2026-11-24T11:59:59.000Z'],
      ['mqtt-topic', 'devices/pump-7/logs/app'],
    ])
  })

  it('passes on trace context, content type and MQTT 5 user properties, in order and repeated', () => {
    const record = make(
      stored({
        traceparent: '00-ab-cd-01',
        contentType: 'application/json',
        userProperties: [
          ['a', '1'],
          ['b', ''],
          ['a', '2'],
        ],
      }),
    )
    assert.deepEqual(record.headers.slice(4), [
      ['traceparent', '00-ab-cd-01'],
      ['content-type', 'application/json'],
      ['mqtt-user-a', '1'],
      ['mqtt-user-b', ''],
      ['mqtt-user-a', '2'],
    ])
  })

  it('a record that may be in Kafka already says so', () => {
    assert.equal(header(make(stored(), { redelivery: true, sendTime: false }), 'redelivery'), 'possible')
    assert.equal(header(make(stored()), 'redelivery'), undefined)
  })

  it("a record of the gateway's own has its own headers beside the position", () => {
    const internal = {
      destination: 'events' as const,
      key: 'gw-001',
      value: Buffer.from('{}'),
      headers: [['type', 'status']] as const,
      receivedMs: NOON,
    }
    const record = new RecordMaker('gw-001', NOW, () => undefined).make(
      { epoch: 'e', position: 1, internal },
      'internal',
      'edge.events',
      0,
      PLAIN,
    )
    assert.deepEqual(record.headers, [
      ['gw', 'gw-001'],
      ['pos', 'e:internal:1'],
      ['ts', '2026-11-24T12:00:00.000Z'],
      ['type', 'status'],
    ])
    assert.equal(record.key, 'gw-001')
  })

  it('log path 12: sizes are not estimated below what an ASCII record takes', () => {
    const text = fc.string({ maxLength: 40 })
    const changes = fc.record({
      device: text,
      topic: text,
      payload: fc.uint8Array({ maxLength: 300 }),
      receivedMs: fc.constantFrom(0, NOON, NOON + 1e9),
      traceparent: fc.constantFrom('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'),
      contentType: text,
      userProperties: fc.array(fc.tuple(text, text), { maxLength: 5 }),
    })
    fc.assert(
      fc.property(changes, (given) => {
        const message = stored(given)
        const record = make(message, { redelivery: true, sendTime: false }, NOW, 'another')
        const slack = 'redelivery'.length + 'possible'.length + 3
        assert.ok(recordBytes(message, 'gw-001') >= wireBytes(record) - slack, `${recordBytes(message, 'gw-001')} < ${wireBytes(record)}`)
        assert.ok(recordBytes(message, 'gw-001') <= wireBytes(record) + 150)
      }),
    )
  })

  it('a time that no date can hold breaks nothing', () => {
    for (const receivedMs of [NaN, Infinity, -Infinity, -1, 1e300, 12.7]) {
      const record = make(stored({ receivedMs, clockTrusted: false }), PLAIN, NOW, 'another')
      assert.ok(Number.isInteger(record.timestampMs) && record.timestampMs >= 0)
      assert.match(header(record, 'ts') ?? '', /^[+\d]/)
    }
  })
})

describe('record time', () => {
  it('log path 22: a message of this boot, received in 1970, leaves with its true time', () => {
    const time = timeOfEnvelope(envelope({ receivedMs: 42_000, clockTrusted: false, bootMs: 540_000 }), 'boot-b', NOW)
    assert.deepEqual(time, { timestampMs: NOON - 60_000, tsMs: NOON - 60_000, clock: 'corrected' })
  })

  it('log path 22: a clock that was set back or ahead by NTP is corrected, drift is left alone', () => {
    const ahead = timeOfEnvelope(envelope({ receivedMs: NOON + 3_600_000, bootMs: 590_000 }), 'boot-b', NOW)
    assert.deepEqual(ahead, { timestampMs: NOON - 10_000, tsMs: NOON - 10_000, clock: 'corrected' })
    const drift = timeOfEnvelope(envelope({ receivedMs: NOON - 6_000, bootMs: 590_000 }), 'boot-b', NOW)
    assert.deepEqual(drift, { timestampMs: NOON - 6_000, tsMs: NOON - 6_000 })
  })

  it("log path 22: a message of another boot and an untrusted clock can't be corrected, and says so", () => {
    const time = timeOfEnvelope(envelope({ receivedMs: 42_000, clockTrusted: false }), 'boot-a', NOW)
    assert.deepEqual(time, { timestampMs: NOON, tsMs: 42_000, clock: 'unsynced' })
  })

  it('log path 22: a message from the future is not given to Kafka as such', () => {
    const received = NOON + 2 * 3_600_000
    assert.deepEqual(timeOfEnvelope(envelope({ receivedMs: received }), 'boot-a', NOW), {
      timestampMs: NOON,
      tsMs: received,
      clock: 'unsynced',
    })
    assert.deepEqual(timeOfEnvelope(envelope({ receivedMs: NOON + 1_800_000 }), 'boot-a', NOW), {
      timestampMs: NOON + 1_800_000,
      tsMs: NOON + 1_800_000,
    })
  })

  it('log path 22: a trusted time of another boot stays as it is, however old', () => {
    const received = NOON - 20 * 86_400_000
    assert.deepEqual(timeOfEnvelope(envelope({ receivedMs: received }), 'boot-a', NOW), { timestampMs: received, tsMs: received })
  })

  it('while the clock is not right, what is sent says so', () => {
    const now = { ...NOW, wallMs: 90_000, wallTrusted: false }
    assert.deepEqual(timeOfEnvelope(envelope({ receivedMs: 42_000 }), 'boot-b', now), {
      timestampMs: 90_000,
      tsMs: 42_000,
      clock: 'unsynced',
    })
  })

  it("a record of the gateway's own with an impossible time gets that of sending", () => {
    assert.deepEqual(timeOfInternal(5_000, NOW), { timestampMs: NOON, tsMs: 5_000, clock: 'unsynced' })
    assert.deepEqual(timeOfInternal(NOON - 5_000, NOW), { timestampMs: NOON - 5_000, tsMs: NOON - 5_000 })
  })

  it('a record whose time Kafka refused gets that of sending, unless it is of now', () => {
    const old = make(stored({ receivedMs: NOON - 86_400_000 }), { redelivery: false, sendTime: true }, NOW, 'boot-a')
    assert.equal(old.timestampMs, NOON)
    assert.equal(header(old, 'clock'), 'unsynced')
    assert.equal(header(old, 'ts'), '2026-11-23T12:00:00.000Z')
    const fresh = make(stored(), { redelivery: false, sendTime: true })
    assert.equal(fresh.timestampMs, NOON - 1_000)
    assert.equal(header(fresh, 'clock'), undefined)
  })
})

describe('topic template', () => {
  it('a plain name is the topic of all', () => {
    const template = new TopicTemplate('device-logs', [])
    assert.equal(template.only, 'device-logs')
    assert.deepEqual(template.choose(envelope()), { topic: 'device-logs' })
  })

  it('parts of the topic choose among the allowed topics', () => {
    const template = new TopicTemplate('logs.{site}.{stream}', ['logs.north.app', 'logs.south.app'])
    assert.equal(template.only, undefined)
    assert.deepEqual(template.choose(envelope({ parts: { site: 'north' } })), { topic: 'logs.north.app' })
    assert.deepEqual(template.choose(envelope({ parts: { site: 'south' } })), { topic: 'logs.south.app' })
    assert.deepEqual(template.choose(envelope({ parts: { site: 'west' } })), {
      refused: 'the Kafka topic "logs.west.app" is not in kafka.allowedTopics',
    })
  })

  it('a message without a part that the template needs is refused with the reason', () => {
    const choice = new TopicTemplate('logs.{site}', ['logs.north']).choose(envelope())
    assert.deepEqual(choice, { refused: 'the topic "devices/pump-7/logs/app" has no part {site}, which kafka.topic needs' })
  })

  it('a device leads nowhere but to allowed topics, whatever words it uses', () => {
    const allowed = ['logs.app', 'logs.sys']
    const template = new TopicTemplate('logs.{stream}', allowed)
    fc.assert(
      fc.property(fc.string(), (stream) => {
        const choice = template.choose(envelope({ stream }))
        assert.ok('refused' in choice || allowed.includes(choice.topic))
      }),
    )
    for (let count = 0; count < 5_000; count += 1) template.choose(envelope({ stream: `invented-${count}` }))
    assert.deepEqual(template.choose(envelope({ stream: 'app' })), { topic: 'logs.app' })
  })

  it('a wrong template is refused with what to write instead', () => {
    const wrong: [string, string[]][] = [
      ['logs.{stream', []],
      ['logs.}', []],
      ['logs/{stream}', ['a/b']],
      ['bad name', []],
      ['logs.{stream}', []],
      ['..', []],
    ]
    for (const [template, allowed] of wrong) {
      assert.throws(
        () => new TopicTemplate(template, allowed),
        (error) => error instanceof GatewayError && error.remedy !== undefined,
        template,
      )
    }
  })
})
