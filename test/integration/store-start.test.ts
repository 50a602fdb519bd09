/** Starting and stopping: one daemon a directory, local file systems only, versions, settings that are read back. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import BetterSqlite from 'better-sqlite3'
import { GatewayError } from '../../daemon/errors.ts'
import { openWritable } from '../../store/database.ts'
import { lockOwner } from '../../store/lock.ts'
import { migrate, MIN_READER, SCHEMA_VERSION } from '../../store/schema.ts'
import { makeDirectory, StoreRig, textOf } from '../fakes/store-rig.ts'

test('a second daemon on the directory is refused in clear words, in this process and in another', async (t) => {
  const rig = await new StoreRig().start(t)
  const second = new StoreRig({}, rig.directory)
  await assert.rejects(
    second.start(),
    (error) =>
      error instanceof GatewayError &&
      error.kind === 'transient' &&
      error.message === `another gateway (pid ${process.pid}) uses the data directory ${rig.directory}` &&
      /systemctl stop/.test(error.remedy ?? ''),
  )
  const child = spawn(process.execPath, [new URL('./store-writer.ts', import.meta.url).pathname, rig.directory, 'x'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let errors = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (chunk: string) => (errors += chunk))
  const [code] = (await once(child, 'close')) as [number]
  assert.notEqual(code, 0)
  assert.match(errors, new RegExp(`another gateway \\(pid ${process.pid}\\) uses`))
  await rig.append(3)
  assert.equal(rig.settled.length, 3, 'the first is not disturbed')
  assert.deepEqual(lockOwner(rig.directory), { pid: process.pid })
  await rig.outbox.stop(Infinity)
  assert.equal(lockOwner(rig.directory), undefined)
})

test('the lock dies with its owner, however it dies', async (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  const child = spawn(process.execPath, [new URL('./store-writer.ts', import.meta.url).pathname, directory, 'x'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  while (lockOwner(directory) === undefined) await pause(5)
  assert.deepEqual(lockOwner(directory), { pid: child.pid })
  child.kill('SIGKILL')
  await once(child, 'close')
  assert.equal(lockOwner(directory), undefined)
  await new StoreRig({}, directory).start(t)
})

test('a lock file of garbage does not stop the start, and still locks', async (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  writeFileSync(join(directory, 'lock.db'), 'garbage that is no database, but long enough to be taken for one'.repeat(20))
  await new StoreRig({}, directory).start(t)
  await assert.rejects(new StoreRig({}, directory).start(), /another gateway/)
})

test('a directory that can not be used is refused with what to do', async (t) => {
  const root = makeDirectory()
  t.after(() => rmSync(root, { recursive: true }))
  writeFileSync(join(root, 'file'), '')
  await assert.rejects(
    new StoreRig({}, join(root, 'file')).start(),
    (error) => error instanceof GatewayError && error.kind === 'fatal' && error.remedy !== undefined,
  )
  const deep = join(root, 'a', 'b')
  await new StoreRig({}, deep).start(t)
  assert.ok(readdirSync(deep).includes('outbox.db'))
})

test('tmpfs is allowed, with a warning', async (t) => {
  const directory = join('/dev/shm', `store-${process.pid}`)
  mkdirSync(directory)
  t.after(() => rmSync(directory, { recursive: true }))
  const rig = await new StoreRig({}, directory).start(t)
  assert.match(
    rig.outbox
      .state()
      .notices.map((notice) => notice.text)
      .join(),
    /in memory \(tmpfs\): everything in it is lost at a power cut/,
  )
})

test('WAL sets synchronous to NORMAL in silence; our connections have FULL, read back', (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  const plain = new BetterSqlite(join(directory, 'plain.db'))
  plain.pragma('journal_mode = WAL')
  plain.exec('CREATE TABLE t (x)')
  plain.close()
  const again = new BetterSqlite(join(directory, 'plain.db'))
  again.prepare('SELECT * FROM t').all()
  const trap = again.pragma('synchronous', { simple: true })
  again.close()
  const db = openWritable(join(directory, 'ours.db'))
  assert.deepEqual(
    ['synchronous', 'journal_mode', 'auto_vacuum', 'wal_autocheckpoint'].map((name) => db.pragma(name, { simple: true })),
    [2, 'wal', 2, 0],
  )
  db.close()
  assert.equal(trap, 1, 'the trap that the read-back guards against')
})

test('a file of a newer release is used when it says that we may, and refused otherwise, untouched', async (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  const first = await new StoreRig({}, directory).start()
  await first.append(5)
  await first.outbox.stop(Infinity)
  const change = (sql: string): void => {
    const db = new BetterSqlite(join(directory, 'outbox.db'))
    db.exec(sql)
    db.close()
  }
  change(
    `PRAGMA user_version = ${SCHEMA_VERSION + 1}; CREATE TABLE later (x); ALTER TABLE outbox_normal ADD COLUMN later INTEGER NOT NULL DEFAULT 7`,
  )
  const second = await new StoreRig({}, directory).start()
  assert.equal((await second.readAll('normal')).length, 5)
  await second.append(5)
  assert.equal((await second.readAll('normal')).map(textOf).length, 10)
  await second.outbox.stop(Infinity)
  change(`UPDATE meta SET value = ${SCHEMA_VERSION + 1} WHERE key = 'min_reader'`)
  await assert.rejects(
    new StoreRig({}, directory).start(),
    (error) =>
      error instanceof GatewayError &&
      error.kind === 'fatal' &&
      error.message.includes(`newer release (version ${SCHEMA_VERSION + 1}); this release reads up to ${SCHEMA_VERSION}`) &&
      /Install the newer release again/.test(error.remedy ?? ''),
  )
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.startsWith('outbox.corrupt-')),
    [],
  )
})

test('migration goes step by step, each in its own transaction, and never back', () => {
  const db = new BetterSqlite(':memory:')
  const version = (): unknown => db.pragma('user_version', { simple: true })
  migrate(db)
  assert.equal(version(), SCHEMA_VERSION)
  assert.equal(db.prepare(`SELECT value FROM meta WHERE key = 'min_reader'`).pluck().get(), MIN_READER)
  db.exec(`INSERT INTO epochs VALUES (1, 'e', 'b', 1, 1)`)
  const steps = [
    ...Array<string>(SCHEMA_VERSION).fill('-- as it is'),
    'ALTER TABLE epochs ADD COLUMN label TEXT',
    'CREATE TABLE broken (x); SELECT nonsense FROM nowhere',
  ]
  assert.throws(() => migrate(db, steps), /nowhere/)
  assert.equal(version(), SCHEMA_VERSION + 1, 'the step before is kept, the broken one left nothing')
  assert.equal(db.prepare(`SELECT count(*) FROM sqlite_master WHERE name = 'broken'`).pluck().get(), 0)
  migrate(db, steps.slice(0, SCHEMA_VERSION + 1))
  assert.deepEqual(db.prepare('SELECT epoch, label FROM epochs').get(), { epoch: 'e', label: null })
  db.close()
})

test('stop drains what was accepted, is idempotent, and the abort of a start leaves no thread', async (t) => {
  const rig = await new StoreRig().start(t)
  for (let index = 0; index < 10; index++) rig.send(`${index}`)
  const stops = [rig.outbox.stop(Infinity), rig.outbox.stop(Infinity)]
  await Promise.all(stops)
  assert.equal(rig.settled.length, 10, 'without waiting for the delay of a commit')
  assert.deepEqual(
    readdirSync(rig.directory).filter((name) => name.includes('-wal')),
    [],
    'nothing is left to recover',
  )
  const controller = new AbortController()
  const second = new StoreRig({}, rig.directory)
  const starting = second.outbox.start(controller.signal)
  controller.abort(new Error('enough'))
  await assert.rejects(starting, /enough/)
  await new StoreRig({}, rig.directory).start(t)
})

test('a stop whose deadline has passed abandons what is unanswered', async (t) => {
  const rig = await new StoreRig().start(t)
  for (let index = 0; index < 10; index++) rig.send(`${index}`)
  await rig.outbox.stop(rig.clock.monotonicMs())
  assert.equal(rig.settled.length, 0)
})

test('files are not for everybody', async (t) => {
  const rig = await new StoreRig({}, join(makeDirectory(), 'inner')).start(t)
  t.after(() => rmSync(join(rig.directory, '..'), { recursive: true }))
  assert.equal(statSync(rig.directory).mode & 0o007, 0)
  assert.equal(readFileSync(join(rig.directory, 'lock.pid'), 'utf8'), `${process.pid}\n`)
})
