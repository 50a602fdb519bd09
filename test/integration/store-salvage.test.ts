/**
 * FAILURES, log path 6 and 7: torn, truncated, overwritten and missing files. The outbox starts all the same, with
 * every group that can still be read at its old position and epoch, and the loss stated and counted.
 */
import assert from 'node:assert/strict'
import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import BetterSqlite from 'better-sqlite3'
import { kindOf } from '../../daemon/errors.ts'
import { FakeRandom } from '../fakes/clock.ts'
import { imbalance, makeDirectory, StoreRig, textOf } from '../fakes/store-rig.ts'

const COUNT = 600

/** A stopped outbox with 2 epochs, a delivered head, a dead letter, and enough rows for many pages. */
async function filled(t: TestContext): Promise<{ directory: string; rows: Map<number, string>; epochs: readonly string[] }> {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  const rig = await new StoreRig({}, directory).start()
  const random = new FakeRandom(5)
  const text = (index: number): string => `${index} ${Buffer.from(random.bytes(300)).toString('base64')}`
  for (let at = 0; at < COUNT / 2; at += 20) await rig.append(20, { device: `dev-${at % 7}` }, text)
  await rig.restart()
  for (let at = 0; at < COUNT / 2; at += 20) await rig.append(20, { device: `dev-${at % 7}` }, text)
  await rig.append(5, { shed: 'over-limit' })
  const first = (await rig.outbox.readAfter('normal', 0, 1))[0]
  assert.ok(first !== undefined)
  await rig.outbox.advanceTo(
    [{ lane: 'normal', epoch: first.epoch, position: 30 }],
    [{ lane: 'normal', epoch: first.epoch, position: 50, reason: 'too large' }],
  )
  const rows = new Map((await rig.readAll('normal')).map((row) => [row.position, textOf(row)]))
  assert.equal(rows.size, COUNT - 31)
  const epochs = (await rig.outbox.epochs()).map(({ epoch }) => epoch)
  // The totals reach state.db at a stop.
  await rig.outbox.stop(Infinity)
  return { directory, rows, epochs }
}

interface Outcome {
  readonly rig: StoreRig
  readonly saved: Map<number, string>
  readonly text: string
}

/** Starts on damaged files and checks what always holds. */
async function startDamaged(t: TestContext, directory: string, rows: Map<number, string>): Promise<Outcome> {
  const rig = await new StoreRig({}, directory).start(t)
  const saved = new Map<number, string>()
  let position = 0
  for (const row of await rig.readAll('normal')) {
    assert.ok(row.position > position, 'positions rise')
    position = row.position
    assert.equal(textOf(row), rows.get(row.position), `position ${row.position} has another message`)
    saved.set(row.position, textOf(row))
  }
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
  assert.equal((await rig.outbox.ledger.totals()).buffered.messages, saved.size)
  assert.equal(rig.outbox.state().lanes.normal.messages, saved.size)
  // It works on: new messages get new positions, and everything can be delivered.
  await rig.append(10, {}, (index) => `new ${index}`)
  const all = await rig.readAll('normal')
  assert.equal(all.length, saved.size + 10)
  assert.ok((all.at(-10)?.position ?? 0) > Math.max(0, ...saved.keys()))
  return {
    rig,
    saved,
    text: rig.outbox
      .state()
      .notices.map((notice) => notice.text)
      .join('\n'),
  }
}

async function deliverAll(rig: StoreRig): Promise<void> {
  for (
    let last = (await rig.outbox.readAfter('normal', 0, 1e9)).at(-1);
    last !== undefined;
    last = (await rig.outbox.readAfter('normal', 0, 1e9)).at(-1)
  ) {
    await rig.outbox.advanceTo([{ lane: 'normal', epoch: last.epoch, position: last.position }], [])
  }
  assert.equal(rig.outbox.state().lanes.normal.messages, 0)
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
}

function overwrite(path: string, at: number, bytes: Uint8Array): void {
  const fd = openSync(path, 'r+')
  writeSync(fd, bytes, 0, bytes.length, at)
  closeSync(fd)
}

