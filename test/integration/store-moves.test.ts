/** What leaves the outbox on a medium, comes in from one, or is copied. */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import BetterSqlite from 'better-sqlite3'
import type { EpochState, Lane, Stored } from '../../daemon/ports.ts'
import { makeDirectory, StoreRig, textOf } from '../fakes/store-rig.ts'

function endsOf(epochs: readonly EpochState[]) {
  return epochs.flatMap(({ epoch, lanes }) =>
    (Object.entries(lanes) as [Lane, { last: number }][]).map(([lane, { last }]) => ({ lane, epoch, position: last })),
  )
}

async function peekAll(rig: StoreRig, lane: Lane, last: number): Promise<Stored[]> {
  const found: Stored[] = []
  for (let at = 0; ;) {
    const some = await rig.outbox.moves.peek(lane, at, last, 2_000)
    const end = some.at(-1)
    if (end === undefined) return found
    found.push(...some)
    at = end.position
  }
}

test('a closed epoch is read, moved out and counted; what came later stays', async (t) => {
  const rig = await new StoreRig().start(t)
  await rig.append(30)
  const closed = await rig.outbox.moves.closeEpoch()
  await rig.append(7)
  const [end] = endsOf(closed)
  assert.deepEqual([closed.length, end?.position], [1, 30])
  assert.equal((await peekAll(rig, 'normal', 30)).length, 30)
  assert.equal(await rig.outbox.moves.moveOut(endsOf(closed)), true)
  const totals = await rig.outbox.ledger.totals()
  assert.deepEqual([totals.received.messages, totals.exported.messages, totals.buffered.messages], [37, 30, 7])
  const left = await rig.readAll('normal')
  assert.deepEqual([left.length, left[0]?.position], [7, 31])
  assert.notEqual(left[0]?.epoch, closed[0]?.epoch)
  assert.deepEqual(await rig.outbox.moves.gaps(), [{ lane: 'normal', epoch: closed[0]?.epoch, first: 1, last: 30, reason: 'exported' }])
})

test('a move in parts goes on where it stopped, also after a kill', async (t) => {
  const rig = await new StoreRig().start(t)
  for (let round = 0; round < 3; round += 1) await rig.append(15_000)
  const closed = await rig.outbox.moves.closeEpoch()
  assert.equal(await rig.outbox.moves.moveOut(endsOf(closed)), false, 'one transaction moves a bounded part')
  await rig.restart('crash')
  let parts = 0
  while (!(await rig.outbox.moves.moveOut(endsOf(closed)))) parts += 1
  assert.ok(parts < 10)
  const totals = await rig.outbox.ledger.totals()
  assert.deepEqual([totals.exported.messages, totals.buffered.messages], [45_000, 0])
})

test('what an export reads is not evicted meanwhile', async (t) => {
  const rig = await new StoreRig({ maxBytes: 2 << 20 }).start(t)
  const filler = (): string => Buffer.from(Array.from({ length: 2_000 }, () => Math.floor(Math.random() * 256))).toString('base64')
  for (let index = 0; index < 50; index += 1) rig.send(filler(), { lane: 'deferred' })
  await rig.commit()
  const [epoch] = await rig.outbox.moves.closeEpoch()
  rig.outbox.moves.keep([{ lane: 'deferred', position: 50 }])
  for (let round = 0; round < 20; round += 1) {
    for (let index = 0; index < 50; index += 1) rig.send(filler(), { lane: 'deferred' })
    await rig.commit()
  }
  const gaps = await rig.outbox.moves.gaps()
  assert.ok(gaps.length > 0, 'something was evicted')
  assert.ok(gaps.every(({ reason, first }) => reason === 'evicted' && first > 50))
  assert.equal((await peekAll(rig, 'deferred', 50)).length, 50)
  assert.equal(await rig.outbox.moves.moveOut([{ lane: 'deferred', epoch: epoch?.epoch ?? '', position: 50 }]), true)
})

test('messages of another box keep their epochs and positions; bringing them twice changes nothing', async (t) => {
  const origin = await new StoreRig().start(t)
  await origin.append(20)
  await origin.outbox.advanceTo([{ lane: 'normal', epoch: origin.outbox.state().epoch ?? '', position: 5 }], [])
  const first = await origin.outbox.moves.closeEpoch()
  await origin.append(10)
  const all = await origin.outbox.moves.closeEpoch()
  const stored = await peekAll(origin, 'normal', 30)
  const importer = await new StoreRig().start(t)
  const bring = (from: number, to: number): Promise<void> => importer.outbox.moves.bringIn(all, 'normal', stored.slice(from, to))
  await bring(0, 10)
  await bring(0, 10)
  await bring(10, 25)
  const taken = await importer.readAll('normal')
  assert.deepEqual(
    taken.map((one) => [one.epoch, one.position, textOf(one)]),
    stored.map((one) => [one.epoch, one.position, textOf(one)]),
  )
  assert.equal(first[0]?.epoch, taken[0]?.epoch)
  const totals = await importer.outbox.ledger.totals()
  assert.deepEqual([totals.received.messages, totals.buffered.messages], [25, 25])
  await importer.outbox.advanceTo(endsOf(all), [])
  assert.equal((await importer.outbox.ledger.totals()).delivered.messages, 25)
})

test('a copy is whole while commits go on, and opens as a buffer', async (t) => {
  const rig = await new StoreRig().start(t)
  await rig.append(5_000)
  const copy = makeDirectory()
  t.after(() => rmSync(copy, { recursive: true }))
  let copying = true
  const copied = rig.outbox.moves.copyTo(copy).finally(() => (copying = false))
  let rounds = 0
  while (copying && rounds < 50) {
    await rig.append(100)
    rounds += 1
  }
  await copied
  const db = new BetterSqlite(join(copy, 'outbox.db'), { readonly: true })
  assert.equal(db.pragma('integrity_check', { simple: true }), 'ok')
  db.close()
  const restored = await new StoreRig({}, copy).start(t)
  const held = (await restored.readAll('normal')).length
  assert.ok(held >= 5_000, String(held))
  assert.equal((await restored.outbox.ledger.totals()).buffered.messages, held)
})

test('a copy that finds no place is refused in words, and nothing else stops', async (t) => {
  const rig = await new StoreRig().start(t)
  await rig.append(5)
  const nowhere = join(rig.directory, 'nowhere')
  await assert.rejects(rig.outbox.moves.copyTo(nowhere), /nowhere/)
  mkdirSync(nowhere)
  await rig.outbox.moves.copyTo(nowhere)
  await rig.append(5)
})

test('a file of the release before gets its table of gaps', async (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  const first = await new StoreRig({}, directory).start()
  await first.append(5)
  await first.outbox.stop(Infinity)
  const db = new BetterSqlite(join(directory, 'outbox.db'))
  db.exec('DROP TABLE gaps; PRAGMA user_version = 1')
  db.close()
  const second = await new StoreRig({}, directory).start()
  assert.equal((await second.readAll('normal')).length, 5)
  assert.equal(await second.outbox.moves.moveOut(endsOf(await second.outbox.moves.closeEpoch())), true)
  assert.equal((await second.outbox.moves.gaps()).length, 1)
  await second.outbox.stop(Infinity)
})
