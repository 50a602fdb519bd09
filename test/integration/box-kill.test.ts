/** The box is killed, stopped for a while, or its disk fails: what was acknowledged is safe, and nothing else is acknowledged. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, dial, publishPacket } from '../contract/mqtt-listen-kit.ts'
import { assertExact, drained, judged, openBox, until, type Box } from '../fleet/box.ts'
import { Fleet } from '../fleet/fleet.ts'
import { idOf } from '../fleet/judge.ts'
import { serviceScope, type KafkaService } from '../services/index.ts'
import { mountForgetful } from '../services/forgetful.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

const topicOf = (id: string): string => `devices/${id.slice(0, id.lastIndexOf('-'))}/logs/app/${id}`

async function idsInKafka(box: Box): Promise<string[]> {
  return (await box.consumed()).map(idOf).sort()
}

/** Waits until the outbox is empty, and returns what Kafka shows. */
async function forwarded(box: Box, messages: number): Promise<string[]> {
  await until(`${messages} messages forwarded`, async () => {
    const { lanes } = await box.status()
    return (
      lanes['normal']?.messages === 0 &&
      lanes['urgent']?.messages === 0 &&
      lanes['normal'].delivered + (await box.ledger()).totals.delivered.messages >= messages
    )
  })
  return idsInKafka(box)
}

test('log path 1: Kafka down, messages acknowledged, kill -9 three times: all are there afterwards, once and in order', limit, async () => {
  const box = await openBox(scope, { kafka: kafka.endpoint })
  await kafka.kill('SIGKILL')
  const fleet = box.fleet()
  fleet.start()
  for (const wanted of [150, 300]) {
    await until(`${wanted} acknowledgements`, () => fleet.acknowledged >= wanted)
    assert.equal(await box.gateway.end('SIGKILL'), 'SIGKILL')
    await box.gateway.start()
  }
  fleet.quiet()
  await until('all acknowledged', () => fleet.pending === 0)
  const { verdict, buffer } = await until('the verdict names Kafka', async () => {
    const status = await box.status()
    return status.verdict.state === 'buffering' && status
  })
  assert.match(verdict.line, /no loss/)
  assert.ok(buffer.messages >= fleet.published.size, `${buffer.messages} of ${fleet.published.size} are buffered`)
  // The new start asks Kafka at once; the old one waits longer and longer.
  await box.gateway.end('SIGKILL')
  await kafka.start()
  await box.gateway.start()
  await drained(box, fleet)
  const result = await judged(box, fleet)
  assertExact(result)
  assert.equal(result.inKafka, fleet.published.size)
  assert.ok((await box.ledger()).equation.holds)
})

