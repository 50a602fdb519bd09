import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { connect, dial, listen, listenStill, mosquittoPub, publishPacket, tryConnect, until, type RawClient } from './mqtt-listen-kit.ts'
import type { FakeClock } from '../fakes/clock.ts'

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30))

test('log path 11: messages that are refused are acknowledged and leave the window; the connection stays', async (t) => {
  const { intake, port } = await listen(t, { inFlightPerConnection: { messages: 10, bytes: 10_000 }, maxPacketBytes: 100 })
  const client = await connect(t, port)
  const notUtf8 = publishPacket('a/b', 1)
  notUtf8[4] = 0xff
  for (let id = 1; id <= 1_000; id += 5) {
    notUtf8.writeUInt16BE(id, notUtf8.length - 3)
    client.send(Buffer.from(notUtf8))
    client.send(raw(0x32, 'a/#', id + 1, 'x'), raw(0x32, '', id + 2, 'xy'), raw(0x32, 'a/\0', id + 3, ''))
    client.publish('a/b', id + 4, 1, { payload: Buffer.alloc(500) })
  }
  assert.deepEqual(
    await client.takeIds('puback', 1_000),
    Array.from({ length: 1_000 }, (_, i) => i + 1),
  )
  client.publish('a/good', 7)
  await client.take('puback')
  const refused = intake.deliveries.map((delivery) => delivery.refused)
  assert.deepEqual(refused.slice(0, 5), [
    { reason: 'malformed-topic', bytes: 1 },
    { reason: 'malformed-topic', bytes: 1 },
    { reason: 'malformed-topic', bytes: 2 },
    { reason: 'malformed-topic', bytes: 0 },
    { reason: 'oversize', bytes: 500 },
  ])
  assert.equal(refused.at(-1), undefined)
})

test('log path 12: one oversize message of 200 MB among others is counted with its size, and memory stays flat', async (t) => {
  const { intake, port } = await listen(t)
  const client = await connect(t, port)
  client.publish('a/1', 1)
  const size = 200_000_000
  client.send(Buffer.concat([Buffer.from([0x32]), remainingLength(size + 7), topicBytes('a/2'), Buffer.from([0, 2])]))
  const chunk = Buffer.alloc(1_000_000)
  let peakBytes = 0
  const collect = garbageCollector()
  collect()
  collect()
  const before = process.memoryUsage().arrayBuffers
  for (let sent = 0; sent < size; sent += chunk.length) {
    if (!client.socket.write(chunk)) await new Promise((resolve) => client.socket.once('drain', resolve))
    if (sent % 20_000_000 !== 0) continue
    collect()
    collect()
    peakBytes = Math.max(peakBytes, process.memoryUsage().arrayBuffers - before)
  }
  client.publish('a/3', 3)
  assert.deepEqual(await client.takeIds('puback', 3), [1, 2, 3])
  assert.deepEqual(
    intake.deliveries.map(({ topic, refused, payload }) => [topic, refused, payload.length]),
    [
      ['a/1', undefined, 1],
      ['a/2', { reason: 'oversize', bytes: size }, 0],
      ['a/3', undefined, 1],
    ],
  )
  assert.ok(peakBytes < 5_000_000, `held ${peakBytes} bytes`)
})

test('log path 12: an oversize message that is cut off in the middle was never received', async (t) => {
  const { intake, port, listener } = await listen(t, { maxPacketBytes: 100 })
  const client = await connect(t, port)
  client.send(Buffer.concat([Buffer.from([0x32]), remainingLength(5_007), topicBytes('a/2'), Buffer.from([0, 2]), Buffer.alloc(4_999)]))
  client.socket.end()
  await until(() => listener.state().connections === 0)
  assert.deepEqual(intake.deliveries, [])
})

test('log path 20: what is refused or joined shows in the counters', async (t) => {
  const { intake, port, listener } = await listen(t, { maxConnections: 1 })
  intake.automatic = false
  const client = await connect(t, port)
  client.publish('a/b', 1)
  client.publish('a/b', 1, 1, { dup: true })
  await client.ping()
  assert.equal((await tryConnect(t, port, { clientId: 'other' })).returnCode, 3)
  assert.equal((await tryConnect(t, port, { clientId: 'd1' })).returnCode, 0)
  const { offered, joined, connects, refused, ended } = listener.counters()
  assert.deepEqual(
    { offered, joined, connects, full: refused['max-connections'], takenOver: ended['taken-over'] },
    { offered: 1, joined: 1, connects: 2, full: 1, takenOver: 1 },
  )
})

