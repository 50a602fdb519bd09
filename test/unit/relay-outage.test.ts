/** The relay through outages, doubts and restarts. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { KafkaRecord } from '../../daemon/ports.ts'
import { kafkaFailure, type KafkaCall } from '../fakes/kafka.ts'
import { Mortality } from '../fakes/mortal.ts'
import { Bench } from '../fakes/relay-bench.ts'
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
    assert.equal(state.heard, false)
    assert.ok(['backing-off', 'opening'].includes(state.phase))
    assert.equal(bench.log.length, 1)
    const before = calls(bench, 'begin')
    for (let passed = 0; passed < HOUR; passed += 500) await bench.pass(500)
    const tries = calls(bench, 'begin') - before
    assert.ok(tries > 120 && tries < 400, `${tries} tries in an hour`)
    bench.kafka.fault = undefined
    await bench.until(() => drained(bench))
    assert.equal(bench.relay.state().reason, undefined)
    assert.equal(bench.relay.state().heard, true)
    assert.deepEqual(texts(bench.kafka.committedRecords('device-logs')), linesUpTo(50))
    await bench.stop()
  })

  it('log path 3: a broker that takes lives but no transactions is not tried faster and faster', async () => {
    const bench = new Bench()
    bench.kafka.fault = (call) => (call.kind === 'transact' ? 'unreachable' : undefined)
    bench.outbox.append('normal', ...lines(5))
    await bench.start()
    for (let passed = 0; passed < HOUR; passed += 500) await bench.pass(500)
    assert.ok(calls(bench, 'begin') > 120 && calls(bench, 'begin') < 400, `${calls(bench, 'begin')} lives in an hour`)
    await bench.stop()
  })

  it('log path 4: a topic without a leader is asked again until it has one', async () => {
    const bench = new Bench()
    let isLeaderless = true
    bench.kafka.fault = (call) =>
      isLeaderless && call.kind === 'facts' && call.topic === 'device-logs'
        ? kafkaFailure('transient', 'the topic has no leader')
        : undefined
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
    assert.deepEqual(texts(bench.kafka.committedRecords()), [...linesUpTo(5), ...linesUpTo(5)])
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
    const protect = bench.outbox.protect.bind(bench.outbox)
    bench.outbox.unprotect = () => {
      events.push('released')
      unprotect()
    }
    bench.outbox.protect = (ends) => {
      events.push(`protected to ${ends[0]?.position}`)
      protect(ends)
    }
    bench.kafka.fault = (call) => {
      if (call.kind !== 'facts') events.push(call.kind)
      return call.kind === 'transact' && calls(bench, 'transact') === 1 ? 'answer-lost' : undefined
    }
    bench.outbox.append('deferred', ...lines(20))
    await bench.start()
    await bench.until(() => drained(bench))
    assert.deepEqual(events, ['begin', 'committed', 'released', 'protected to 20', 'transact', 'begin', 'committed', 'released'])
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
    const marked = bench.kafka
      .committedRecords()
      .filter((record) => record.headers.some(([name, value]) => name === 'redelivery' && value === 'possible'))
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
    const marked = (lane: string): number =>
      bench.kafka
        .committedRecords()
        .filter((record) => record.headers[1]?.[1].includes(`:${lane}:`) && record.headers.some(([name]) => name === 'redelivery')).length
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
