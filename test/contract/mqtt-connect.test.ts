/** `mqtt.connect` on a real mosquitto: what must hold while all is well, and across restarts of either side. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { FileMemory } from '../../adapters/mqtt/connect-memory.ts'
import { serviceScope } from '../services/index.ts'
import { clock, device, isUp, QUICK, run, settingsFor, TestIntake, until, VERSIONS } from './mqtt-connect-kit.ts'
import type { Running } from './mqtt-connect-kit.ts'

const scope = serviceScope()
const broker = await scope.mosquitto({ conf: ['sys_interval 1', 'max_inflight_messages 50', 'max_queued_messages 1000'] })
const publisher = await device(scope, broker.endpoint)
const TOPIC = 'devices/d1/logs/app'

async function publish(topic: string, payloads: readonly (string | Buffer)[]): Promise<void> {
  await Promise.all(payloads.map((payload) => publisher.publishAsync(topic, payload, { qos: 1 })))
}

function lines(word: string, count: number): string[] {
  return Array.from({ length: count }, (_, n) => `${word} ${n}`)
}

async function hasAll({ intake }: Running, count: number): Promise<void> {
  await until(`${count} have come`, () => intake.deliveries.length >= count).catch((error: unknown) => {
    throw new Error(`${intake.deliveries.length} of ${count} have come`, { cause: error })
  })
}

/** What the session still holds: a message that only this call publishes comes behind all of it. */
async function leftIn(settings: ReturnType<typeof settingsFor>): Promise<string[]> {
  const next = await run(scope, settings)
  await isUp(next.connection)
  await publish(TOPIC, ['last'])
  await until('the last one has come', () => next.intake.payloads.includes('last'))
  await next.stop()
  return next.intake.payloads.slice(0, -1)
}

