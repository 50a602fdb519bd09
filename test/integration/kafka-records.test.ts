import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { Faults } from '../contract/kafka-kit.ts'
import { until } from '../fleet/box.ts'
import { idOf, judge } from '../fleet/judge.ts'
import { KAFKA_API, serviceScope } from '../services/index.ts'
import type { KafkaService } from '../services/index.ts'
import { KafkaBox, prefixOf, topicOf, waitingIn } from './kafka-box.ts'
import { createTopic } from './kafka-cluster.ts'

const scope = serviceScope()
let kafka: KafkaService
let faults: Faults

before(async () => {
  const started = await scope.kafkaBehindProxy()
  kafka = started.kafka
  faults = new Faults(started.proxy)
})

describe('records and reloads', { concurrency: 4 }, () => {
  test('bear the key, the time and the headers of the design, and lie where the Java producer would put them', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'shaped', partitions: 7 })
    const keys = [
      'gerät ü',
      '漢字',
      'a',
      'pump.7',
      'x'.repeat(200),
      '😀',
      ...Array.from({ length: 30 }, (_, index) => `device-${index * 7919}`),
    ]
    const payloads = [Buffer.from([0, 1, 255, 254, 10, 13, 9]), Buffer.from('line\r\n'), Buffer.from('{"level":"info"}'), Buffer.alloc(0)]
    const fromMs = Date.now()
    for (const key of keys) for (const payload of payloads) box.publish(key, 1, () => payload)
    await box.deliveredExactly()
    const toMs = Date.now()
    const { epoch } = (await box.gateway.status()).buffer
    const positions = new Set<number>()
    for (const { headers, key, timestampMs } of await timed(box)) {
      const at = new Date(timestampMs)
      assert.ok(timestampMs >= fromMs && timestampMs <= toMs, `${timestampMs}`)
      const position = Number(headers['pos']?.split(':')[2])
      positions.add(position)
      const id = box.published.get(idOf({ headers } as never))?.id ?? ''
      assert.equal(id.slice(0, id.lastIndexOf('-')), key)
      assert.deepEqual(Object.entries(headers), [
        ['gw', 'shaped'],
        ['pos', `${epoch}:normal:${position}`],
        ['ts', at.toISOString()],
        ['mqtt-topic', `devices/${key}/logs/app/${id}`],
      ])
    }
    assert.deepEqual(
      [Math.min(...positions), Math.max(...positions), positions.size],
      [1, box.published.size, box.published.size],
      'dense positions',
    )

    await createTopic(kafka, 'java', 7)
    const input = keys.map((key) => `${key}|x\n`).join('')
    await kafka.tool(
      'org.apache.kafka.tools.ConsoleProducer',
      ['--topic', 'java', '--property', 'parse.key=true', '--property', 'key.separator=|'],
      { input },
    )
    const byJava = new Map((await box.consumed('java')).map(({ key, partition }) => [key, partition]))
    assert.equal(byJava.size, keys.length)
    const elsewhere = (await box.consumed()).filter(({ key, partition }) => byJava.get(key) !== partition)
    assert.deepEqual(elsewhere, [])
  })

  test('at-least-once needs no positions topic; what may be there already is sent again, marked and counted', async () => {
    const name = 'twice'
    await createTopic(kafka, topicOf(name), 3)
    for (const own of ['events', 'ledger', 'dead-letter']) await createTopic(kafka, `${prefixOf(name)}.${own}`, 1)
    const box = await KafkaBox.start({ scope, kafka, name, partitions: 0, config: { kafka: { delivery: 'at-least-once' } } })
    for (const device of ['a', 'b', 'c']) box.publish(device, 50)
    await box.deliveredExactly()
    let hits = 0
    faults.set(name, (apiKey) => (apiKey === KAFKA_API.produce && hits++ === 0 ? 'cutAfterResponseSwallowed' : 'pass'))
    for (const device of ['a', 'b', 'c']) box.publish(device, 50)
    await box.drained()
    const found = await box.consumed()
    const { lost, outOfOrder, altered, duplicates } = judge(box.published, found)
    assert.deepEqual([lost, outOfOrder, altered], [[], [], []])
    assert.ok(duplicates.length > 0, 'the unanswered records are there twice')
    const marked = found.filter(({ headers }) => headers['redelivery'] === 'possible').map(idOf)
    assert.deepEqual(
      duplicates.filter((id) => !marked.includes(id)),
      [],
      'each second one is marked',
    )
    assert.equal((await box.gateway.status()).kafka.redeliveryPossible, marked.length)
    const { totals, equation } = await box.gateway.ledger()
    assert.deepEqual([equation.difference, totals.delivered.messages], [0, 300], 'the ledger counts messages, not sendings')
  })
  test("log path 18: Kafka's settings change under load, and nothing is lost, doubled or reordered", async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'reloaded' })
    const second = `${box.topic}.second`
    await createTopic(kafka, second, 2)
    const changes = [
      { compression: 'none' },
      { transaction: { linger: '50ms', perSecond: 10 } },
      { uplinkBytesPerSecond: '1MiB' },
      { topic: second },
      { brokers: [kafka.internalEndpoint] },
      { delivery: 'at-least-once' },
      { delivery: 'exactly-once', topic: box.topic, brokers: [kafka.endpoint] },
    ]
    for (const change of changes) {
      for (const device of ['a', 'b', 'c', 'd']) box.publish(device, 40)
      await box.reconfigure({ kafka: change })
      for (const device of ['a', 'b', 'c', 'd']) box.publish(device, 40)
      await box.until('something is forwarded', (status) => waitingIn(status) < 200)
    }
    await box.deliveredExactly([box.topic, second])
    assert.ok((await box.consumed(second)).length > 0)
    assert.equal((await box.gateway.status()).kafka.redeliveryPossible, 0)
  })

  test('log path 18: a reload while Kafka is away deletes nothing that is stored', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'keeping' })
    const second = `${box.topic}.second`
    await createTopic(kafka, second, 2)
    faults.set(box.name, () => 'cut')
    box.publish('a', 200)
    await box.acknowledged()
    await box.reconfigure({ kafka: { topic: second, compression: 'none' }, buffer: { lanes: { normal: { weight: 2 } } } })
    assert.equal(waitingIn(await box.gateway.status()), 200)
    faults.clear(box.name)
    await box.deliveredExactly([box.topic, second])
    assert.equal((await box.consumed(second)).length, 200)
  })

  test('log path 18: what names the past waits for a restart, whatever else is changed with it', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'waiting' })
    box.publish('a', 20)
    await box.drained()
    await box.reconfigure({ kafka: { prefix: 'edge-later', compression: 'none' }, gateway: { id: 'later' } })
    assert.match(box.log(), /"afterRestart":\["gateway\.id","kafka\.prefix"\]/)
    box.publish('a', 20)
    await box.drained()
    // Once more, with another change: what waits still waits.
    await box.reconfigure({ kafka: { compression: 'gzip' } })
    box.publish('a', 20)
    await box.deliveredExactly()
    const { verdict, gateway } = await box.isWell()
    assert.deepEqual([verdict.state, gateway], ['ok', 'waiting'])
    assert.deepEqual([...new Set((await box.consumed()).map(({ headers }) => headers['gw']))], ['waiting'])
    assert.doesNotMatch(box.log(), /edge-later\.positions/)
  })

  test('log path 18: a template is taken over together with the pattern whose parts it needs', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'template' })
    await createTopic(kafka, 'template.x', 2)
    box.publish('a', 20)
    await box.drained()
    const pattern = 'devices/{device}/logs/{area}/{id}'
    await box.reconfigure({ mqtt: { topics: { logs: { pattern } } }, kafka: { topic: 'template.{area}', allowedTopics: ['template.x'] } })
    box.publish('a', 20, undefined, 'x')
    await box.deliveredExactly([box.topic, 'template.x'])
    assert.equal((await box.gateway.status()).buffer.deadLetters, 0)
    assert.equal((await box.consumed('template.x')).length, 20)
  })

  test('a configuration that is not valid changes nothing', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'invalid' })
    box.publish('a', 20)
    const valid = readFileSync(box.configFile, 'utf8')
    writeFileSync(box.configFile, `${valid}\nkafkaa: { brokers: [] }\n`)
    box.gateway.signal('SIGHUP')
    await until('it says so', () => /is not valid; the daemon goes on with the old one/.test(box.log()))
    assert.match(box.log(), /kafkaa/)
    box.publish('a', 20)
    await box.deliveredExactly()
  })
})

interface Timed {
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
  readonly timestampMs: number
}

/** With Kafka's own timestamp; headers in their order. */
async function timed(box: KafkaBox): Promise<Timed[]> {
  const args = [
    '-C',
    '-q',
    '-e',
    '-b',
    kafka.internalEndpoint,
    '-t',
    box.topic,
    '-o',
    'beginning',
    '-X',
    'isolation.level=read_committed',
    '-f',
    '%T\\t%k\\t%h\\n',
  ]
  const { stdout } = await promisify(execFile)('kcat', args, { maxBuffer: 64 * 1024 * 1024 })
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [timestamp, key = '', headers = ''] = line.split('\t')
      const pairs = headers.split(',').map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)])
      return { key, timestampMs: Number(timestamp), headers: Object.fromEntries(pairs) as Record<string, string> }
    })
}
