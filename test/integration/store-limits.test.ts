/** What happens at the buffer's limits (G5): block, drop-oldest, the urgent reserve, minFreeBytes, our own events. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { OutboxSettings } from '../../store/settings.ts'
import { imbalance, StoreRig, textOf } from '../fakes/store-rig.ts'

const BLOCK: OutboxSettings['lanes'] = { urgent: { whenFull: 'block' }, normal: { whenFull: 'block' }, deferred: { whenFull: 'block' } }
const noise = (): string => randomBytes(500).toString('hex')

/** Sends until something blocks; returns how many were sent. */
async function fillUp(rig: StoreRig, lane: 'urgent' | 'normal' | 'deferred' = 'normal'): Promise<number> {
  let sent = 0
  while (rig.outbox.state().blockedReason === undefined) {
    for (let index = 0; index < 20; index++) rig.send(`${sent++} ${noise()}`, { lane })
    await rig.commit()
  }
  return sent
}

async function deliver(rig: StoreRig, lane: 'urgent' | 'normal' | 'deferred', count: number): Promise<void> {
  const rows = await rig.readAll(lane)
  const last = rows[Math.min(count, rows.length) - 1]
  assert.ok(last !== undefined)
  await rig.outbox.advanceTo([{ lane, epoch: last.epoch, position: last.position }], [])
}

test('a full buffer blocks: entries wait unsettled and in order, and go on when there is room', async (t) => {
  const rig = await new StoreRig({ maxBytes: 1 << 20, lanes: BLOCK }).start(t)
  const changes: (string | undefined)[] = []
  const unsubscribe = rig.outbox.onRoomChange(() => changes.push(rig.outbox.state().blockedReason))
  const sent = await fillUp(rig)
  const state = rig.outbox.state()
  assert.match(state.blockedReason ?? '', /^the buffer is full: 0\.\d MiB of 1\.0 MiB used$/)
  assert.equal(state.lanes.normal.blocked, true)
  assert.equal(state.lanes.urgent.blocked, false)
  assert.equal(state.inFlight.messages, sent - rig.settled.length)
  assert.ok(state.inFlight.messages > 0)
  assert.ok(state.usedBytes <= state.maxBytes)
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })

  // QoS 0 can't wait: it is shed and counted. What would fit does not overtake what waits.
  for (let index = 0; index < 3; index++) rig.send(`${sent + index} `)
  const settled = rig.settled.length
  for (let index = 0; index < 5; index++) rig.send(`qos0 ${index}`, { qos: 0 })
  await rig.until(() => {
    rig.clock.advance(rig.delayMs)
    return rig.settled.length === settled + 5
  })
  assert.equal((await rig.outbox.ledger.totals()).shed['buffer-full']?.messages, 5)

  // A little room is not enough to start again: that would flap. Then all that waited is stored, in order.
  await deliver(rig, 'normal', 400)
  await rig.until(() => rig.outbox.state().blockedReason === undefined)
  await rig.commit()
  const texts = rig.settled.filter((text) => !text.startsWith('qos0')).map((text) => Number(text.split(' ')[0]))
  assert.deepEqual(
    texts,
    Array.from({ length: sent + 3 }, (_, index) => index),
  )
  assert.equal(rig.outbox.state().inFlight.messages, 0)
  assert.deepEqual(
    changes.map((reason) => reason !== undefined),
    [true, false],
  )
  unsubscribe()
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})

