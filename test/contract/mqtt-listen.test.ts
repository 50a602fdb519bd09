import assert from 'node:assert/strict'
import { test } from 'node:test'
import mqtt from 'mqtt'
import type { Delivery } from '../../daemon/ports.ts'
import { connect, dial, listen, mosquittoPub, publishPacket, restart, until } from './mqtt-listen-kit.ts'

const text = (delivery: Delivery | undefined): string => Buffer.from(delivery?.payload ?? []).toString()

test('mosquitto_pub delivers at QoS 0, 1 and 2', async (t) => {
  const { intake, port } = await listen(t)
  for (const qos of [0, 1, 2] as const) {
    const { code, output } = await mosquittoPub(port, [
      '-t',
      `devices/d1/logs/q${qos}`,
      '-m',
      `hello ${qos}`,
      '-q',
      String(qos),
      '-i',
      'd1',
    ])
    assert.equal(code, 0, output)
  }
  await until(() => intake.deliveries.length === 3)
  const seen = intake.deliveries.map(({ source, topic, qos, retained, identity }) => ({ source, topic, qos, retained, identity }))
  assert.deepEqual(
    seen,
    [0, 1, 2].map((qos) => ({ source: 'lan', topic: `devices/d1/logs/q${qos}`, qos, retained: false, identity: undefined })),
  )
  assert.deepEqual(intake.deliveries.map(text), ['hello 0', 'hello 1', 'hello 2'])
})

test('MQTT.js delivers a burst at QoS 1 and 2, in order, over a persistent session', async (t) => {
  const { intake, port, exchanges } = await listen(t)
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { clientId: 'js', clean: false, protocolVersion: 4 })
  t.after(() => client.endAsync(true))
  for (const qos of [1, 2] as const) {
    await Promise.all(Array.from({ length: 500 }, (_, i) => client.publishAsync(`a/${qos}`, `${qos}-${i}`, { qos })))
  }
  const expected = [1, 2].flatMap((qos) => Array.from({ length: 500 }, (_, i) => `${qos}-${i}`))
  assert.deepEqual(intake.deliveries.map(text), expected)
  assert.equal(exchanges.releases.length, 500)
  assert.equal(exchanges.stored.size, 0)
})

test('PUBACK waits for the settlement, and keeps the order of receipt', async (t) => {
  const { intake, port } = await listen(t)
  intake.automatic = false
  const client = await connect(t, port)
  for (let id = 1; id <= 4; id++) client.publish('a/b', id)
  await client.ping()
  assert.equal(intake.deliveries.length, 4)
  assert.deepEqual(client.received, [])
  for (const i of [3, 1]) intake.settle(intake.deliveries[i]!)
  await client.ping()
  assert.deepEqual(client.received, [])
  for (const i of [0, 2]) intake.settle(intake.deliveries[i]!)
  assert.deepEqual(await client.takeIds('puback', 4), [1, 2, 3, 4])
})

test('packets that come with the CONNECT, before the CONNACK, are taken after it', async (t) => {
  const { intake, port } = await listen(t)
  const client = await dial(t, port)
  client.send({ cmd: 'connect', clientId: 'd1', clean: true, keepalive: 30 }, publishPacket('a/b', 7), { cmd: 'pingreq' })
  assert.deepEqual(
    (await Promise.all([client.take('connack'), client.take('puback'), client.take('pingresp')])).map(({ cmd }) => cmd),
    ['connack', 'puback', 'pingresp'],
  )
  assert.deepEqual(intake.topics(), ['a/b'])
})

test('a settlement after the connection is gone acknowledges nothing, also when the packet id is in use again', async (t) => {
  const { intake, port, listener } = await listen(t)
  intake.automatic = false
  const first = await connect(t, port)
  first.publish('a/old', 5)
  await first.ping()
  first.socket.destroy()
  await until(() => listener.state().connections === 0)
  const second = await connect(t, port)
  second.publish('a/new', 5)
  await second.ping()
  intake.settleNext(1)
  await second.ping()
  assert.deepEqual(second.received, [])
  intake.deliveries[0]?.settle()
  intake.settleNext(1)
  assert.deepEqual(await second.takeIds('puback', 1), [5])
})

