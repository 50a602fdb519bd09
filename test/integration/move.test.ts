/** Export and import with a real Kafka: messages leave on a medium, and another box delivers them, each once. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { appendFileSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import type { ImportFigures } from '../../daemon/move/figures.ts'
import { edgectlOf, until } from '../fleet/box.ts'
import { judge } from '../fleet/judge.ts'
import { serviceScope } from '../services/index.ts'
import type { KafkaService } from '../services/index.ts'
import { KafkaBox } from './kafka-box.ts'
import { configureTopic } from './kafka-cluster.ts'

const scope = serviceScope()
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

/** A box that can't reach Kafka: its broker is named, and nobody is there. */
const AWAY = { kafka: { brokers: ['127.0.0.1:1'] } }

async function cutOff(name: string): Promise<KafkaBox> {
  const box = await KafkaBox.start({ scope, kafka, name })
  await box.reconfigure(AWAY)
  return box
}

async function exported(box: KafkaBox, args: readonly string[] = []): Promise<string> {
  const out = scope.folder()
  await box.edgectl(['export', '--out', out, ...args])
  const [first] = readdirSync(out).sort((a, b) => a.length - b.length)
  assert.ok(first !== undefined && !first.endsWith('.partial'))
  return join(out, first)
}

async function importsOf(box: KafkaBox): Promise<readonly ImportFigures[]> {
  return ((await box.gateway.ask('/imports')) as { imports: readonly ImportFigures[] }).imports
}

async function delivered(box: KafkaBox): Promise<void> {
  await until(`${box.name} delivers its imports`, async () => (await importsOf(box)).length === 0)
}

async function assertExact(box: KafkaBox): Promise<void> {
  const { lost, duplicates, outOfOrder, altered, inKafka } = judge(box.published, await box.consumed())
  assert.deepEqual(
    { lost, duplicates, outOfOrder, altered, inKafka },
    { lost: [], duplicates: [], outOfOrder: [], altered: [], inKafka: box.published.size },
  )
}

async function balance(box: KafkaBox): Promise<{ exported: number; buffered: number; offBy: number }> {
  const { totals, equation } = await box.gateway.ledger()
  return { exported: totals.exported.messages, buffered: totals.buffered.messages, offBy: equation.difference }
}