for (const protocolVersion of VERSIONS) {
  const settingsOf = (changes = {}): ReturnType<typeof settingsFor> => settingsFor(broker.endpoint, { protocolVersion, ...changes })

  test(`log path 13: version ${protocolVersion}: whole, in order, and nothing again after a clean restart`, async () => {
    const settings = settingsOf()
    const first = await run(scope, settings)
    await isUp(first.connection)
    const payloads = ['', '\0\xff', 'x'.repeat(200_000), ...lines('line', 500)]
    await publish(TOPIC, payloads)
    await hasAll(first, payloads.length)
    assert.deepEqual(first.intake.payloads, payloads)
    const { topic, source, qos, retained } = first.intake.deliveries[4] ?? {}
    assert.deepEqual({ topic, source, qos, retained }, { topic: TOPIC, source: 'plant', qos: 1, retained: false })
    await first.stop()
    assert.deepEqual(await leftIn(settings), [])
  })

  test(`version ${protocolVersion}: what settles while it stops is acknowledged; the rest comes again`, async () => {
    const settings = settingsOf()
    const first = await run(scope, settings)
    await isUp(first.connection)
    first.intake.isSettling = false
    await publish(TOPIC, lines('line', 10))
    await hasAll(first, 10)
    const stopped = first.connection.stop(clock.monotonicMs() + 500)
    for (const delivery of first.intake.deliveries.slice(0, 6)) delivery.settle()
    await publish(TOPIC, ['came while it stopped'])
    await stopped
    assert.equal(first.intake.deliveries.length, 10)
    assert.equal(first.connection.state().state, 'down')
    assert.deepEqual(await leftIn(settings), [...lines('line', 10).slice(6), 'came while it stopped'])
  })

  test(`log path 21: version ${protocolVersion}: what a cut left unacknowledged comes again and is accepted`, async () => {
    const proxy = await scope.proxy({ target: broker.port })
    const settings = settingsFor(`mqtt://${proxy.endpoint}`, { protocolVersion })
    const first = await run(scope, settings)
    await isUp(first.connection)
    first.intake.isSettling = false
    await publish(TOPIC, lines('line', 10))
    await hasAll(first, 10)
    proxy.cut()
    await hasAll(first, 20)
    await isUp(first.connection)
    // The old ones settle now: their packet ids are in use again on the new connection.
    for (const delivery of first.intake.deliveries.slice(0, 10)) delivery.settle()
    await first.stop()
    assert.deepEqual(first.intake.payloads, [...lines('line', 10), ...lines('line', 10)])
    assert.deepEqual(await leftIn(settings), lines('line', 10))
  })

  test(`log path 32: version ${protocolVersion}: what came while the gateway was away comes when it returns`, async () => {
    const settings = settingsOf()
    const first = await run(scope, settings)
    await isUp(first.connection)
    await first.stop()
    await publish(TOPIC, lines('away', 100))
    assert.deepEqual(await leftIn(settings), lines('away', 100))
  })

  test(`log path 10: version ${protocolVersion}: a backlog that nobody takes at the start is no reason to connect again`, async () => {
    const proxy = await scope.proxy({ target: broker.port })
    const settings = settingsFor(`mqtt://${proxy.endpoint}`, { protocolVersion, inFlight: { messages: 5, bytes: 1_000_000 } })
    const first = await run(scope, settings)
    await isUp(first.connection)
    await first.stop()
    await publish(TOPIC, lines('line', 100))
    const next = new TestIntake()
    next.isSettling = false
    const connection = await run(scope, settings, { retry: { ...QUICK, attemptMs: 300 } }, next)
    await hasAll(connection, 5)
    await sleep(1_200)
    assert.equal(next.deliveries.length, 5)
    next.isSettling = true
    next.settleAll()
    await hasAll(connection, 100)
    await isUp(connection.connection)
    assert.deepEqual(next.payloads, lines('line', 100))
    assert.equal(proxy.accepted, 2)
  })

  test(`log path 11: version ${protocolVersion}: payloads that mean nothing and fates in any order leak no slot`, async () => {
    const one = await run(scope, settingsOf({ receiveMaximum: 10 }))
    await isUp(one.connection)
    one.intake.isSettling = false
    const payloads = Array.from({ length: 1_000 }, (_, n) => Buffer.from(`\xc3\x28\0{"broken":${n}`, 'latin1'))
    const published = publish(TOPIC, payloads)
    let next = 0
    while (next < payloads.length) {
      await until('more have come', () => one.intake.deliveries.length > next)
      const arrived = one.intake.deliveries.slice(next)
      next += arrived.length
      for (const delivery of arrived.reverse()) delivery.settle()
    }
    await published
    assert.deepEqual(
      one.intake.deliveries.map(({ payload }) => payload),
      payloads,
    )
    assert.equal(one.log.lines.filter(({ level }) => level === 'warn').length, 0)
  })

  test(`log path 27: version ${protocolVersion}: retained messages are marked, refused by default, and never repeated`, async () => {
    const retain = `retained/${protocolVersion}`
    await publisher.publishAsync(`${retain}/a`, 'kept', { qos: 1, retain: true })
    const filters = [{ filter: `${retain}/#`, qos: 1 as const }]
    const ignoring = await run(scope, settingsOf({ filters }))
    await hasAll(ignoring, 1)
    assert.deepEqual(ignoring.intake.deliveries[0]?.refused, { reason: 'retained', bytes: 4 })
    assert.equal(ignoring.intake.deliveries[0]?.retained, true)

    const proxy = await scope.proxy({ target: broker.port })
    const accepting = await run(scope, settingsFor(`mqtt://${proxy.endpoint}`, { protocolVersion, filters, retained: 'accept' }))
    await hasAll(accepting, 1)
    assert.equal(accepting.intake.deliveries[0]?.refused, undefined)
    await sleep(1_500) // it is established after QUICK.stableMs
    proxy.cut()
    await until('it came back', () => proxy.accepted === 2 && accepting.connection.state().state === 'up')
    await publisher.publishAsync(`${retain}/a`, 'live, with the flag', { qos: 1, retain: true })
    await until('the live one has come', () => accepting.intake.payloads.includes('live, with the flag'))
    const taken = accepting.intake.deliveries.filter(({ refused }) => refused === undefined)
    assert.deepEqual(
      taken.map(({ payload, retained }) => [String(payload), retained]),
      [
        ['kept', true],
        ['live, with the flag', false],
      ],
    )
  })

  test(`version ${protocolVersion}: subscriptions of an earlier config end, also over a restart`, async () => {
    const memory = new FileMemory(join(scope.folder(), 'plant.json'))
    const settings = settingsOf()
    const old = { ...settings, filters: [...settings.filters, { filter: 'former/#', qos: 1 as const }] }
    const first = await run(scope, old, { memory })
    await isUp(first.connection)
    await first.stop()
    await publish('former/a', ['waited in the session'])
    const second = await run(scope, settings, { memory })
    await isUp(second.connection)
    await publish('former/a', ['after the change'])
    await publish(TOPIC, ['wanted'])
    await hasAll(second, 2)
    assert.deepEqual(second.intake.payloads, ['waited in the session', 'wanted'])
  })

  test(`version ${protocolVersion}: a hold lets go of the connection unacknowledged, a release brings it back`, async () => {
    const settings = settingsOf({ keepaliveSeconds: 1 })
    const one = await run(scope, settings)
    await isUp(one.connection)
    one.intake.isSettling = false
    await publish(TOPIC, lines('before', 5))
    await hasAll(one, 5)
    one.connection.hold('the buffer is full')
    await publish(TOPIC, lines('held', 5))
    assert.equal(one.connection.state().connections, 1)
    for (const delivery of one.intake.deliveries.slice(0, 2)) delivery.settle()
    await until('it is closed', () => one.connection.state().connections === 0)
    assert.deepEqual([one.connection.state().state, one.connection.state().reason], ['held', 'the buffer is full'])
    await sleep(500)
    assert.equal(one.connection.state().connections, 0)
    one.connection.release()
    await isUp(one.connection)
    await hasAll(one, 5 + 3 + 5)
    assert.deepEqual(one.intake.payloads, [...lines('before', 5), ...lines('before', 5).slice(2), ...lines('held', 5)])
  })

  test(`version ${protocolVersion}: a short hold keeps the connection`, async () => {
    const proxy = await scope.proxy({ target: broker.port })
    const one = await run(scope, settingsFor(`mqtt://${proxy.endpoint}`, { protocolVersion }))
    await isUp(one.connection)
    one.connection.hold('the buffer is full')
    await publish(TOPIC, lines('held', 5))
    assert.equal(one.connection.state().state, 'held')
    assert.equal(one.intake.deliveries.length, 0)
    one.connection.release()
    await hasAll(one, 5)
    assert.equal(proxy.accepted, 1)
  })

  test(`version ${protocolVersion}: a device's QoS 2 is taken as QoS 1; filters that another one covers bring nothing twice`, async () => {
    const filters = [
      { filter: `over/${protocolVersion}/+`, qos: 2 as const },
      { filter: `over/${protocolVersion}/#`, qos: 1 as const },
    ]
    const one = await run(scope, settingsOf({ filters }))
    await isUp(one.connection)
    await publisher.publishAsync(`over/${protocolVersion}/a`, 'twice?', { qos: 2 })
    await publisher.publishAsync(`over/${protocolVersion}/a`, 'last', { qos: 0 })
    await hasAll(one, 2)
    assert.deepEqual(
      one.intake.deliveries.map(({ payload, qos }) => [String(payload), qos]),
      [
        ['twice?', 1],
        ['last', 0],
      ],
    )
  })

  test(`version ${protocolVersion}: QoS 2 messages that another program left in the session are taken once`, async () => {
    const settings = settingsOf()
    const other = await device(scope, broker.endpoint, {
      protocolVersion,
      clientId: settings.clientId,
      clean: false,
      ...(protocolVersion === 5 ? { properties: { sessionExpiryInterval: 60 } } : {}),
    })
    await other.subscribeAsync(TOPIC, { qos: 2 })
    await other.endAsync()
    for (const payload of lines('left', 60)) await publisher.publishAsync(TOPIC, payload, { qos: 2 })
    const one = await run(scope, settings)
    await hasAll(one, 60)
    await isUp(one.connection)
    await one.stop()
    assert.deepEqual(
      one.intake.deliveries.map(({ payload, qos }) => [String(payload), qos]),
      lines('left', 60).map((payload) => [payload, 2]),
    )
    assert.match(JSON.stringify(one.log.lines), /a session of this client id that is not remembered here/)
    // mosquitto sends a copy for each subscription to a client of version 5: that of the other program is still there.
    assert.deepEqual(
      (await leftIn(settings)).filter((payload) => payload !== 'last'),
      [],
    )
  })

  test(`log path 28: version ${protocolVersion}: the broker's own drops are said and counted`, async () => {
    const small = await scope.mosquitto({ conf: ['sys_interval 1', 'max_queued_messages 10', 'max_inflight_messages 1'] })
    const one = await run(scope, settingsFor(small.endpoint, { protocolVersion, receiveMaximum: 1 }))
    await isUp(one.connection)
    one.intake.isSettling = false
    await sleep(1_200) // its statistics have come once
    const flood = await device(scope, small.endpoint)
    await Promise.all(lines('flood', 50).map((payload) => flood.publishAsync(TOPIC, payload, { qos: 1 })))
    await until('it is said', () => one.connection.state().notices.length > 0)
    const [notice] = one.connection.state().notices
    assert.match(notice?.text ?? '', /the broker dropped \d+ messages before they reached the gateway/)
    assert.ok((notice?.count ?? 0) >= 35, `it dropped about 39, told are ${notice?.count}`)
    assert.equal(one.intake.deliveries.length, 1)
  })

  test(`version ${protocolVersion}: a session that the broker lost is a loss in words, also over a restart`, async () => {
    const forgetful = await scope.mosquitto({ conf: [] })
    const memory = new FileMemory(join(scope.folder(), 'plant.json'))
    const settings = settingsFor(forgetful.endpoint, { protocolVersion })
    const first = await run(scope, settings, { memory })
    await isUp(first.connection)
    assert.deepEqual(first.connection.state().notices, [])
    await first.stop()
    await forgetful.kill() // before it wrote its state
    await forgetful.start()
    const second = await run(scope, settings, { memory })
    await isUp(second.connection)
    const { notices } = second.connection.state()
    assert.match(notices[0]?.text ?? '', /no longer had the session of "gw-\d+"/)
    assert.equal(
      second.log.lines.some(({ level, message }) => level === 'warn' && message === notices[0]?.text),
      true,
    )
  })
}