test('random damage to pages: all that can be read is saved, the rest is counted as lost', async (t) => {
  const { directory, rows } = await filled(t)
  const original = readFileSync(join(directory, 'outbox.db'))
  const state = readFileSync(join(directory, 'state.db'))
  const pages = original.length / 4096
  assert.ok(pages > 60)
  let mostlySaved = 0
  for (let seed = 0; seed < 12; seed++) {
    const random = new FakeRandom(seed)
    for (const name of readdirSync(directory)) rmSync(join(directory, name))
    writeFileSync(join(directory, 'outbox.db'), original)
    writeFileSync(join(directory, 'state.db'), state)
    for (let hit = 0; hit <= seed % 3; hit++)
      overwrite(join(directory, 'outbox.db'), Math.floor(random.unit() * pages) * 4096, random.bytes(4096))
    // Whoever damages files under a daemon is found out by a kill and a check.
    const db = new BetterSqlite(join(directory, 'state.db'))
    db.prepare(`UPDATE settings SET value = 'true' WHERE key = 'running'`).run()
    db.close()
    const { rig, saved, text } = await startDamaged(t, directory, rows)
    const lost = (await rig.outbox.ledger.totals()).lost.messages
    if (text === '') assert.equal(saved.size, rows.size)
    else assert.match(text, new RegExp(`outbox.db is damaged .*set aside as .*${saved.size} messages were saved, ${lost} are lost`, 's'))
    if (saved.size > rows.size * 0.7) mostlySaved++
    await deliverAll(rig)
    await rig.close()
  }
  assert.ok(mostlySaved >= 9, `only ${mostlySaved} of 12 files kept most of their messages`)
})

test('a damaged first page is rebuilt, and nothing is lost', async (t) => {
  const { directory, rows, epochs } = await filled(t)
  overwrite(join(directory, 'outbox.db'), 0, new FakeRandom(1).bytes(4096))
  const { rig, saved, text } = await startDamaged(t, directory, rows)
  assert.match(text, /does not begin like a database.*0 are lost.*first page was unreadable/s)
  assert.equal(saved.size, rows.size)
  assert.deepEqual((await rig.outbox.epochs()).map(({ epoch }) => epoch).slice(0, 2), epochs)
  assert.equal((await rig.outbox.deadLetters.list(10)).length, 1)
  assert.equal((await rig.outbox.ledger.totals()).shed['over-limit']?.messages, 5)
  await deliverAll(rig)
})

test('that its first rows are unreadable costs those rows, and not the file', async (t) => {
  const { directory, rows } = await filled(t)
  const path = join(directory, 'outbox.db')
  const db = new BetterSqlite(path, { readonly: true })
  const root = db.prepare(`SELECT rootpage FROM sqlite_master WHERE name = 'outbox_normal'`).pluck().get() as number
  db.close()
  const page = readFileSync(path).subarray((root - 1) * 4096, root * 4096)
  assert.equal(page[0], 5, 'an interior page of a table (SQLite file format, 1.6)')
  const firstChild = page.readUInt32BE(page.readUInt16BE(12))
  overwrite(path, (firstChild - 1) * 4096, new FakeRandom(1).bytes(4096))
  const state = new BetterSqlite(join(directory, 'state.db'))
  state.prepare(`UPDATE settings SET value = 'true' WHERE key = 'running'`).run()
  state.close()
  const { rig, saved, text } = await startDamaged(t, directory, rows)
  assert.ok(saved.size > rows.size / 2 && saved.size < rows.size, `${saved.size} of ${rows.size} were saved`)
  assert.equal((await rig.outbox.ledger.totals()).lost.messages, rows.size - saved.size)
  assert.doesNotMatch(text, /first page/)
})

for (const share of [0, 0.3, 0.8]) {
  test(`a file cut to ${share * 100} %`, async (t) => {
    const { directory, rows } = await filled(t)
    const path = join(directory, 'outbox.db')
    truncateSync(path, Math.floor(statSync(path).size * share))
    const { rig, saved, text } = await startDamaged(t, directory, rows)
    const { lost, received } = await rig.outbox.ledger.totals()
    assert.match(text, /messages were saved, \d+ are lost/)
    assert.ok(received.messages >= COUNT + 5, 'the totals came from state.db')
    assert.ok(lost.messages >= rows.size - saved.size)
    assert.ok(existsSync(join(directory, readdirSync(directory).find((name) => name.startsWith('outbox.corrupt-')) ?? 'none')))
    await deliverAll(rig)
  })
}

test('a file that is gone: a fresh start with the loss stated', async (t) => {
  const { directory, rows } = await filled(t)
  rmSync(join(directory, 'outbox.db'))
  const { rig, text } = await startDamaged(t, directory, rows)
  assert.match(text, new RegExp(`outbox.db is gone. 0 messages were saved, ${rows.size + 1} are lost`))
  assert.equal((await rig.outbox.ledger.totals()).lost.messages, rows.size + 1, 'the dead letter is lost too')
  assert.ok(rig.outbox.state().lanes.normal.highest > COUNT, 'positions go on')
})