describe('messages leave on a medium', { concurrency: true }, () => {
  let courier: KafkaBox

  before(async () => {
    courier = await KafkaBox.start({ scope, kafka, name: 'courier' })
  })

  test('an outage, an export, and delivery by another box; the origin goes on', async () => {
    const origin = await KafkaBox.start({ scope, kafka, name: 'origin' })
    origin.publish('early', 50)
    await origin.drained()
    await origin.reconfigure(AWAY)
    for (const device of ['a', 'b', 'c']) origin.publish(device, 200)
    await origin.acknowledged()
    const file = await exported(origin)
    assert.deepEqual(await balance(origin), { exported: 600, buffered: 0, offBy: 0 })
    origin.publish('a', 30)
    await origin.acknowledged()
    await courier.edgectl(['import', file])
    await delivered(courier)
    await origin.reconfigure({ kafka: { brokers: [kafka.endpoint] } })
    await origin.drained()
    await assertExact(origin)
    assert.deepEqual(await balance(origin), { exported: 600, buffered: 0, offBy: 0 })
    const again = await edgectlOf(courier, ['import', file])
    assert.equal(again.code, 0, 'an import that was delivered can be repeated')
    await delivered(courier)
    await assertExact(origin)
  })

  test('the daemon is down; the file has parts; two boxes import it at the same time', async () => {
    const origin = await cutOff('down')
    for (const device of ['a', 'b']) origin.publish(device, 500, () => Buffer.alloc(1_000, 'x'))
    await origin.acknowledged()
    await origin.gateway.end('SIGKILL')
    const file = await exported(origin, ['--part-size', '300KiB'])
    assert.ok(existsSync(file.replace(/\.ndjson$/, '.2.ndjson')))
    const second = await KafkaBox.start({ scope, kafka, name: 'second' })
    await Promise.all([courier.edgectl(['import', file]), second.edgectl(['import', file])])
    await Promise.all([delivered(courier), delivered(second)])
    await assertExact(origin)
    await origin.gateway.start()
    assert.deepEqual(await balance(origin), { exported: 1_000, buffered: 0, offBy: 0 })
  })

  test('a box takes its own messages back', async () => {
    const origin = await cutOff('own')
    origin.publish('a', 300)
    await origin.acknowledged()
    const file = await exported(origin)
    origin.publish('a', 20)
    await origin.edgectl(['import', file])
    await origin.reconfigure({ kafka: { brokers: [kafka.endpoint] } })
    await delivered(origin)
    await origin.drained()
    await assertExact(origin)
  })

  test('what Kafka refuses of an import waits for a person, and is tried again or dropped', async () => {
    const origin = await cutOff('refused')
    origin.publish('a', 10)
    origin.publish('big', 2, () => randomBytes(40_000))
    await origin.acknowledged()
    const file = await exported(origin)
    await configureTopic(kafka, origin.topic, { 'max.message.bytes': '20000' })
    await courier.edgectl(['import', file])
    const letters = async (count: number): Promise<ImportFigures> =>
      until('the dead letters are told', async () =>
        (await importsOf(courier)).find(({ gateway, deadLetters }) => gateway === 'refused' && deadLetters === count),
      )
    const { id } = await letters(2)
    assert.match(await courier.edgectl(['imports']), /edgectl imports retry ID/)
    assert.match(await courier.edgectl(['imports', 'retry', id]), /2 messages are sent again/)
    await letters(2)
    await courier.gateway.end('SIGKILL')
    await courier.gateway.start()
    await letters(2)
    await configureTopic(kafka, origin.topic, { 'max.message.bytes': '1000000' })
    await courier.edgectl(['imports', 'retry', id])
    await until('nothing is left of it', async () => (await importsOf(courier)).every(({ gateway }) => gateway !== 'refused'))
    await assertExact(origin)
  })

  test('what Kafka must allow is printed: for an import, and for a look back', async () => {
    const lines = await courier.edgectl(['kafka', 'setup', '--print', '--import-for', 'gw-9', '--principal', 'me'])
    assert.match(lines, /--transactional-id edge-courier\.gw-9$/m)
    assert.match(lines, /--group edge-courier\.gw-9\. --resource-pattern-type prefixed/)
    assert.doesNotMatch(lines, /kafka-topics/)
    const far = await courier.edgectl(['kafka', 'setup', '--print', '--import-for', 'gw-9', '--prefix', 'far', '--topic', 'one', 'two'])
    assert.match(far, /--transactional-id far\.gw-9$/m)
    assert.match(far, /--topic two$/m)
    assert.match((await edgectlOf(courier, ['kafka', 'setup', '--print', '--prefix', 'far'])).stderr, /go with --import-for/)
    const reading = await courier.edgectl(['kafka', 'setup', '--print', '--for-verify'])
    assert.match(reading, /--operation Read .*--topic logs-courier$/m)
  })

  test('a damaged file is refused whole, with its line; nothing is imported', async () => {
    const origin = await cutOff('damaged')
    origin.publish('a', 100)
    await origin.acknowledged()
    const file = await exported(origin)
    const whole = readFileSync(file)
    const refusal = async (bytes: Buffer): Promise<string> => {
      writeFileSync(file, bytes)
      const { code, stderr } = await edgectlOf(courier, ['import', file])
      assert.equal(code, 1)
      return stderr
    }
    const flipped = Buffer.from(whole)
    const at = whole.indexOf('\n', whole.length / 2) + 60
    flipped[at] = (flipped[at] ?? 0) ^ 1
    assert.match(await refusal(flipped), /line \d+: its checksum does not match/)
    assert.match(await refusal(whole.subarray(0, whole.length - 200)), /line \d+|ends after line/)
    assert.match(
      await refusal(whole.subarray(0, whole.lastIndexOf('\n', whole.length - 2) + 1)),
      /ends after line \d+ without its last line/,
    )
    const lines = whole.toString().split('\n')
    assert.match(await refusal(Buffer.from([...lines.slice(0, 40), ...lines.slice(41)].join('\n'))), /digest of the lines/)
    appendFileSync(file, 'more')
    assert.match(await refusal(Buffer.concat([whole, Buffer.from('more\n')])), /goes on behind its last line/)
    truncateSync(file)
    assert.match((await edgectlOf(courier, ['import', file])).stderr, /ends after line 0/)
    const { imports } = (await courier.gateway.ask('/imports')) as { imports: { gateway: string }[] }
    assert.ok(imports.every(({ gateway }) => gateway !== 'damaged'))
  })
})
