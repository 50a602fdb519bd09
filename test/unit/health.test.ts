import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { duration, isHealthy, isReady, verdictOf } from '../../daemon/health.ts'
import { NOW_MS, outboxState, relayStatus, sourceState, verdictInput } from '../fakes/snapshot.ts'

const HOUR_MS = 3_600_000

describe('the verdict', () => {
  it('is ok when all is delivered', () => {
    assert.deepEqual(verdictOf(verdictInput()), { state: 'ok', line: 'all delivered' })
  })

  it('names the outside cause and since when: waiting for it is no hang (G11)', () => {
    const relay = relayStatus({ phase: 'backing-off', reason: 'Kafka unreachable', sinceMs: NOW_MS - 3.2 * HOUR_MS, lastProgressMs: 0 })
    const verdict = verdictOf(verdictInput({ relay, outbox: outboxState({}, { normal: { messages: 5 } }) }))
    assert.equal(verdict.state, 'buffering')
    assert.match(verdict.line, /^Kafka unreachable since \d\d:\d\d \(3 h 12 min\), no loss$/)
    assert.ok(isReady(verdict) && isHealthy(verdict))
  })

  it('does not say ok before Kafka has answered for the first time: it might have to take it back at once', () => {
    const relay = relayStatus({ phase: 'opening', heard: false, sinceMs: NOW_MS - 2_000 })
    const verdict = verdictOf(verdictInput({ relay }))
    assert.deepEqual([verdict.state, verdict.line], ['buffering', 'Kafka has not answered since the start (2 s), 0 messages wait'])
    assert.ok(isReady(verdict) && isHealthy(verdict))
    assert.equal(verdictOf(verdictInput({ relay: { ...relay, heard: true } })).state, 'ok')
  })

  it('log path 17: a relay that forwards nothing and knows no reason is stuck, not ok', () => {
    const relay = relayStatus({ phase: 'sending', lastProgressMs: 39_000 })
    const verdict = verdictOf(verdictInput({ relay, outbox: outboxState({}, { normal: { messages: 5 } }) }))
    assert.equal(verdict.state, 'stuck')
    assert.match(verdict.line, /nothing was forwarded for 1 min/)
    assert.ok(!isReady(verdict) && !isHealthy(verdict))
  })

  it('log path 17: a request that Kafka leaves unanswered is no health, long before it is given up', () => {
    const waiting = outboxState({}, { normal: { messages: 5 } })
    const relay = { ...relayStatus({ phase: 'sending', sinceMs: NOW_MS - 16_000 }), slowMs: 15_000 }
    const verdict = verdictOf(verdictInput({ relay, outbox: waiting }))
    assert.deepEqual([verdict.state, verdict.line], ['buffering', 'Kafka has confirmed nothing for 16 s, 5 messages wait'])
    assert.equal(verdictOf(verdictInput({ relay: { ...relay, slowMs: 17_000 }, outbox: waiting })).state, 'ok')
    assert.equal(verdictOf(verdictInput({ relay: { ...relay, phase: 'ready' }, outbox: waiting })).state, 'ok')
    assert.equal(verdictOf(verdictInput({ relay })).state, 'ok')
  })

  it('says which lane waits for its topic while others flow, and is stuck only for those that could move', () => {
    const held = { urgent: { reason: 'no topic "x"', remedy: 'create it' } }
    const relay = { ...relayStatus({ phase: 'alarmed', lastProgressMs: 0 }), held }
    const verdict = verdictOf(verdictInput({ relay, outbox: outboxState({}, { urgent: { messages: 5 } }) }))
    assert.deepEqual(
      [verdict.state, verdict.line, verdict.remedy],
      ['degraded', 'no topic "x": 5 messages of the urgent lane wait, no loss', 'create it'],
    )
    assert.equal(
      verdictOf(verdictInput({ relay, outbox: outboxState({}, { urgent: { messages: 5 }, normal: { messages: 1 } }) })).state,
      'stuck',
    )
    assert.equal(verdictOf(verdictInput({ relay })).state, 'ok')
  })

  it('is not stuck with nothing to send', () => {
    assert.equal(verdictOf(verdictInput({ relay: relayStatus({ lastProgressMs: 0 }) })).state, 'ok')
  })

  it('is stuck when deliveries wait and nothing is committed', () => {
    const outbox = outboxState({ inFlight: { messages: 7, bytes: 700 } })
    assert.equal(verdictOf(verdictInput({ outbox, lastCommitMs: 60_000 })).state, 'stuck')
    assert.equal(verdictOf(verdictInput({ outbox, lastCommitMs: 90_000 })).state, 'ok')
  })

  it('is blocked, and not stuck, when the buffer waits for room', () => {
    const outbox = outboxState({ inFlight: { messages: 7, bytes: 700 }, blockedReason: 'the disk is full' })
    const verdict = verdictOf(verdictInput({ outbox, lastCommitMs: 0 }))
    assert.equal(verdict.state, 'blocked')
    assert.match(verdict.line, /the disk is full; devices wait/)
    assert.ok(!isReady(verdict) && isHealthy(verdict))
  })

  it('is degraded when a source is down, with its reason', () => {
    const down = sourceState({ name: 'plant', kind: 'connect', state: 'connecting', reason: 'connection refused' })
    const verdict = verdictOf(verdictInput({ sources: [sourceState(), down] }))
    assert.equal(verdict.state, 'degraded')
    assert.equal(verdict.line, 'mqtt.connect.plant is connecting: connection refused')
  })

  it('does not claim readiness while it starts or stops', () => {
    for (const phase of ['starting', 'stopping'] as const) assert.ok(!isReady(verdictOf(verdictInput({ phase }))))
  })
})

describe('durations for people', () => {
  it('have two units at most', () => {
    assert.deepEqual([0, 42_400, 61_000, 11_400_000, 200 * HOUR_MS].map(duration), ['0 s', '42 s', '1 min', '3 h 10 min', '8 d 8 h'])
  })
})
