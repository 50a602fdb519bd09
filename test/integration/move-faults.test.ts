/** Export and import when things break: at Kafka, at the box, at the medium. Each message still arrives once. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cpSync, existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ControlClient } from '../../adapters/control/client.ts'
import type { ImportFigures } from '../../daemon/move/figures.ts'
import { Faults } from '../contract/kafka-kit.ts'
import { edgectlOf, until } from '../fleet/box.ts'
import { judge } from '../fleet/judge.ts'
import { EDGECTL } from '../fleet/setup.ts'
import { mountSmallDisk } from '../fleet/small-disk.ts'
import { KAFKA_API, serviceScope } from '../services/index.ts'
import type { KafkaService, KafkaVerdict } from '../services/index.ts'
import { KafkaBox } from './kafka-box.ts'

const scope = serviceScope()
let kafka: KafkaService
let faults: Faults

before(async () => {
  const started = await scope.kafkaBehindProxy()
  kafka = started.kafka
  faults = new Faults(started.proxy)
})

const COMMIT = 1

/** At the next commit: `verdict`, and from then on the link is dead. Resolves when it came to that. */
function dieAtCommit(name: string, verdict: KafkaVerdict): Promise<void> {
  return new Promise((resolve) => {
    faults.set(name, (apiKey, frame) => {
      if (apiKey !== KAFKA_API.endTxn || frame.at(-1) !== COMMIT) return 'pass'
      faults.set(name, () => 'cut')
      resolve()
      return verdict
    })
  })
}

async function exported(box: KafkaBox): Promise<string> {
  const out = scope.folder()
  await box.edgectl(['export', '--out', out])
  return join(out, readdirSync(out)[0] ?? '')
}

async function delivered(box: KafkaBox): Promise<void> {
  await until(`${box.name} delivers its imports`, async () => {
    const { imports } = (await box.gateway.ask('/imports')) as { imports: readonly ImportFigures[] }
    return imports.length === 0
  })
}

async function assertExact(box: KafkaBox): Promise<void> {
  const { lost, duplicates, outOfOrder, altered, inKafka } = judge(box.published, await box.consumed())
  assert.deepEqual(
    { lost, duplicates, outOfOrder, altered, inKafka },
    { lost: [], duplicates: [], outOfOrder: [], altered: [], inKafka: box.published.size },
  )
}

/** Runs the command and kills it after `ms`, unless it ended before. */
async function killedAfter(box: KafkaBox, args: readonly string[], ms: number): Promise<void> {
  const child = spawn(process.execPath, [EDGECTL, ...args, '--config', box.configFile], { stdio: 'ignore' })
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  await Promise.race([sleep(ms), gone])
  child.kill('SIGKILL')
  await gone
}

