import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { before, describe, test } from 'node:test'
import { KafkaBox, waitingIn } from './kafka-box.ts'
import { idOf } from '../fleet/judge.ts'
import { serviceScope } from '../services/index.ts'
import type { KafkaService } from '../services/index.ts'

const scope = serviceScope()
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

/** Longer than the relay's request timeout of 30 s, so that every attempt that began before it has been given up. */
const OUTAGE_MS = 40_000
const BACKLOG_BYTES = 2 * 1024 * 1024
const UPLINK_BYTES_PER_SECOND = 256 * 1024

/** Bytes that no compression makes smaller, so that what is sent is known. */
function noise(bytes: number): () => Buffer {
  return () =>
    Buffer.from(
      randomBytes(Math.ceil((bytes * 3) / 4))
        .toString('base64')
        .slice(0, bytes),
    )
}

describe('Kafka goes away', { concurrency: true }, () => {
  describe('Kafka is gone for longer than any request lasts', { concurrency: true }, () => {
    let killed: KafkaBox
    let patient: KafkaBox
    let slow: KafkaBox
    let mixed: KafkaBox
    let over: Promise<void>

    before(async () => {
      const uplink = { kafka: { uplinkBytesPerSecond: UPLINK_BYTES_PER_SECOND, compression: 'none' } }
      killed = await KafkaBox.start({ scope, kafka, name: 'killed' })
      patient = await KafkaBox.start({ scope, kafka, name: 'patient' })
      slow = await KafkaBox.start({ scope, kafka, name: 'slow', config: uplink })
      mixed = await KafkaBox.start({
        scope,
        kafka,
        name: 'mixed',
        config: {
          ...uplink,
          limits: {
            overrides: { chatty: { devices: 'chatty', messagesPerSecond: 1, burst: '2s' } },
            overLimit: 'defer',
            severity: { from: 'json:/level', urgent: ['error'] },
          },
        },
      })
      const boxes = [killed, patient, slow, mixed]
      for (const box of boxes) box.publish('early', 20)
      await Promise.all(boxes.map((box) => box.drained()))
      await kafka.kill('SIGKILL')
      over = sleep(OUTAGE_MS).then(() => kafka.start())
      over.catch(() => undefined)
    })

    test('log path 1: acknowledged while Kafka is down, kill -9 of the gateway: nothing is lost', async () => {
      for (let round = 1; round <= 3; round += 1) {
        for (const device of ['a', 'b', 'c']) killed.publish(device, 100)
        await killed.acknowledged()
        await killed.gateway.end('SIGKILL')
        await killed.gateway.start()
      }
      const status = await killed.says(/no connection to the broker|broker .* closed/)
      assert.equal(waitingIn(status), 900)
      await over
      const ledger = await killed.deliveredExactly()
      assert.equal(ledger.totals.delivered.messages, 920)
    })

    test('log path 2: all of a long outage survives, its first minute too, and the verdict says what is missing', async () => {
      let isOver = false
      void over.then(() => (isOver = true))
      const reasons = new Set<string>()
      while (!isOver) {
        patient.publish('a', 20)
        patient.publish('b', 20)
        await sleep(1_000)
        const { verdict } = await patient.gateway.status()
        if (verdict.state === 'buffering') reasons.add(verdict.reason ?? '')
      }
      assert.ok(
        [...reasons].some((reason) => /no connection to the broker 127\.0\.0\.1:\d+: nothing listens there/.test(reason)),
        [...reasons].join(' | '),
      )
      const ledger = await patient.deliveredExactly()
      assert.equal(ledger.totals.lost.messages, 0)
      await patient.isWell()
    })

    test("log path 15: the backlog leaves in large transactions, and never faster than the uplink's budget", async () => {
      const count = BACKLOG_BYTES / 1_024
      slow.publish('a', count / 2, noise(1_024))
      slow.publish('b', count / 2, noise(1_024))
      await slow.acknowledged()
      const before = await slow.gateway.status()
      await over
      const startedMs = performance.now()
      const sent: string[] = []
      await slow.until('the backlog has left', (status) => {
        const bytes = status.kafka.bytes - before.kafka.bytes
        // One second's burst, and the one transaction that may be charged in advance (two seconds' worth).
        const most = UPLINK_BYTES_PER_SECOND * ((performance.now() - startedMs) / 1_000 + 3)
        if (bytes > most) sent.push(`${bytes} bytes where ${Math.round(most)} were allowed`)
        return waitingIn(status) === 0
      })
      assert.deepEqual(sent, [])
      await slow.deliveredExactly()
      const transactions = (await slow.gateway.status()).kafka.transactions - before.kafka.transactions
      assert.ok(transactions < count / 20, `${transactions} transactions for ${count} messages`)
    })

    test('log path 16: a backlog of the deferred lane, and one of the normal lane, do not hold up what is live', async () => {
      mixed.publish('chatty', BACKLOG_BYTES / 1_024, noise(1_024))
      mixed.publish('backlog', BACKLOG_BYTES / 1_024, noise(1_024))
      await mixed.acknowledged()
      const { lanes } = await mixed.gateway.status()
      assert.ok((lanes['deferred']?.messages ?? 0) > 1_000 && (lanes['normal']?.messages ?? 0) > 1_000, JSON.stringify(lanes))
      await over
      await mixed.until(
        'something of the backlog has left',
        ({ lanes: { normal, deferred } }) => (normal?.delivered ?? 0) > 20 && (deferred?.delivered ?? 0) > 0,
      )
      const live = mixed.publish('live', 1, () => Buffer.from('{"level":"error"}'))
      await seen(mixed, live)
      const urgent = await mixed.gateway.status()
      assert.ok((urgent.lanes['normal']?.messages ?? 0) > 0, 'the urgent one has overtaken the normal backlog')
      await mixed.until('the normal backlog has left', (status) => status.lanes['normal']?.messages === 0)
      const later = mixed.publish('live', 1, () => Buffer.from('{"level":"info"}'))
      await seen(mixed, later)
      const normal = await mixed.gateway.status()
      assert.ok((normal.lanes['deferred']?.messages ?? 0) > 0, 'the normal one has overtaken the deferred backlog')
      await mixed.deliveredExactly()
    })
  })

  test('log path 3, 4: the broker bounces again and again under load, and each time forwarding goes on by itself', async () => {
    // A broker of its own: the others must not see it bounce.
    const broker = await scope.kafka()
    const box = await KafkaBox.start({ scope, kafka: broker, name: 'bounced' })
    for (let round = 0; round < 4; round += 1) {
      for (const device of ['a', 'b', 'c', 'd']) box.publish(device, 50)
      // Both in the middle of a transaction and at rest, with and without a farewell.
      await sleep(150 * round)
      if (round % 2 === 0) await broker.kill('SIGKILL')
      else await broker.stop()
      for (const device of ['a', 'b', 'c', 'd']) box.publish(device, 50)
      await broker.start()
      await box.until('something is forwarded again', (status) => waitingIn(status) < 400)
    }
    await box.deliveredExactly()
    await box.isWell()
  })
})

async function seen(box: KafkaBox, ids: readonly string[]): Promise<void> {
  for (;;) {
    const found = new Set((await box.consumed()).map(idOf))
    if (ids.every((id) => found.has(id))) return
    await sleep(100)
  }
}