test('what found no room may come again: its id is not in the dedupe window', async (t) => {
  const rig = await new StoreRig({ maxBytes: 1 << 20, lanes: BLOCK, dedupe: { windowMs: 600_000, maxIds: 1_000 } }).start(t)
  const sent = await fillUp(rig)
  const messageId = randomBytes(16)
  const settled = rig.settled.length
  rig.send('no room', { qos: 0, messageId })
  assert.equal(rig.outbox.seen(messageId), false)
  await rig.until(() => {
    rig.clock.advance(rig.delayMs)
    return rig.settled.length === settled + 1
  })
  assert.equal((await rig.outbox.ledger.totals()).shed['buffer-full']?.messages, 1)
  await rig.restart('crash', { maxBytes: 8 << 20 })
  assert.equal(rig.outbox.seen(messageId), false)
  rig.send('no room', { messageId })
  await rig.commit()
  assert.equal(rig.outbox.seen(messageId), true)
  assert.equal((await rig.readAll('normal')).filter((row) => textOf(row) === 'no room').length, 1)
  assert.ok(sent > settled)
})

test('urgent messages have a reserve when normal ones are blocked', async (t) => {
  const rig = await new StoreRig({ maxBytes: 4 << 20, lanes: BLOCK }).start(t)
  await fillUp(rig)
  const before = rig.settled.length
  rig.send('fire', { lane: 'urgent' })
  await rig.until(() => {
    rig.clock.advance(rig.delayMs)
    return rig.settled.length > before
  })
  assert.equal(rig.settled.at(-1), 'fire')
  assert.equal(rig.outbox.state().lanes.normal.blocked, true)
})

test('a raised limit lets the waiting entries in; a change of the settings acts at once', async (t) => {
  const rig = await new StoreRig({ maxBytes: 1 << 20, lanes: BLOCK }).start(t)
  const sent = await fillUp(rig)
  rig.outbox.configure({ ...rig.settings, maxBytes: 8 << 20 })
  await rig.until(() => {
    rig.clock.advance(1_000)
    return rig.settled.length === sent
  })
  assert.equal(rig.outbox.state().blockedReason, undefined)
  assert.equal(rig.outbox.state().maxBytes, 8 << 20)
})

test('drop-oldest sheds whole groups of the lowest lane, oldest first, and never blocks', async (t) => {
  const drop = { whenFull: 'drop-oldest' as const }
  const rig = await new StoreRig({ maxBytes: 1 << 20, lanes: { urgent: { whenFull: 'block' }, normal: drop, deferred: drop } }).start(t)
  for (let round = 0; round < 20; round++) await rig.append(10, { lane: 'normal' }, (index) => `n${round}.${index} ${noise()}`)
  for (let round = 0; round < 300; round++) await rig.append(10, { lane: 'deferred' }, (index) => `d${round}.${index} ${noise()}`)
  const state = rig.outbox.state()
  assert.equal(state.blockedReason, undefined)
  assert.ok(state.usedBytes <= state.maxBytes)
  assert.equal(state.lanes.normal.messages, 200, 'deferred messages push out no normal ones')
  const { shed } = await rig.outbox.ledger.totals()
  assert.equal(shed.evicted?.messages, 3_000 - state.lanes.deferred.messages)
  const kept = (await rig.readAll('deferred')).map((row) => textOf(row).split(' ')[0])
  assert.equal(kept.at(-1), 'd299.9')
  assert.equal(kept.length % 10, 0, 'groups leave whole')
  rig.outbox.unprotect()
  for (let round = 0; round < 170; round++) await rig.append(10, { lane: 'normal' }, (index) => `m${round}.${index} ${noise()}`)
  assert.ok(rig.outbox.state().lanes.deferred.messages < 100, 'normal messages push out deferred ones')
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})

test("rows in the relay's hands are not evicted; a lane with nothing else to give up sheds the newcomers", async (t) => {
  const rig = await new StoreRig({ maxBytes: 512 << 10, lanes: { ...BLOCK, deferred: { whenFull: 'drop-oldest' } } }).start(t)
  for (let round = 0; round < 20; round++) await rig.append(10, { lane: 'deferred' }, () => noise())
  const held = await rig.readAll('deferred')
  for (let round = 0; round < 120; round++) await rig.append(10, { lane: 'deferred' }, () => noise())
  const now = await rig.readAll('deferred')
  assert.deepEqual(
    now.slice(0, held.length).map((row) => row.position),
    held.map((row) => row.position),
  )
  assert.ok(((await rig.outbox.ledger.totals()).shed.evicted?.messages ?? 0) > 100)
  const last = held.at(-1)
  assert.ok(last !== undefined)
  await rig.outbox.advanceTo([{ lane: 'deferred', epoch: last.epoch, position: last.position }], [])
  assert.equal((await rig.outbox.ledger.totals()).delivered.messages, held.length, 'each counted once, as delivered')
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})

