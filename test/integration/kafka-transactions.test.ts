import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Faults } from '../contract/kafka-kit.ts'
import { until } from '../fleet/box.ts'
import { idOf, judge } from '../fleet/judge.ts'
import { KAFKA_API, serviceScope } from '../services/index.ts'
import type { KafkaService, KafkaVerdict } from '../services/index.ts'
import { KafkaBox } from './kafka-box.ts'
import { configureTopic } from './kafka-cluster.ts'

const scope = serviceScope()
let kafka: KafkaService
let faults: Faults

before(async () => {
  const started = await scope.kafkaBehindProxy({ properties: { 'transaction.abort.timed.out.transaction.cleanup.interval.ms': 500 } })
  kafka = started.kafka
  faults = new Faults(started.proxy)
})

/** Cuts the gateway off until it is called again. */
function cutOff({ name }: KafkaBox): () => void {
  faults.set(name, () => 'cut')
  return () => faults.clear(name)
}

/** How a request that ends a transaction ends when it commits; when it aborts, that byte is 0 (EndTxn, version 0 to 2). */
const COMMIT = 1

/** At the next commit of a transaction: `act`, and the request never arrives, or its answer. Resolves when it came to that. */
function atCommit({ name }: KafkaBox, act: () => void, verdict: KafkaVerdict = 'cut'): Promise<void> {
  return new Promise((resolve) => {
    faults.set(name, (apiKey, frame) => {
      if (apiKey !== KAFKA_API.endTxn || frame.at(-1) !== COMMIT) return 'pass'
      faults.clear(name)
      act()
      resolve()
      return verdict
    })
  })
}

/** Another producer, with no part in ours. */
async function writeForeign(topic: string, partition: number, text: string): Promise<void> {
  const child = promisify(execFile)('kcat', ['-P', '-b', kafka.internalEndpoint, '-t', topic, '-p', String(partition)])
  child.child.stdin?.end(text)
  await child
}

const noise = (bytes: number) => (): Buffer => Buffer.from(randomBytes(bytes).toString('base64').slice(0, bytes))
const devices = ['a', 'b', 'c', 'd', 'e', 'f'] as const

