/** Device patches end to end: the kind over our own listener and over a real mosquitto, with devices that run MQTT.js. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import mqtt from 'mqtt'
import { SystemClock } from '../../adapters/host/clock.ts'
import { globMatches } from '../../daemon/ingest/limit-classes.ts'
import type { DeviceSpec } from '../../daemon/patch/document.ts'
import { DeviceKind } from '../../daemon/patch/kinds/device.ts'
import type { DeviceLayer } from '../../daemon/patch/kinds/device-layers.ts'
import type { DevicePublisher } from '../../daemon/ports.ts'
import { acceptedSettings } from '../fakes/device-publisher.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'
import { serviceScope } from '../services/index.ts'
import { run as runConnection, settingsFor, until } from './mqtt-connect-kit.ts'
import { KeptLog, listen, restart } from './mqtt-listen-kit.ts'

const scope = serviceScope()
const signal = new AbortController().signal
const deviceOf = (topic: string): string | undefined => topic.split('/')[1]

function accepted(id: string, spec: Partial<DeviceSpec> = {}) {
  const acknowledge = { topic: 'devices/{device}/settings/answer', deadlineMs: 60_000, minDone: 1 }
  return acceptedSettings(id, { devices: '*', topic: 'devices/{device}/settings', payload: { patch: id, fps: 5 }, acknowledge, ...spec })
}

async function kindOver(t: TestContext, publisher: DevicePublisher, memory: FakeMemory): Promise<DeviceKind> {
  const kind = new DeviceKind({
    memory,
    clock: new SystemClock(),
    log: new KeptLog(),
    publishers: () => [publisher],
    logFilters: () => ['devices/+/logs/+'],
    matches: globMatches,
  })
  await kind.refresh()
  t.after(() => kind.stop())
  return kind
}

async function forward(kind: DeviceKind, id: string, spec: Partial<DeviceSpec> = {}): Promise<DeviceLayer> {
  const plan = await kind.prepare(accepted(id, spec))
  await kind.flip(plan)
  await kind.activate(plan, signal)
  return plan
}

/** Until VERIFY says so. */
async function verified(kind: DeviceKind, plan: DeviceLayer): Promise<void> {
  let last: unknown
  for (let round = 0; round < 2_000; round++) {
    last = await kind.verify(plan).then(
      () => undefined,
      (error: unknown) => error,
    )
    if (last === undefined) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  throw new Error('it never became good', { cause: last })
}

interface Camera {
  readonly settings: string[]
  readonly publish: (topic: string, text: string) => Promise<unknown>
  readonly end: () => Promise<void>
}

/** A device as its maker would write it: reads its settings, answers each; `says` decides how. */
async function camera(
  t: TestContext,
  url: string,
  id: string,
  says: 'ok' | 'no' | 'nothing' = 'ok',
  topic = `devices/${id}/settings`,
): Promise<Camera> {
  const client = await mqtt.connectAsync(url, { clientId: id, protocolVersion: 4, reconnectPeriod: 0 })
  t.after(() => client.endAsync(true))
  const settings: string[] = []
  client.on('message', (_topic, payload) => {
    settings.push(payload.toString())
    if (payload.length === 0 || says === 'nothing') return
    const { patch } = JSON.parse(payload.toString()) as { patch: string }
    const answer = says === 'ok' ? { patch, ok: true } : { patch, ok: false, reason: 'fps is fixed here' }
    client.publish(`devices/${id}/settings/answer`, JSON.stringify(answer), { qos: 1 })
  })
  const [granted] = await client.subscribeAsync(topic, { qos: 1 })
  assert.equal(granted?.qos, 1)
  return { settings, publish: (to, text) => client.publishAsync(to, text, { qos: 1 }), end: () => client.endAsync() }
}

test('listener: settings reach who is there, who comes later, and who comes after a restart; answers are no log messages', async (t) => {
  const rig = await listen(t)
  const memory = new FakeMemory()
  const kind = await kindOver(t, rig.listener.devices, memory)
  const one = await camera(t, `mqtt://127.0.0.1:${rig.port}`, 'cam-1')
  const plan = await forward(kind, 'p1')
  await verified(kind, plan)
  await kind.commit(plan)
  assert.deepEqual(await kind.counts(plan), { confirmed: 1, refused: 0, silent: 0 })
  const two = await camera(t, `mqtt://127.0.0.1:${rig.port}`, 'cam-2')
  await until('the later one has its settings', () => two.settings.length === 1)
  await one.publish('devices/cam-1/logs/a', 'log')
  assert.deepEqual([rig.intake.topics(), rig.listener.counters().offered], [['devices/cam-1/logs/a'], 1])
  await kind.stop()
  const next = await restart(t, rig)
  await kindOver(t, next.listener.devices, memory)
  for (const id of ['cam-1', 'cam-3']) {
    const after = await camera(t, `mqtt://127.0.0.1:${next.port}`, id)
    await until(`${id} has its settings`, () => after.settings.length === 1)
    assert.deepEqual(after.settings, ['{"patch":"p1","fps":5}'])
  }
})

test('listener: a refusal fails the patch, and the old settings come back to all', async (t) => {
  const { listener, port } = await listen(t)
  const kind = await kindOver(t, listener.devices, new FakeMemory())
  const url = `mqtt://127.0.0.1:${port}`
  const one = await camera(t, url, 'cam-1')
  const good = await forward(kind, 'p1')
  await verified(kind, good)
  await kind.commit(good)
  await camera(t, url, 'cam-2', 'no')
  const bad = await forward(kind, 'p2')
  await until('both have answered', () => listener.state().answers?.taken === 4)
  await assert.rejects(kind.verify(bad), /cam-2 refuses the settings: fps is fixed here/)
  await kind.unflip(bad)
  await kind.reactivate(bad, signal)
  await kind.discard(bad)
  await until('the old settings are back', () => one.settings.length === 3)
  assert.deepEqual(
    one.settings.map((text) => (JSON.parse(text) as { patch: string }).patch),
    ['p1', 'p2', 'p1'],
  )
})

for (const protocolVersion of [4, 5] as const) {
  test(`mosquitto, version ${protocolVersion}: settings are retained there, answered, and taken back over a restart`, async (t) => {
    const broker = await scope.mosquitto()
    const memory = new FakeMemory()
    const settings = settingsFor(broker.endpoint, { protocolVersion, deviceOf })
    const first = await runConnection(scope, settings)
    const kind = await kindOver(t, first.connection.devices, memory)
    const one = await camera(t, broker.endpoint, 'cam-1')
    await until('the connection is up', () => first.connection.state().state === 'up')
    await one.publish('devices/cam-1/logs/a', 'here')
    await until('it is heard', () => first.connection.devices.online().length === 1)
    const plan = await forward(kind, 'p1')
    await verified(kind, plan)
    assert.deepEqual([await kind.counts(plan), first.intake.payloads], [{ confirmed: 1, refused: 0, silent: 0 }, ['here']])
    const group = await forward(kind, 'p2', { topic: 'settings/all', acknowledge: undefined })
    await verified(kind, group)
    // Killed after the way back began: only the memory knows what the broker still holds.
    await kind.unflip(plan)
    await kind.unflip(group)
    await kind.stop()
    await first.stop()
    const next = await runConnection(scope, settings)
    await kindOver(t, next.connection.devices, memory)
    await until(
      'it is taken back',
      () => one.settings.length === 2 && [...memory.stored.keys()].every((key) => !key.startsWith('device-sent/')),
    )
    assert.equal(one.settings[1], '')
    const late = await camera(t, broker.endpoint, 'late', 'nothing', '#')
    await late.publish('devices/late/logs/a', 'x')
    await until('its own message has come', () => late.settings.length > 0)
    assert.deepEqual(late.settings, ['x'])
  })
}
