/** When and where acknowledgements go out; what MQTT.js does that its documentation does not say. */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { MqttClient } from 'mqtt'
import type { Packet } from 'mqtt-packet'
import { serviceScope } from '../services/index.ts'
import { scriptedBroker } from './mqtt-connect-broker.ts'
import { isUp, QUICK, run, settingsFor, until, VERSIONS } from './mqtt-connect-kit.ts'

const scope = serviceScope()

for (const protocolVersion of VERSIONS) {
  const broker = (): ReturnType<typeof scriptedBroker> => scriptedBroker(scope, protocolVersion)

  test(`MQTT.js, version ${protocolVersion}: an error from handleMessage skips the PUBACK, and the next packet comes`, async () => {
    const { url, peers } = await broker()
    const port = Number(new URL(url).port)
    const client = new MqttClient(() => connect(port, '127.0.0.1'), {
      protocolVersion,
      clean: false,
      clientId: 'pinned',
      reconnectPeriod: 0,
      manualConnect: true,
    })
    const taken: string[] = []
    const errors: string[] = []
    const take = (payload: unknown): void => void taken.push(String(payload))
    client.handleMessage = (packet, done) => {
      take(packet.payload)
      done(new Error('not yet'))
    }
    client.options.customHandleAcks = (_topic, payload, packet: { qos: number }, decide) => {
      if (packet.qos !== 2) return decide(0)
      take(payload)
      decide(new Error('not yet, QoS 2'))
    }
    client.on('error', ({ message }) => errors.push(message))
    scope.atEnd(() => void client.end(true))
    client.connect()
    await until('it is connected', () => client.connected)
    peers[0]?.publish(1, 'one')
    peers[0]?.publish(2, 'two', { qos: 2 })
    peers[0]?.publish(3, 'three')
    peers[0]?.publish(0, 'four', { qos: 0 })
    await until('all are taken', () => taken.length === 4)
    peers[0]?.send({ cmd: 'pingresp' })
    client.sendPing()
    await until('the ping came behind them', () => peers[0]?.received.some(({ cmd }) => cmd === 'pingreq') === true)
    assert.deepEqual(taken, ['one', 'two', 'three', 'four'])
    assert.deepEqual(
      peers[0]?.received.map(({ cmd }) => cmd),
      ['connect', 'pingreq'],
    )
    assert.deepEqual(errors, ['not yet, QoS 2'], 'an error of customHandleAcks is emitted, and nothing else happens')
    assert.equal(client.connected, true)
  })

  test(`version ${protocolVersion}: acknowledged only when settled, in the order of receipt, in one write`, async () => {
    const script = await broker()
    const { intake } = await run(scope, settingsFor(script.url, { protocolVersion }))
    intake.isSettling = false
    const peer = await script.peer(0)
    for (let id = 1; id <= 5; id++) peer.publish(id * 1_000, `m${id}`)
    await until('all have come', () => intake.deliveries.length === 5)
    for (const index of [4, 2, 1]) intake.deliveries[index]?.settle()
    peer.publish(9, 'bell', { qos: 0 })
    await until('the bell has come', () => intake.deliveries.length === 6)
    assert.deepEqual(peer.acknowledged(), [], 'the first one received is not settled')
    const before = peer.chunks.length
    intake.deliveries[0]?.settle()
    await until('three are acknowledged', () => peer.acknowledged().length === 3)
    assert.equal(peer.chunks.length, before + 1)
    assert.deepEqual(peer.chunks.at(-1), Buffer.from('400203e8400207d040020bb8', 'hex'))
    intake.deliveries[3]?.settle()
    await until('all are acknowledged', () => peer.acknowledged().length === 5)
    assert.deepEqual(peer.acknowledged(), [1_000, 2_000, 3_000, 4_000, 5_000])
  })

  test(`version ${protocolVersion}: what is sent again while it waits, on the same stream, joins it`, async () => {
    const script = await broker()
    const { intake } = await run(scope, settingsFor(script.url, { protocolVersion }))
    intake.isSettling = false
    const peer = await script.peer(0)
    peer.publish(7, 'once')
    peer.publish(7, 'once', { dup: true })
    peer.publish(8, 'other', { dup: true })
    await until('both have come', () => intake.deliveries.length === 2)
    assert.deepEqual(intake.payloads, ['once', 'other'])
    intake.settleAll()
    await until('both are acknowledged', () => peer.acknowledged().length === 2)
    peer.publish(7, 'once', { dup: true })
    await until('after its acknowledgement it is a delivery of its own', () => intake.deliveries.length === 3)
    intake.settleAll()
    await until('that one is acknowledged too', () => peer.acknowledged().length === 3)
    assert.deepEqual(peer.acknowledged(), [7, 8, 7])
  })

  test(`version ${protocolVersion}: an acknowledgement never goes to another connection`, async () => {
    const script = await broker()
    const { connection, intake } = await run(scope, settingsFor(script.url, { protocolVersion }))
    intake.isSettling = false
    const first = await script.peer(0)
    first.publish(1, 'old')
    await until('it has come', () => intake.deliveries.length === 1)
    first.socket.destroy()
    const second = await script.peer(1)
    await isUp(connection)
    second.publish(1, 'another message under the same id')
    await until('it has come as well', () => intake.deliveries.length === 2)
    intake.deliveries[0]?.settle()
    second.publish(0, 'bell', { qos: 0 })
    await until('the bell has come', () => intake.deliveries.length === 3)
    assert.deepEqual(second.acknowledged(), [])
    intake.deliveries[1]?.settle()
    await until('the new one is acknowledged', () => second.acknowledged().length === 1)
  })

  test(`version ${protocolVersion}: a QoS 2 message that an earlier subscription left gets PUBREC when it is durable`, async () => {
    const script = await scriptedBroker(scope, protocolVersion, (packet, peer) => {
      if (packet.cmd !== 'pubrec') return false
      peer.send({ cmd: 'pubrel', messageId: packet.messageId as number })
      return true
    })
    const { connection, intake } = await run(scope, settingsFor(script.url, { protocolVersion }))
    intake.isSettling = false
    const peer = await script.peer(0)
    peer.publish(1, 'first')
    peer.publish(2, 'exactly', { qos: 2 })
    peer.publish(2, 'exactly', { qos: 2, dup: true })
    await until('both have come', () => intake.deliveries.length === 2)
    intake.deliveries[1]?.settle()
    peer.publish(0, 'bell', { qos: 0 })
    await until('the bell has come', () => intake.deliveries.length === 3)
    assert.deepEqual(peer.acknowledged('pubrec'), [])
    intake.deliveries[0]?.settle()
    await until('PUBREL was answered', () => peer.acknowledged('pubcomp').length === 1)
    assert.deepEqual(
      peer.received.map(({ cmd }) => cmd).filter((cmd) => cmd.startsWith('pub')),
      ['puback', 'pubrec', 'pubcomp'],
    )
    assert.equal(connection.state().state, 'up')
  })

  test(`version ${protocolVersion}: above the limit of bytes nothing is taken, and it goes on when there is room`, async () => {
    const script = await broker()
    const { intake } = await run(scope, settingsFor(script.url, { protocolVersion, inFlight: { messages: 100, bytes: 1_000 } }))
    intake.isSettling = false
    const peer = await script.peer(0)
    for (let id = 1; id <= 9; id++) peer.publish(id, 'x'.repeat(400))
    await until('three fill it', () => intake.deliveries.length === 3)
    intake.deliveries[0]?.settle()
    await until('one more is taken', () => intake.deliveries.length === 4)
    assert.deepEqual(peer.acknowledged(), [1])
    intake.isSettling = true
    intake.settleAll()
    await until('all are acknowledged', () => peer.acknowledged().length === 9)
  })
}