test('everything gone: an empty start without a word', async (t) => {
  const { directory } = await filled(t)
  for (const name of readdirSync(directory)) rmSync(join(directory, name))
  const { text } = await startDamaged(t, directory, new Map())
  assert.equal(text, '')
})

test('a WAL of garbage beside a whole file is ignored', async (t) => {
  const { directory, rows } = await filled(t)
  writeFileSync(join(directory, 'outbox.db-wal'), new FakeRandom(3).bytes(100_000))
  const { saved, text } = await startDamaged(t, directory, rows)
  assert.equal(saved.size, rows.size)
  assert.equal(text, '')
})

test('a WAL with a torn end gives what was committed before the tear', async (t) => {
  const directory = makeDirectory()
  const rig = await new StoreRig({}, directory).start()
  for (let round = 0; round < 10; round++) await rig.append(10, {}, (index) => `${round}.${index}`)
  // A copy under the running outbox is what a power cut leaves.
  const copy = makeDirectory()
  for (const name of ['outbox.db', 'outbox.db-wal', 'state.db']) copyFileSync(join(directory, name), join(copy, name))
  await rig.close()
  t.after(() => rmSync(directory, { recursive: true }))
  t.after(() => rmSync(copy, { recursive: true }))
  const wal = join(copy, 'outbox.db-wal')
  truncateSync(wal, statSync(wal).size - 2_000)
  const again = await new StoreRig({}, copy).start(t)
  assert.deepEqual(again.outbox.state().notices, [])
  const texts = (await again.readAll('normal')).map(textOf)
  assert.equal(texts.length, 90, 'the last commit is torn, the others are whole')
  assert.deepEqual(await imbalance(again.outbox), { messages: 0, bytes: 0 })
})

test('a WAL cut off after a kill, beside a damaged file: the loss is stated as the least it can be', async (t) => {
  const directory = makeDirectory()
  const rig = await new StoreRig({}, directory).start()
  await rig.append(100)
  await rig.restart()
  await rig.append(100)
  const copy = makeDirectory()
  for (const name of ['outbox.db', 'outbox.db-wal', 'state.db']) copyFileSync(join(directory, name), join(copy, name))
  await rig.close()
  t.after(() => rmSync(directory, { recursive: true }))
  t.after(() => rmSync(copy, { recursive: true }))
  truncateSync(join(copy, 'outbox.db-wal'), 0)
  truncateSync(join(copy, 'outbox.db'), 0)
  const again = await new StoreRig({}, copy).start(t)
  assert.equal((await again.outbox.ledger.totals()).lost.messages, 100, 'of the messages after the last note there is no trace')
  assert.match(
    again.outbox
      .state()
      .notices.map(({ text }) => text)
      .join(),
    /100 are lost and counted as such\. At least 100 messages are lost: /,
  )
})

test('after a clean stop the loss is exact', async (t) => {
  const { directory, rows } = await filled(t)
  truncateSync(join(directory, 'outbox.db'), 0)
  const { text } = await startDamaged(t, directory, rows)
  assert.match(text, new RegExp(`${rows.size + 1} are lost and counted as such`))
  assert.doesNotMatch(text, /at least|more may/i)
})

test('a group that proves damaged while running ends the outbox; the next start salvages the rest', async (t) => {
  const { directory, rows } = await filled(t)
  const db = new BetterSqlite(join(directory, 'outbox.db'))
  db.exec(`UPDATE outbox_normal SET frames = zeroblob(200) WHERE first = (SELECT first FROM outbox_normal WHERE first > 100 LIMIT 1)`)
  db.close()
  const first = await new StoreRig({}, directory).start(t)
  await assert.rejects(first.readAll('normal'), (error) => kindOf(error) === 'fatal')
  await assert.rejects(first.outbox.ended, /the checksum of the group at position 101 does not match/)
  await first.close()
  const { rig, saved, text } = await startDamaged(t, directory, rows)
  assert.match(text, /the checksum of the group at position 101 does not match.*20 are lost/)
  assert.equal(saved.size, rows.size - 20)
  assert.equal((await rig.outbox.ledger.totals()).lost.messages, 20)
  assert.deepEqual(
    [...saved.keys()].filter((position) => position > 100 && position <= 120),
    [],
  )
  await rig.restart()
  assert.deepEqual(rig.outbox.state().notices, [], 'the next start has nothing to say')
})

