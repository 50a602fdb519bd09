/** Age, the log under a long reader, the file that shrinks, the dedupe window, exchanges, epochs. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import BetterSqlite from 'better-sqlite3'
import { FakeClock } from '../fakes/clock.ts'
import { imbalance, StoreRig, textOf } from '../fakes/store-rig.ts'

const DAY = 86_400_000
const noise = (bytes = 1_000): string => randomBytes(bytes / 2).toString('hex')

async function deliverAll(rig: StoreRig): Promise<void> {
  const last = (await rig.readAll('normal')).at(-1)
  assert.ok(last !== undefined)
  await rig.outbox.advanceTo([{ lane: 'normal', epoch: last.epoch, position: last.position }], [])
}

test('messages older than maxAge are shed as expired, once the clock has proved steady', async (t) => {
  const rig = await new StoreRig({ maxAgeMs: 30 * DAY }).start(t)
  await rig.append(10, {}, (index) => `old ${index}`)
  rig.clock.suspend(20 * DAY)
  await rig.append(10, {}, (index) => `new ${index}`)
  await rig.tick()
  rig.clock.suspend(10 * DAY)
  await rig.tick()
  await rig.tick()
  assert.deepEqual(
    (await rig.readAll('normal')).map(textOf),
    Array.from({ length: 10 }, (_, index) => `new ${index}`),
  )
  assert.equal((await rig.outbox.ledger.totals()).shed.expired?.messages, 10)
  assert.equal(rig.outbox.state().lanes.normal.watermark, 10)
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})

test('a box that booted in 1970 expires nothing, before and after its clock is set (FAILURES, log path 22)', async (t) => {
  const clock = new FakeClock({ wallMs: 5_000, bootMs: 5_000, wallTrusted: false })
  const rig = await new StoreRig({ maxAgeMs: DAY }, undefined, clock).start(t)
  await rig.append(10)
  clock.suspend(3 * DAY)
  await rig.tick()
  clock.setWall(Date.UTC(2026, 10, 24))
  await rig.append(10, {}, (index) => `right ${index}`)
  for (let hour = 0; hour < 20; hour++) await rig.tick(3_600_000)
  assert.equal((await rig.readAll('normal')).length, 20, 'times of a wrong clock say nothing of age')
  rig.outbox.unprotect()
  for (let hour = 0; hour < 20; hour++) await rig.tick(3_600_000)
  assert.deepEqual(
    (await rig.readAll('normal')).map(textOf).slice(0, 10),
    Array.from({ length: 10 }, (_, index) => `message ${index}`),
  )
  assert.equal((await rig.readAll('normal')).length, 10, 'rows behind them whose clock was right expire')
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})

test('between rows whose clock was right, one whose was not stays', async (t) => {
  const rig = await new StoreRig({ maxAgeMs: DAY }).start(t)
  await rig.append(5, {}, (index) => `before ${index}`)
  await rig.append(5, { clockTrusted: false }, (index) => `unsure ${index}`)
  await rig.append(5, {}, (index) => `after ${index}`)
  rig.clock.suspend(3 * DAY)
  for (let hour = 0; hour < 5; hour++) await rig.tick(3_600_000)
  assert.deepEqual(
    (await rig.readAll('normal')).map(textOf),
    Array.from({ length: 5 }, (_, index) => `unsure ${index}`),
  )
  assert.equal((await rig.outbox.ledger.totals()).shed.expired?.messages, 10)
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})

test('a clock that jumps ahead and back expires nothing', async (t) => {
  const rig = await new StoreRig({ maxAgeMs: 30 * DAY }).start(t)
  await rig.append(10)
  for (let second = 0; second < 20; second++) await rig.tick()
  const right = rig.clock.wallMs()
  rig.clock.setWall(right + 5_000 * DAY)
  for (let second = 0; second < 20; second++) await rig.tick()
  rig.clock.setWall(right + 20_000)
  for (let second = 0; second < 700; second++) await rig.tick()
  assert.equal((await rig.readAll('normal')).length, 10)
})

test('rows in an undecided transaction do not expire', async (t) => {
  const rig = await new StoreRig({ maxAgeMs: DAY }).start(t)
  await rig.append(10)
  await rig.readAll('normal')
  rig.clock.suspend(3 * DAY)
  for (let minute = 0; minute < 30; minute++) await rig.tick(60_000)
  assert.equal(rig.outbox.state().lanes.normal.messages, 10)
  await deliverAll(rig)
  assert.equal((await rig.outbox.ledger.totals()).delivered.messages, 10)
})

test('the file shrinks when the backlog has gone', async (t) => {
  const rig = await new StoreRig().start(t)
  const size = (): number => statSync(join(rig.directory, 'outbox.db')).size
  for (let round = 0; round < 300; round++) await rig.append(50, {}, () => noise())
  await rig.tick()
  const full = size()
  assert.ok(full > 6 << 20, `${full}`)
  await deliverAll(rig)
  for (let second = 0; second < 60; second++) await rig.tick()
  assert.ok(size() < full / 3, `${size()} of ${full}`)
  assert.equal(rig.outbox.state().lanes.normal.messages, 0)
})

test('under a long reader the log stays bounded: intake stands, says why, and goes on when the reader has gone (FAILURES, log path 19)', async (t) => {
  const rig = await new StoreRig().start(t)
  await rig.append(10)
  const reader = new BetterSqlite(join(rig.directory, 'outbox.db'), { readonly: true })
  reader.exec('BEGIN')
  reader.prepare('SELECT count(*) FROM outbox_normal').get()
  let sent = 10
  while (rig.outbox.state().blockedReason === undefined) {
    for (let index = 0; index < 500; index++) rig.send(`${sent++} ${noise(4_000)}`)
    await rig.commit()
  }
  assert.match(
    rig.outbox.state().blockedReason ?? '',
    /another program reads outbox.db since long ago, and its log has grown to 6\d\.\d MiB: end that program/,
  )
  const wal = (): number => statSync(join(rig.directory, 'outbox.db-wal')).size
  const then = wal()
  for (let round = 0; round < 5; round++) {
    for (let index = 0; index < 500; index++) rig.send(`${sent++} ${noise(4_000)}`)
    await rig.tick()
  }
  assert.equal(wal(), then, 'nothing more is written')
  reader.exec('COMMIT')
  reader.close()
  await rig.until(() => {
    rig.clock.advance(1_000)
    return rig.settled.length === sent
  })
  assert.equal(rig.outbox.state().blockedReason, undefined)
  await rig.append(10)
  await rig.tick()
  assert.ok(wal() <= 17 << 20, `the log is cut back: ${wal()}`)
  assert.equal(rig.outbox.state().lanes.normal.messages, sent + 10)
})

test("another program's write lock makes the outbox wait, not fail", async (t) => {
  const rig = await new StoreRig().start(t)
  await rig.append(5)
  const other = new BetterSqlite(join(rig.directory, 'outbox.db'))
  other.exec('BEGIN IMMEDIATE')
  rig.send('patience')
  rig.clock.advance(1_000)
  await rig.until(() => rig.outbox.state().blockedReason !== undefined)
  assert.match(rig.outbox.state().blockedReason ?? '', /another program holds a lock on outbox.db/)
  assert.equal(rig.settled.length, 5)
  other.exec('ROLLBACK')
  other.close()
  await rig.until(() => {
    rig.clock.advance(1_000)
    return rig.settled.length === 6
  })
  assert.equal(rig.outbox.state().blockedReason, undefined)
})

test('a file that is moved away under the running outbox ends it', async (t) => {
  const rig = await new StoreRig().start(t)
  await rig.append(5)
  const { renameSync } = await import('node:fs')
  renameSync(join(rig.directory, 'outbox.db'), join(rig.directory, 'elsewhere'))
  rig.send('nowhere')
  rig.clock.advance(1_000)
  await assert.rejects(rig.outbox.ended, /moved or deleted while the gateway ran/)
  assert.equal(rig.settled.length, 5)
})

function idOf(number: number): Uint8Array {
  const id = Buffer.alloc(16)
  id.writeUInt32LE(Math.imul(number, 2_654_435_761) >>> 0, 0)
  id.writeUInt32LE(number, 12)
  return id
}

test('message ids are seen within the window, over restarts and boots', async (t) => {
  const rig = await new StoreRig({ dedupe: { windowMs: 600_000, maxIds: 1_000 } }).start(t)
  assert.equal(rig.outbox.seen(idOf(1)), false)
  rig.send('a', { messageId: idOf(1) })
  assert.equal(rig.outbox.seen(idOf(1)), true, 'from submission on')
  rig.send('over the limit', { messageId: idOf(2), shed: 'over-limit' })
  assert.equal(rig.outbox.seen(idOf(2)), true, 'its fate was decided, and it is counted')
  await rig.commit()
  await rig.restart('crash')
  assert.equal(rig.outbox.seen(idOf(1)), true)
  assert.equal(rig.outbox.seen(idOf(2)), true)
  rig.clock.suspend(500_000)
  rig.send('b', { messageId: idOf(3) })
  await rig.commit()
  await rig.restart()
  assert.equal(rig.outbox.seen(idOf(1)), true)
  rig.clock.suspend(200_000)
  assert.equal(rig.outbox.seen(idOf(1)), false)
  assert.equal(rig.outbox.seen(idOf(3)), true)
  await rig.tick()
  await rig.restart()
  assert.equal(rig.outbox.seen(idOf(1)), false)
  assert.equal(rig.outbox.seen(idOf(3)), true)
})

test('within a boot the age of an id is told by the boot time, whatever the wall clock does', async (t) => {
  const rig = await new StoreRig({ dedupe: { windowMs: 600_000, maxIds: 1_000 } }).start(t)
  rig.send('a', { messageId: idOf(1) })
  await rig.commit()
  rig.clock.suspend(400_000)
  rig.clock.setWall(rig.clock.wallMs() + 30 * DAY)
  await rig.restart()
  assert.equal(rig.outbox.seen(idOf(1)), true, 'a wall clock that jumped ahead ends no window')
  rig.clock.setWall(rig.clock.wallMs() - 60 * DAY)
  rig.clock.suspend(300_000)
  await rig.restart()
  assert.equal(rig.outbox.seen(idOf(1)), false, 'one that jumped back does not prolong it')
})

test('the dedupe window keeps at most maxIds, the youngest, on the disk too', async (t) => {
  const rig = await new StoreRig({ dedupe: { windowMs: 600_000, maxIds: 100 } }).start(t)
  for (let round = 0; round < 30; round++) {
    for (let index = 0; index < 20; index++) rig.send('x', { messageId: idOf(round * 20 + index) })
    await rig.commit()
  }
  assert.equal(rig.outbox.seen(idOf(499)), false)
  assert.equal(rig.outbox.seen(idOf(500)), true)
  for (let second = 0; second < 3; second++) await rig.tick()
  const reader = new BetterSqlite(join(rig.directory, 'outbox.db'), { readonly: true })
  const kept = reader.prepare('SELECT sum(length(ids)) / 16 FROM message_ids').pluck().get() as number
  reader.close()
  assert.ok(kept >= 100 && kept <= 220, `${kept} ids on the disk`)
})

test('QoS 2 exchanges live until their release, over restarts', async (t) => {
  const rig = await new StoreRig().start(t)
  rig.send('once', { qos: 2, exchange: 'client\x007' })
  assert.equal(rig.outbox.hasExchange('client\x007'), true)
  rig.send('once', { qos: 2, exchange: 'client\x007' })
  await rig.commit()
  assert.equal(rig.settled.length, 2)
  await rig.restart('crash')
  assert.equal(rig.outbox.hasExchange('client\x007'), true)
  assert.equal((await rig.readAll('normal')).length, 1, 'the repeat was counted as a duplicate')
  assert.equal((await rig.outbox.ledger.totals()).shed.duplicate?.messages, 1)
  const released = new Promise<void>((resolve) => rig.outbox.releaseExchange('client\x007', resolve))
  assert.equal(rig.outbox.hasExchange('client\x007'), false)
  // The id is taken again at once, in the same commit.
  rig.send('next', { qos: 2, exchange: 'client\x007' })
  await rig.commit()
  await released
  await rig.restart('crash')
  assert.equal(rig.outbox.hasExchange('client\x007'), true)
  assert.deepEqual((await rig.readAll('normal')).map(textOf), ['once', 'next'])
})

test('a duplicate is not acknowledged before the message that it repeats is stored', async (t) => {
  const rig = await new StoreRig({ maxBytes: 1 << 20 }).start(t)
  let sent = 0
  while (rig.outbox.state().blockedReason === undefined) {
    for (let index = 0; index < 20; index++) rig.send(`${sent++} ${noise()}`)
    await rig.commit()
  }
  rig.send('original', { exchange: 'c\x001', qos: 2 })
  rig.clock.advance(1_000)
  await rig.outbox.epochs()
  rig.send('repeat', { shed: 'duplicate', exchange: 'c\x001', qos: 2 })
  rig.send('plain', { shed: 'over-limit' })
  await rig.until(() => {
    rig.clock.advance(1_000)
    return rig.settled.includes('plain')
  })
  assert.equal(rig.settled.includes('repeat'), false)
  await deliverAll(rig)
  await rig.until(() => {
    rig.clock.advance(1_000)
    return rig.settled.includes('repeat')
  })
  assert.ok(rig.settled.indexOf('original') < rig.settled.indexOf('repeat'))
})

test('an epoch is made by the first append of a start, and forgotten when its rows have gone', async (t) => {
  const rig = await new StoreRig().start(t)
  assert.deepEqual(await rig.outbox.epochs(), [])
  assert.equal(rig.outbox.state().epoch, undefined)
  await rig.append(3, { shed: 'over-limit' })
  assert.deepEqual(await rig.outbox.epochs(), [], 'what is shed has no position and no epoch')
  await rig.append(10)
  const first = rig.outbox.state().epoch ?? ''
  assert.match(first, /^[0-9a-f]{16}$/)
  await rig.restart()
  await rig.restart()
  await rig.append(5)
  await rig.append(4, { lane: 'urgent' })
  const epochs = await rig.outbox.epochs()
  const second = rig.outbox.state().epoch ?? ''
  assert.notEqual(second, first)
  assert.deepEqual(
    epochs.map(({ epoch, lanes }) => ({ epoch, lanes })),
    [
      { epoch: first, lanes: { normal: { first: 1, last: 10 } } },
      { epoch: second, lanes: { normal: { first: 11, last: 15 }, urgent: { first: 1, last: 4 } } },
    ],
  )
  assert.deepEqual([...new Set((await rig.outbox.readAfter('normal', 0, 1e6)).map((row) => row.epoch))], [first], 'one epoch an answer')
  // A restored backup: Kafka has more of the old epoch than the file has. Nothing of the new one is taken for delivered.
  rig.clock.advance(120_000)
  await rig.outbox.advanceTo([{ lane: 'normal', epoch: first, position: 900 }], [])
  assert.equal(rig.outbox.state().lanes.normal.messages, 5)
  assert.deepEqual(
    (await rig.outbox.epochs()).map(({ epoch }) => epoch),
    [second],
  )
  await rig.outbox.advanceTo(
    [
      { lane: 'normal', epoch: first, position: 900 },
      { lane: 'normal', epoch: 'ffffffffffffffff', position: 900 },
    ],
    [],
  )
  assert.equal(rig.outbox.state().lanes.normal.messages, 5)
  await rig.outbox.advanceTo([{ lane: 'normal', epoch: second, position: 15 }], [])
  const [own] = await rig.outbox.epochs()
  assert.equal(own?.touchedMs, rig.clock.wallMs())
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})

test('an advance of a newer epoch while older rows are open touches only its own', async (t) => {
  const rig = await new StoreRig().start(t)
  await rig.append(10, {}, (index) => `a${index}`)
  await rig.restart()
  await rig.append(10, {}, (index) => `b${index}`)
  await rig.append(10, {}, (index) => `c${index}`)
  const [first = '', second = ''] = (await rig.outbox.epochs()).map(({ epoch }) => epoch)
  await rig.outbox.advanceTo(
    [],
    [
      { lane: 'normal', epoch: second, position: 23, reason: 'r' },
      { lane: 'normal', epoch: second, position: 28, reason: 'r' },
    ],
  )
  await rig.outbox.advanceTo([{ lane: 'normal', epoch: second, position: 25 }], [])
  assert.equal(rig.outbox.state().lanes.normal.watermark, 0)
  assert.deepEqual(
    (await rig.readAll('normal')).map((row) => [row.epoch, row.position, textOf(row)]),
    [
      ...Array.from({ length: 10 }, (_, index) => [first, index + 1, `a${index}`]),
      [second, 26, 'c5'],
      [second, 27, 'c6'],
      [second, 29, 'c8'],
      [second, 30, 'c9'],
    ],
  )
  assert.equal((await rig.outbox.ledger.totals()).delivered.messages, 14)
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
  await rig.restart()
  assert.equal((await rig.readAll('normal')).length, 14)
  await rig.outbox.advanceTo(
    [
      { lane: 'normal', epoch: first, position: 10 },
      { lane: 'normal', epoch: second, position: 30 },
    ],
    [],
  )
  assert.equal(rig.outbox.state().lanes.normal.watermark, 30)
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})