test('version 5: a malformed packet from the broker costs that connection, in words', async () => {
  const script = await scriptedBroker(scope, 5)
  const { connection, log } = await run(scope, settingsFor(script.url))
  const peer = await script.peer(0)
  await isUp(connection)
  peer.socket.write(Buffer.from('3206000161000109', 'hex')) // property length 9, and nothing follows
  await script.peer(1)
  await isUp(connection)
  assert.match(JSON.stringify(log.lines), /Cannot parse property/)
})

test('version 5: a broker that says who took the session over is believed', async () => {
  const script = await scriptedBroker(scope, 5)
  const { connection } = await run(scope, settingsFor(script.url))
  const peer = await script.peer(0)
  await isUp(connection)
  peer.send({ cmd: 'disconnect', reasonCode: 0x8e })
  await until('it is told', () => connection.state().notices.length > 0)
  assert.match(connection.state().notices[0]?.text ?? '', /another client with the client id "gw-\d+" took our session/)
  await script.peer(1)
})

test('a refused filter is asked for again on the same connection', async () => {
  let isRefusing = true
  const script = await scriptedBroker(scope, 4, (packet, peer) => {
    if (packet.cmd !== 'subscribe' || !isRefusing || packet.subscriptions.length < 2) return false
    peer.send({ cmd: 'suback', messageId: packet.messageId as number, granted: [1, 128] })
    return true
  })
  const filters = [
    { filter: 'a', qos: 1 as const },
    { filter: 'b', qos: 1 as const },
  ]
  const { connection } = await run(scope, settingsFor(script.url, { protocolVersion: 4, filters }))
  await until('it is named', () => /refuses 1 of 2 subscriptions: b/.test(connection.state().reason ?? ''))
  assert.equal(connection.state().connections, 1)
  isRefusing = false
  await isUp(connection)
  assert.equal(script.peers.length, 1)
})

