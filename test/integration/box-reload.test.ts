/** The configuration changes under load: what can change does at once, nothing stops, and nothing stored is touched. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import type { Json } from '../../config/merge.ts'
import { connect, publishPacket, tryConnect } from '../contract/mqtt-listen-kit.ts'
import { assertExact, drained, judged, openBox, until, type Box } from '../fleet/box.ts'
import { judge } from '../fleet/judge.ts'
import { readBack } from '../fleet/read-back.ts'
import { freePort, makeCertificates, serviceScope, type Certificates, type KafkaService } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

/** Changes the file, sends SIGHUP, and returns what the daemon says to it. */
async function reload(box: Box, patch: Json): Promise<string> {
  const before = (await box.log()).length
  await box.configure(patch)
  box.gateway.signal('SIGHUP')
  return until('the daemon answers a reload', async () => {
    const said = (await box.log()).slice(before)
    return /the new configuration (is|can)|the configuration (is not valid|has not changed)/.test(said) && said
  })
}

describe('a reload', { concurrency: 4 }, () => {
  test('log path 18: many changes under load lose, double and stall nothing', limit, async () => {
    const box = await openBox(scope, { kafka: kafka.endpoint })
    const fleet = box.fleet()
    fleet.start()
    const patches: Json[] = [
      { limits: { perDevice: { messagesPerSecond: 500 } } },
      { kafka: { compression: 'none', transaction: { linger: '50ms', maxBytes: '64KiB' } } },
      { buffer: { maxBytes: '64MiB', commit: { maxDelay: '5ms' } } },
      { buffer: { lanes: { normal: { weight: 1 }, deferred: { whenFull: 'block' } } } },
      { log: { level: 'debug' }, limits: { severity: { from: 'json:/level' } } },
      { kafka: { uplinkBytesPerSecond: '256KiB' } },
      { kafka: { compression: 'gzip', uplinkBytesPerSecond: 'unlimited' }, log: { level: 'info' } },
    ]
    for (const patch of patches) {
      assert.match(await reload(box, patch), /the new configuration is in force"/)
      const { acknowledged } = fleet
      const { delivered } = (await box.ledger()).totals
      await until(
        'it goes on to acknowledge and to deliver',
        async () => fleet.acknowledged > acknowledged + 20 && (await box.ledger()).totals.delivered.messages > delivered.messages,
      )
    }
    fleet.quiet()
    await drained(box, fleet)
    const result = await judged(box, fleet)
    assertExact(result)
    assert.equal(result.inKafka, fleet.published.size)
    assert.equal(fleet.lost, 0, 'no connection was given up for it')
  })

  test('log path 18: Kafka taken out of the file and put back: what is stored stays, and leaves in order', limit, async () => {
    const box = await openBox(scope, { kafka: kafka.endpoint })
    const fleet = box.fleet()
    fleet.start()
    await until('a first delivery', async () => (await box.ledger()).totals.delivered.messages > 20)
    await reload(box, { kafka: null })
    await until('the verdict says so', async () => /no Kafka broker is named/.test((await box.status()).verdict.line))
    await until('more is buffered', async () => (await box.status()).buffer.messages > 100)
    await reload(box, { kafka: { brokers: [kafka.endpoint], topic: box.topic, prefix: box.topic.replace('logs', 'edge') } })
    fleet.quiet()
    await drained(box, fleet)
    const result = await judged(box, fleet)
    assertExact(result)
    assert.equal(result.inKafka, fleet.published.size)
  })

  test('log path 18: another topic takes what is sent from then on', limit, async () => {
    const box = await openBox(scope, { kafka: kafka.endpoint })
    const second = await openBox(scope, { kafka: kafka.endpoint })
    const fleet = box.fleet()
    fleet.start()
    await until('a first delivery', async () => (await box.ledger()).totals.delivered.messages > 20)
    await reload(box, { kafka: { topic: second.topic } })
    await until('the other topic has records', async () => (await second.consumed()).length > 20)
    fleet.quiet()
    await drained(box, fleet)
    const both = [...(await box.consumed()), ...(await readBack(kafka.endpoint, second.topic))]
    const result = judge(fleet.published, both)
    // Partitions of two topics are not the same ones: order holds within each.
    assert.deepEqual([result.lost, result.duplicates, result.altered, result.inKafka], [[], [], [], fleet.published.size])
  })

  test('log path 18: a configuration that is not valid changes nothing, is said, and does not prevent the next one', limit, async () => {
    const box = await openBox(scope, { kafka: kafka.endpoint })
    const fleet = box.fleet()
    fleet.start()
    const wrong: Json[] = [
      { limits: { perDevice: { messagesPerSecond: -1 } } },
      { kafka: { brokers: [] } },
      { nonsense: true },
      { buffer: { maxBytes: '1KiB' } },
    ]
    for (const patch of wrong) {
      const said = await reload(box, patch)
      assert.match(said, /the configuration is not valid; the daemon goes on with the old one/)
      assert.match(said, /config\.yaml:\d+:\d+/, 'with the place of the error')
      await box.configure(undo(patch))
    }
    await reload(box, { limits: { perDevice: { messagesPerSecond: 300 } } })
    fleet.quiet()
    await drained(box, fleet)
    assertExact(await judged(box, fleet))
  })

  test('log path 18: what needs a restart is named, and stays as it is until then', limit, async () => {
    const box = await openBox(scope)
    const said = await reload(box, {
      gateway: { id: 'renamed' },
      patches: { lockTtl: '20s' },
      limits: { overLimit: 'shed' },
    })
    assert.match(said, /"afterRestart":\[[^\]]*"gateway\.id"/)
    assert.match(said, /"afterRestart":\[[^\]]*"patches\.lockTtl"/)
    assert.match(said, /"live":\["limits\.overLimit"\]/)
    assert.equal((await box.status()).gateway.startsWith('gw-'), true)
  })

  test('log path 18: limits act on the next message; a smaller buffer deletes nothing of what may not be dropped', limit, async (t) => {
    const box = await openBox(scope, { kafka: kafka.endpoint, config: { limits: { overLimit: 'shed' } } })
    await reload(box, { kafka: null })
    const client = await connect(t, box.port)
    const send = async (from: number): Promise<void> => {
      client.send(...Array.from({ length: 50 }, (_, index) => publishPacket(`devices/a/logs/app/a-${from + index}`, index + 1, 1)))
      await client.takeIds('puback', 50)
    }
    await send(1)
    await reload(box, { limits: { perDevice: { messagesPerSecond: 1, burst: '1s' } } })
    await send(51)
    const shed = (await box.ledger()).totals.shed['over-limit']?.messages ?? 0
    assert.ok(shed >= 45, `${shed} shed`)
    await reload(box, { limits: { perDevice: { messagesPerSecond: 'unlimited', bytesPerSecond: 'unlimited' } } })
    const fleet = box.fleet({ devices: 10, ratePerDevice: 40, keepaliveSeconds: 4, payloadOf: () => randomBytes(20_000) })
    fleet.start()
    await until('30 MB are buffered', async () => (await box.status()).buffer.usedBytes > 30_000_000)
    await reload(box, { buffer: { maxBytes: '16MiB' } })
    await until('the buffer is full', async () => (await box.status()).verdict.state === 'blocked')
    fleet.quiet()
    await reload(box, { kafka: { brokers: [kafka.endpoint], topic: box.topic, prefix: box.topic.replace('logs', 'edge') } })
    await drained(box, fleet)
    const { totals, equation } = await box.ledger()
    assert.ok(equation.holds)
    assert.deepEqual(
      Object.keys(totals.shed)
        .sort()
        .filter((reason) => reason !== 'duplicate'),
      ['over-limit'],
    )
    const consumed = (await box.consumed()).filter(({ key }) => key !== 'a')
    assertExact(judge(fleet.published, consumed))
    assert.equal(consumed.length, fleet.published.size)
  })

  test('log path 18: a larger message limit is in force at once, at the listener too', limit, async (t) => {
    const box = await openBox(scope, { config: { limits: { maxMessageBytes: '1KiB' } } })
    const publish = async (id: string): Promise<void> => {
      const client = await connect(t, box.port, { clientId: id })
      client.publish(`devices/a/logs/app/${id}`, 1, 1, { payload: Buffer.alloc(30_000, 'x') })
      await client.take('puback')
    }
    await publish('a-1')
    assert.match(await reload(box, { limits: { maxMessageBytes: '64KiB' } }), /"live":\["limits\.maxMessageBytes"\]/)
    await publish('a-2')
    const { totals } = await box.ledger()
    assert.deepEqual([totals.shed.oversize?.messages, totals.buffered.messages], [1, 1])
  })

  test('new topics are taken while every connection stays', limit, async (t) => {
    const box = await openBox(scope)
    const client = await connect(t, box.port)
    const publish = async (topic: string, id: number): Promise<void> => {
      client.publish(topic, id, 1)
      await client.take('puback')
    }
    await publish('plant/a/x/a-1', 1)
    const said = await reload(box, { mqtt: { topics: { plant: { pattern: 'plant/{device}/{stream}/{id}' } } } })
    assert.match(said, /"live":\["mqtt\.topics\.plant"\]/)
    await publish('plant/a/x/a-2', 2)
    await publish('devices/a/logs/app/a-3', 3)
    const { totals } = await box.ledger()
    assert.deepEqual([totals.shed['malformed-topic']?.messages, totals.buffered.messages], [1, 2])
  })

  test('a listener comes, moves and goes while the connections of another one stay', limit, async (t) => {
    const box = await openBox(scope)
    const stays = await connect(t, box.port, { clientId: 'stays' })
    const [second, third] = [await freePort(), await freePort()]
    const other = (port: number): Json => ({ mqtt: { listen: { other: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } } } })
    await reload(box, other(second))
    const moved = await connect(t, second, { clientId: 'moved' })
    await reload(box, other(third))
    await moved.end()
    await assert.rejects(async () => {
      const { returnCode } = await tryConnect(t, second, { clientId: 'late' })
      assert.equal(returnCode, 0)
    })
    const last = await connect(t, third, { clientId: 'last' })
    await reload(box, { mqtt: { listen: { other: null } } })
    await last.end()
    assert.deepEqual(
      (await box.status()).sources.map(({ name, state, connections }) => [name, state, connections]),
      [['lan', 'up', 1]],
    )
    stays.publish('devices/a/logs/app/a-1', 1, 1)
    await stays.take('puback')
  })

  test('the metrics and the known devices change at once', limit, async (t) => {
    const box = await openBox(scope)
    const port = await freePort()
    const file = join(box.dir, 'known')
    writeFileSync(file, 'b\n')
    await reload(box, { metrics: { listen: `127.0.0.1:${port}` }, limits: { knownDevices: { file } } })
    assert.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200)
    await assert.rejects(box.probe('healthz'), 'the old port is closed')
    const client = await connect(t, box.port)
    client.publish('devices/a/logs/app/a-1', 1, 1)
    client.publish('devices/b/logs/app/b-1', 2, 1)
    await client.takeIds('puback', 2)
    const { totals } = await box.ledger()
    assert.deepEqual([totals.shed['unknown-device']?.messages, totals.buffered.messages], [1, 1])
  })

  test('patch path 11: what can not be taken over goes back whole, and the old configuration serves on', limit, async (t) => {
    const box = await openBox(scope)
    const free = await freePort()
    const taken = createServer().listen(0, '127.0.0.1')
    t.after(() => taken.close())
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    const client = await connect(t, box.port, { clientId: 'stays' })
    const said = await reload(box, {
      limits: { maxMessageBytes: '1KiB' },
      metrics: { listen: `127.0.0.1:${free}` },
      mqtt: { listen: { other: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } } },
    })
    assert.match(said, /can not be applied; the old one stays in force/)
    assert.equal((await box.probe('readyz')).code, 200, 'the metrics are where they were')
    await assert.rejects(fetch(`http://127.0.0.1:${free}/healthz`))
    client.publish('devices/a/logs/app/a-1', 1, 1, { payload: Buffer.alloc(30_000, 'x') })
    await client.take('puback')
    assert.equal((await box.ledger()).totals.buffered.messages, 1)
    taken.close()
    assert.match(await reload(box, {}), /the new configuration is in force"/, 'the next try takes it')
  })

  test('patch path 19: two changes at once are one after the other, each whole', limit, async () => {
    const box = await openBox(scope)
    const ports = await Promise.all([1, 2, 3, 4].map(() => freePort()))
    for (const port of ports) {
      await box.configure({ mqtt: { listen: { other: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } } } })
      box.gateway.signal('SIGHUP')
    }
    await until('the last one is in force', async () => {
      const { values, afterRestart } = (await box.gateway.ask('/config')) as {
        values: { path: string; value: unknown }[]
        afterRestart: string[]
      }
      const url = values.find(({ path }) => path === 'mqtt.listen.other.url')?.value
      return url === `mqtt://127.0.0.1:${ports[3]}` && afterRestart.length === 0
    })
    assert.deepEqual(
      (await box.status()).sources.map(({ name, state }) => [name, state]),
      [
        ['lan', 'up'],
        ['other', 'up'],
      ],
    )
    assert.doesNotMatch(await box.log(), /can not|fault in the program/)
  })

  test(
    'log path 18: a listener whose certificate is in another file shows it after a reload, or says that it needs a restart',
    limit,
    async (t) => {
      const folder = scope.folder()
      const [first, second] = [await makeCertificates(join(folder, 'first')), await makeCertificates(join(folder, 'second'))]
      const port = await freePort()
      const tls = ({ server }: Certificates): Json => ({ cert: server.certFile, key: server.keyFile })
      const box = await openBox(scope, { config: { mqtt: { listen: { lan: { url: `mqtts://127.0.0.1:${port}`, tls: tls(first) } } } } })
      const accepts = async ({ caFile }: Certificates): Promise<boolean> => {
        const { returnCode } = await tryConnect(t, port, { tls: { ca: readFileSync(caFile) } })
        return returnCode === 0
      }
      assert.deepEqual([await accepts(first), await accepts(second)], [true, false])
      const said = await reload(box, { mqtt: { listen: { lan: { tls: tls(second) } } } })
      if (/"afterRestart":\[[^\]]*tls/.test(said)) return assert.equal(await accepts(first), true)
      assert.deepEqual([await accepts(first), await accepts(second)], [false, true], 'what is said to be in force is in force')
    },
  )
})

/** A merge patch that takes the keys of another one out again. */
function undo(patch: Json): Json {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return null
  return Object.fromEntries(Object.entries(patch).map(([key, value]) => [key, key === 'brokers' ? [kafka.endpoint] : undo(value)]))
}