test('log path 21: what is sent again with DUP on a new connection is a new delivery', async (t) => {
  const { intake, port } = await listen(t)
  const client = await connect(t, port)
  client.publish('a/b', 5, 1, { dup: true, payload: 'again' })
  assert.deepEqual(await client.takeIds('puback', 1), [5])
  assert.deepEqual(intake.deliveries.map(text), ['again'])
})

test('a DUP of a packet id that is pending on the same connection joins it, and is answered once', async (t) => {
  const { intake, port, listener } = await listen(t)
  intake.automatic = false
  const client = await connect(t, port)
  client.publish('a/1', 5)
  client.publish('a/1', 5, 1, { dup: true })
  client.publish('a/2', 6, 2)
  client.publish('a/2', 6, 2, { dup: true })
  client.publish('a/3', 5)
  await client.ping()
  assert.deepEqual(intake.topics(), ['a/1', 'a/2', 'a/3'])
  assert.equal(listener.counters().joined, 2)
  intake.settleNext()
  assert.deepEqual(await client.takeIds('puback', 2), [5, 5])
  await client.ping()
  assert.deepEqual(
    client.received.map(({ cmd, messageId }) => [cmd, messageId]),
    [['pubrec', 6]],
  )
})

test('log path 27: a device that asks to retain sends a message with a flag, and nothing is kept or sent again', async (t) => {
  const { intake, port } = await listen(t, { allowSubscribe: () => true })
  assert.equal((await mosquittoPub(port, ['-t', 'a/b', '-m', 'x', '-q', '1', '-r'])).code, 0)
  assert.deepEqual(
    intake.deliveries.map(({ retained }) => retained),
    [true],
  )
  const client = await connect(t, port)
  client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '#', qos: 1 }] })
  await client.take('suback')
  await client.ping()
  assert.deepEqual(client.received, [])
})

test('subscriptions are refused one by one, $SYS always, and devices never receive what devices publish', async (t) => {
  const allowSubscribe = ({ clientId }: { clientId: string }, filter: string): boolean =>
    filter === `config/${clientId}` || filter.startsWith('$')
  const { port, intake } = await listen(t, { allowSubscribe })
  const client = await connect(t, port, { clientId: 'd1', clean: false })
  const topics = ['#', 'config/d1', 'config/d2', '$SYS/#']
  client.send({ cmd: 'subscribe', messageId: 9, subscriptions: topics.map((topic) => ({ topic, qos: 1 as const })) })
  assert.deepEqual((await client.take('suback')).granted, [128, 1, 128, 128])
  client.publish('config/d1', 3)
  await client.take('puback')
  const dying = await connect(t, port, { clientId: 'dying', will: { topic: 'config/d1', payload: Buffer.from('x') } })
  dying.socket.destroy()
  await until(() => intake.deliveries.length === 2)
  await client.ping()
  assert.deepEqual(client.received, [])
})

test('last wills are offered as messages of their device; not after DISCONNECT', async (t) => {
  const { intake, port, listener } = await listen(t)
  const will = { topic: 'devices/d1/state', payload: Buffer.from('gone'), qos: 1 as const, retain: true }
  const polite = await connect(t, port, { clientId: 'polite', will })
  polite.send({ cmd: 'disconnect' })
  await polite.end()
  const hasty = await connect(t, port, { clientId: 'hasty', will })
  hasty.socket.end(Buffer.from([0xe0, 0]))
  await hasty.end()
  await until(() => listener.counters().ended.disconnect === 2)
  const lost = await connect(t, port, { clientId: 'lost', will })
  lost.socket.resetAndDestroy()
  await until(() => intake.deliveries.length === 1)
  const bad = await connect(t, port, { clientId: 'bad', will: { topic: 'a/#', payload: Buffer.from('x') } })
  bad.socket.destroy()
  await until(() => intake.deliveries.length === 2)
  assert.deepEqual(
    intake.deliveries.map(({ topic, qos, retained, refused }) => ({ topic, qos, retained, refused })),
    [
      { topic: 'devices/d1/state', qos: 1, retained: true, refused: undefined },
      { topic: 'a/#', qos: 0, retained: false, refused: { reason: 'malformed-topic', bytes: 1 } },
    ],
  )
  assert.equal(text(intake.deliveries[0]), 'gone')
})