test('a SUBACK that comes behind a long backlog is waited for, one that never comes is not', async () => {
  const script = await scriptedBroker(scope, 5, (packet, peer) => {
    if (packet.cmd !== 'subscribe' || packet.subscriptions[0]?.topic.startsWith('$') === true) return false
    const isFirst = script.peers.length === 1
    const end = isFirst ? 20 : 1
    void (async () => {
      for (let id = 1; id <= end; id++) {
        peer.publish(id, `m${id}`)
        await sleep(50)
      }
      if (isFirst) peer.send({ cmd: 'suback', messageId: packet.messageId as number, granted: [1] })
    })()
    return true
  })
  const { connection, intake } = await run(scope, settingsFor(script.url), { retry: { ...QUICK, attemptMs: 300 } })
  await isUp(connection)
  assert.equal(intake.deliveries.length, 20)
  assert.equal(script.peers.length, 1)
  script.peers[0]?.socket.destroy()
  await until('the second is given up', () => /no SUBACK within 0\.3 s/.test(connection.state().reason ?? ''))
})

test('a thin line: messages that come are a sign of life, also while PINGRESP is far behind them', async () => {
  const script = await scriptedBroker(scope, 5, (packet) => packet.cmd === 'pingreq')
  const { connection, intake } = await run(scope, settingsFor(script.url, { keepaliveSeconds: 1 }))
  const peer = await script.peer(0)
  for (let id = 1; id <= 25; id++) {
    peer.publish(id, `m${id}`)
    await sleep(100)
  }
  await until('all have come', () => intake.deliveries.length === 25)
  assert.equal(script.peers.length, 1)
  assert.equal(
    peer.received.some(({ cmd }) => cmd === 'pingreq'),
    true,
    'the broker must hear from us as well',
  )
  await until('silence is no sign of life', () => /stopped answering/.test(connection.state().reason ?? ''))
})

test('version 5: what follows the goodbye of the broker is not taken: it comes again', async () => {
  const script = await scriptedBroker(scope, 5)
  const { connection, intake } = await run(scope, settingsFor(script.url))
  const peer = await script.peer(0)
  await isUp(connection)
  const message = (messageId: number): Packet => ({
    cmd: 'publish',
    topic: 'devices/d1/logs/app',
    payload: `m${messageId}`,
    qos: 1,
    dup: false,
    retain: false,
    messageId,
  })
  peer.send(message(1), { cmd: 'disconnect', reasonCode: 0x8b }, message(2))
  const next = await script.peer(1)
  next.publish(2, 'm2', { dup: true })
  next.publish(3, 'm3')
  await until('the last one has come', () => intake.payloads.includes('m3'))
  assert.deepEqual(intake.payloads, ['m1', 'm2', 'm3'])
})

test('QoS 0 where 1 was asked for is a loss in words', async () => {
  const script = await scriptedBroker(scope, 4, (packet, peer) => {
    if (packet.cmd !== 'subscribe') return false
    peer.send({ cmd: 'suback', messageId: packet.messageId as number, granted: packet.subscriptions.map(() => 0) })
    return true
  })
  const { connection } = await run(scope, settingsFor(script.url, { protocolVersion: 4 }))
  await isUp(connection)
  assert.match(connection.state().notices[0]?.text ?? '', /grants only QoS 0 for devices/)
})

test('a broker that closes when asked for its statistics is not asked again', async () => {
  const script = await scriptedBroker(scope, 5, (packet, peer) => {
    if (packet.cmd !== 'subscribe' || !packet.subscriptions[0]?.topic.startsWith('$SYS')) return false
    peer.socket.destroy()
    return true
  })
  const { connection, intake } = await run(scope, settingsFor(script.url))
  const peer = await script.peer(1)
  await isUp(connection)
  peer.publish(1, 'flows')
  await until('it came', () => intake.deliveries.length === 1)
  assert.equal(script.peers.length, 2)
})

test('version 5: a topic alias, which is never offered, costs the connection and not the message', async () => {
  const script = await scriptedBroker(scope, 5)
  const { connection, intake } = await run(scope, settingsFor(script.url))
  const peer = await script.peer(0)
  await isUp(connection)
  peer.send({
    cmd: 'publish',
    topic: 'devices/d1/logs/app',
    payload: 'aliased',
    qos: 1,
    dup: false,
    retain: false,
    messageId: 1,
    properties: { topicAlias: 1 },
  })
  const next = await script.peer(1)
  assert.deepEqual(intake.payloads, [])
  assert.deepEqual(peer.acknowledged(), [])
  next.publish(1, 'aliased', { dup: true })
  await until('it came when sent without', () => intake.deliveries.length === 1)
})
