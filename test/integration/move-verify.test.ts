/** Backup and verification with a real Kafka. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { before, describe, test } from 'node:test'
import kafkajs from '../../adapters/kafka/kafkajs.ts'
import type { LaneVerdict } from '../../daemon/verify/judge.ts'
import { edgectlOf } from '../fleet/box.ts'
import { judge } from '../fleet/judge.ts'
import { serviceScope } from '../services/index.ts'
import type { KafkaService } from '../services/index.ts'
import { KafkaBox } from './kafka-box.ts'

const scope = serviceScope()
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

interface Verified {
  readonly proven: boolean
  readonly records: number
  readonly lanes: readonly LaneVerdict[]
}

async function verified(box: KafkaBox, args: readonly string[] = []): Promise<Verified & { readonly code: number }> {
  const { code, stdout, stderr } = await edgectlOf(box, ['--json', 'verify', ...args])
  assert.ok(stdout !== '', stderr)
  return { ...(JSON.parse(stdout) as Verified), code }
}

/** A record as the gateway would write it, by a program that shares no code with it. */
function plant(box: KafkaBox, key: string, position: string): void {
  const headers = ['-H', `gw=${box.name}`, '-H', `pos=${position}`]
  const args = ['-P', '-b', kafka.internalEndpoint, '-t', box.topic, '-k', key, ...headers]
  const { status, stderr } = spawnSync('kcat', args, { input: 'planted' })
  assert.equal(status, 0, String(stderr))
}

describe('what the box says of the past', { concurrency: true }, () => {
  test('verify proves what is there, and names a planted gap and a planted duplicate', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'verify' })
    for (const device of ['a', 'b', 'c']) box.publish(device, 100)
    await box.drained()
    await box.gateway.end('SIGTERM')
    await box.gateway.start()
    box.publish('a', 50)
    await box.drained()
    const sound = await verified(box)
    assert.deepEqual([sound.code, sound.proven, sound.records, sound.lanes.length], [0, true, 350, 2])
    const [first, second] = sound.lanes
    assert.deepEqual([first?.first, first?.last, second?.first, second?.last], [1, 300, 301, 350])
    const epoch = second?.epoch ?? ''
    plant(box, 'a', `${epoch}:normal:310`)
    plant(box, 'b', `${epoch}:normal:360`)
    const broken = await verified(box)
    const found = broken.lanes.find((lane) => lane.epoch === epoch)
    assert.deepEqual([broken.code, broken.proven], [1, false])
    assert.deepEqual([found?.duplicates, found?.missing], [[{ position: 310, device: 'a' }], [{ first: 351, last: 359 }]])
    const text = await edgectlOf(box, ['verify', '--device', 'a'])
    assert.match(text.stdout, /MISSING 9: positions 351\.\.359/)
    assert.match(text.stdout, /TWICE 1: 310 \(a\)/)
    assert.match(text.stdout, /device a: 151 records/)
    assert.equal((await verified(box, ['--epoch', first?.epoch ?? ''])).code, 0)
    await box.gateway.end('SIGTERM')
    assert.equal((await verified(box)).code, 1, 'it works with the daemon down')
  })

  test('what is committed and can not be read yet is no gap: another program holds the end of the topic back', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'held-back' })
    const other = new kafkajs.Kafka({ brokers: [kafka.internalEndpoint], logLevel: 0 })
    const producer = other.producer({ transactionalId: 'other', idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    scope.atEnd(() => producer.disconnect())
    const transaction = await producer.transaction()
    await transaction.send({ topic: box.topic, messages: [0, 1, 2].map((partition) => ({ partition, value: 'undecided' })) })
    for (const device of ['a', 'b', 'c']) box.publish(device, 10)
    await box.drained()
    const asked = edgectlOf(box, ['verify'])
    const early = await Promise.race([asked, sleep(4_000)])
    assert.equal(early, undefined, early?.stdout)
    await transaction.abort()
    const { code, stdout, stderr } = await asked
    assert.match(stderr, /^waiting: a transaction is open in logs-held-back, partition /m)
    assert.match(stdout, /30 records/)
    assert.equal(code, 0, stdout)
  })

  test('what was exported is no gap', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'gaps' })
    box.publish('a', 20)
    await box.drained()
    await box.reconfigure({ kafka: { brokers: ['127.0.0.1:1'] } })
    box.publish('a', 30)
    await box.acknowledged()
    await box.edgectl(['export', '--out', scope.folder()])
    await box.reconfigure({ kafka: { brokers: [kafka.endpoint] } })
    box.publish('a', 5)
    await box.drained()
    const { code, lanes } = await verified(box)
    assert.equal(code, 0)
    const explained = lanes.map((lane) => lane.explained)
    assert.deepEqual(
      lanes.map(({ missingCount }) => missingCount).every((missing) => missing === 0),
      true,
    )
    assert.ok(
      explained.some(({ exported }) => exported === 30),
      JSON.stringify(lanes),
    )
  })

  test('a backup, more messages, a restore in another folder: nothing is twice, nothing lost', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'backup' })
    box.publish('a', 200)
    await box.drained()
    await box.reconfigure({ kafka: { brokers: ['127.0.0.1:1'] } })
    for (const device of ['a', 'b']) box.publish(device, 200)
    await box.acknowledged()
    const out = scope.folder()
    await box.edgectl(['backup', '--out', out])
    const folder = join(out, readdirSync(out)[0] ?? '')
    assert.match(await box.edgectl(['backup', 'check', folder]), /whole/)
    assert.ok(!existsSync(join(folder, 'identity.key')))
    assert.ok(readFileSync(join(folder, 'config', 'config.yaml'), 'utf8').includes('edge-backup'))
    await box.reconfigure({ kafka: { brokers: [kafka.endpoint] } })
    box.publish('b', 100)
    await box.drained()
    await box.gateway.end('SIGTERM')
    rmSync(box.dataDir, { recursive: true })
    mkdirSync(box.dataDir)
    for (const name of ['outbox.db', 'state.db']) cpSync(join(folder, name), join(box.dataDir, name))
    await box.gateway.start()
    box.publish('a', 50)
    await box.drained()
    const { lost, duplicates, outOfOrder, altered } = judge(box.published, await box.consumed())
    assert.deepEqual({ lost, duplicates, outOfOrder, altered }, { lost: [], duplicates: [], outOfOrder: [], altered: [] })
    assert.equal((await verified(box)).code, 0)
    await box.gateway.end('SIGTERM')
    const cold = scope.folder()
    await box.edgectl(['backup', '--out', join(cold, 'one')])
    assert.match(await box.edgectl(['backup', 'check', join(cold, 'one')]), /whole/)
    writeFileSync(join(folder, 'outbox.db'), readFileSync(join(folder, 'outbox.db')).fill(7, 5_000, 5_010))
    assert.match((await edgectlOf(box, ['backup', 'check', folder])).stderr, /outbox.db is not what was written/)
  })
})
