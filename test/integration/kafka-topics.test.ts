import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { before, describe, test } from 'node:test'
import { Faults } from '../contract/kafka-kit.ts'
import { until } from '../fleet/box.ts'
import { idOf } from '../fleet/judge.ts'
import { serviceScope } from '../services/index.ts'
import type { KafkaService } from '../services/index.ts'
import { KafkaBox, prefixOf, topicOf } from './kafka-box.ts'
import { configureTopic, createTopic, deleteTopic, growTopic, runPrinted } from './kafka-cluster.ts'

const scope = serviceScope()
let kafka: KafkaService
let faults: Faults

before(async () => {
  const started = await scope.kafkaBehindProxy({ properties: { 'log.segment.delete.delay.ms': 100 } })
  kafka = started.kafka
  faults = new Faults(started.proxy)
})

const noise = (bytes: number) => (): Buffer => Buffer.from(randomBytes(bytes).toString('base64').slice(0, bytes))

interface Letter {
  readonly id: number
  readonly topic: string
  readonly reason: string
  readonly payloadBase64?: string
}

async function lettersOf(box: KafkaBox): Promise<readonly Letter[]> {
  const { deadLetters } = JSON.parse(await box.edgectl(['dead-letters', 'list', '--json'])) as { deadLetters: Letter[] }
  return deadLetters
}

/** A record of the gateway's own. */
interface Own {
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
  readonly document: Readonly<Record<string, unknown>>
}

async function ownRecords(box: KafkaBox, topic: string): Promise<Own[]> {
  const records = await box.consumed(`${box.prefix}.${topic}`)
  return records.map(({ key, headers, payload }) => ({ key, headers, document: JSON.parse(payload.toString()) as Own['document'] }))
}

function verdictIn({ document }: Own): { readonly state: string; readonly reason?: string } {
  return document['verdict'] as { state: string; reason?: string }
}