describe('transactions, and the lives of a box', { concurrency: 6 }, () => {
  // The first two wait longest.
  test('log path 30: if it never starts again, the readers go on when the transaction has timed out', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'timing', partitions: 1 })
    await powerCut(box)
    await writeForeign(box.topic, 0, 'foreign')
    assert.deepEqual(await texts(box), ['one'])
    await until('the reader goes on', async () => (await texts(box)).includes('foreign'))
    assert.deepEqual(await texts(box), ['one', 'foreign'], 'what was never committed stays hidden')
    await box.gateway.start()
    await box.drained()
    assert.deepEqual(await texts(box), ['one', 'foreign', 'two'])
  })

  test('log path 23, 31: a card is cloned with its backlog: both boxes say so, and each message arrives once', async () => {
    const name = 'cloned'
    const one = await KafkaBox.start({ scope, kafka, name })
    faults.set(name, () => 'cut')
    one.publish('backlog', 50)
    await one.acknowledged()
    await one.gateway.end('SIGKILL')
    const other = await KafkaBox.setUp({ scope, kafka, name, partitions: 0, dataDir: copyOf(one.dataDir) })
    await Promise.all([one.gateway.start(), other.gateway.start()])
    faults.clear(name)
    let isOver = false
    const traffic = (async () => {
      for (let round = 0; !isOver; round += 1) {
        one.publish('one', 1)
        other.publish('other', 1)
        await sleep(300)
      }
    })()
    const told = await Promise.all([one, other].map((box) => box.says(/another gateway uses the id "cloned"/)))
    isOver = true
    await traffic
    for (const { verdict } of told) {
      assert.equal(verdict.state, 'buffering')
      assert.match(verdict.remedy ?? '', /give each box its own gateway\.id/)
    }
    await other.acknowledged()
    await other.gateway.end('SIGTERM')
    // The one that stays goes on by itself.
    await one.drained()
    await one.isWell()
    await one.gateway.end('SIGTERM')
    await other.gateway.start()
    await other.drained()
    await arrivedOnce(one, other)
    const backlog = (await one.consumed()).map(idOf).filter((id) => id.startsWith('backlog-'))
    assert.equal(backlog.length, 50)
  })

  test('log path 5: one partition of a batch is refused: the replay doubles and reorders nothing', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'refused', partitions: 4 })
    for (const device of devices) box.publish(device, 10)
    await box.drained()
    // The gateway still believes in the old limit, so the record leaves, and the broker refuses it with its neighbours.
    await configureTopic(kafka, box.topic, { 'max.message.bytes': '4000' })
    let lives = 0
    faults.set(box.name, (apiKey) => {
      if (apiKey === KAFKA_API.initProducerId) lives += 1
      return 'pass'
    })
    for (const device of devices) box.publish(device, 10)
    const [large = ''] = box.publish('a', 1, noise(6_000))
    for (const device of devices) box.publish(device, 10)
    await box.drained()
    assert.equal(box.published.delete(large), true)
    await box.deliveredExactly()
    assert.equal((await box.gateway.status()).buffer.deadLetters, 1)
    assert.ok(lives > 0, 'a transaction was refused')
  })

  test('log path 5: answers to produce requests and to commits that never come double and reorder nothing', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'unanswered' })
    for (const api of [KAFKA_API.produce, KAFKA_API.endTxn, KAFKA_API.txnOffsetCommit, KAFKA_API.addPartitionsToTxn] as const) {
      let hits = 0
      faults.set(box.name, (apiKey) => (apiKey === api && hits++ < 2 ? 'cutAfterResponseSwallowed' : 'pass'))
      for (let round = 0; round < 3; round += 1) {
        for (const device of devices) box.publish(device, 20)
        await box.drained()
      }
      assert.ok(hits > 2, `the fault struck at ${api}, and it went on`)
    }
    const ledger = await box.deliveredExactly()
    assert.equal(ledger.totals.delivered.messages, box.published.size)
    assert.equal((await box.gateway.status()).kafka.redeliveryPossible, 0)
  })

  test('log path 13: a clean restart sends nothing again, at rest and under load', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'restarted' })
    for (let round = 0; round < 4; round += 1) {
      for (const device of devices) box.publish(device, 50)
      if (round % 2 === 0) await box.drained()
      assert.equal(await box.gateway.end('SIGTERM'), 0)
      await box.gateway.start()
    }
    await box.deliveredExactly()
    const {
      kafka: { redeliveryPossible },
    } = await box.gateway.status()
    assert.equal(redeliveryPossible, 0)
  })

  test('log path 13: with delivery at-least-once too, the last row is not sent again after a clean restart', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'plainly', config: { kafka: { delivery: 'at-least-once' } } })
    for (let round = 0; round < 3; round += 1) {
      for (const device of devices) box.publish(device, 20)
      await box.drained()
      assert.equal(await box.gateway.end('SIGTERM'), 0)
      await box.gateway.start()
    }
    await box.deliveredExactly()
  })

  test('log path 29: what a transaction in doubt holds is not evicted, so it is counted once when it proves committed', async () => {
    const buffer = { maxBytes: '16MiB', commit: { maxBytes: '256KiB' }, lanes: { normal: { whenFull: 'drop-oldest' } } }
    const box = await KafkaBox.start({ scope, kafka, name: 'evicting', config: { buffer } })
    box.publish('first', 10)
    await box.drained()
    const committed = new Promise<void>((resolve) => {
      let hit = false
      faults.set(box.name, (apiKey) => {
        if (hit) return 'cut'
        if (apiKey !== KAFKA_API.endTxn) return 'pass'
        hit = true
        resolve()
        return 'cutAfterResponseSwallowed'
      })
    })
    const doubtful = box.publish('doubtful', 100)
    await committed
    await until('Kafka has them, and the gateway does not know it', async () => (await box.consumed()).length >= 20)
    box.publish('filling', 400, noise(65_536))
    await box.acknowledged()
    const evicted = (await box.gateway.ledger()).totals.shed['evicted']?.messages ?? 0
    assert.ok(evicted > 50, `${evicted} were evicted`)
    faults.clear(box.name)
    await box.drained()
    const found = (await box.consumed()).map(idOf)
    assert.deepEqual([found.length, doubtful.filter((id) => !found.includes(id))], [new Set(found).size, []])
    const { totals, equation } = await box.gateway.ledger()
    assert.deepEqual(
      [equation.difference, totals.delivered.messages, totals.delivered.messages + (totals.shed['evicted']?.messages ?? 0)],
      [0, found.length, box.published.size],
    )
  })

  test('log path 29: a dead letter is set aside before the transaction that passes it: a kill in between loses and doubles nothing', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'noted' })
    await configureTopic(kafka, box.topic, { 'max.message.bytes': '4000' })
    cutOff(box)
    box.publish('a', 5)
    const [large = ''] = box.publish('a', 1, noise(6_000))
    box.publish('a', 5)
    await box.acknowledged()
    // A life that began before the change would send the large record, and abort the transaction when it is refused.
    await box.until('its first life has ended', ({ kafka: { state } }) => state === 'backing-off')
    await atCommit(box, () => box.gateway.signal('SIGKILL'), 'cutAfterResponseSwallowed')
    assert.equal(await box.gateway.ended(), 'SIGKILL')
    await until('the transaction is committed', async () => (await box.consumed()).length === 10)
    await box.gateway.start()
    await box.drained()
    const letters = JSON.parse(await box.edgectl(['dead-letters', '--json'])) as { deadLetters: { topic: string; reason: string }[] }
    assert.deepEqual(
      letters.deadLetters.map(({ topic }) => topic),
      [`devices/a/logs/app/${large}`],
    )
    box.published.delete(large)
    await box.deliveredExactly()
  })

  test('log path 30: after a power cut in the middle of a transaction, the next start lets the readers go on', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'fencing', partitions: 1 })
    await powerCut(box)
    await writeForeign(box.topic, 0, 'foreign')
    assert.deepEqual(await texts(box), ['one'], 'what the dead gateway left open holds the reader up')
    await box.gateway.start()
    await box.drained()
    const found = await texts(box)
    assert.deepEqual(found.toSorted(), ['foreign', 'one', 'two'])
  })

  test('log path 23, 31: a backup is restored: what was delivered since is not sent again, what is new arrives', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'restored' })
    box.publish('a', 20)
    await box.drained()
    faults.set(box.name, () => 'cut')
    box.publish('a', 30)
    box.publish('b', 30)
    await box.acknowledged()
    await box.gateway.end('SIGTERM')
    const backup = copyOf(box.dataDir)
    faults.clear(box.name)
    await box.gateway.start()
    box.publish('a', 30)
    await box.drained()
    await box.gateway.end('SIGTERM')
    for (let round = 1; round <= 2; round += 1) {
      rmSync(box.dataDir, { recursive: true })
      cpSync(backup, box.dataDir, { recursive: true })
      await box.gateway.start()
      box.publish('a', 30)
      box.publish(`new-${round}`, 30)
      await box.drained()
      await box.gateway.end('SIGKILL')
    }
    await arrivedOnce(box)
  })

  test('log path 23: a box is set up anew under its old id: its new messages arrive', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'anew' })
    for (let round = 0; round < 3; round += 1) {
      box.publish('a', 40)
      await box.drained()
      await box.gateway.end(round === 1 ? 'SIGKILL' : 'SIGTERM')
      rmSync(box.dataDir, { recursive: true })
      await box.gateway.start()
    }
    await arrivedOnce(box)
  })
})

async function powerCut(box: KafkaBox): Promise<void> {
  box.publish('a', 1, () => Buffer.from('one'))
  await box.drained()
  const dead = atCommit(box, () => box.gateway.signal('SIGKILL'))
  box.publish('a', 1, () => Buffer.from('two'))
  await dead
  await box.gateway.ended()
}

async function texts(box: KafkaBox): Promise<string[]> {
  return (await box.consumed()).map(({ payload }) => payload.toString())
}

function copyOf(dataDir: string): string {
  const copy = join(scope.folder(), 'state')
  cpSync(dataDir, copy, { recursive: true })
  return copy
}

/** What several gateways published into one topic, each once and in order. */
async function arrivedOnce(...boxes: readonly KafkaBox[]): Promise<void> {
  const [first] = boxes
  assert.ok(first !== undefined)
  const published = new Map(boxes.flatMap((box) => [...box.published]))
  const { lost, duplicates, outOfOrder, altered, inKafka } = judge(published, await first.consumed())
  assert.deepEqual(
    { lost, duplicates, outOfOrder, altered, inKafka },
    { lost: [], duplicates: [], outOfOrder: [], altered: [], inKafka: published.size },
  )
}
