/** Clients that share no code with the gateway: mosquitto's, Eclipse Paho, MQTT.js, and bytes by hand; with payloads of any kind. */
import assert from 'node:assert/strict'
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { connectAsync } from 'mqtt'
import { connect, dial, mosquittoPub, publishPacket, type RawClient } from '../contract/mqtt-listen-kit.ts'
import { openBox, until, type Box } from '../fleet/box.ts'
import { idOf } from '../fleet/judge.ts'
import { nastyLog, nastyPayloads } from '../fleet/nasty.ts'
import type { Consumed } from '../fleet/read-back.ts'
import { serviceScope, type KafkaService } from '../services/index.ts'
import { ensurePackages } from '../services/install.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
const PAHO = fileURLToPath(new URL('./clients-paho.py', import.meta.url))
const run = promisify(execFile)
/** What a client does twice must show twice. */
const NO_IDS = { buffer: { dedupe: { from: 'none' } } }
/** The deferred lane has an order of its own. */
const UNLIMITED = { limits: { perDevice: { messagesPerSecond: 'unlimited', bytesPerSecond: 'unlimited' } } }
let kafka: KafkaService

before(async () => {
  ensurePackages()
  kafka = await scope.kafka()
})

/** All records, once Kafka has `count` of them and the outbox nothing more. */
async function arrived(box: Box, count: number): Promise<Consumed[]> {
  await until(`${count} messages delivered`, async () => {
    const { totals, equation } = await box.ledger()
    assert.ok(equation.holds)
    return totals.delivered.messages >= count && totals.buffered.messages === 0 && totals.inFlight.messages === 0
  })
  return box.consumed()
}

interface Publisher {
  readonly child: ChildProcess
  readonly ended: Promise<{ readonly stdout: string }>
}

function paho(box: Box, name: string, qos: number, last: number): Publisher {
  const ended = run('/usr/bin/python3', [PAHO, String(box.port), name, String(qos), '1', String(last)])
  scope.atEnd(() => void ended.child.kill())
  return { child: ended.child, ended }
}

const numbered = (name: string, count: number): string[] => Array.from({ length: count }, (_, index) => `${name}-${index + 1}`)

const byNumber = (records: readonly Consumed[], name: string): string[] => records.filter(({ key }) => key === name).map(idOf)

