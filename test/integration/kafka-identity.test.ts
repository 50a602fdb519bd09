import assert from 'node:assert/strict'
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Faults } from '../contract/kafka-kit.ts'
import { idOf, judge } from '../fleet/judge.ts'
import { serviceScope } from '../services/index.ts'
import type { KafkaService } from '../services/index.ts'
import { KafkaBox } from './kafka-box.ts'

const scope = serviceScope()
let kafka: KafkaService
let faults: Faults

before(async () => {
  const started = await scope.kafkaBehindProxy()
  kafka = started.kafka
  faults = new Faults(started.proxy)
})

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
  assert.deepEqual({ lost, duplicates, outOfOrder, altered, inKafka }, { lost: [], duplicates: [], outOfOrder: [], altered: [], inKafka: published.size })
}

describe('a box with a past', { concurrency: true }, () => {
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
})
