/** Settings for devices on our own listener: retained by the gateway, read by their owners, answered apart from the log path. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import mqtt from 'mqtt'
import type { MqttClient } from 'mqtt'
import type { DeviceAnswer } from '../../daemon/ports.ts'
import { connect, folder, listen, restart, setPassword, until } from './mqtt-listen-kit.ts'
import type { RawClient } from './mqtt-listen-kit.ts'

const signal = new AbortController().signal
const ANSWERS = { before: 'devices/', after: '/settings/answer' }

function setting(device: string, text: string, topic = `devices/${device}/settings`) {
  return { topic, device, payload: Buffer.from(text) }
}

async function jsDevice(t: TestContext, port: number, clientId: string, options = {}): Promise<{ client: MqttClient; got: string[] }> {
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { clientId, protocolVersion: 4, reconnectPeriod: 0, ...options })
  t.after(() => client.endAsync(true))
  const got: string[] = []
  client.on('message', (topic, payload, { retain, qos }) => got.push(`${topic} ${payload.toString()} ${qos}${retain ? ' retained' : ''}`))
  return { client, got }
}

async function subscribe(client: RawClient, ...filters: readonly string[]): Promise<unknown> {
  client.send({ cmd: 'subscribe', messageId: 9, subscriptions: filters.map((topic) => ({ topic, qos: 1 as const })) })
  return (await client.take('suback')).granted
}

test('a device finds its settings when it subscribes, hears each change, and that they are withdrawn', async (t) => {
  const { listener, port } = await listen(t)
  await listener.devices.publish(setting('d1', 'one'), signal)
  const { client, got } = await jsDevice(t, port, 'd1')
  await client.subscribeAsync('devices/d1/#', { qos: 1 })
  await until(() => got.length === 1)
  await listener.devices.publish(setting('d1', 'two'), signal)
  await until(() => got.length === 2)
  await listener.devices.clear('devices/d1/settings', signal)
  await until(() => got.length === 3)
  assert.deepEqual(got, ['devices/d1/settings one 1 retained', 'devices/d1/settings two 1', 'devices/d1/settings  1'])
  const later = await jsDevice(t, port, 'd1')
  await later.client.subscribeAsync('devices/d1/#', { qos: 1 })
  await later.client.publishAsync('devices/d1/logs/a', 'x', { qos: 1 })
  assert.deepEqual(later.got, [])
})

test('what was granted at QoS 0 is sent at QoS 0, behind a wildcard too', async (t) => {
  const { listener, port } = await listen(t)
  await listener.devices.publish(setting('d1', 'one'), signal)
  const { client, got } = await jsDevice(t, port, 'd1')
  await client.subscribeAsync('devices/d1/+', { qos: 0 })
  await listener.devices.publish(setting('d1', 'two'), signal)
  await until(() => got.length === 2)
  assert.deepEqual(got.sort(), ['devices/d1/settings one 0 retained', 'devices/d1/settings two 0'])
})

test('a session that goes on hears of what changed while its device was away, without subscribing again', async (t) => {
  const { listener, port } = await listen(t)
  const first = await jsDevice(t, port, 'd1', { clean: false })
  await first.client.subscribeAsync('devices/d1/settings', { qos: 1 })
  await first.client.endAsync()
  await listener.devices.publish(setting('d1', 'changed'), signal)
  const again = await connect(t, port, { clientId: 'd1', clean: false })
  const packet = await again.take('publish')
  assert.equal('payload' in packet ? String(packet.payload) : '', 'changed')
})

test("another device's settings are neither granted nor sent", async (t) => {
  const { listener, port } = await listen(t)
  await listener.devices.publish(setting('d2', 'secret'), signal)
  const client = await connect(t, port, { clientId: 'd1' })
  assert.deepEqual(
    await subscribe(client, 'devices/d2/settings', 'devices/+/settings', '#', 'devices/d1/#', '+/d1/x', '$SYS/d1'),
    [128, 128, 128, 1, 128, 128],
  )
  // A name that is a level of everybody's topics reads its own settings only.
  const sly = await connect(t, port, { clientId: 'settings' })
  assert.deepEqual(await subscribe(sly, 'devices/d2/settings'), [1])
  await listener.devices.publish(setting('d2', 'secret again'), signal)
  for (const one of [client, sly]) {
    await one.ping()
    assert.deepEqual(one.received, [])
  }
})

test('an access list decides what is read: topics of a group, and nothing that it does not name', async (t) => {
  const dir = folder(t)
  const [passwordFile, aclFile] = [join(dir, 'passwd'), join(dir, 'acl')]
  await setPassword(passwordFile, 'cam-1', 'pw', '-c')
  writeFileSync(aclFile, 'pattern read settings/cameras\npattern readwrite devices/%u/#\n')
  const { listener, port } = await listen(t, { auth: { passwordFile, aclFile, deviceFrom: 'username' } })
  await listener.devices.publish({ topic: 'settings/cameras', device: undefined, payload: Buffer.from('group') }, signal)
  const client = await connect(t, port, { clientId: 'x', username: 'cam-1', password: 'pw' })
  await until(() => listener.devices.online().includes('cam-1'))
  assert.deepEqual(await subscribe(client, 'settings/cameras', 'settings/cam-1', 'devices/cam-1/settings'), [1, 128, 1])
  const packet = await client.take('publish')
  assert.equal('topic' in packet ? packet.topic : '', 'settings/cameras')
})

test('an answer is acknowledged when it was taken, and is no log message', async (t) => {
  const { listener, intake, port } = await listen(t)
  const taken: string[] = []
  let finish = (): void => undefined
  const take = ({ device, payload }: DeviceAnswer): Promise<void> => {
    taken.push(`${device} ${Buffer.from(payload).toString()}`)
    return new Promise((resolve) => (finish = resolve))
  }
  const stop = listener.devices.listenFor(ANSWERS, take)
  const client = await connect(t, port, { clientId: 'd1' })
  client.publish('devices/d1/settings/answer', 1, 1, { payload: 'ok' })
  client.publish('devices/d1/logs/a', 2)
  await client.ping()
  assert.deepEqual([taken, client.received], [['d1 ok'], []])
  finish()
  assert.deepEqual(await client.takeIds('puback', 2), [1, 2])
  stop()
  client.publish('devices/d1/settings/answer', 3)
  await client.take('puback')
  assert.deepEqual(intake.topics(), ['devices/d1/logs/a', 'devices/d1/settings/answer'])
  assert.equal(listener.counters().offered, 2)
  assert.deepEqual(listener.state().answers, { taken: 1, refused: 0 })
})

test('an answer that could not be kept is not acknowledged; QoS 2 answers complete', async (t) => {
  const { listener, port, log } = await listen(t)
  let isBroken = true
  listener.devices.listenFor(ANSWERS, () => (isBroken ? Promise.reject(new Error('no disk')) : Promise.resolve()))
  const client = await connect(t, port, { clientId: 'd1', clean: false })
  client.publish('devices/d1/settings/answer', 1)
  await client.ping()
  assert.deepEqual(client.received, [])
  assert.match(log.text(), /no disk/)
  client.socket.destroy()
  isBroken = false
  const again = await connect(t, port, { clientId: 'd1', clean: false })
  again.publish('devices/d1/settings/answer', 2, 2)
  assert.deepEqual(await again.takeIds('pubrec', 1), [2])
  again.send({ cmd: 'pubrel', messageId: 2 })
  assert.deepEqual(await again.takeIds('pubcomp', 1), [2])
})

test('an answer in the name of another device, or too long, is acknowledged, counted and dropped', async (t) => {
  const passwordFile = join(folder(t), 'passwd')
  await setPassword(passwordFile, 'd1', 'pw', '-c')
  const { listener, port, intake } = await listen(t, { auth: { passwordFile, deviceFrom: 'username' } })
  listener.devices.listenFor(ANSWERS, () => assert.fail('it was taken'))
  const client = await connect(t, port, { clientId: 'x', username: 'd1', password: 'pw' })
  client.publish('devices/d2/settings/answer', 1)
  client.publish('devices/d1/settings/answer', 2, 1, { payload: 'x'.repeat(5_000) })
  assert.deepEqual(await client.takeIds('puback', 2), [1, 2])
  assert.deepEqual([intake.deliveries, listener.state().answers], [[], { taken: 0, refused: 2 }])
})

test('who is online is known, and who comes is told', async (t) => {
  const { listener, port } = await listen(t)
  const came: string[] = []
  listener.devices.onOnline((device) => came.push(device))
  const client = await connect(t, port, { clientId: 'd1' })
  await connect(t, port, { clientId: 'd2' })
  await until(() => came.length === 2)
  assert.deepEqual(
    [came, listener.devices.online()],
    [
      ['d1', 'd2'],
      ['d1', 'd2'],
    ],
  )
  client.socket.destroy()
  await until(() => listener.devices.online().length === 1)
})

test('a restarted listener finds what it is told before it opens', async (t) => {
  const rig = await listen(t)
  const next = await restart(t, rig)
  await next.listener.devices.publish(setting('d1', 'kept'), signal)
  const { client, got } = await jsDevice(t, next.port, 'd1')
  await client.subscribeAsync('devices/d1/settings', { qos: 1 })
  await until(() => got.length === 1)
})
