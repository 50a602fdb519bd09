/** The relay's lives: fencing, pace, changes of settings, the clock. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { KafkaRecord } from '../../daemon/ports.ts'
import { FakeKafka, kafkaFailure, type KafkaCall } from '../fakes/kafka.ts'
import { FakeOutboxReader } from '../fakes/outbox-reader.ts'
import { Bench, TOPICS } from '../fakes/relay-bench.ts'
import { FakeClock } from '../fakes/clock.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR

function lines(count: number, device = 'pump-7'): { device: string; payload: Uint8Array }[] {
  return Array.from({ length: count }, (_, index) => ({ device, payload: Buffer.from(`line ${index + 1}`) }))
}

function texts(records: readonly KafkaRecord[]): string[] {
  return records.map((record) => Buffer.from(record.value).toString())
}

function calls(bench: Bench, kind: KafkaCall['kind']): number {
  return bench.kafka.calls.filter((call) => call.kind === kind).length
}

function drained(bench: Bench): boolean {
  return Object.values(bench.outbox.state().lanes).every((lane) => lane.messages === 0)
}

function linesUpTo(count: number): string[] {
  return lines(count).map(({ payload }) => Buffer.from(payload).toString())
}

describe('relay: two lives of one id', () => {
  it('being fenced once, as by an old life of our own, is got over quickly', async () => {
    const bench = new Bench()
    bench.kafka.fault = (call) =>
      call.kind === 'transact' && calls(bench, 'transact') === 1 ? kafkaFailure('fenced', 'a newer producer began') : undefined
    bench.outbox.append('normal', ...lines(2))
    await bench.start()
    await bench.until(() => drained(bench), 5_000)
    await bench.stop()
  })

  it('log path 23: another gateway with our id is named, and both slow down', async () => {
    const bench = new Bench()
    await bench.start()
    const before = bench.clock.monotonicMs()
    for (let minute = 0; minute < 60; minute += 1) {
      bench.outbox.append('normal', ...lines(2))
      // The rival begins a life each time that we have one.
      await (await bench.kafka.begin({ requestMs: 1, transactionMs: 1 }, new AbortController().signal)).close(0)
      await bench.pass(60_000)
    }
    const tries = calls(bench, 'begin') - 60
    assert.ok(tries <= 60, `${tries} lives in ${(bench.clock.monotonicMs() - before) / 60_000} minutes`)
    const said = bench.log.map(({ fields }) => fields as { reason?: string; remedy?: string })
    const named = said.find(({ reason }) => reason?.includes('another gateway uses the id "gw-001"') === true)
    assert.match(named?.remedy ?? '', /^give each box its own gateway\.id/)
    await bench.until(() => drained(bench), HOUR, 1_000)
    assert.equal(bench.kafka.committedRecords('device-logs').length, 120)
    assert.equal(bench.relay.state().reason, undefined)
    await bench.stop()
  })

  it('a guest that delivers in the name of a living box takes turns with it, and each message arrives once', async () => {
    const bench = new Bench()
    const guests = new FakeOutboxReader(bench.clock)
    bench.outbox.append('normal', ...lines(40))
    guests.append('urgent', ...lines(40))
    bench.settings = { ...bench.settings, isGuest: true }
    const guest = bench.newRelay({ outbox: guests })
    await bench.start()
    await guest.start(new AbortController().signal)
    for (let round = 0; round < 20; round += 1) {
      bench.outbox.append('normal', ...lines(2))
      guests.append('urgent', ...lines(2))
      await bench.pass(3_000)
    }
    const isEmpty = (): boolean => Object.values(guests.state().lanes).every((lane) => lane.messages === 0)
    await bench.until(() => drained(bench) && isEmpty(), HOUR, 1_000)
    assert.equal(bench.kafka.committedRecords('device-logs').length, 160)
    const said = bench.log.map(({ fields }) => (fields as { reason?: string }).reason ?? '')
    assert.ok(said.some((reason) => reason.includes('take turns at Kafka')))
    await guest.stop(bench.clock.monotonicMs())
    await bench.stop()
  })

  it('log path 23: what a cloned card sent of the same epoch is not sent again', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...lines(5))
    let isFirst = true
    bench.kafka.fault = (call) => (call.kind === 'transact' && isFirst ? 'unreachable' : undefined)
    await bench.start()
    await bench.until(() => calls(bench, 'transact') === 1)
    isFirst = false
    const clone = await bench.kafka.begin({ requestMs: 1, transactionMs: 1 }, new AbortController().signal)
    await clone.topicFacts('device-logs')
    const record = { topic: 'device-logs', partition: 0, key: 'pump-7', value: Buffer.from('line'), timestampMs: 0, headers: [] }
    await clone.transact(
      [record, record, record],
      new Map([[bench.outbox.rows('normal')[0]?.epoch ?? '', new Map([['normal', 4] as const])]]),
    )
    await bench.until(() => drained(bench))
    assert.equal(bench.kafka.committedRecords().length, 5)
    await bench.stop()
  })

  it('log path 31: a restored backup is behind Kafka: its rows are known, newer epochs are not touched', async () => {
    const bench = new Bench()
    const [first] = bench.outbox.append('normal', ...lines(3))
    const life = await bench.kafka.begin({ requestMs: 1, transactionMs: 1 }, new AbortController().signal)
    // Before the backup was restored, this epoch had reached position 90.
    await life.transact([], new Map([[first?.epoch ?? '', new Map([['normal', 91] as const])]]))
    bench.outbox.restart()
    bench.outbox.append('normal', ...lines(4))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.deepEqual(texts(bench.kafka.committedRecords()), linesUpTo(4))
    await bench.stop()
  })

  it('log path 24: after a transaction that took too long, the next life is more patient', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...lines(5))
    const isSlow = (call: KafkaCall): boolean => call.kind === 'transact' && calls(bench, 'transact') <= 1
    bench.kafka.latencyMs = (call) => (isSlow(call) ? 58_000 : 0)
    bench.kafka.fault = (call) => (isSlow(call) ? kafkaFailure('transient', 'the broker ended our transaction') : undefined)
    await bench.start()
    await bench.until(() => drained(bench))
    const first = bench.kafka.timeouts[0]?.transactionMs ?? Infinity
    assert.ok((bench.kafka.timeouts.at(-1)?.transactionMs ?? 0) > first)
    // And when the link is fast again, readers need not wait as long for a box that died.
    for (let minute = 0; minute < 10; minute += 1) {
      bench.outbox.append('normal', ...lines(5))
      await bench.pass(60_000)
    }
    assert.equal(bench.kafka.timeouts.at(-1)?.transactionMs, first)
    await bench.stop()
  })
})

describe('relay: pace', () => {
  for (const [transaction, most] of [
    [{ maxBytes: 4 << 20, lingerMs: 500, perSecond: 2 }, 122],
    [{ maxBytes: 4 << 20, lingerMs: 3_000, perSecond: 2 }, 22],
    [{ maxBytes: 4 << 20, lingerMs: 0, perSecond: 10 }, 602],
  ] as const) {
    it(`a trickle goes in at most ${most} transactions a minute with linger ${transaction.lingerMs} ms and ${transaction.perSecond} a second`, async () => {
      const bench = new Bench({ transaction })
      await bench.start()
      for (let passed = 0; passed < 60_000; passed += 50) {
        bench.outbox.append('normal', ...lines(1))
        await bench.pass(50)
      }
      const transactions = calls(bench, 'transact')
      assert.ok(transactions <= most && transactions > most * 0.8, `${transactions} transactions`)
      await bench.stop()
    })
  }

  it('log path 15: a backlog is not held to that rate', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...Array.from({ length: 20_000 }, () => ({ payload: new Uint8Array(200) })))
    const startedMs = bench.clock.monotonicMs()
    await bench.start()
    await bench.until(() => drained(bench), 60_000, 10)
    assert.ok(bench.clock.monotonicMs() - startedMs < 3_000, `${bench.clock.monotonicMs() - startedMs} ms`)
    await bench.stop()
  })

  it('log path 15: the byte budget of the uplink holds, and can be lifted while it runs', async () => {
    const bench = new Bench({ uplinkBytesPerSecond: 20_000 })
    bench.outbox.append('normal', ...Array.from({ length: 10_000 }, () => ({ payload: new Uint8Array(500) })))
    await bench.start()
    for (let passed = 0; passed < 60_000; passed += 100) await bench.pass(100)
    const records = bench.kafka.committedRecords().length
    assert.ok(records * 650 < 20_000 * 65 && records * 650 > 20_000 * 45, `${records} records in a minute`)
    bench.relay.configure({ ...bench.settings, uplinkBytesPerSecond: Infinity })
    await bench.until(() => drained(bench), 30_000)
    await bench.stop()
  })
})

describe('relay: changes while it runs', () => {
  it('no broker named: it says so, and starts when one is', async () => {
    const bench = new Bench()
    bench.relay = bench.newRelay({ kafka: undefined })
    bench.outbox.append('normal', ...lines(2))
    await bench.start()
    assert.deepEqual(
      [bench.relay.state().phase, bench.relay.state().reason, bench.relay.state().remedy],
      ['idle', 'no Kafka broker is named', 'set kafka.brokers'],
    )
    bench.relay.connectTo(bench.kafka)
    await bench.until(() => drained(bench))
    assert.equal(bench.relay.state().reason, undefined)
    await bench.stop()
  })

  it('log path 18: other brokers, in the middle of a transaction: it is finished there, the rest goes to the new ones', async () => {
    const bench = new Bench()
    const other = new FakeKafka(bench.clock, TOPICS)
    bench.kafka.latencyMs = (call) => (call.kind === 'transact' ? 2_000 : 0)
    bench.outbox.append('normal', ...lines(3))
    await bench.start()
    await bench.until(() => bench.relay.state().phase === 'sending')
    bench.outbox.append('normal', ...lines(4))
    bench.relay.connectTo(other)
    await bench.until(() => drained(bench))
    assert.equal(bench.kafka.committedRecords().length, 3)
    assert.equal(other.committedRecords().length, 4)
    assert.equal(bench.kafka.openLives, 0)
    assert.equal(bench.log.length, 0)
    await bench.stop()
  })

  it('log path 18: other brokers while the old ones are away are tried at once', async () => {
    const bench = new Bench()
    const other = new FakeKafka(bench.clock, TOPICS)
    bench.kafka.fault = () => 'hang'
    bench.outbox.append('normal', ...lines(3))
    await bench.start()
    await bench.pass(5_000)
    bench.relay.connectTo(other)
    await bench.until(() => drained(bench), 2_000)
    assert.deepEqual(bench.log, [])
    await bench.stop()
  })

  it('log path 18: another topic holds from the next transaction on; a wrong one changes nothing', async () => {
    const bench = new Bench()
    bench.kafka.topics.set('logs.app', { partitions: 2 })
    bench.outbox.append('normal', ...lines(2))
    await bench.start()
    await bench.until(() => drained(bench))
    bench.relay.configure({ ...bench.settings, topic: 'logs.{stream}', allowedTopics: ['logs.app'] })
    assert.throws(() => bench.relay.configure({ ...bench.settings, topic: 'logs.{' }), /brace/)
    bench.outbox.append('normal', ...lines(3))
    await bench.until(() => drained(bench))
    assert.equal(bench.kafka.committedRecords('device-logs').length, 2)
    assert.equal(bench.kafka.committedRecords('logs.app').length, 3)
    await bench.stop()
  })

  it('log path 25: partitions that are added are used within minutes', async () => {
    const bench = new Bench()
    await bench.start()
    bench.kafka.topics.set('device-logs', { partitions: 40 })
    const used = new Set<number>()
    for (let minute = 0; minute < 12; minute += 1) {
      for (let device = 0; device < 40; device += 1) bench.outbox.append('normal', ...lines(1, `dev-${device}`))
      await bench.pass(60_000)
      if (minute >= 6) for (const record of bench.kafka.committedRecords().slice(-40)) used.add(record.partition)
    }
    assert.ok(used.size > 10, `${used.size} partitions are used`)
    await bench.stop()
  })

  it('at-least-once: no positions are asked for; what was in doubt is sent again and says so', async () => {
    const bench = new Bench({ delivery: 'at-least-once' })
    bench.kafka.topics.delete('edge.positions')
    bench.outbox.append('normal', ...lines(3))
    bench.kafka.fault = (call) => (call.kind === 'transact' && calls(bench, 'transact') === 1 ? 'answer-lost' : undefined)
    await bench.start()
    await bench.until(() => calls(bench, 'transact') === 1)
    bench.outbox.append('normal', ...lines(2))
    await bench.until(() => drained(bench))
    assert.equal(calls(bench, 'committed'), 0)
    assert.deepEqual(
      bench.kafka.committedRecords().map((record) => record.headers.some(([name]) => name === 'redelivery')),
      [false, false, false, true, true, true, false, false],
    )
    assert.equal(bench.relay.state().redeliveryPossible, 3)
    await bench.stop()
  })

  it('a disk that fails ends the relay, and so the daemon', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...lines(1))
    bench.outbox.fault = () => 'fail'
    const ended = assert.rejects(bench.relay.ended, /the disk is gone/)
    await bench.start()
    await bench.pass(2_000)
    await ended
  })
})

describe('relay: the clock', () => {
  it("log path 22: while the clock can't be right, records wait, and it is said", async () => {
    const bench = new Bench({}, new FakeClock({ wallMs: 90_000, bootMs: 20_000, wallTrusted: false }))
    bench.outbox.append('normal', ...lines(2))
    await bench.start()
    await bench.pass(60_000)
    const state = bench.relay.state()
    assert.equal(state.phase, 'holding')
    assert.match(state.reason ?? '', /clock of this box is not set \(it says 1970-01-01T00:0.Z\)/)
    assert.match(state.remedy ?? '', /kafka.unsyncedClock: send/)
    bench.clock.setWall(Date.UTC(2026, 10, 24, 12))
    await bench.until(() => drained(bench))
    for (const record of bench.kafka.committedRecords()) {
      assert.ok(record.headers.some(([name, value]) => name === 'clock' && value === 'corrected'))
      assert.equal(record.timestampMs, Date.UTC(2026, 10, 24, 12) - 60_000)
    }
    assert.ok(bench.relay.state().sinceMs >= Date.UTC(2026, 10, 24))
    await bench.stop()
  })

  it('log path 22: or they are sent at once and say so', async () => {
    const bench = new Bench({ unsyncedClock: 'send' }, new FakeClock({ wallMs: 90_000, wallTrusted: false }))
    bench.outbox.append('normal', ...lines(2))
    await bench.start()
    await bench.until(() => drained(bench))
    for (const record of bench.kafka.committedRecords())
      assert.ok(record.headers.some(([name, value]) => name === 'clock' && value === 'unsynced'))
    await bench.stop()
  })

  it("log path 22: a clock far ahead of Kafka's is an alarm that names it, never a dead letter, and heals", async () => {
    const bench = new Bench()
    let brokerMs = bench.clock.wallMs() - DAY
    bench.kafka.refuses = (record) =>
      record.timestampMs > brokerMs + HOUR ? 'INVALID_TIMESTAMP: the timestamp is out of range' : undefined
    bench.outbox.append('normal', ...lines(300))
    await bench.start()
    await bench.pass(10 * 60_000)
    const state = bench.relay.state()
    assert.match(state.reason ?? '', /clock of this box \(2026-11-24T12:.* is far from the broker's/)
    assert.deepEqual(bench.outbox.letters, [])
    assert.ok(calls(bench, 'begin') < 30, `${calls(bench, 'begin')} lives in ten minutes`)
    brokerMs = bench.clock.wallMs()
    await bench.until(() => drained(bench))
    assert.equal(bench.kafka.committedRecords().length, 300)
    await bench.stop()
  })

  it('log path 22: records that are too old for the topic get the time of sending', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...lines(300))
    const received = bench.clock.wallMs()
    bench.clock.advance(3 * DAY)
    bench.kafka.refuses = (record) => (record.timestampMs < bench.clock.wallMs() - DAY ? 'INVALID_TIMESTAMP' : undefined)
    bench.outbox.append('normal', ...lines(2))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.deepEqual(bench.outbox.letters, [])
    const records = bench.kafka.committedRecords()
    assert.equal(records.length, 302)
    assert.equal(records.filter((record) => record.headers.some(([name]) => name === 'clock')).length, 300)
    assert.deepEqual(bench.log, [])
    assert.ok(records[0]?.headers.some(([name, value]) => name === 'ts' && value === new Date(received).toISOString()))
    await bench.stop()
  })
})

describe('relay: a box that may send nothing', () => {
  const why = { reason: 'the id "gw-001" belongs to another box', remedy: 'give this box its own gateway.id' }

  it('sends nothing, says why and what to do, and sends all when it may', async () => {
    const bench = new Bench()
    await bench.start()
    bench.outbox.append('normal', ...lines(3))
    await bench.until(() => drained(bench))
    bench.relay.hold(why)
    await bench.settle()
    bench.outbox.append('normal', ...lines(5).slice(3))
    await bench.pass(HOUR)
    const { phase, reason, remedy } = bench.relay.state()
    assert.deepEqual([phase, reason, remedy], ['holding', why.reason, why.remedy])
    assert.equal(bench.kafka.committedRecords('device-logs').length, 3)
    bench.relay.hold(undefined)
    await bench.until(() => drained(bench))
    assert.deepEqual(texts(bench.kafka.committedRecords('device-logs')), linesUpTo(5))
    assert.equal(bench.relay.state().reason, undefined)
    await bench.stop()
  })

  it('held before its start: no life begins at all, also with no Kafka named', async () => {
    for (const kafka of [undefined, 'named'] as const) {
      const bench = new Bench()
      if (kafka === undefined) bench.relay = bench.newRelay({ kafka })
      bench.relay.hold(why)
      await bench.start()
      bench.outbox.append('normal', ...lines(1))
      await bench.pass(HOUR)
      assert.deepEqual([calls(bench, 'begin'), bench.relay.state().reason], [0, why.reason])
      await bench.stop()
    }
  })

  it('a transaction that is under way is finished, not sent twice', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...lines(3))
    bench.kafka.fault = (call) => {
      if (call.kind === 'transact') bench.relay.hold(why)
      return undefined
    }
    await bench.start()
    await bench.until(() => bench.relay.state().reason === why.reason)
    assert.equal(drained(bench), true)
    bench.kafka.fault = () => undefined
    bench.relay.hold(undefined)
    await bench.pass(60_000)
    assert.deepEqual(texts(bench.kafka.committedRecords('device-logs')), linesUpTo(3))
    await bench.stop()
  })
})
