import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as relay from '../../daemon/relay/settings.ts'
import * as guard from '../../store/protection.ts'
import { Bench } from '../fakes/relay-bench.ts'

describe('relay', () => {
  it('log path 29: the outbox guards after a start what one transaction can hold', () => {
    assert.equal(guard.TRANSACTION_MAX_MESSAGES, relay.TRANSACTION_MAX_MESSAGES)
    assert.equal(guard.TRANSACTION_MAX_BYTES, relay.TRANSACTION_MAX_BYTES)
  })

  it('log path: takes each message to Kafka once, in order, with the headers that consumers rely on', async () => {
    const bench = new Bench()
    bench.outbox.append('normal', { device: 'pump-7', payload: Buffer.from('one') }, { device: 'pump-7', payload: Buffer.from('two') })
    await bench.start()
    await bench.until(() => bench.outbox.rows('normal').length === 0)
    const records = bench.kafka.committedRecords('device-logs')
    assert.deepEqual(
      records.map((record) => Buffer.from(record.value).toString()),
      ['one', 'two'],
    )
    const first = records[0]
    assert.equal(first?.key, 'pump-7')
    assert.deepEqual(first?.headers, [
      ['gw', 'gw-001'],
      ['pos', '0000000000000001:normal:1'],
      ['ts', '2026-11-24T12:00:00.000Z'],
      ['mqtt-topic', 'devices/dev-1/logs/app'],
    ])
    assert.equal(first?.timestampMs, Date.UTC(2026, 10, 24, 12))
    assert.equal(bench.outbox.counts.delivered, 2)
    assert.equal(bench.relay.state().delivered.normal, 2)
    await bench.stop()
    assert.equal(bench.outbox.listeners, 0)
    assert.equal(bench.kafka.openLives, 0)
  })
})