test('a connection with too much in flight is not read; another one is, and it goes on when there is room', async (t) => {
  const { intake, port } = await listen(t, { inFlightPerConnection: { messages: 5, bytes: 1_000_000 } })
  intake.automatic = false
  const greedy = await connect(t, port, { clientId: 'greedy' })
  for (let id = 1; id <= 12; id++) greedy.publish('greedy', id)
  await until(() => intake.deliveries.length === 5)
  const other = await connect(t, port, { clientId: 'other' })
  other.publish('other', 1)
  await other.ping()
  assert.deepEqual(intake.topics(), [...Array.from({ length: 5 }, () => 'greedy'), 'other'])
  intake.settleNext()
  assert.deepEqual(await other.takeIds('puback', 1), [1])
  await until(() => intake.deliveries.length === 11)
  intake.automatic = true
  intake.settleNext()
  assert.deepEqual(
    await greedy.takeIds('puback', 12),
    Array.from({ length: 12 }, (_, i) => i + 1),
  )
})

test('the bytes in flight of one connection are bounded, QoS 0 included', async (t) => {
  const { intake, port } = await listen(t, { inFlightPerConnection: { messages: 1_000, bytes: 10_000 } })
  intake.automatic = false
  const client = await connect(t, port)
  for (let id = 1; id <= 30; id++) client.publish('a/b', id, 0, { payload: Buffer.alloc(1_000) })
  await until(() => intake.deliveries.length === 8)
  await settled()
  assert.equal(intake.deliveries.length, 8)
  intake.automatic = true
  intake.settleNext()
  await until(() => intake.deliveries.length === 30)
})

test('the bytes in flight of all connections are bounded; everyone goes on when there is room', async (t) => {
  const { intake, port } = await listen(t, { inFlightBytes: 20_000 })
  intake.automatic = false
  const clients = await Promise.all([1, 2, 3].map((n) => connect(t, port, { clientId: `c${n}` })))
  for (const client of clients) for (let id = 1; id <= 20; id++) client.publish('a/b', id, 1, { payload: Buffer.alloc(1_000) })
  await settled()
  await until(() => intake.deliveries.length >= 16)
  await settled()
  assert.ok(intake.deliveries.length < 20, `${intake.deliveries.length} offered`)
  intake.automatic = true
  intake.settleNext()
  for (const client of clients)
    assert.deepEqual(
      await client.takeIds('puback', 20),
      Array.from({ length: 20 }, (_, i) => i + 1),
    )
})

test('a connection that ends gives back what it had in flight', async (t) => {
  const { intake, port, listener } = await listen(t, { inFlightBytes: 5_000 })
  intake.automatic = false
  const gone = await connect(t, port, { clientId: 'gone' })
  for (let id = 1; id <= 10; id++) gone.publish('a/b', id, 1, { payload: Buffer.alloc(1_000) })
  await until(() => intake.deliveries.length === 4)
  gone.socket.destroy()
  await until(() => listener.state().connections === 0)
  const next = await connect(t, port, { clientId: 'next' })
  next.publish('a/c', 1)
  next.publish('a/c', 2)
  await settled()
  assert.equal(intake.deliveries.length, 4)
  intake.automatic = true
  intake.settleNext()
  assert.deepEqual(await next.takeIds('puback', 2), [1, 2])
})