test('a client that connects again takes over: the older connection ends, and what it had pending is not acknowledged', async (t) => {
  const { intake, port, listener } = await listen(t)
  intake.automatic = false
  const older = await connect(t, port, { will: { topic: 'will', payload: Buffer.from('w') } })
  older.publish('a/b', 1)
  await older.ping()
  const newer = await connect(t, port)
  await older.end()
  newer.publish('a/b', 1, 1, { dup: true })
  await newer.ping()
  assert.deepEqual(intake.topics(), ['a/b', 'will', 'a/b'])
  intake.settleNext(2)
  await newer.ping()
  assert.deepEqual(newer.received, [])
  intake.settleNext()
  assert.deepEqual(await newer.takeIds('puback', 1), [1])
  assert.equal(listener.state().connections, 1)
  assert.equal(listener.counters().ended['taken-over'], 1)
})

test('CONNACK tells a persistent session that it is known, and a clean one that it is new', async (t) => {
  const { port } = await listen(t)
  const present = async (clean: boolean): Promise<boolean> => {
    const client = await dial(t, port)
    client.send({ cmd: 'connect', clientId: 's', clean, keepalive: 30 })
    const { sessionPresent } = await client.take('connack')
    client.socket.destroy()
    return sessionPresent === true
  }
  assert.deepEqual([await present(false), await present(false), await present(true), await present(false)], [false, true, false, false])
})

test('stop acknowledges what settles in time, takes nothing more, and says no last wills', async (t) => {
  const { intake, port, listener } = await listen(t)
  intake.automatic = false
  const client = await connect(t, port, { will: { topic: 'will', payload: Buffer.from('w') } })
  client.publish('a/b', 1)
  client.publish('a/b', 2)
  await client.ping()
  const stopped = listener.stop(performance.now() + 60_000)
  client.publish('a/b', 3)
  await assert.rejects(connect(t, port))
  intake.settleNext()
  assert.deepEqual(await client.takeIds('puback', 2), [1, 2])
  await stopped
  await client.end()
  assert.deepEqual(intake.topics(), ['a/b', 'a/b'])
  assert.equal(listener.state().state, 'down')
})

test('stop abandons at its deadline what never settles', async (t) => {
  const { intake, port, listener } = await listen(t)
  intake.automatic = false
  const client = await connect(t, port)
  client.publish('a/b', 1)
  await client.ping()
  await listener.stop(performance.now() + 50)
  await client.end()
  intake.settleNext()
  assert.deepEqual(client.received, [])
})

test('QoS 2: a PUBLISH whose PUBREC was lost is not offered again after a restart', async (t) => {
  const before = await listen(t)
  before.intake.automatic = false
  const first = await connect(t, before.port, { clean: false })
  first.publish('a/b', 9, 2)
  await first.ping()
  assert.deepEqual(
    before.intake.deliveries.map(({ exchange }) => exchange),
    ['d1\u00009'],
  )
  before.intake.settleNext()
  const after = await restart(t, before)
  const again = await connect(t, after.port, { clean: false })
  again.publish('a/b', 9, 2, { dup: true })
  assert.deepEqual(await again.takeIds('pubrec', 1), [9])
  again.send({ cmd: 'pubrel', messageId: 9 })
  assert.deepEqual(await again.takeIds('pubcomp', 1), [9])
  assert.equal(after.exchanges.stored.size, 0)
  again.publish('a/next', 9, 2)
  assert.deepEqual(await again.takeIds('pubrec', 1), [9])
  assert.deepEqual(after.intake.topics(), ['a/next'])
})

test('QoS 2: PUBREL is answered after a restart, and for an id that nobody knows', async (t) => {
  const before = await listen(t)
  const first = await connect(t, before.port, { clean: false })
  first.publish('a/b', 9, 2)
  await first.take('pubrec')
  const after = await restart(t, before)
  const again = await connect(t, after.port, { clean: false })
  again.send({ cmd: 'pubrel', messageId: 9 }, { cmd: 'pubrel', messageId: 1_234 })
  assert.deepEqual((await again.takeIds('pubcomp', 2)).sort(), [1_234, 9])
  assert.deepEqual(
    after.exchanges.releases.map(({ exchange }) => exchange),
    ['d1\u00009'],
  )
})

