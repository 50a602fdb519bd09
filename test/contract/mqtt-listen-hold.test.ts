import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, dial, listen, listenHeld, listenStill, mosquittoPub, publishPacket, tryConnect, until } from './mqtt-listen-kit.ts'

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30))

test('log path 10: while commits are slow, PINGREQ and SUBSCRIBE are answered, and the keepalive does not strike', async (t) => {
  const { intake, port } = await listen(t)
  intake.automatic = false
  const client = await connect(t, port, { keepalive: 1 })
  for (let id = 1; id <= 30; id++) client.publish('a/b', id)
  for (let i = 0; i < 6; i++) {
    await new Promise((resolve) => setTimeout(resolve, 400))
    await client.ping()
  }
  client.send({ cmd: 'subscribe', messageId: 99, subscriptions: [{ topic: 'x', qos: 0 }] })
  await client.take('suback')
  intake.settleNext()
  assert.deepEqual(
    await client.takeIds('puback', 30),
    Array.from({ length: 30 }, (_, i) => i + 1),
  )
})

test('log path 10: a full gateway lets devices wait for half their keepalive or ten seconds, then closes them unacknowledged', async (t) => {
  const { intake, port, listener, clock } = await listenStill(t)
  intake.automatic = false
  const will = { topic: 'will', payload: Buffer.from('w') }
  const short = await connect(t, port, { clientId: 'short', keepalive: 4, will })
  const long = await connect(t, port, { clientId: 'long', keepalive: 600, will })
  const idle = await connect(t, port, { clientId: 'idle', keepalive: 600 })
  short.publish('a/b', 1)
  await short.ping()
  listener.hold('the buffer is full')
  assert.deepEqual(pick(listener.state()), { state: 'held', reason: 'the buffer is full', connections: 3 })
  long.publish('a/b', 1)
  await settled()
  clock.advance(2_000)
  await settled()
  assert.equal(short.closed, false)
  clock.advance(500)
  await short.end()
  clock.advance(7_500)
  await settled()
  assert.equal(long.closed, false)
  clock.advance(500)
  await long.end()
  assert.deepEqual([...short.received, ...long.received], [])
  await idle.ping()
  assert.deepEqual(intake.topics(), ['a/b'])
  assert.deepEqual(pick(listener.state()), { state: 'refusing', reason: 'the buffer is full', connections: 1 })
  assert.equal((await tryConnect(t, port)).returnCode, 3)
  assert.equal(listener.counters().refused.held, 1)
  const { code, output } = await mosquittoPub(port, ['-t', 'a', '-m', 'x', '-q', '1'])
  assert.notEqual(code, 0)
  assert.match(output, /[Uu]navailable/)
  listener.release()
  assert.deepEqual(pick(listener.state()), { state: 'up', reason: undefined, connections: 1 })
  const back = await connect(t, port, { clientId: 'long' })
  back.publish('a/b', 1, 1, { dup: true })
  await back.ping()
  intake.settleNext()
  assert.deepEqual(await back.takeIds('puback', 1), [1])
})

test('log path 10: when room comes in time, held connections go on as if nothing had been, and nobody is turned away', async (t) => {
  const { intake, port, listener, clock } = await listenStill(t)
  const client = await connect(t, port, { keepalive: 60 })
  intake.onOffer = () => listener.hold('full')
  client.publish('a/1', 1)
  client.publish('a/2', 2)
  client.publish('a/3', 3)
  assert.deepEqual(await client.takeIds('puback', 1), [1])
  const newcomer = await dial(t, port)
  newcomer.send({ cmd: 'connect', clientId: 'new', clean: true, keepalive: 60 })
  await settled()
  clock.advance(5_000)
  await settled()
  assert.deepEqual(intake.topics(), ['a/1'])
  assert.deepEqual([client.closed, newcomer.closed, newcomer.received.length], [false, false, 0])
  intake.onOffer = () => undefined
  listener.release()
  assert.deepEqual(await client.takeIds('puback', 2), [2, 3])
  assert.equal((await newcomer.take('connack')).returnCode, 0)
})

test('log path 10: a PINGREQ behind a full window is answered', async (t) => {
  const { intake, port } = await listen(t, { inFlightPerConnection: { messages: 3, bytes: 1_000_000 } })
  intake.automatic = false
  const client = await connect(t, port, { keepalive: 60 })
  for (let id = 1; id <= 3; id++) client.publish('a', id)
  await client.ping()
  client.send({ cmd: 'pingreq' }, publishPacket('a', 4), { cmd: 'pingreq' })
  await client.take('pingresp')
  assert.equal(intake.deliveries.length, 3)
  intake.settleNext(1)
  await client.take('pingresp')
  assert.equal(intake.deliveries.length, 4)
})

test('a device that fills the gateway again and again does not keep the others out', async (t) => {
  const { intake, port, listener } = await listen(t, { inFlightPerConnection: { messages: 1_000, bytes: 10_000_000 } })
  const noisy = await connect(t, port, { clientId: 'noisy' })
  const quiet = await Promise.all([1, 2, 3].map((n) => connect(t, port, { clientId: `q${n}` })))
  intake.onOffer = () => {
    if (intake.deliveries.length % 10 === 0) listener.hold('crowded')
  }
  noisy.send(...Array.from({ length: 500 }, (_, i) => publishPacket('noisy', i + 1)))
  await until(() => intake.deliveries.length === 10)
  for (const client of quiet) client.publish('quiet', 1)
  await settled()
  // At most one turn of the noisy one before each of the others has had its own.
  for (let turn = 0; turn < 2; turn++) {
    listener.release()
    await settled()
  }
  assert.equal(intake.topics().filter((topic) => topic === 'quiet').length, 3)
})

test('a listener that is held before it starts says so, and lets nobody in until it is released', async (t) => {
  const { port, listener } = await listenHeld(t, 'full since the last life')
  assert.deepEqual(pick(listener.state()), { state: 'held', reason: 'full since the last life', connections: 0 })
  const early = connect(t, port)
  await settled()
  assert.equal(listener.state().connections, 0)
  listener.release()
  await early
  assert.deepEqual(pick(listener.state()), { state: 'up', reason: undefined, connections: 1 })
})

test('what settles while the gateway is full is acknowledged', async (t) => {
  const { intake, port, listener } = await listenStill(t)
  intake.automatic = false
  const client = await connect(t, port)
  client.publish('a/1', 1)
  await client.ping()
  listener.hold('full')
  intake.settleNext()
  assert.deepEqual(await client.takeIds('puback', 1), [1])
})

test('a second hold names the new reason and does not begin the wait anew', async (t) => {
  const { port, listener, clock } = await listenStill(t)
  const client = await connect(t, port, { keepalive: 600 })
  listener.hold('first')
  client.publish('a', 1)
  await settled()
  clock.advance(9_000)
  listener.hold('second')
  assert.equal(listener.state().reason, 'second')
  await settled()
  clock.advance(1_500)
  await client.end()
  assert.equal(listener.state().state, 'refusing')
  listener.hold('third')
  assert.deepEqual(pick(listener.state()), { state: 'refusing', reason: 'third', connections: 0 })
})

test('state says what is true before the start and after the stop', async (t) => {
  const { listener } = await listen(t)
  assert.equal(listener.state().state, 'up')
  await listener.stop(0)
  await listener.stop(0)
  listener.hold('late')
  listener.release()
  assert.deepEqual(pick(listener.state()), { state: 'down', reason: 'stopped', connections: 0 })
  await until(() => listener.state().connections === 0)
})

function pick({ state, reason, connections }: { state: string; reason?: string; connections: number }): object {
  return { state, reason, connections }
}