describe('what is missing or wrong in Kafka is said in the verdict, and healed without a restart', { concurrency: 6 }, () => {
  // First, since the status record comes after a minute.
  test('verdicts and a status record go to the events topic, totals to the ledger topic', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'telling' })
    box.publish('a', 50)
    await box.drained()
    await until('that it is well is told', () => box.logged(/"ok: /) === 1)
    faults.set(box.name, () => 'cut')
    box.publish('a', 50)
    await until('the change is told', () => box.logged(/"buffering: /) > 0)
    faults.clear(box.name)
    await until('that it is well again is told', () => box.logged(/"ok: /) === 2)
    const events = await until('a status record is there', async () => {
      const found = await ownRecords(box, 'events')
      return found.some(({ headers }) => headers['type'] === 'status') ? found : undefined
    })
    const { epoch } = (await box.gateway.status()).buffer
    for (const { key, headers, document } of events) {
      assert.deepEqual(
        [key, headers['gw'], document['gateway'], document['epoch'] ?? epoch, document['schema']],
        [box.name, box.name, box.name, epoch, 1],
      )
      assert.match(headers['pos'] ?? '', new RegExp(`^${epoch}:internal:[0-9]+$`))
      assert.equal(headers['type'], document['type'])
    }
    const verdicts = events.filter(({ headers }) => headers['type'] === 'verdict').map(verdictIn)
    assert.deepEqual(
      verdicts.slice(-3).map(({ state }) => state),
      ['ok', 'buffering', 'ok'],
    )
    assert.match(verdicts.at(-2)?.reason ?? '', /the broker .* closed the connection|no connection/)
    const status = events.find(({ headers }) => headers['type'] === 'status')
    const shape = Object.keys(await box.gateway.status())
    assert.deepEqual(Object.keys(status?.document ?? {}).toSorted(), [...shape, 'epoch', 'type'].toSorted())

    const before = (await box.gateway.ledger()).totals
    assert.equal(before.delivered.messages, 100)
    await box.gateway.end('SIGTERM')
    await box.gateway.start()
    const last = await until('the totals at the stop are there', async () =>
      (await ownRecords(box, 'ledger')).find(({ document }) => document['cause'] === 'stop'),
    )
    assert.deepEqual([last.key, last.headers['type'], last.document['totals']], [`${box.name}.${epoch}`, 'totals', before])
    await box.deliveredExactly()
  })

  test('nothing was set up', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'bare', partitions: 0 })
    box.publish('a', 20)
    const { verdict } = await box.says(/^Kafka has no topic "edge-bare\.positions"$/)
    assert.equal(verdict.state, 'buffering')
    assert.match(verdict.remedy ?? '', /edgectl kafka setup/)
    assert.match(
      await box.edgectl(['status']).catch((error: { stdout: string }) => error.stdout),
      /^BUFFERING: Kafka has no topic "edge-bare\.positions" since .*no loss/,
    )
    await box.createTopics()
    await box.isWell()
    await box.deliveredExactly()
  })

  test('the data topic is missing', async () => {
    const name = 'homeless'
    await createTopic(kafka, `${prefixOf(name)}.positions`, 4)
    const box = await KafkaBox.start({ scope, kafka, name, partitions: 0 })
    box.publish('a', 20)
    const { verdict } = await box.says(/^Kafka has no topic "logs-homeless"$/)
    assert.match(verdict.remedy ?? '', /edgectl kafka setup/)
    await box.createTopics()
    await box.isWell()
    await box.deliveredExactly()
  })

  test('the positions topic has too few partitions', async () => {
    const name = 'narrow'
    await createTopic(kafka, `${prefixOf(name)}.positions`, 2)
    await createTopic(kafka, topicOf(name), 3)
    const box = await KafkaBox.start({ scope, kafka, name, partitions: 0 })
    box.publish('a', 20)
    const { verdict } = await box.says(/"edge-narrow\.positions" has 2 of the 4 partitions/)
    assert.match(verdict.remedy ?? '', /edgectl kafka setup/)
    await box.createTopics()
    await box.isWell()
    await box.deliveredExactly()
  })

  test('the data topic is compacted: both commands that are printed mend it', async () => {
    const name = 'compacted'
    await createTopic(kafka, topicOf(name), 3, { 'cleanup.policy': 'compact' })
    const box = await KafkaBox.setUp({ scope, kafka, name, partitions: 0 })
    const setup = await box.createTopics().then(
      () => assert.fail('setup must not call this right'),
      (error: { code: number; stdout: string }) => error,
    )
    assert.equal(setup.code, 1)
    const fault = /cleanup\.policy is compact, and must be delete: (kafka-configs\.sh .*)/.exec(setup.stdout)?.[1] ?? ''
    await box.gateway.start()
    box.publish('a', 20)
    const { verdict } = await box.says(/"logs-compacted" is compacted/)
    const remedy = /`(kafka-configs\.sh .*)`/.exec(verdict.remedy ?? '')?.[1] ?? ''
    await runPrinted(kafka, remedy)
    await box.isWell()
    await box.deliveredExactly()
    await configureTopic(kafka, box.topic, { 'cleanup.policy': 'compact' })
    await runPrinted(kafka, fault)
    await box.createTopics()
  })

  test('log path 4: the topic is deleted and created again, with other partitions', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'recreated', partitions: 4 })
    box.publish('a', 20)
    await box.deliveredExactly()
    await deleteTopic(kafka, box.topic)
    // What was in it is gone with it, and none of ours.
    box.published.clear()
    box.publish('a', 20)
    box.publish('b', 20)
    const { verdict } = await box.says(/"logs-recreated"/)
    assert.equal(verdict.state, 'buffering')
    await createTopic(kafka, box.topic, 2)
    await box.isWell()
    await box.deliveredExactly()
  })

  test('log path 25: the topic gets more partitions: nothing is lost or doubled, and each device keeps its order on each side', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'grown', partitions: 2 })
    const devices = Array.from({ length: 12 }, (_, index) => `device-${index}`)
    for (const device of devices) box.publish(device, 20)
    await box.drained()
    await growTopic(kafka, box.topic, 5)
    for (const device of devices) box.publish(device, 20)
    await box.drained()
    await box.gateway.end('SIGTERM')
    await box.gateway.start()
    for (const device of devices) box.publish(device, 20)
    // `deliveredExactly` judges the order of each device within each partition.
    await box.deliveredExactly()
    assert.ok(
      (await box.consumed()).some(({ partition }) => partition >= 2),
      'the new partitions are used',
    )
  })

  test('log path 12: one record too large for the topic: its neighbours arrive, and it can be looked at, sent again and given up', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'oversize' })
    await configureTopic(kafka, box.topic, { 'max.message.bytes': '4000' })
    await box.gateway.end('SIGTERM')
    await box.gateway.start()
    box.publish('a', 10)
    const [large = '', second = ''] = box.publish('a', 2, noise(6_000))
    box.publish('a', 10)
    await box.drained()
    const [letter, other] = await lettersOf(box)
    assert.ok(letter !== undefined && other !== undefined)
    assert.deepEqual([letter.topic, other.topic], [`devices/a/logs/app/${large}`, `devices/a/logs/app/${second}`])
    assert.match(letter.reason, /about 6\d\d\d bytes, and the topic "logs-oversize" takes 4000 \(max\.message\.bytes\)/)
    const shown = JSON.parse(await box.edgectl(['dead-letters', 'show', String(letter.id), '--payload', '--json'])) as Letter
    assert.deepEqual(Buffer.from(shown.payloadBase64 ?? '', 'base64'), box.published.get(large)?.payload)
    await until('the centre is told of both', async () => (await box.consumed(`${box.prefix}.dead-letter`)).length === 2)

    await configureTopic(kafka, box.topic, { 'max.message.bytes': '100000' })
    await box.edgectl(['dead-letters', 'retry', String(letter.id)])
    await box.edgectl(['dead-letters', 'drop', String(other.id)])
    await until('what was tried again is in Kafka', async () => (await box.consumed()).some((record) => idOf(record) === large))
    assert.deepEqual(await lettersOf(box), [])
    assert.equal(box.published.delete(second), true)
    const { totals } = await box.gateway.ledger()
    assert.deepEqual([totals.deadLettered.messages, totals.shed], [0, { 'dead-letter-dropped': { messages: 1, bytes: 6_000 } }])
    const found = await box.consumed()
    assert.deepEqual(found.map(idOf).toSorted(), [...box.published.keys()].toSorted())
    assert.equal((await box.gateway.ledger()).equation.difference, 0)
  })

  test('a template leads to allowed topics only, and what leads elsewhere is set aside with the reason', async () => {
    const allowed = ['tpl.app', 'tpl.sys']
    const box = await KafkaBox.start({
      scope,
      kafka,
      name: 'template',
      config: { kafka: { topic: 'tpl.{stream}', allowedTopics: allowed } },
    })
    box.publish('a', 20, undefined, 'app')
    box.publish('b', 20, undefined, 'sys')
    const strays = box.publish('a', 2, undefined, 'secret')
    box.publish('a', 20, undefined, 'app')
    await box.drained()
    const letters = await lettersOf(box)
    assert.deepEqual(
      letters.map(({ topic }) => topic),
      strays.map((id) => `devices/a/logs/secret/${id}`),
    )
    for (const { reason } of letters) assert.match(reason, /"tpl\.secret".*(kafka\.)?allowedTopics/)
    for (const id of strays) box.published.delete(id)
    await box.deliveredExactly(allowed)
    assert.equal((await box.consumed('tpl.sys')).length, 20)
  })

  test('log path 17: one topic of a template is missing: the verdict says it, though another lane flows', async () => {
    const config = {
      limits: { severity: { from: 'json:/level', urgent: ['error'] } },
      kafka: { topic: 'part.{stream}', allowedTopics: ['part.app', 'part.sys'] },
    }
    const box = await KafkaBox.start({ scope, kafka, name: 'partly', config })
    box.publish('a', 5, undefined, 'sys')
    await box.drained()
    await deleteTopic(kafka, 'part.sys')
    await box.gateway.end('SIGTERM')
    await box.gateway.start()
    box.published.clear()
    box.publish('a', 5, undefined, 'sys')
    const looks: string[] = []
    await until('urgent messages flow past what waits', async () => {
      box.publish('b', 1, () => Buffer.from('{"level":"error"}'), 'app')
      const { lanes, verdict } = await box.gateway.status()
      const delivered = lanes['urgent']?.delivered ?? 0
      if (delivered > 0) looks.push(`${verdict.state}: ${verdict.line}`)
      return delivered > 10 && looks.length > 10
    })
    const blind = looks.filter((look) => !/^(degraded|buffering): .*Kafka has no topic "part\.sys"/.test(look))
    assert.deepEqual(blind, [])
    await createTopic(kafka, 'part.sys', 3)
    await box.isWell()
    await box.deliveredExactly(['part.app', 'part.sys'])
  })
})