test('log path 10: settling withheld for 10 s with a keepalive of 2 s cuts nothing', async () => {
  const proxy = await scope.proxy({ target: broker.port })
  // Of each version one waits because the broker may send no more, the other because it takes no more itself.
  const windows = [{ receiveMaximum: 20, inFlight: { messages: 1_000, bytes: 1_000_000 } }, { inFlight: { messages: 1_000, bytes: 60 } }]
  const variants = VERSIONS.flatMap((protocolVersion) => windows.map((window) => ({ protocolVersion, keepaliveSeconds: 2, ...window })))
  const all = await Promise.all(variants.map((variant) => run(scope, settingsFor(`mqtt://${proxy.endpoint}`, variant))))
  await Promise.all(all.map(({ connection }) => isUp(connection)))
  for (const { intake } of all) intake.isSettling = false
  await publish(TOPIC, lines('line', 200))
  await sleep(10_000)
  for (const { intake } of all) {
    assert.ok(intake.deliveries.length > 0 && intake.deliveries.length < 200)
    intake.isSettling = true
    intake.settleAll()
  }
  await Promise.all(all.map((one) => hasAll(one, 200)))
  for (const { intake, connection } of all) {
    assert.deepEqual(intake.payloads, lines('line', 200))
    assert.equal(connection.state().state, 'up')
  }
  assert.equal(proxy.accepted, variants.length)
})

test('version 5: content type and user properties come along, in order', async () => {
  const one = await run(scope, settingsFor(broker.endpoint))
  await isUp(one.connection)
  const userProperties = { traceparent: '00-ab', tag: ['b', 'a'] }
  await publisher.publishAsync(TOPIC, '{}', { qos: 1, properties: { contentType: 'application/json', userProperties } })
  await hasAll(one, 1)
  assert.equal(one.intake.deliveries[0]?.contentType, 'application/json')
  assert.deepEqual(one.intake.deliveries[0]?.userProperties, [
    ['traceparent', '00-ab'],
    ['tag', 'b'],
    ['tag', 'a'],
  ])
})

test('another client id says what stays behind', async () => {
  const memory = new FileMemory(join(scope.folder(), 'plant.json'))
  const settings = settingsFor(broker.endpoint)
  const first = await run(scope, settings, { memory })
  await isUp(first.connection)
  await first.stop()
  const second = await run(scope, { ...settings, clientId: 'renamed' }, { memory })
  await isUp(second.connection)
  assert.match(second.connection.state().notices[0]?.text ?? '', new RegExp(`changed from "${settings.clientId}"`))
})
