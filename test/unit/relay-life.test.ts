/** The relay's lives: outages, doubts, fencing, stops, changes of settings. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { KafkaRecord } from '../../daemon/ports.ts'
import { FakeKafka, kafkaFailure, type KafkaCall } from '../fakes/kafka.ts'
import { Mortality } from '../fakes/mortal.ts'
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

describe('relay: outages', () => {
  it('log path 2: three days without Kafka cost nothing but time, and the way back is a backoff with jitter', async () => {
    const bench = new Bench()
    bench.kafka.fault = () => 'unreachable'
    bench.outbox.append('normal', ...lines(50))
    await bench.start()
    await bench.until(() => bench.relay.state().reason !== undefined)
    const since = bench.relay.state().sinceMs
    for (let passed = 0; passed < 3 * DAY; passed += 20_000) await bench.pass(20_000)
    const state = bench.relay.state()
    assert.equal(state.reason, 'Kafka is unreachable')
    assert.equal(state.sinceMs, since)
    assert.ok(['backing-off', 'opening'].includes(state.phase))
    const tries = calls(bench, 'begin')
    assert.ok(tries > (3 * DAY) / 60_000 && tries < (3 * DAY) / 10_000, `${tries} tries in three days`)
    assert.equal(bench.log.length, 1)
    bench.kafka.fault = undefined
    await bench.until(() => drained(bench))
    assert.equal(bench.relay.state().reason, undefined)
    assert.deepEqual(texts(bench.kafka.committedRecords('device-logs')), texts2(50))
    await bench.stop()
  })

  it('log path 4: a topic without a leader is asked again until it has one', async () => {
    const bench = new Bench()
    let isLeaderless = true
    bench.kafka.fault = (call) => (isLeaderless && call.kind === 'facts' && call.topic === 'device-logs' ? kafkaFailure('transient', 'the topic has no leader') : undefined)
    bench.outbox.append('normal', ...lines(3))
    await bench.start()
    await bench.pass(120_000)
    assert.equal(bench.relay.state().reason, 'the topic has no leader')
    isLeaderless = false
    await bench.until(() => drained(bench), 60_000)
    await bench.stop()
  })

  for (const fault of ['answer-lost', 'left-open', 'prepared', 'aborted', 'unreachable'] as const) {
    it(`log path 5: a transaction that ends as "${fault}" is in Kafka once`, async () => {
      const bench = new Bench()
      bench.outbox.append('urgent', ...lines(20))
      bench.outbox.append('normal', ...lines(20))
      let faults = 0
      bench.kafka.fault = (call) => (call.kind === 'transact' && (faults += 1) <= 2 ? fault : undefined)
      await bench.start()
      await bench.until(() => drained(bench))
      assert.equal(bench.kafka.committedRecords().length, 40)
      assert.equal(new Set(bench.kafka.committedRecords().map((record) => JSON.stringify(record.headers[1]))).size, 40)
      assert.equal(bench.outbox.counts.delivered, 40)
      await bench.stop()
    })
  }

  it('log path 17: a client that never answers is seen as no progress, then given up, and the next life goes on', async () => {
    const bench = new Bench()
    await bench.start()
    await bench.pass(1_000)
    bench.kafka.fault = (call) => (call.kind === 'transact' && calls(bench, 'transact') === 1 ? 'hang' : undefined)
    bench.outbox.append('normal', ...lines(3))
    await bench.pass(1_000)
    const startedMs = bench.clock.monotonicMs()
    await bench.pass(60_000)
    const state = bench.relay.state()
    assert.equal(state.phase, 'sending')
    assert.equal(state.currentTransaction?.records, 3)
    assert.ok(state.lastProgressMs <= startedMs)
    assert.ok(state.patienceMs >= 60_000 && state.patienceMs < 600_000)
    await bench.until(() => drained(bench), state.patienceMs + 30_000)
    assert.equal(bench.kafka.committedRecords().length, 3)
    assert.equal(bench.relay.state().currentTransaction, undefined)
    await bench.stop()
  })

  it('log path 17: a start that never answers is given up too, and its late life is closed', async () => {
    const bench = new Bench()
    bench.kafka.latencyMs = (call) => (call.kind === 'begin' && calls(bench, 'begin') === 1 ? 400_000 : 0)
    bench.outbox.append('normal', ...lines(3))
    await bench.start()
    await bench.until(() => calls(bench, 'begin') === 2, 200_000, 1_000)
    await bench.pass(500_000)
    await bench.until(() => drained(bench))
    assert.equal(bench.kafka.openLives, 1)
    await bench.stop()
    assert.equal(bench.kafka.openLives, 0)
  })

  it('a connection that was idle for long is not trusted: a new life begins before the next record', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...lines(1))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.equal(calls(bench, 'begin'), 1)
    await bench.pass(15 * 60_000)
    assert.equal(calls(bench, 'begin'), 1)
    bench.kafka.fault = (call) => (call.kind === 'transact' && calls(bench, 'begin') === 1 ? 'hang' : undefined)
    bench.outbox.append('normal', ...lines(1))
    await bench.until(() => drained(bench), 5_000)
    assert.equal(calls(bench, 'begin'), 2)
    assert.equal(bench.log.length, 0)
    await bench.stop()
  })
})

function texts2(count: number): string[] {
  return lines(count).map(({ payload }) => Buffer.from(payload).toString())
}

describe('relay: doubts and restarts', () => {
  it('log path 13: a clean stop waits for the running transaction and tells the outbox, so nothing is sent again', async () => {
    const bench = new Bench()
    bench.kafka.latencyMs = (call) => (call.kind === 'transact' ? 3_000 : 0)
    bench.outbox.append('normal', ...lines(5))
    await bench.start()
    await bench.until(() => bench.relay.state().phase === 'sending')
    bench.outbox.append('normal', ...lines(5))
    await bench.stop()
    assert.equal(bench.relay.state().phase, 'stopped')
    assert.equal(bench.kafka.committedRecords().length, 5)
    assert.equal(bench.outbox.rows('normal').length, 5)
    assert.equal(bench.kafka.openLives, 0)
    bench.outbox.restart()
    bench.relay = bench.newRelay()
    await bench.start()
    await bench.until(() => drained(bench))
    assert.deepEqual(texts(bench.kafka.committedRecords()), [...texts2(5), ...texts2(5)])
    await bench.stop()
  })

  it('log path 13: a stop whose deadline passes gives the transaction up, and the next start finds out what became of it', async () => {
    const bench = new Bench()
    bench.kafka.latencyMs = (call) => (call.kind === 'transact' ? 60_000 : 0)
    bench.outbox.append('normal', ...lines(5))
    await bench.start()
    await bench.until(() => bench.relay.state().phase === 'sending')
    const before = bench.clock.monotonicMs()
    await bench.stop()
    assert.ok(bench.clock.monotonicMs() - before <= 11_000)
    assert.equal(bench.outbox.rows('normal').length, 5)
    await bench.pass(60_000)
    bench.kafka.latencyMs = undefined
    bench.outbox.restart()
    bench.relay = bench.newRelay()
    await bench.start()
    await bench.until(() => drained(bench))
    assert.equal(bench.kafka.committedRecords().length, 5)
    await bench.stop()
  })

  it('a stop before the start, twice, and while a life begins', async () => {
    const bench = new Bench()
    await bench.stop()
    bench.relay = bench.newRelay()
    bench.kafka.fault = () => 'hang'
    await bench.start()
    assert.equal(bench.relay.state().phase, 'opening')
    const before = bench.clock.monotonicMs()
    await bench.stop()
    await bench.stop()
    assert.ok(bench.clock.monotonicMs() - before < 1_000)
    assert.equal(bench.relay.state().phase, 'stopped')
    assert.equal(bench.clock.pendingTimers, 0)
  })

  it('log path 14: a crash between commit and record: the next life drops what Kafka has', async () => {
    const bench = new Bench()
    const life = new Mortality()
    bench.relay = bench.newRelay({ outbox: life.wrap(bench.outbox), kafka: life.wrap(bench.kafka) })
    bench.outbox.append('normal', ...lines(5))
    bench.outbox.fault = (advances) => (advances.length > 0 ? 'never-answer' : undefined)
    await bench.start()
    await bench.until(() => bench.kafka.committedRecords().length === 5)
    await bench.pass(1_000)
    assert.equal(bench.relay.state().phase, 'recording')
    life.kill()
    bench.outbox.fault = undefined
    bench.outbox.restart()
    bench.relay = bench.newRelay()
    await bench.start()
    await bench.until(() => drained(bench))
    assert.equal(calls(bench, 'transact'), 1)
    assert.equal(bench.outbox.counts.delivered, 5)
    await bench.stop()
  })

  it('log path 29: rows in doubt are not evicted while Kafka is away, and counted once when it is back', async () => {
    const bench = new Bench()
    bench.outbox.append('deferred', ...lines(20))
    bench.kafka.fault = (call) => (call.kind === 'transact' ? 'answer-lost' : undefined)
    await bench.start()
    await bench.until(() => calls(bench, 'transact') === 1)
    bench.kafka.fault = () => 'unreachable'
    await bench.pass(HOUR)
    bench.outbox.append('deferred', ...lines(5))
    assert.equal(bench.outbox.evict('deferred', 25).length, 5)
    bench.kafka.fault = undefined
    await bench.until(() => drained(bench))
    assert.equal(bench.kafka.committedRecords().length, 20)
    assert.deepEqual([bench.outbox.counts.delivered, bench.outbox.counts.evicted, bench.outbox.balance], [20, 5, 0])
    await bench.stop()
  })

  it('log path 29: rows are released once Kafka has said what it has, and not before', async () => {
    const bench = new Bench()
    const events: string[] = []
    const unprotect = bench.outbox.unprotect.bind(bench.outbox)
    bench.outbox.unprotect = () => {
      events.push('released')
      unprotect()
    }
    bench.kafka.fault = (call) => {
      if (call.kind !== 'facts') events.push(call.kind)
      return call.kind === 'transact' && calls(bench, 'transact') === 1 ? 'answer-lost' : undefined
    }
    bench.outbox.append('deferred', ...lines(20))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.deepEqual(events, ['begin', 'committed', 'released', 'transact', 'begin', 'committed', 'released'])
    await bench.stop()
  })

  it('log path 9: a box that crashed a thousand times asks a little at a time', async () => {
    const bench = new Bench()
    for (let start = 0; start < 1_000; start += 1) {
      bench.outbox.restart()
      bench.outbox.append('normal', ...lines(2))
    }
    const readBefore: number[] = []
    bench.kafka.fault = (call) => {
      if (call.kind === 'transact') readBefore.push(calls(bench, 'committed'))
      return call.kind === 'transact' && readBefore.length <= 3 ? 'unreachable' : undefined
    }
    await bench.start()
    await bench.until(() => readBefore.length >= 4)
    assert.ok((readBefore[0] ?? 99) <= 8, `${readBefore[0]} epochs were read before the first transaction`)
    assert.ok((readBefore[3] ?? 99) <= 40, `${readBefore[3]} epochs were read in four lives`)
    for (const call of bench.kafka.calls) if (call.kind === 'transact') assert.ok(call.positions.size <= 8)
    await bench.until(() => drained(bench), HOUR, 1_000)
    assert.equal(bench.kafka.committedRecords().length, 2_000)
    assert.ok(calls(bench, 'committed') <= 1_040)
    await bench.stop()
  })

  it('log path 9: a huge backlog is read a transaction at a time', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...Array.from({ length: 30_000 }, () => ({ payload: new Uint8Array(1) })))
    bench.kafka.fault = (call) => (call.kind === 'transact' ? 'hang' : undefined)
    let read = 0
    const readAfter = bench.outbox.readAfter.bind(bench.outbox)
    bench.outbox.readAfter = async (...given) => {
      const rows = await readAfter(...given)
      read += rows.length
      return rows
    }
    await bench.start()
    await bench.until(() => bench.relay.state().phase === 'sending')
    await bench.settle()
    assert.ok(read <= 22_000, `${read} messages were read ahead`)
    bench.kafka.fault = undefined
    await bench.until(() => drained(bench))
    await bench.stop()
  })

  it('the next rows are read while a transaction runs', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...Array.from({ length: 3_000 }, () => ({ payload: new Uint8Array(1_000) })))
    bench.kafka.latencyMs = (call) => (call.kind === 'transact' ? 1_000 : 0)
    const phases: string[] = []
    const readAfter = bench.outbox.readAfter.bind(bench.outbox)
    bench.outbox.readAfter = (...given) => {
      phases.push(bench.relay.state().phase)
      return readAfter(...given)
    }
    await bench.start()
    await bench.until(() => calls(bench, 'transact') === 3)
    assert.ok(phases.filter((phase) => phase === 'sending').length >= 3, phases.join())
    await bench.stop()
  })
})

describe('relay: positions that Kafka has forgotten', () => {
  async function crashAfterLostAnswer(bench: Bench): Promise<void> {
    const life = new Mortality()
    bench.relay = bench.newRelay({ outbox: life.wrap(bench.outbox), kafka: life.wrap(bench.kafka) })
    bench.outbox.append('normal', ...lines(5))
    bench.kafka.fault = (call) => (call.kind === 'transact' ? 'answer-lost' : undefined)
    await bench.start()
    await bench.until(() => calls(bench, 'transact') === 1)
    life.kill()
    bench.kafka.fault = undefined
  }

  it('a doubt older than Kafka keeps positions: sent again, marked and counted', async () => {
    const bench = new Bench()
    await crashAfterLostAnswer(bench)
    bench.kafka.forgetPositions()
    bench.clock.advance(8 * DAY)
    bench.outbox.restart()
    bench.relay = bench.newRelay()
    await bench.start()
    await bench.until(() => drained(bench))
    const marked = bench.kafka.committedRecords().filter((record) => record.headers.some(([name, value]) => name === 'redelivery' && value === 'possible'))
    assert.equal(bench.kafka.committedRecords().length, 10)
    assert.equal(marked.length, 5)
    assert.equal(bench.relay.state().redeliveryPossible, 5)
    await bench.stop()
  })

  it('within the time that Kafka keeps them, nothing is marked and nothing sent again', async () => {
    const bench = new Bench()
    await crashAfterLostAnswer(bench)
    bench.clock.advance(5 * DAY)
    bench.outbox.restart()
    bench.relay = bench.newRelay()
    await bench.start()
    bench.outbox.append('normal', ...lines(2))
    await bench.until(() => drained(bench))
    assert.equal(bench.kafka.committedRecords().length, 7)
    assert.equal(bench.relay.state().redeliveryPossible, 0)
    await bench.stop()
  })

  it('only what one transaction can have held is marked', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...Array.from({ length: 12_000 }, () => ({ payload: new Uint8Array(1) })))
    bench.outbox.append('urgent', ...Array.from({ length: 50 }, () => ({ payload: new Uint8Array(200_000) })))
    bench.clock.advance(7 * DAY)
    bench.outbox.restart()
    await bench.start()
    await bench.until(() => drained(bench))
    const marked = (lane: string): number => bench.kafka.committedRecords().filter((record) => record.headers[1]?.[1].includes(`:${lane}:`) && record.headers.some(([name]) => name === 'redelivery')).length
    assert.equal(marked('normal'), 10_000)
    assert.ok(marked('urgent') >= 20 && marked('urgent') <= 22, `${marked('urgent')} of 200 kB are marked`)
    await bench.stop()
  })

  it('what arrived in this start is never marked, however wrong the clock was', async () => {
    const bench = new Bench({}, new FakeClock({ wallMs: 90_000, wallTrusted: false }))
    bench.outbox.append('normal', ...lines(3))
    await bench.start()
    await bench.pass(10_000)
    bench.clock.setWall(Date.UTC(2026, 10, 24))
    await bench.until(() => drained(bench))
    assert.equal(bench.relay.state().redeliveryPossible, 0)
    await bench.stop()
  })

  it('a daemon that stays up, cut off for seven days in the middle of a commit, marks what it sends again', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', ...lines(5))
    bench.kafka.fault = (call) => (call.kind === 'transact' ? 'answer-lost' : undefined)
    await bench.start()
    await bench.until(() => calls(bench, 'transact') === 1)
    bench.kafka.fault = () => 'unreachable'
    bench.clock.suspend(7 * DAY)
    bench.kafka.forgetPositions()
    bench.kafka.fault = undefined
    await bench.until(() => drained(bench))
    assert.equal(bench.relay.state().redeliveryPossible, 5)
    await bench.stop()
  })
})

describe('relay: two lives of one id', () => {
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
    const said = bench.log.map(({ fields }) => (fields as { reason?: string; remedy?: string }))
    const named = said.find(({ reason }) => reason?.includes('another gateway uses the id "gw-001"') === true)
    assert.equal(named?.remedy, 'give each box its own gateway.id')
    await bench.until(() => drained(bench), HOUR, 1_000)
    assert.equal(bench.kafka.committedRecords('device-logs').length, 120)
    assert.equal(bench.relay.state().reason, undefined)
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
    await clone.transact([record, record, record], new Map([[bench.outbox.rows('normal')[0]?.epoch ?? '', new Map([['normal', 4] as const])]]))
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
    assert.deepEqual(texts(bench.kafka.committedRecords()), texts2(4))
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
    assert.ok((bench.kafka.timeouts.at(-1)?.transactionMs ?? 0) > (bench.kafka.timeouts[0]?.transactionMs ?? Infinity))
    await bench.stop()
  })
})

describe('relay: changes while it runs', () => {
  it('no broker named: it says so, and starts when one is', async () => {
    const bench = new Bench()
    bench.relay = bench.newRelay({ kafka: undefined })
    bench.outbox.append('normal', ...lines(2))
    await bench.start()
    assert.deepEqual([bench.relay.state().phase, bench.relay.state().reason, bench.relay.state().remedy], ['idle', 'no Kafka broker is named', 'set kafka.brokers'])
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
    assert.deepEqual(bench.kafka.committedRecords().map((record) => record.headers.some(([name]) => name === 'redelivery')), [false, false, false, true, true, true, false, false])
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
  it('log path 22: while the clock can\'t be right, records wait, and it is said', async () => {
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
    for (const record of bench.kafka.committedRecords()) assert.ok(record.headers.some(([name, value]) => name === 'clock' && value === 'unsynced'))
    await bench.stop()
  })

  it('log path 22: a clock far ahead of Kafka\'s is an alarm that names it, never a dead letter, and heals', async () => {
    const bench = new Bench()
    let brokerMs = bench.clock.wallMs() - DAY
    bench.kafka.refuses = (record) => (record.timestampMs > brokerMs + HOUR ? 'INVALID_TIMESTAMP: the timestamp is out of range' : undefined)
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
    assert.ok(records[0]?.headers.some(([name, value]) => name === 'ts' && value === new Date(received).toISOString()))
    await bench.stop()
  })
})