test('what is no MQTT 3.1.1 is closed with one line per reason', async (t) => {
  const { port, listener, log } = await listen(t, { maxPacketBytes: 1_000 })
  const closes = async (bytes: string): Promise<void> => {
    const client = await dial(t, port)
    client.socket.write(Buffer.from(bytes, 'latin1'))
    await client.end()
  }
  for (const bytes of [
    'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
    '\x16\x03\x01\x02\0\x01',
    '\x30\x05\0\x01a12',
    '\x10\xff\xff\xff\xff',
    '\x10\xff\xff\x7f',
  ])
    await closes(bytes)
  const five = await dial(t, port)
  five.send({ cmd: 'connect', protocolVersion: 5, clientId: 'v5', clean: true, keepalive: 5 })
  assert.equal((await five.take('connack')).returnCode, 1)
  await five.end()
  for (const bytes of [
    '\x82\xff\x7f',
    '\x36\x05\0\x01a12',
    '\x32\x05\0\x01a\0\0',
    '\x32\x03\0\x05a',
    '\x20\x02\0\0',
    '\x62\x01\0',
    '\x82\x02\0\x01',
    '\xd0\0',
  ]) {
    const client = await connect(t, port)
    client.socket.write(Buffer.from(bytes, 'latin1'))
    await client.end()
  }
  const twice = await connect(t, port)
  twice.send({ cmd: 'connect', clientId: 'd1', clean: true, keepalive: 5 })
  await twice.end()
  const { ended, refused } = listener.counters()
  assert.deepEqual([ended['not-mqtt'], ended['protocol-error'], refused['protocol-version']], [5, 9, 1])
  assert.equal(log.lines.filter(({ message }) => message.includes('no CONNECT')).length, 1)
})

test('random control packets close their connection at worst', async (t) => {
  const { port, intake } = await listen(t, { connectsPerSecond: 100_000, allowSubscribe: () => true })
  let seed = 20_261_124
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff
    return seed % below
  }
  for (let round = 0; round < 150; round++) {
    const client = await connect(t, port, { clientId: `fuzz${random(5)}`, clean: random(2) === 0 })
    for (let i = 0; i < 20; i++) {
      const body = Buffer.from(Array.from({ length: random(12) }, () => (random(3) === 0 ? random(256) : random(3))))
      client.socket.write(
        Buffer.concat([
          Buffer.from([
            random(8) === 0 ? random(256) : ([0x82, 0xa2, 0x40, 0x50, 0x62, 0x70, 0x30, 0x32, 0x34, 0xc0][random(10)] ?? 0),
            body.length,
          ]),
          body,
        ]),
      )
    }
    client.send({ cmd: 'disconnect' })
    await client.end()
  }
  const { code } = await mosquittoPub(port, ['-t', 'a/alive', '-m', 'x', '-q', '2'])
  assert.equal(code, 0)
  assert.equal(intake.topics().at(-1), 'a/alive')
})

test('silent sockets, and those that send their CONNECT byte by byte, are closed after ten seconds', async (t) => {
  const { port, clock, listener } = await listenStill(t)
  const silent = await dial(t, port)
  const slow = await dial(t, port)
  slow.socket.write(Buffer.from([0x10, 50, 0, 4, 0x4d]))
  await settled()
  clock.advance(9_900)
  slow.socket.write(Buffer.from([0x51]))
  await settled()
  assert.deepEqual([silent.closed, slow.closed], [false, false])
  clock.advance(500)
  await Promise.all([silent.end(), slow.end()])
  assert.equal(listener.counters().ended['connect-timeout'], 2)
})

test('a peer that is silent for one and a half keepalives is closed; bytes of a large packet are no silence', async (t) => {
  const { port, clock, listener } = await listenStill(t)
  const silent = await connect(t, port, { clientId: 'silent', keepalive: 10 })
  const none = await connect(t, port, { clientId: 'none', keepalive: 0 })
  const large = await connect(t, port, { clientId: 'large', keepalive: 10 })
  large.send(Buffer.concat([Buffer.from([0x30]), remainingLength(100_000), topicBytes('a')]))
  const dripping = await connect(t, port, { clientId: 'dripping', keepalive: 10 })
  dripping.send(Buffer.concat([Buffer.from([0x30]), remainingLength(100_000), topicBytes('a')]))
  for (let seconds = 0; seconds < 20; seconds += 2) {
    large.send(Buffer.alloc(1_000))
    dripping.send(Buffer.alloc(1))
    await settled()
    clock.advance(2_000)
  }
  await Promise.all([silent.end(), dripping.end()])
  assert.deepEqual([none.closed, large.closed], [false, false])
  clock.advance(80_000)
  await none.end()
  assert.equal(listener.counters().ended.keepalive, 4)
})