describe('kills, pauses and a failing disk', { concurrency: 4 }, () => {
  test('a disk that hangs: pings are answered, nothing is acknowledged, the verdict is stuck, and signals end it', limit, async (t) => {
    const own = serviceScope((release) => t.after(release))
    const mount = await mountForgetful(own, join(own.folder(), 'disk'))
    const box = await openBox(own, { dataDir: join(mount.path, 'state'), config: { shutdown: { drain: '1s' } } })
    const client = await connect(t, box.port, { keepalive: 300 })
    client.publish(topicOf('pump-1'), 1)
    await client.take('puback')
    const hang = { operation: 'fsync', name: 'outbox.db-wal', kind: 'hang' } as const
    await mount.fail(hang)
    client.publish(topicOf('pump-2'), 2)
    await client.ping()
    const { verdict } = await until('the verdict stuck', async () => {
      const status = await box.status()
      return status.verdict.state === 'stuck' && status
    })
    assert.match(verdict.line, /the buffer has committed nothing for \d+ s; 1 deliveries wait unacknowledged/)
    assert.deepEqual([(await box.probe('healthz')).code, (await box.probe('readyz')).code], [503, 503])
    await client.ping()
    await mount.fail(undefined)
    assert.equal((await client.take('puback')).messageId, 2)
    await until('all is well again', async () => (await box.probe('healthz')).code === 200)
    await mount.fail(hang)
    client.publish(topicOf('pump-3'), 3)
    await client.ping()
    box.gateway.signal('SIGTERM')
    await until('it is ended by force', async () => (await box.log()).includes('ending by force'))
    // Even SIGKILL waits for what hangs in the kernel.
    await mount.fail(undefined)
    assert.equal(await box.gateway.ended(), 'SIGKILL')
    assert.equal(client.received.filter(({ cmd }) => cmd === 'puback').length, 0)
    await box.gateway.start()
    assert.ok((await box.status()).buffer.messages >= 2)
  })

  test('log path 21: a delivery marked DUP that was never stored is stored', limit, async (t) => {
    const box = await openBox(scope, { kafka: kafka.endpoint })
    const client = await connect(t, box.port)
    client.publish(topicOf('pump-1'), 1, 1, { dup: true })
    client.publish(topicOf('pump-2'), 2, 2, { dup: true })
    assert.equal((await client.take('puback')).messageId, 1)
    assert.equal((await client.take('pubrec')).messageId, 2)
    client.send({ cmd: 'pubrel', messageId: 2 })
    await client.take('pubcomp')
    assert.deepEqual(await forwarded(box, 2), ['pump-1', 'pump-2'])
  })

  test('log path 21: without message ids a redelivery is a second acceptance; with ids it is dropped and counted', limit, async (t) => {
    for (const [dedupe, expected] of [
      ['none', ['pump-1', 'pump-1']],
      ['topic:{id}', ['pump-1']],
    ] as const) {
      const box = await openBox(scope, { kafka: kafka.endpoint, config: { buffer: { dedupe: { from: dedupe } } } })
      const first = await connect(t, box.port)
      first.publish(topicOf('pump-1'), 1)
      await first.take('puback')
      await box.gateway.end('SIGKILL')
      await box.gateway.start()
      const second = await connect(t, box.port)
      second.publish(topicOf('pump-1'), 1, 1, { dup: true })
      await second.take('puback')
      assert.deepEqual(await forwarded(box, expected.length), expected)
      const { totals, equation } = await box.ledger()
      assert.equal(totals.shed.duplicate?.messages ?? 0, 2 - expected.length)
      assert.ok(equation.holds)
    }
  })

  test('log path 21: what a broker sends again after kill -9 of the gateway is kept', limit, async () => {
    const mosquitto = await scope.mosquitto({ conf: ['max_queued_messages 100000'] })
    const config = { mqtt: { listen: null, connect: { plant: { url: mosquitto.endpoint, clientId: 'gw', sessionExpiry: '1h' } } } }
    const box = await openBox(scope, { kafka: kafka.endpoint, config })
    await until('the session', async () => (await box.status()).sources[0]?.state === 'up')
    const fleet = new Fleet({
      host: '127.0.0.1',
      port: mosquitto.port,
      devices: 10,
      ratePerDevice: 30,
      noisyRate: 0,
      payloadOf: (device, sequence) => Buffer.from(`${device} ${sequence}`),
    })
    scope.atEnd(() => fleet.close())
    fleet.start()
    for (const wanted of [150, 300, 450]) {
      await until(`${wanted} published`, () => fleet.acknowledged >= wanted)
      // What the broker sends now is unread at the kill, and comes again.
      box.gateway.signal('SIGSTOP')
      await until('more published', () => fleet.acknowledged >= wanted + 50)
      await box.gateway.end('SIGKILL')
      await box.gateway.start()
    }
    fleet.quiet()
    await until('the broker acknowledged all', () => fleet.pending === 0)
    await until('all forwarded', async () => (await box.ledger()).totals.delivered.messages >= fleet.published.size)
    const result = await judged(box, fleet)
    assertExact(result)
    assert.equal(result.inKafka, fleet.published.size)
  })

  test('log path 10: a gateway that was stopped for longer than the keepalive gives no stale acknowledgement', limit, async (t) => {
    const box = await openBox(scope, { kafka: kafka.endpoint })
    const old = await connect(t, box.port, { clientId: 'pump', clean: false, keepalive: 1 })
    box.gateway.signal('SIGSTOP')
    old.publish(topicOf('pump-1'), 7)
    // Longer than the keepalive's grace: the device has given the connection up, and made a new one.
    await sleep(2_500)
    old.socket.resetAndDestroy()
    const next = await dial(t, box.port)
    next.send(
      { cmd: 'connect', clientId: 'pump', clean: false, keepalive: 1 },
      publishPacket(topicOf('pump-2'), 7),
      publishPacket(topicOf('pump-1'), 8),
    )
    box.gateway.signal('SIGCONT')
    assert.equal((await next.take('connack')).returnCode, 0)
    const first = await next.takeIds('puback', 2)
    await next.ping()
    await box.gateway.end('SIGKILL')
    assert.deepEqual(first, [7, 8])
    assert.equal(next.received.filter(({ cmd }) => cmd === 'puback').length, 0, 'one acknowledgement for each publish of this connection')
    await box.gateway.start()
    assert.deepEqual(await forwarded(box, 2), ['pump-1', 'pump-2'])
  })

  test(
    'log path 10: devices whose gateway stood still for longer than their keepalive come back, nothing lost or doubled',
    limit,
    async () => {
      const box = await openBox(scope, { kafka: kafka.endpoint })
      const fleet = box.fleet({ keepaliveSeconds: 2 })
      fleet.start()
      await until('acknowledgements', () => fleet.acknowledged > 50)
      const before = fleet.connects
      box.gateway.signal('SIGSTOP')
      await until('every device gave up its connection', () => fleet.lost >= 10)
      box.gateway.signal('SIGCONT')
      await until('every device is back', () => fleet.connects >= before + 10)
      fleet.quiet()
      await drained(box, fleet)
      const result = await judged(box, fleet)
      assertExact(result)
      assert.equal(result.inKafka, fleet.published.size)
    },
  )

  test('an fsync that fails ends the daemon unacknowledged, with the reason and code 74; the next start goes on', limit, async (t) => {
    const own = serviceScope((release) => t.after(release))
    const mount = await mountForgetful(own, join(own.folder(), 'disk'))
    const box = await openBox(own, { kafka: kafka.endpoint, dataDir: join(mount.path, 'state') })
    const client = await connect(t, box.port)
    client.publish(topicOf('pump-1'), 1)
    await client.take('puback')
    await mount.fail({ operation: 'fsync', name: 'outbox.db-wal' })
    client.publish(topicOf('pump-2'), 2)
    assert.equal(await box.gateway.ended(), 74)
    await client.end()
    assert.equal(client.received.filter(({ cmd }) => cmd === 'puback').length, 0)
    assert.match(await box.log(), /the buffer failed: disk I\/O error/)
    await mount.fail(undefined)
    await box.gateway.start()
    const again = await connect(t, box.port)
    again.publish(topicOf('pump-2'), 2, 1, { dup: true })
    await again.take('puback')
    assert.deepEqual(await forwarded(box, 2), ['pump-1', 'pump-2'])
    assert.ok((await box.ledger()).equation.holds)
  })

  test('log path 21: a redelivery of what a limit shed does not overtake: its fate was decided', limit, async (t) => {
    const box = await openBox(scope, {
      kafka: kafka.endpoint,
      config: { limits: { overLimit: 'shed', perDevice: { messagesPerSecond: 2, burst: '1s' } } },
    })
    const ids = ['pump-1', 'pump-2', 'pump-3']
    const first = await connect(t, box.port)
    for (const [index, id] of ids.entries()) first.publish(topicOf(id), index + 1)
    await first.takeIds('puback', 3)
    assert.equal((await box.ledger()).totals.shed['over-limit']?.messages, 1)
    for (let number = 4, shed = 1; shed === number - 3; number += 1) {
      first.publish(topicOf(`pump-${number}`), number)
      await first.take('puback')
      shed = (await box.ledger()).totals.shed['over-limit']?.messages ?? 0
    }
    // The acknowledgements count as lost: the device sends all of it again to a gateway whose buckets are full.
    await box.gateway.end('SIGKILL')
    await box.gateway.start()
    const second = await connect(t, box.port)
    for (const [index, id] of ids.entries()) second.publish(topicOf(id), index + 1, 1, { dup: true })
    await second.takeIds('puback', 3)
    await until('all forwarded', async () => (await box.ledger()).totals.buffered.messages === 0)
    const order = (await box.consumed()).map(idOf)
    assert.deepEqual(order, [...order].sort(), 'in the order in which the device published')
    assert.equal((await box.ledger()).totals.shed.duplicate?.messages, 3)
  })
})