test("after a start the last transaction's worth of rows is not evicted until the relay has spoken", async (t) => {
  const drop = { whenFull: 'drop-oldest' as const }
  const rig = await new StoreRig({ maxBytes: 512 << 10, lanes: { urgent: drop, normal: drop, deferred: drop } }).start(t)
  for (let round = 0; round < 20; round++) await rig.append(10, {}, () => noise())
  const { highest } = rig.outbox.state().lanes.normal
  await rig.restart('crash')
  for (let round = 0; round < 60; round++) await rig.append(10, {}, () => noise())
  const positions = (await rig.readAll('normal')).map((row) => row.position)
  assert.deepEqual(
    positions.slice(0, highest),
    Array.from({ length: highest }, (_, index) => index + 1),
  )
  rig.outbox.unprotect()
  for (let round = 0; round < 60; round++) await rig.append(10, {}, () => noise())
  assert.ok(((await rig.outbox.readAfter('normal', 0, 1))[0]?.position ?? 0) > highest)
})

test("the gateway's own events are bounded and are no part of the devices' equation", async (t) => {
  const rig = await new StoreRig({ maxBytes: 2 << 20, lanes: BLOCK }).start(t)
  for (let round = 0; round < 60; round++) {
    for (let index = 0; index < 10; index++)
      rig.outbox.submitInternal({
        destination: 'events',
        key: 'gw',
        value: Buffer.from(`${round}.${index} ${noise()}`),
        headers: [],
        receivedMs: rig.clock.wallMs(),
      })
    await rig.append(1)
  }
  const { internal } = rig.outbox.state().lanes
  assert.ok(internal.bytes <= (2 << 20) * 0.05 + 12_000, `${internal.bytes} bytes of events`)
  assert.equal(internal.highest, 600)
  const rows = await rig.readAll('internal')
  const last = rows.at(-1)
  assert.ok(last !== undefined && 'internal' in last)
  assert.match(Buffer.from(last.internal.value).toString(), /^59\.9 /)
  const totals = await rig.outbox.ledger.totals()
  assert.equal(totals.received.messages, 60)
  assert.equal(totals.shed.evicted, undefined)
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})

test('intake stands before the disk has less than minFreeBytes left, and goes on when it has more', async (t) => {
  const mount = mkdtempSync(join(tmpdir(), 'store-free-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'tmpfs', mount])
  t.after(() => {
    execFileSync('umount', ['-l', mount])
    rmSync(mount, { recursive: true })
  })
  const rig = await new StoreRig({ minFreeBytes: 16 << 20, lanes: BLOCK }, join(mount, 'gateway')).start(t)
  await rig.append(10)
  writeFileSync(join(mount, 'ballast'), Buffer.alloc(12 << 20, 1))
  await rig.tick()
  await fillUp(rig)
  const { blockedReason, freeDiskBytes } = rig.outbox.state()
  assert.match(blockedReason ?? '', /^only \d+\.\d MiB are free on the disk, and buffer\.minFreeBytes is 16\.0 MiB$/)
  assert.ok(freeDiskBytes < 16 << 20)
  rmSync(join(mount, 'ballast'))
  await rig.until(() => {
    rig.clock.advance(1_000)
    return rig.outbox.state().blockedReason === undefined
  })
  await rig.commit()
  assert.equal(rig.outbox.state().inFlight.messages, 0)
})