test('a peer that never reads costs bounded memory, is read no more, and is closed after a minute', async (t) => {
  const { port, clock, listener } = await listenStill(t)
  const client = await dial(t, port)
  client.send({ cmd: 'connect', clientId: 'deaf', clean: true, keepalive: 0 })
  await client.take('connack')
  client.socket.pause()
  const pings = Buffer.alloc(65_536, Buffer.from([0xc0, 0]))
  while (listener.state().connections > 0) {
    if (client.socket.writableLength < 1_000_000) client.socket.write(pings)
    await new Promise((resolve) => setTimeout(resolve, 2))
    clock.advance(200)
  }
  assert.ok(client.socket.writableLength >= 1_000_000, 'the listener read on although its answers were not read')
  assert.equal(listener.counters().ended['slow-reader'], 1)
})

test('the rate of connects is bounded: the rest wait, and beyond five seconds of them are turned away', async (t) => {
  const { port, clock, listener } = await listenStill(t, { connectsPerSecond: 2 })
  const clients = await Promise.all(Array.from({ length: 16 }, () => dial(t, port)))
  const waitingOrIn = async (): Promise<RawClient[]> => {
    await settled()
    return clients.filter(({ closed }) => !closed)
  }
  assert.equal((await waitingOrIn()).length, 12)
  assert.equal(listener.counters().refused['connects-per-second'], 4)
  const open = await waitingOrIn()
  for (const [i, client] of open.entries()) client.send({ cmd: 'connect', clientId: `c${i}`, clean: true, keepalive: 30 })
  await until(() => listener.state().connections === 2)
  await settled()
  assert.equal(listener.state().connections, 2)
  for (let seconds = 1; seconds <= 5; seconds++) {
    await step(clock, 1_000)
    await until(() => listener.state().connections === 2 + 2 * seconds)
  }
})

test('incomplete packets of many connections are bounded: the largest go', async (t) => {
  const { port, clock, listener } = await listenStill(t, { inFlightBytes: 500_000 })
  const clients: RawClient[] = []
  for (let n = 1; n <= 6; n++) {
    const client = await connect(t, port, { clientId: `c${n}` })
    client.send(Buffer.concat([Buffer.from([0x30]), remainingLength(250_000), topicBytes('a'), Buffer.alloc(n * 30_000)]))
    clients.push(client)
  }
  await settled()
  await settled()
  clock.advance(500)
  await until(() => clients[5]?.closed === true)
  await settled()
  assert.deepEqual(
    clients.map(({ closed }) => closed),
    [false, false, false, false, false, true],
  )
  assert.equal(listener.counters().ended['over-budget'], 1)
})

test('QoS 2 messages that are never released are bounded', async (t) => {
  const { port, intake, listener } = await listen(t, { inFlightPerConnection: { messages: 100_000, bytes: 1 << 30 } })
  const client = await connect(t, port)
  for (let id = 1; id <= 16_390; id++) client.publish('a', id, 2)
  await client.end()
  assert.equal(intake.deliveries.length, 16_384)
  assert.equal(listener.counters().ended['protocol-error'], 1)
})

test('a port that is taken is refused with what to do', async (t: TestContext) => {
  const { port } = await listen(t)
  await assert.rejects(listen(t, { url: `mqtt://127.0.0.1:${port}` }), /another program has this port/)
})

function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
}

/** Moves time in small steps, with room for the sockets in between. */
async function step(clock: FakeClock, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 100) {
    clock.advance(100)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

function raw(header: number, topic: string, packetId: number, payload: string): Buffer {
  const body = Buffer.concat([topicBytes(topic), Buffer.from([packetId >> 8, packetId & 255]), Buffer.from(payload)])
  return Buffer.concat([Buffer.from([header]), remainingLength(body.length), body])
}

function topicBytes(topic: string): Buffer {
  const bytes = Buffer.from(topic)
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes])
}

function remainingLength(length: number): Buffer {
  const bytes = []
  for (let rest = length; ; rest = Math.floor(rest / 128)) {
    bytes.push((rest % 128) | (rest > 127 ? 128 : 0))
    if (rest < 128) return Buffer.from(bytes)
  }
}
