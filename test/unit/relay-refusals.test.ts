/** What Kafka refuses: poison, oversize, forbidden topics, wrong set-ups. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Envelope, KafkaRecord } from '../../daemon/ports.ts'
import { DeadLetterNotices } from '../../daemon/relay/notice.ts'
import { Refusals } from '../../daemon/relay/refusals.ts'
import { kafkaFailure } from '../fakes/kafka.ts'
import { Bench, TOPICS } from '../fakes/relay-bench.ts'

function textOf(record: KafkaRecord): string {
  return Buffer.from(record.value).toString()
}

function message(text: string, device = 'pump-7'): Partial<Envelope> {
  return { device, payload: Buffer.from(text) }
}

function drained(bench: Bench): boolean {
  return Object.values(bench.outbox.state().lanes).every((lane) => lane.messages === 0)
}

function lives(bench: Bench): number {
  return bench.kafka.calls.filter((call) => call.kind === 'begin').length
}

function poisonous(bench: Bench): void {
  bench.kafka.refuses = (record) =>
    textOf(record).startsWith('poison') && record.topic === 'device-logs' ? 'a record is not valid' : undefined
}

describe('relay: poison', () => {
  it('log path 5, 12: one record that Kafka refuses is found and set aside; all others arrive in order', async () => {
    const bench = new Bench()
    poisonous(bench)
    const texts = Array.from({ length: 600 }, (_, index) => (index === 377 ? 'poison' : `line ${index}`))
    bench.outbox.append('normal', ...texts.map((text) => message(text)))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.deepEqual(
      bench.kafka.committedRecords('device-logs').map(textOf),
      texts.filter((text) => text !== 'poison'),
    )
    assert.deepEqual(
      bench.outbox.letters.map(({ position, reason }) => [position, reason]),
      [[378, 'a record is not valid']],
    )
    assert.ok(lives(bench) <= 14, `${lives(bench)} lives`)
    assert.equal(bench.relay.state().deadLettered, 1)
    assert.equal(bench.outbox.balance, 0)
    await bench.stop()
  })

  it('a dead letter is told to the centre, once, with the reason and the head of the payload', async () => {
    const bench = new Bench()
    poisonous(bench)
    bench.outbox.append('normal', message('fine'), message(`poison${'x'.repeat(20_000)}`))
    await bench.start()
    await bench.until(() => drained(bench))
    const [notice, ...more] = bench.kafka.committedRecords('edge.dead-letter')
    assert.deepEqual(more, [])
    assert.equal(notice?.key, 'pump-7')
    assert.equal(notice.value.length, 16 * 1_024)
    assert.deepEqual(notice.headers.slice(3), [
      ['type', 'dead-letter'],
      ['reason', 'a record is not valid'],
      ['letter-pos', '0000000000000001:normal:2'],
      ['mqtt-topic', 'devices/dev-1/logs/app'],
      ['payload-bytes', '20006'],
    ])
    await bench.stop()
  })

  it('poison in one partition does not hold up another lane', async () => {
    const bench = new Bench()
    poisonous(bench)
    bench.kafka.topics.set('device-logs', { partitions: 1 })
    bench.outbox.append('normal', ...Array.from({ length: 64 }, () => message('fine')), message('poison'))
    bench.outbox.append('urgent', ...Array.from({ length: 64 }, () => message('urgent', 'other')))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.equal(bench.kafka.committedRecords('device-logs').length, 128)
    assert.equal(bench.outbox.letters.length, 1)
    await bench.stop()
  })

  it('many poisonous records: each is set aside, none takes another with it', async () => {
    const bench = new Bench()
    poisonous(bench)
    const texts = Array.from({ length: 400 }, (_, index) => (index % 10 === 7 ? `poison ${index}` : `line ${index}`))
    bench.outbox.append('normal', ...texts.map((text, index) => message(text, `dev-${index % 5}`)))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.equal(bench.outbox.letters.length, 40)
    assert.equal(bench.kafka.committedRecords('device-logs').length, 360)
    // Poison among good records is no alarm.
    assert.deepEqual(bench.log, [])
    await bench.stop()
  })

  it('a topic that refuses everything is an alarm, and its records are set aside slowly', async () => {
    const bench = new Bench()
    bench.kafka.refuses = (record) => (record.topic === 'device-logs' ? 'a record is not valid' : undefined)
    bench.outbox.append('normal', ...Array.from({ length: 500 }, () => message('line')))
    await bench.start()
    await bench.pass(1)
    for (let seconds = 0; seconds < 600; seconds += 5) await bench.pass(5_000)
    assert.ok(
      bench.log.some(({ fields }) =>
        /one record after the other of the topic "device-logs"/.test(String((fields as { reason?: string }).reason)),
      ),
    )
    assert.ok(
      bench.outbox.letters.length > 20 && bench.outbox.letters.length < 45,
      `${bench.outbox.letters.length} were set aside in ten minutes`,
    )
    bench.kafka.refuses = undefined
    await bench.until(() => drained(bench))
    assert.equal(bench.relay.state().reason, undefined)
    assert.equal(bench.outbox.balance, 0)
    await bench.stop()
  })

  it('a refused batch without a bad record in it is sent in smaller ones, and nothing is set aside', async () => {
    const bench = new Bench()
    let limit = 30_000
    bench.kafka.topics.set('device-logs', { partitions: 1 })
    bench.kafka.fault = (call) => {
      if (call.kind !== 'transact') return undefined
      const bytes = call.records.reduce((sum, record) => sum + record.value.length, 0)
      return bytes > limit
        ? kafkaFailure('rejected', 'the batch is larger than max.message.bytes', { refused: { topic: 'device-logs', partition: 0 } })
        : undefined
    }
    bench.outbox.append('normal', ...Array.from({ length: 500 }, () => message('x'.repeat(1_000))))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.deepEqual(bench.outbox.letters, [])
    assert.equal(bench.kafka.committedRecords().length, 500)
    limit = 0
    await bench.stop()
  })

  it('a refusal that names no partition is searched for in the whole transaction', async () => {
    const bench = new Bench()
    bench.kafka.fault = (call) =>
      call.kind === 'transact' && call.records.some((record) => textOf(record) === 'poison' && record.topic === 'device-logs')
        ? kafkaFailure('rejected', 'no')
        : undefined
    bench.outbox.append('normal', ...Array.from({ length: 40 }, (_, index) => message(index === 11 ? 'poison' : 'fine', `dev-${index}`)))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.deepEqual(
      bench.outbox.letters.map(({ position }) => position),
      [12],
    )
    assert.equal(bench.kafka.committedRecords('device-logs').length, 39)
    await bench.stop()
  })

  it('whatever is poison: the search ends, blames only poison, and lets the innocent pass', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 200 }), (poison) => {
        const refusals = new Refusals()
        const where = { topic: 't', partition: 0 }
        let left = poison
        let refusedTimes = 0
        while (left.length > 0) {
          const sent = left.slice(0, refusals.limit(where))
          assert.ok(sent.length > 0)
          if (!sent.includes(true)) refusals.committed(where, sent.length)
          else {
            refusedTimes += 1
            const isFound = refusals.refused(where, sent.length)
            assert.equal(isFound, sent.length === 1)
            if (!isFound) continue
          }
          left = left.slice(sent.length)
        }
        const bad = poison.filter(Boolean).length
        assert.ok(refusedTimes <= bad * (Math.log2(poison.length) + 2), `${refusedTimes} refusals for ${bad} of ${poison.length}`)
        assert.equal(refusals.room('t'), 1)
      }),
    )
  })

  it('a device that sends nothing but poison does not fill the uplink with notices', () => {
    const notices = new DeadLetterNotices()
    const stored = {
      epoch: 'e',
      position: 1,
      envelope: { device: 'd', stream: 's', topic: 't', payload: new Uint8Array(1), receivedMs: 0, clockTrusted: true, bootMs: 0 },
    }
    const about = (atMs: number) => notices.about({ stored, reason: 'no' }, 'normal', 0, atMs)
    const told = Array.from({ length: 1_000 }, () => about(1_000)).filter((notice) => notice !== undefined)
    assert.equal(told.length, 200)
    const later = about(2_000)
    assert.deepEqual(later?.headers.at(-1), ['notices-left-out', '800'])
    assert.equal(about(2_001)?.headers.at(-1)?.[0], 'payload-bytes')
  })
})

describe('relay: what is known to be refused', () => {
  it('log path 12: a record larger than the topic takes is set aside unsent, and its neighbours arrive', async () => {
    const bench = new Bench()
    bench.kafka.topics.set('device-logs', { partitions: 3, maxMessageBytes: 10_000 })
    bench.outbox.append('normal', message('one'), message('x'.repeat(20_000)), message('two'), message('y'.repeat(20_000)))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.deepEqual(bench.kafka.committedRecords('device-logs').map(textOf), ['one', 'two'])
    assert.deepEqual(
      bench.outbox.letters.map(({ position }) => position),
      [2, 4],
    )
    assert.match(
      bench.outbox.letters[0]?.reason ?? '',
      /about 20\d\d\d bytes, and the topic "device-logs" takes 10000 \(max.message.bytes\)/,
    )
    assert.equal(lives(bench), 1)
    assert.ok(
      bench.kafka.calls.every(
        (call) =>
          call.kind !== 'transact' || call.records.every((record) => record.value.length < 20_000 || record.topic !== 'device-logs'),
      ),
    )
    await bench.stop()
  })

  it('a message for a topic that is not allowed becomes a dead letter; others are not held up', async () => {
    const bench = new Bench({ topic: 'logs.{stream}', allowedTopics: ['logs.app'] })
    bench.kafka.topics.set('logs.app', { partitions: 1 })
    const texts = Array.from({ length: 400 }, (_, index) => `line ${index}`)
    bench.outbox.append('normal', ...texts.map((text, index) => ({ ...message(text), stream: index % 2 === 0 ? 'app' : 'sys' })))
    await bench.start()
    await bench.until(() => drained(bench), 10_000)
    assert.equal(bench.kafka.committedRecords('logs.app').length, 200)
    assert.equal(bench.outbox.letters.length, 200)
    assert.equal(bench.outbox.letters[0]?.reason, 'the Kafka topic "logs.sys" is not in kafka.allowedTopics')
    await bench.stop()
  })

  it('log path 29: a dead letter is aside before a transaction passes it', async () => {
    const bench = new Bench()
    bench.kafka.topics.set('device-logs', { partitions: 3, maxMessageBytes: 10_000 })
    bench.outbox.append('normal', message('one'), message('x'.repeat(20_000)), message('two'))
    let asideAtTransact = -1
    bench.kafka.fault = (call) => {
      if (call.kind === 'transact' && asideAtTransact < 0) asideAtTransact = bench.outbox.letters.length
      return undefined
    }
    await bench.start()
    await bench.until(() => drained(bench))
    assert.equal(asideAtTransact, 1)
    await bench.stop()
  })
})

describe('relay: alarms', () => {
  it('a right that is taken away is an alarm in plain words, said once, and heals without a restart', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', message('one'))
    await bench.start()
    await bench.until(() => drained(bench))
    bench.kafka.fault = (call) =>
      call.kind === 'transact'
        ? kafkaFailure('transient', 'we are not allowed to use the topic "device-logs"', { alarm: true, remedy: 'Grant the right.' })
        : undefined
    bench.outbox.append('normal', message('two'))
    await bench.until(() => bench.relay.state().phase === 'alarmed')
    for (let minutes = 0; minutes < 60; minutes += 1) await bench.pass(60_000)
    const state = bench.relay.state()
    assert.deepEqual([state.reason, state.remedy], ['we are not allowed to use the topic "device-logs"', 'Grant the right.'])
    assert.equal(bench.log.length, 1)
    assert.ok(lives(bench) > 60 && lives(bench) < 130, `${lives(bench)} lives in an hour`)
    bench.kafka.fault = undefined
    await bench.until(() => drained(bench), 60_000)
    assert.equal(bench.relay.state().reason, undefined)
    await bench.stop()
  })

  for (const [name, change, reason] of [
    ['a missing topic', (bench: Bench) => bench.kafka.topics.delete('device-logs'), /the topic "device-logs" does not exist/],
    ['missing positions', (bench: Bench) => bench.kafka.topics.delete('edge.positions'), /the topic "edge.positions" does not exist/],
    [
      'positions with too few partitions',
      (bench: Bench) => bench.kafka.topics.set('edge.positions', { partitions: 3 }),
      /has 3 of the 4 partitions/,
    ],
    [
      'a compacted topic',
      (bench: Bench) => bench.kafka.topics.set('device-logs', { partitions: 3, cleanupPolicy: 'compact,delete' }),
      /"device-logs" is compacted/,
    ],
  ] as const) {
    it(`${name} is an alarm with the command that mends it, before anything is sent`, async () => {
      const bench = new Bench()
      change(bench)
      await bench.start()
      await bench.pass(1_000)
      assert.equal(bench.relay.state().phase, 'alarmed')
      assert.match(bench.relay.state().reason ?? '', reason)
      assert.match(bench.relay.state().remedy ?? '', /edgectl kafka setup|kafka-configs/)
      bench.kafka.topics.set('device-logs', TOPICS['device-logs'])
      bench.kafka.topics.set('edge.positions', TOPICS['edge.positions'])
      bench.outbox.append('normal', message('one'))
      await bench.until(() => drained(bench), 60_000)
      await bench.stop()
    })
  }

  it('a missing topic of our own holds up the internal lane only', async () => {
    const bench = new Bench()
    bench.kafka.topics.delete('edge.events')
    bench.outbox.submitInternal({
      destination: 'events',
      key: 'gw-001',
      value: Buffer.from('{}'),
      headers: [],
      receivedMs: bench.clock.wallMs(),
    })
    for (let count = 0; count < 10; count += 1) {
      bench.outbox.append('normal', message('line'))
      if (count === 0) await bench.start()
      await bench.pass(1_000)
    }
    await bench.until(() => bench.outbox.rows('normal').length === 0, 5_000)
    assert.match(bench.relay.state().held.internal?.reason ?? '', /"edge.events" does not exist/)
    const transactions = bench.kafka.calls.filter((call) => call.kind === 'transact').length
    assert.ok(transactions <= 21, `${transactions} transactions in ten seconds`)
    await bench.until(() => bench.relay.state().phase === 'alarmed', 60_000)
    assert.match(bench.relay.state().held.internal?.reason ?? '', /"edge.events" does not exist/)
    bench.kafka.topics.set('edge.events', TOPICS['edge.events'])
    await bench.until(() => drained(bench), 60_000)
    assert.deepEqual([bench.relay.state().reason, bench.relay.state().held], [undefined, {}])
    await bench.stop()
  })

  it('a topic of a template that is missing holds up its lane, and the others go on', async () => {
    const bench = new Bench({ topic: 'logs.{stream}', allowedTopics: ['logs.app', 'logs.sys'] })
    bench.kafka.topics.set('logs.app', { partitions: 1 })
    bench.outbox.append(
      'normal',
      { ...message('one'), stream: 'app' },
      { ...message('two'), stream: 'sys' },
      { ...message('three'), stream: 'app' },
    )
    bench.outbox.append('urgent', { ...message('four'), stream: 'app' })
    await bench.start()
    await bench.pass(5_000)
    assert.deepEqual(bench.kafka.committedRecords().map(textOf), ['four', 'one'])
    assert.match(bench.relay.state().held.normal?.reason ?? '', /"logs.sys" does not exist/)
    bench.kafka.topics.set('logs.sys', { partitions: 1 })
    await bench.until(() => drained(bench), 60_000)
    await bench.stop()
  })
})