describe('export and import when things break', { concurrency: 6 }, () => {
  let courier: KafkaBox

  before(async () => {
    courier = await KafkaBox.start({ scope, kafka, name: 'courier' })
  })

  for (const [name, verdict] of [
    ['doubt-committed', 'cutAfterResponseSwallowed'],
    ['doubt-aborted', 'cut'],
  ] as const) {
    test(`a transaction is in doubt when the link dies (${name}): it travels too, and arrives once`, async () => {
      const box = await KafkaBox.start({ scope, kafka, name })
      box.publish('a', 20)
      await box.drained()
      const dead = dieAtCommit(name, verdict)
      for (const device of ['a', 'b']) box.publish(device, 100)
      await dead
      box.publish('a', 50)
      await box.acknowledged()
      const file = await exported(box)
      faults.set(name, () => 'pass')
      await courier.edgectl(['import', file])
      await delivered(courier)
      await box.drained()
      await assertExact(box)
    })
  }

  test('the origin lives and publishes while its export is imported', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'living' })
    faults.set('living', () => 'cut')
    for (const device of ['a', 'b', 'c']) box.publish(device, 200)
    await box.acknowledged()
    const file = await exported(box)
    faults.clear('living')
    box.publish('d', 50)
    const [imported] = await Promise.all([edgectlOf(courier, ['import', file]), box.drained()])
    assert.equal(imported.code, 0, imported.stderr)
    await delivered(courier)
    box.publish('d', 50)
    await box.drained()
    await assertExact(box)
  })

  test('newer messages that the origin delivers itself come first; within an epoch the order holds', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'newer' })
    faults.set('newer', () => 'cut')
    box.publish('a', 100)
    await box.acknowledged()
    const file = await exported(box)
    faults.clear('newer')
    box.publish('a', 20)
    await box.drained()
    await courier.edgectl(['import', file])
    await delivered(courier)
    const consumed = await box.consumed()
    const { lost, duplicates, altered, outOfOrder } = judge(box.published, consumed)
    assert.deepEqual({ lost, duplicates, altered, late: outOfOrder.length }, { lost: [], duplicates: [], altered: [], late: 100 })
    const last = new Map<string, number>()
    for (const { headers, partition } of consumed) {
      const [epoch = '', lane = '', position = ''] = (headers['pos'] ?? '').split(':')
      const key = `${partition} ${epoch} ${lane}`
      assert.ok(Number(position) > (last.get(key) ?? 0))
      last.set(key, Number(position))
    }
    assert.equal(last.size, 2)
  })

  test('a box that comes back from a copy made before its export delivers beside the import: once', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'copied' })
    faults.set('copied', () => 'cut')
    for (const device of ['a', 'b', 'c']) box.publish(device, 300)
    await box.acknowledged()
    await box.gateway.end('SIGKILL')
    const copy = join(scope.folder(), 'state')
    cpSync(box.dataDir, copy, { recursive: true })
    const file = await exported(box)
    rmSync(box.dataDir, { recursive: true })
    cpSync(copy, box.dataDir, { recursive: true })
    faults.clear('copied')
    await Promise.all([box.gateway.start(), courier.edgectl(['import', file])])
    await Promise.all([delivered(courier), box.drained()])
    await assertExact(box)
  })

  test('kill -9 of commands and daemons, again and again', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'killed' })
    const importer = await KafkaBox.start({ scope, kafka, name: 'importer' })
    faults.set('killed', () => 'cut')
    for (const device of ['a', 'b', 'c', 'd']) box.publish(device, 2_500, () => Buffer.alloc(300, 'x'))
    await box.acknowledged()
    const out = scope.folder()
    await killedAfter(box, ['export', '--out', out], 600)
    await box.gateway.end('SIGKILL')
    await killedAfter(box, ['export', '--out', out], 800)
    await box.gateway.start()
    const running = edgectlOf(box, ['export', '--out', out])
    await sleep(900)
    await box.gateway.end('SIGKILL')
    await running
    await box.gateway.start()
    const { totals, equation } = await box.gateway.ledger()
    assert.deepEqual([totals.exported.messages + totals.buffered.messages, equation.difference], [10_000, 0])
    if (totals.buffered.messages > 0) assert.equal((await edgectlOf(box, ['export', '--out', out])).code, 0)
    const files = readdirSync(out).filter((name) => name.endsWith('.ndjson'))
    assert.ok(files.length > 0)
    faults.clear('killed')
    for (const name of files) {
      const importing = edgectlOf(importer, ['import', join(out, name)])
      await sleep(700)
      await importer.gateway.end('SIGKILL')
      await importing
      await importer.gateway.start()
      const { code, stderr } = await edgectlOf(importer, ['import', join(out, name)])
      assert.ok(code === 0 || /is here already/.test(stderr), stderr)
      await importer.gateway.end('SIGKILL')
      await importer.gateway.start()
    }
    await delivered(importer)
    await box.drained()
    await assertExact(box)
    assert.deepEqual(readdirSync(join(importer.dataDir, 'imported')), [])
  })

  test('the disk of the box is full: its buffer leaves on a stick, which makes room', async () => {
    const disk = mountSmallDisk(scope, 48)
    const dataDir = join(disk.path, 'state')
    const config = { buffer: { minFreeBytes: '1MiB', maxBytes: '16MiB' } }
    const box = await KafkaBox.start({ scope, kafka, name: 'full', dataDir, config })
    faults.set('full', () => 'cut')
    box.publish('a', 1_000, () => randomBytes(2_000))
    await box.acknowledged()
    disk.fill()
    const file = await exported(box)
    const { totals, equation, devices } = await box.gateway.ledger()
    assert.equal(devices[0]?.exported?.messages, 1_000)
    assert.deepEqual([totals.exported.messages, totals.buffered.messages, equation.difference], [1_000, 0, 0])
    faults.clear('full')
    await courier.edgectl(['import', file])
    await delivered(courier)
    await assertExact(box)
  })

  test('a full stick, a command that goes away, a second export: nothing leaves the buffer', async () => {
    const box = await KafkaBox.start({ scope, kafka, name: 'stick' })
    faults.set('stick', () => 'cut')
    box.publish('a', 200, () => Buffer.alloc(2_000, 'x'))
    await box.acknowledged()
    const disk = mountSmallDisk(scope, 1)
    disk.fill()
    const full = await edgectlOf(box, ['export', '--out', disk.path])
    assert.equal(full.code, 1)
    assert.match(full.stderr, /is full/)
    assert.match(full.stderr, /nothing left the buffer/)
    assert.deepEqual(readdirSync(disk.path), ['ballast'])
    const client = new ControlClient(join(box.dataDir, 'control.sock'))
    const { id } = (await client.post('/exports')) as { id: string }
    const second = await edgectlOf(box, ['export', '--out', disk.path])
    assert.match(second.stderr, /another export is under way/)
    await client.post(`/exports/${id}/cancel`)
    await client.close()
    assert.equal((await box.gateway.ledger()).totals.exported.messages, 0)
    disk.free()
    await box.edgectl(['export', '--out', disk.path, '--lane', 'urgent']).then(
      () => assert.fail('the lane is empty'),
      (error: unknown) => assert.match(String((error as { stderr: string }).stderr), /nothing to export/),
    )
    await box.edgectl(['export', '--out', join(disk.path, 'named.ndjson')])
    assert.ok(existsSync(join(disk.path, 'named.ndjson')))
    assert.equal((await box.gateway.ledger()).totals.exported.messages, 200)
    for (const [out, words] of [
      ['/nowhere/x.ndjson', /no folder \/nowhere/],
      [join(disk.path, 'named.ndjson'), /is there already/],
      [join(disk.path, 'other'), /neither a folder nor a name/],
    ] as const) {
      const refused = await edgectlOf(box, ['export', '--out', out])
      assert.equal(refused.code, 1)
      assert.match(refused.stderr, words)
    }
    assert.match((await edgectlOf(box, ['export', '--out', disk.path])).stderr, /nothing to export/, 'none of them is still under way')
  })
})
