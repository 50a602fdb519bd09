import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GatewayError } from '../../daemon/errors.ts'
import type { Acknowledge, DeviceSpec } from '../../daemon/patch/document.ts'
import { DeviceKind } from '../../daemon/patch/kinds/device.ts'
import type { DeviceLayer } from '../../daemon/patch/kinds/device-layers.ts'
import { globMatches } from '../../daemon/ingest/limit-classes.ts'
import { FakeClock } from '../fakes/clock.ts'
import { acceptedSettings, FakePublisher } from '../fakes/device-publisher.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'

const signal = new AbortController().signal
const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const ACK: Acknowledge = { topic: 'devices/{device}/answer', deadlineMs: 60_000, minDone: 0.75 }

function accepted(id: string, spec: Partial<DeviceSpec> = {}) {
  return acceptedSettings(id, { devices: 'cam-*', topic: 'settings/{device}', payload: { id }, ...spec })
}

interface Box {
  readonly memory: FakeMemory
  readonly lan: FakePublisher
  readonly clock: FakeClock
  readonly kind: DeviceKind
}

async function box(memory = new FakeMemory(), lan = new FakePublisher('lan')): Promise<Box> {
  const clock = new FakeClock()
  const kind = new DeviceKind({
    memory,
    clock,
    log: silent,
    publishers: () => [lan],
    logFilters: () => ['devices/+/logs/+'],
    matches: globMatches,
  })
  await kind.refresh()
  return { memory, lan, clock, kind }
}

/** Up to and with ACTIVATE. */
async function forward({ kind }: Box, id: string, spec: Partial<DeviceSpec> = {}): Promise<DeviceLayer> {
  const plan = await kind.prepare(accepted(id, spec))
  await kind.flip(plan)
  await kind.activate(plan, signal)
  return plan
}

async function back({ kind }: Box, plan: DeviceLayer): Promise<void> {
  await kind.unflip(plan)
  await kind.reactivate(plan, signal)
  await kind.discard(plan)
}