test('a damaged ledger: totals come from state.db, the equation holds, the messages are all there', async (t) => {
  const { directory, rows } = await filled(t)
  const db = new BetterSqlite(join(directory, 'outbox.db'))
  db.exec('UPDATE ledger_log SET delta = zeroblob(30) WHERE id = 5')
  db.close()
  const { rig, saved, text } = await startDamaged(t, directory, rows)
  assert.match(text, /a ledger record has a wrong checksum.*0 are lost.*the ledger could not be read/s)
  assert.equal(saved.size, rows.size)
  assert.equal((await rig.outbox.ledger.totals()).shed['over-limit']?.messages, 5)
})

test('a damaged state.db is set aside, and the outbox is as it was', async (t) => {
  const { directory, rows } = await filled(t)
  overwrite(join(directory, 'state.db'), 0, new FakeRandom(2).bytes(6_000))
  const { saved, text } = await startDamaged(t, directory, rows)
  assert.match(text, /state.db was damaged .*set aside/)
  assert.equal(saved.size, rows.size)
  assert.ok(readdirSync(directory).some((name) => name.startsWith('state.corrupt-')))
})

test("another program's database in our place is set aside", async (t) => {
  const { directory } = await filled(t)
  rmSync(join(directory, 'outbox.db'))
  const db = new BetterSqlite(join(directory, 'outbox.db'))
  db.pragma('application_id = 42')
  db.exec(`CREATE TABLE recipes (name); INSERT INTO recipes VALUES ('soup')`)
  db.close()
  const { text } = await startDamaged(t, directory, new Map())
  assert.match(text, /outbox.db is damaged .*application_id/)
  const aside = new BetterSqlite(join(directory, readdirSync(directory).find((name) => name.startsWith('outbox.corrupt-')) ?? ''))
  assert.equal(aside.prepare('SELECT name FROM recipes').pluck().get(), 'soup', 'it is as it was')
  aside.close()
})

test('a crash in the middle of a salvage is finished at the next start', async (t) => {
  const { directory, rows } = await filled(t)
  const path = join(directory, 'outbox.db')
  const good = readFileSync(path)
  // Built, and the damaged file already moved: the new one only waits for its name. A stale log lies beside it.
  renameSync(path, join(directory, 'outbox.salvaged'))
  const other = await new StoreRig().start(t)
  await other.append(20, {}, () => 'of another file')
  copyFileSync(join(other.directory, 'outbox.db-wal'), `${path}-wal`)
  const first = await startDamaged(t, directory, rows)
  assert.equal(first.saved.size, rows.size)
  await first.rig.close()
  // Half-built: the damaged file is still in place, and is salvaged from the beginning.
  rmSync(`${path}-wal`, { force: true })
  writeFileSync(path, good)
  overwrite(path, 0, Buffer.alloc(100))
  writeFileSync(join(directory, 'outbox.salvaging'), 'half')
  const second = await startDamaged(t, directory, rows)
  assert.equal(second.saved.size, rows.size)
  assert.equal(existsSync(join(directory, 'outbox.salvaging')), false)
})

test('rows that vanished without an error are found when their lane has drained', async (t) => {
  const { directory, rows } = await filled(t)
  const db = new BetterSqlite(join(directory, 'outbox.db'))
  db.exec('DELETE FROM outbox_normal WHERE first IN (101, 121)')
  db.close()
  const rig = await new StoreRig({}, directory).start(t)
  const read = await rig.readAll('normal')
  assert.equal(read.length, rows.size - 40)
  const last = read.at(-1)
  assert.ok(last !== undefined)
  // As the relay does: up to the end of each epoch.
  for (const epoch of new Set(read.map((row) => row.epoch)))
    await rig.outbox.advanceTo([{ lane: 'normal', epoch, position: last.position }], [])
  await rig.tick()
  assert.match(
    rig.outbox
      .state()
      .notices.map((notice) => notice.text)
      .join(),
    /lane normal is empty, but 40 messages should be in it: they are lost/,
  )
  assert.equal((await rig.outbox.ledger.totals()).lost.messages, 40)
  assert.equal(rig.outbox.state().lanes.normal.messages, 0)
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})

test('no more than two damaged files are kept', async (t) => {
  const { directory } = await filled(t)
  for (let round = 0; round < 4; round++) {
    writeFileSync(join(directory, 'outbox.db'), `garbage ${round}`)
    const rig = await new StoreRig({}, directory).start()
    await rig.close()
  }
  const kept = readdirSync(directory).filter((name) => name.startsWith('outbox.corrupt-') && !name.endsWith('-wal'))
  assert.equal(kept.length, 2, kept.join())
  assert.deepEqual(kept.map((name) => readFileSync(join(directory, name), 'latin1').slice(0, 9)).sort(), ['garbage 2', 'garbage 3'])
})