test('QoS 2: PUBCOMP waits until the exchange is forgotten durably, also for a PUBREL that is repeated elsewhere', async (t) => {
  const { port, exchanges } = await listen(t)
  exchanges.automatic = false
  const first = await connect(t, port, { clean: false })
  first.publish('a/b', 9, 2)
  await first.take('pubrec')
  first.send({ cmd: 'pubrel', messageId: 9 })
  await first.ping()
  assert.deepEqual(first.received, [])
  const second = await connect(t, port, { clean: false })
  second.send({ cmd: 'pubrel', messageId: 9 })
  await second.ping()
  assert.deepEqual(second.received, [])
  assert.equal(exchanges.releases.length, 1)
  exchanges.releases[0]?.done()
  assert.deepEqual(await second.takeIds('pubcomp', 1), [9])
})

test('QoS 2: a repetition on a new connection joins a message whose fate is not durable yet', async (t) => {
  const { port, intake } = await listen(t)
  intake.automatic = false
  const first = await connect(t, port, { clean: false })
  first.publish('a/b', 9, 2)
  await first.ping()
  const second = await connect(t, port, { clean: false })
  second.publish('a/b', 9, 2, { dup: true })
  second.publish('a/c', 10, 2)
  await second.ping()
  assert.deepEqual(second.received, [])
  assert.deepEqual(intake.topics(), ['a/b', 'a/c'])
  intake.settleNext()
  assert.deepEqual(await second.takeIds('pubrec', 2), [9, 10])
})

test('QoS 2: a clean session begins anew, whatever was left open before', async (t) => {
  const { port, intake, exchanges } = await listen(t)
  const first = await connect(t, port, { clean: false })
  first.publish('a/1', 9, 2)
  await first.take('pubrec')
  const clean = await connect(t, port, { clean: true })
  assert.equal(exchanges.stored.size, 0)
  clean.publish('a/2', 9, 2)
  clean.publish('a/2', 9, 2, { dup: true })
  await clean.take('pubrec')
  clean.send({ cmd: 'pubrel', messageId: 9 })
  await clean.take('pubcomp')
  const later = await connect(t, port, { clean: false })
  later.publish('a/3', 9, 2)
  await later.take('pubrec')
  assert.deepEqual(
    intake.deliveries.map(({ topic, exchange }) => [topic, exchange]),
    [
      ['a/1', 'd1\u00009'],
      ['a/2', undefined],
      ['a/3', 'd1\u00009'],
    ],
  )
})

test('QoS 2: a client that lost its state and counts from 1 again loses no message', async (t) => {
  const { port, intake, exchanges, log } = await listen(t)
  const first = await connect(t, port, { clean: false })
  first.publish('a/b', 1, 2, { payload: 'one' })
  await first.take('pubrec')
  const reborn = await connect(t, port, { clean: false })
  reborn.publish('a/b', 1, 2, { payload: 'two' })
  reborn.publish('a/b', 1, 2, { payload: 'two', dup: true })
  await reborn.take('pubrec')
  reborn.send({ cmd: 'pubrel', messageId: 1 })
  await reborn.take('pubcomp')
  assert.deepEqual(intake.deliveries.map(text), ['one', 'two'])
  assert.equal(exchanges.stored.size, 0)
  assert.match(log.text(), /used a QoS 2 packet id again/)
})

test('QoS 2: MQTT.js sends each message once over restarts of the gateway', async (t) => {
  let rig = await listen(t)
  const { port } = rig
  const payloads: string[] = []
  const keep = (): void => {
    rig.intake.onOffer = (delivery) => payloads.push(text(delivery))
  }
  keep()
  const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, { clientId: 'js', clean: false, protocolVersion: 4, reconnectPeriod: 20 })
  t.after(() => client.endAsync(true))
  const published = Array.from({ length: 150 }, (_, i) => client.publishAsync('a/b', String(i), { qos: 2 }))
  for (const seen of [25, 75, 125]) {
    await until(() => payloads.length >= seen)
    rig = await restart(t, rig)
    keep()
  }
  await Promise.all(published)
  assert.equal(new Set(payloads).size, 150)
  assert.equal(payloads.length, 150)
})