/** Lets what runs in the background come to its end. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
}

async function failure(promise: Promise<unknown>): Promise<{ kind: string; message: string }> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof GatewayError, String(error))
  return { kind: error.kind, message: error.message }
}

test('settings go to the devices of the pattern that are online, and to those that come later', async () => {
  const one = await box()
  one.lan.come('cam-1', 'door-1')
  const plan = await forward(one, 'p1')
  assert.deepEqual([...one.lan.retained], [['settings/cam-1', '{"id":"p1"}']])
  await one.kind.verify(plan)
  await one.kind.commit(plan)
  one.lan.come('cam-2', 'door-2')
  await settled()
  assert.deepEqual([...one.lan.retained.keys()], ['settings/cam-1', 'settings/cam-2'])
})

test('a group has one topic, for devices that nobody has seen, too', async () => {
  const one = await box()
  const plan = await forward(one, 'p1', { topic: 'settings/cameras' })
  assert.deepEqual([...one.lan.retained], [['settings/cameras', '{"id":"p1"}']])
  await back(one, plan)
  assert.deepEqual([[...one.lan.retained], [...one.memory.stored]], [[], []])
})

test('each start tells what is in force again, before any device comes', async () => {
  const first = await box()
  first.lan.come('cam-1')
  const plan = await forward(first, 'p1')
  await first.kind.commit(plan)
  await first.kind.stop()
  const next = await box(first.memory)
  await settled()
  assert.deepEqual([...next.lan.retained], [['settings/cam-1', '{"id":"p1"}']])
  next.lan.come('cam-1')
  await settled()
  assert.equal(next.lan.sent.length, 1)
})

test('patch path 11: a failed patch puts the old settings back, and clears what held none', async () => {
  const one = await box()
  one.lan.come('cam-1')
  const old = await forward(one, 'p1', { devices: 'cam-1' })
  await one.kind.commit(old)
  one.lan.come('cam-2')
  const bad = await forward(one, 'p2')
  assert.deepEqual([...one.lan.retained.values()], ['{"id":"p2"}', '{"id":"p2"}'])
  await back(one, bad)
  assert.deepEqual([...one.lan.retained], [['settings/cam-1', '{"id":"p1"}']])
  assert.equal(await one.kind.isFlipped(bad), false)
})

test('patch path 24: undoing an older patch leaves the younger one in force', async () => {
  const one = await box()
  one.lan.come('cam-1')
  const older = await forward(one, 'p1')
  await one.kind.commit(older)
  const younger = await forward(one, 'p2')
  await one.kind.commit(younger)
  await back(one, older)
  assert.deepEqual([...one.lan.retained], [['settings/cam-1', '{"id":"p2"}']])
  await back(one, younger)
  assert.deepEqual([...one.lan.retained], [])
})

test('killed between FLIP and ACTIVATE, the next life publishes and still counts who was online', async () => {
  const first = await box()
  first.lan.come('cam-1', 'cam-2')
  const plan = await first.kind.prepare(accepted('p1', { acknowledge: ACK }))
  await first.kind.flip(plan)
  const next = await box(first.memory)
  assert.equal(await next.kind.isFlipped(plan), true)
  await next.kind.activate(plan, signal)
  assert.match((await failure(next.kind.verify(plan))).message, /0 of 2 devices/)
  next.lan.come('cam-1', 'cam-2')
  await settled()
  assert.equal(next.lan.retained.size, 2)
})

test('killed during the way back, the next life takes the settings away', async () => {
  const first = await box()
  first.lan.come('cam-1')
  const plan = await forward(first, 'p1')
  await first.kind.unflip(plan)
  const next = await box(first.memory, new FakePublisher('lan', first.lan.retained))
  await settled()
  assert.deepEqual([...next.lan.retained], [])
})

test('answers are counted: enough confirm, later ones do not change the result', async () => {
  const one = await box()
  one.lan.come('cam-1', 'cam-2', 'cam-3', 'cam-4')
  const plan = await forward(one, 'p1', { acknowledge: ACK })
  for (const device of ['cam-1', 'cam-2', 'cam-2']) await one.lan.answer(device, { patch: 'p1', ok: true })
  await one.lan.answer('cam-3', { patch: 'other', ok: true })
  await one.lan.answer('cam-3', 'no JSON')
  assert.deepEqual(await failure(one.kind.verify(plan)), {
    kind: 'transient',
    message: '2 of 4 devices that were online confirmed, 3 are needed',
  })
  await one.lan.answer('cam-3', { patch: 'p1', ok: true })
  await one.kind.verify(plan)
  await one.kind.commit(plan)
  await one.lan.answer('cam-4', { patch: 'p1', ok: true })
  assert.deepEqual(await one.kind.counts(plan), { confirmed: 3, refused: 0, silent: 1 })
})

test('one refusal rejects the patch, with the device and its reason', async () => {
  const one = await box()
  one.lan.come('cam-1', 'cam-2')
  const plan = await forward(one, 'p1', { acknowledge: { ...ACK, minDone: 0 } })
  await one.kind.verify(plan)
  await one.lan.answer('cam-2', { patch: 'p1', ok: false, reason: 'unknown key fps' })
  assert.deepEqual(await failure(one.kind.verify(plan)), {
    kind: 'rejected',
    message: 'device cam-2 refuses the settings: unknown key fps',
  })
  assert.deepEqual(await one.kind.counts(plan), { confirmed: 0, refused: 1, silent: 1 })
})

test('patch path 14: silent devices fail the patch at the deadline; those that were away do not count', async () => {
  const one = await box()
  one.lan.come('cam-1', 'cam-2')
  const plan = await forward(one, 'p1', { acknowledge: ACK })
  await one.lan.answer('cam-1', { patch: 'p1', ok: true })
  one.lan.come('cam-3')
  one.clock.advance(60_000)
  const { kind, message } = await failure(one.kind.verify(plan))
  assert.deepEqual([kind, /1 of 2 .* stayed silent for 60 s/.test(message)], ['rejected', true])
  await one.lan.answer('cam-2', { patch: 'p1', ok: true })
  assert.equal((await failure(one.kind.verify(plan))).kind, 'rejected')
})

test('answers survive a kill: they were kept before they were acknowledged', async () => {
  const first = await box()
  first.lan.come('cam-1', 'cam-2')
  const plan = await forward(first, 'p1', { acknowledge: ACK })
  await Promise.all(['cam-1', 'cam-2'].map((device) => first.lan.answer(device, { patch: 'p1', ok: true })))
  const next = await box(first.memory)
  await next.kind.activate(plan, signal)
  await next.kind.verify(plan)
  assert.deepEqual(next.lan.listening, [ACK.topic])
})

test('an answer that the memory refuses is not acknowledged', async () => {
  const one = await box()
  one.lan.come('cam-1')
  await forward(one, 'p1', { acknowledge: ACK })
  one.memory.fault = () => {
    throw new GatewayError('fatal', 'no disk')
  }
  await assert.rejects(one.lan.answer('cam-1', { patch: 'p1', ok: true }), /no disk/)
})

test('nobody is listened to when a patch is taken back', async () => {
  const one = await box()
  one.lan.come('cam-1')
  const plan = await forward(one, 'p1', { acknowledge: ACK })
  assert.deepEqual(one.lan.listening, [ACK.topic])
  await back(one, plan)
  assert.deepEqual([one.lan.listening, [...one.memory.stored]], [[], []])
})

test('a broker that refuses settings fails the patch', async () => {
  const one = await box()
  one.lan.come('cam-1')
  one.lan.fault = () => {
    throw new GatewayError('rejected', 'not authorised')
  }
  const plan = await forward(one, 'p1')
  assert.deepEqual(await failure(one.kind.verify(plan)), { kind: 'rejected', message: 'not authorised' })
})

test('a patch that this box can not carry out is refused with what to write instead', async () => {
  const { kind } = await box()
  const cases: readonly (readonly [Partial<DeviceSpec>, RegExp])[] = [
    [{ source: 'plant' }, /no listener or connection of this box, which has lan/],
    [{ topic: 'settings/+' }, /no wildcard/],
    [{ topic: '$SYS/x' }, /belong to the broker/],
    [{ topic: 'settings/x{device}' }, /whole level/],
    [{ topic: '{device}/{device}' }, /twice/],
    [{ topic: 'devices/{device}/logs/settings' }, /within devices\/\+\/logs\/\+ of mqtt.topics/],
    [{ acknowledge: { ...ACK, topic: '{device}/{device}' } }, /twice/],
    [{ acknowledge: { ...ACK, topic: 'answers' } }, /must hold \{device\}/],
    [{ acknowledge: { ...ACK, topic: 'devices/{device}/logs/x' } }, /where log messages come/],
    [{ acknowledge: { ...ACK, topic: 'settings/{device}' } }, /taken for answers/],
    [{ payload: 'x'.repeat(70_000) }, /65536 are allowed/],
    [{ devices: '' }, /for all/],
  ]
  for (const [spec, words] of cases) {
    const { kind: word, message } = await failure(kind.prepare(accepted('p1', spec)))
    assert.equal(word, 'rejected')
    assert.match(message, words)
  }
})

test('sources that are looked at twice at once are tied once', async () => {
  const one = await box()
  await one.kind.stop()
  await Promise.all([one.kind.refresh(), one.kind.refresh()])
  await forward(one, 'p1', { acknowledge: ACK })
  one.lan.come('cam-1')
  await settled()
  assert.deepEqual([one.lan.sent.length, one.lan.listening], [1, [ACK.topic]])
})