describe('other clients', { concurrency: 4 }, () => {
  test('mosquitto_pub: each QoS, an empty payload, a retained message, a file of any bytes, a last will', limit, async () => {
    const box = await openBox(scope, { kafka: kafka.endpoint })
    const topic = (id: string): string[] => ['-t', `devices/pub/logs/app/${id}`]
    const pub = async (...args: string[]): Promise<void> => {
      const { code, output } = await mosquittoPub(box.port, args)
      assert.equal(code, 0, output)
    }
    for (const qos of ['0', '1', '2']) await pub('-q', qos, ...topic(`qos-${qos}`), '-m', qos)
    await pub('-q', '1', ...topic('empty-1'), '-n')
    await pub('-q', '1', ...topic('retained-1'), '-r', '-m', 'retained')
    const bytes = Buffer.concat(nastyPayloads(1))
    const file = join(box.dir, 'payload')
    writeFileSync(file, bytes)
    await pub('-q', '2', ...topic('file-1'), '-f', file)
    const living = spawn('mosquitto_pub', [
      '-p',
      String(box.port),
      '-q',
      '1',
      ...topic('line-1'),
      '-l',
      '--will-topic',
      'devices/pub/logs/app/will-1',
      '--will-qos',
      '1',
      '--will-payload',
      'gone',
    ])
    living.stdin.write('a line\r\n')
    await until('its line', async () => (await box.ledger()).totals.received.messages === 7)
    living.kill('SIGKILL')
    const records = await arrived(box, 8)
    const payloads = new Map(records.map((record) => [idOf(record), record.payload]))
    assert.deepEqual([...payloads.keys()].sort(), ['empty-1', 'file-1', 'line-1', 'qos-0', 'qos-1', 'qos-2', 'retained-1', 'will-1'])
    assert.ok(payloads.get('file-1')?.equals(bytes))
    assert.equal(payloads.get('empty-1')?.length, 0)
    assert.equal(payloads.get('line-1')?.toString(), 'a line\r')
    assert.equal(payloads.get('will-1')?.toString(), 'gone')
  })

  test('Paho: QoS 2 over kill -9 of the gateway arrives once and in order without message ids, QoS 1 at least once', limit, async () => {
    const box = await openBox(scope, { kafka: kafka.endpoint, config: { ...NO_IDS, ...UNLIMITED } })
    const publishers = [1, 2].map((qos) => paho(box, `paho${qos}`, qos, 1_500))
    for (const wanted of [300, 1_200]) {
      await until(`${wanted} received`, async () => (await box.ledger()).totals.received.messages >= wanted)
      await box.gateway.end('SIGKILL')
      await box.gateway.start()
      for (const { child } of publishers) child.stdin?.write('again\n')
    }
    for (const { ended } of publishers) assert.deepEqual(JSON.parse((await ended).stdout), { acknowledged: 1_500 })
    const records = await arrived(box, 3_000)
    assert.deepEqual(byNumber(records, 'paho2'), numbered('paho2', 1_500))
    assert.deepEqual([...new Set(byNumber(records, 'paho1'))].sort(), numbered('paho1', 1_500).sort())
    for (const record of records) {
      const number = Number(idOf(record).split('-')[1])
      assert.ok(
        record.payload.equals(Buffer.concat(Array.from({ length: number % 50 }, () => Buffer.from([number % 256, 0, 255, 13, 10])))),
      )
    }
  })

  test('MQTT.js: a persistent session over kill -9, QoS 1 and 2', limit, async () => {
    // It sends again one by one, each after the acknowledgement of the one before.
    const box = await openBox(scope, { kafka: kafka.endpoint, config: { buffer: { commit: { maxDelay: '2ms' } } } })
    const client = await connectAsync(`mqtt://127.0.0.1:${box.port}`, {
      clientId: 'js',
      clean: false,
      reconnectPeriod: 200,
      protocolVersion: 4,
    })
    const published = numbered('js', 200).map((id, index) =>
      client.publishAsync(`devices/js/logs/app/${id}`, Buffer.from(id), { qos: index % 2 === 0 ? 1 : 2 }),
    )
    await until('some received', async () => (await box.ledger()).totals.received.messages >= 50)
    await box.gateway.end('SIGKILL')
    await box.gateway.start()
    await Promise.all(published)
    await client.endAsync()
    assert.deepEqual(byNumber(await arrived(box, 200), 'js').sort(), numbered('js', 200).sort())
  })

  test('payloads of any bytes arrive as they were sent: CRLF, NUL, no UTF-8, very long, empty', limit, async (t) => {
    const box = await openBox(scope, { kafka: kafka.endpoint, config: UNLIMITED })
    const client = await connect(t, box.port)
    const payloads = [...nastyPayloads(2), ...nastyLog(3, 300)]
    for (const [index, payload] of payloads.entries()) {
      client.publish(`devices/nasty/logs/app/nasty-${index + 1}`, index + 1, 1, { payload })
      if (index % 50 === 0) await client.ping()
    }
    await client.takeIds('puback', payloads.length)
    const records = await arrived(box, payloads.length)
    assert.deepEqual(byNumber(records, 'nasty'), numbered('nasty', payloads.length))
    for (const [index, { payload }] of records.entries())
      assert.ok(payload.equals(payloads[index] as Buffer), `payload ${index + 1} was altered`)
  })

  test('bytes by hand: packets in single bytes, hundreds in one write, names of any letters', limit, async (t) => {
    const box = await openBox(scope, { kafka: kafka.endpoint })
    const client = await connect(t, box.port)
    const slow = publishPacket('devices/slow/logs/app/slow-1', 1, 1, { payload: 'byte by byte' })
    for (const byte of slow) {
      client.socket.write(Buffer.from([byte]))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await client.take('puback')
    client.send(
      ...numbered('many', 300).map((id, index) => publishPacket(`devices/many/logs/app/${id}`, index + 1, index % 2 === 0 ? 1 : 0)),
    )
    await client.takeIds('puback', 150)
    const names = ['größe', '泵 7', '🔧', 'a b', '"quoted"', "'; drop", 'x'.repeat(200), '-n', '%s%n', '..', '\u202etxt', 'A', 'a']
    await publishEach(
      client,
      names.map((name, index) => `devices/${name}/logs/app/${name}-${index + 1}`),
    )
    const records = await arrived(box, 1 + 300 + names.length)
    assert.deepEqual(byNumber(records, 'many'), numbered('many', 300))
    const kept = records.filter(({ key }) => key !== 'many' && key !== 'slow').map(({ key }) => key)
    assert.deepEqual(kept.sort(), [...names].sort())
    assert.equal((await box.ledger()).totals.shed['malformed-topic'], undefined)
  })
})

async function publishEach(client: RawClient, topics: readonly string[]): Promise<void> {
  client.send(...topics.map((topic, index) => publishPacket(topic, index + 1)))
  await client.takeIds('puback', topics.length)
}

test('log path 20: what is not MQTT 3.1.1 is refused with a reason, and counted', limit, async (t) => {
  const box = await openBox(scope)
  const five = await mosquittoPub(box.port, ['-V', '5', '-t', 'devices/a/logs/app/a-1', '-m', 'x'])
  assert.notEqual(five.code, 0)
  const http = await dial(t, box.port)
  http.socket.write('GET /metrics HTTP/1.1\r\nHost: box\r\n\r\n')
  await once(http.socket, 'close')
  assert.match(await box.log(), /MQTT protocol level 5, this listener 4/)
  assert.equal((await box.ledger()).totals.received.messages, 0)
})
