/** The box's memory in `state.db`: kills, power cuts, a full disk, damage, the release before, and reading without a daemon. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import BetterSqlite from 'better-sqlite3'
import { kindOf } from '../../daemon/errors.ts'
import { readMemory, VALUE_MAX_BYTES } from '../../store/memory.ts'
import { FakeRandom } from '../fakes/clock.ts'
import { makeDirectory, StoreRig } from '../fakes/store-rig.ts'
import { mountSmallDisk } from '../fleet/small-disk.ts'
import { mountForgetful } from '../services/forgetful.ts'
import { serviceScope } from '../services/index.ts'

const WRITER = new URL('../fakes/memory-writer.ts', import.meta.url).pathname
const NOBODY = 65_534

/** Returns the last number that was told to be durable. */
async function writeUntil(directory: string, told: number, end: (kill: () => void) => Promise<void>): Promise<number> {
  const child = spawn(process.execPath, [WRITER, directory], { stdio: ['ignore', 'pipe', 'ignore'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk
  })
  const closed = once(child, 'close')
  while (!output.includes('ready\n') && child.exitCode === null) await pause(5)
  await end(() => child.kill('SIGKILL'))
  await closed
  assert.match(output, /^ready$/m)
  const numbers = [...output.matchAll(/^w (\d+)$/gm)].map((match) => Number(match[1]))
  return numbers.at(-1) ?? told
}

/** Whole, and not older than what was told. */
function judge(directory: string, told: number, recover: boolean): void {
  const { entries, reason } = readMemory(directory, 'pair/', { recover })
  assert.equal(reason, undefined)
  const [a = 0, b = 0] = [entries.get('pair/a'), entries.get('pair/b')] as number[]
  assert.equal(a, b, 'half of a transaction')
  assert.ok(a === told || a === told + 1, `${told} was told, ${a} is there`)
}

test('a kill at any instant leaves all of a write or nothing, and what was told is there', async (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  const random = new FakeRandom(Number(process.env['SEED'] ?? 5))
  let told = 0
  let hot = 0
  for (let round = 0; round < 8; round++) {
    told = await writeUntil(directory, told, async (kill) => {
      await pause(20 + random.unit() * 60)
      kill()
    })
    if ((statSync(join(directory, 'state.db-journal'), { throwIfNoEntry: false })?.size ?? 0) > 0) hot++
    judge(directory, told, false)
    judge(directory, told, true)
  }
  t.diagnostic(`${told} writes, ${hot} of 8 kills left a journal`)
  assert.ok(told > 20)
})

test('what was told to be durable survives power cuts that forget or tear all un-synced writes', { timeout: 120_000 }, async (t) => {
  const scope = serviceScope((release) => t.after(release))
  const mount = await mountForgetful(scope, join(scope.folder(), 'disk'))
  const directory = join(mount.path, 'state')
  const random = new FakeRandom(9)
  let told = 0
  for (let cut = 0; cut < 4; cut++) {
    told = await writeUntil(directory, told, async (kill) => {
      await pause(60 + random.unit() * 150)
      await mount.cut(cut % 2 === 0 ? undefined : 1 + cut)
      kill()
      await mount.restore()
    })
    judge(directory, told, cut % 2 === 0)
  }
  assert.ok(told > 5, `only ${told} writes`)
})

/** The state of a kill in the middle of a commit: new pages in the file, the old ones in the journal. */
async function withHotJournal(directory: string): Promise<void> {
  const rig = await new StoreRig().start()
  await rig.outbox.memory.write({ 'patch/a': 'old', 'patch/b': 'x'.repeat(40_000) })
  const path = join(rig.directory, 'state.db')
  const script = `
    const db = new (require('better-sqlite3'))(process.argv[1])
    db.pragma('journal_mode = TRUNCATE')
    db.pragma('cache_size = 1')
    db.exec("BEGIN; UPDATE memory SET value = '\\"uncommitted\\"'")
    const put = db.prepare("INSERT INTO memory VALUES (?, hex(zeroblob(30000)))")
    for (let number = 0; number < 40; number++) put.run('patch/f' + number)
    process.kill(process.pid, 'SIGKILL')`
  const { signal, stderr } = spawnSync(process.execPath, ['-e', script, path], { encoding: 'utf8' })
  assert.equal(signal, 'SIGKILL', stderr)
  for (const name of ['state.db', 'state.db-journal']) cpSync(join(rig.directory, name), join(directory, name))
  await rig.close()
  assert.ok(statSync(join(directory, 'state.db-journal')).size > 0, 'the journal must be hot')
  assert.match(readFileSync(join(directory, 'state.db'), 'latin1'), /uncommitted/)
}

test('a journal that a crash left is rolled back before anything is read', async (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  await withHotJournal(directory)
  const before = readFileSync(join(directory, 'state.db'))
  assert.equal(readMemory(directory, 'patch/').entries.get('patch/a'), 'old')
  assert.deepEqual(readFileSync(join(directory, 'state.db')), before, 'a look changes nothing')
  const { entries, reason } = readMemory(directory, 'patch/', { recover: true })
  assert.equal(reason, undefined)
  assert.deepEqual([...entries.keys()], ['patch/a', 'patch/b'])
  assert.doesNotMatch(readFileSync(join(directory, 'state.db'), 'latin1'), /uncommitted/, 'rolled back in place')
})

test('a group member without the right to write reads what a crash left, and changes nothing', async (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  await withHotJournal(directory)
  chownSync(directory, 0, NOBODY)
  chmodSync(directory, 0o750)
  for (const name of readdirSync(directory)) {
    chownSync(join(directory, name), 0, NOBODY)
    chmodSync(join(directory, name), 0o640)
  }
  const before = readdirSync(directory).map((name) => readFileSync(join(directory, name)))
  const script = `const { readMemory } = await import(process.argv[1]); const { entries, reason } = readMemory(process.argv[2], 'patch/')
    console.log(JSON.stringify([process.getuid(), entries.get('patch/a'), entries.size, reason]))`
  const url = new URL('../../store/memory.ts', import.meta.url).href
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script, url, directory], { uid: NOBODY, gid: NOBODY, encoding: 'utf8' }) // prettier-ignore
  assert.deepEqual(JSON.parse(child.stdout || child.stderr), [NOBODY, 'old', 2, null])
  assert.deepEqual(readdirSync(directory).map((name) => readFileSync(join(directory, name))), before) // prettier-ignore
})

test('a full disk refuses a write with the reason, changes nothing, and lets a later one through', async (t) => {
  const scope = serviceScope((release) => t.after(release))
  const disk = mountSmallDisk(scope, 24)
  const directory = join(disk.path, 'gateway')
  mkdirSync(directory)
  const rig = await new StoreRig({}, directory).start(t)
  const { memory } = rig.outbox
  await memory.write({ 'journal/run': 'before', small: 1 })
  disk.fill()
  const large = 'x'.repeat(500_000)
  await assert.rejects(memory.write({ 'journal/run': large, small: 2 }), (error) => kindOf(error) === 'saturated' && /disk is full/.test(String(error))) // prettier-ignore
  assert.deepEqual([...(await memory.read(''))], [['journal/run', 'before'], ['small', 1]]) // prettier-ignore
  disk.free()
  await memory.write({ 'journal/run': large, small: 2 })
  assert.equal((await memory.read('small')).get('small'), 2)
  assert.deepEqual(rig.failures, [])
  await rig.close()
})

test('an fsync of state.db that fails ends the outbox, and the write is not told as done', async (t) => {
  const scope = serviceScope((release) => t.after(release))
  const mount = await mountForgetful(scope, join(scope.folder(), 'disk'))
  const rig = await new StoreRig({}, join(mount.path, 'state')).start(t)
  await rig.outbox.memory.write({ kept: 1 })
  await mount.fail({ operation: 'fsync', name: 'state.db' })
  await assert.rejects(rig.outbox.memory.write({ kept: 2 }), (error) => kindOf(error) === 'fatal')
  await assert.rejects(rig.outbox.ended, /I\/O error/)
  await mount.fail(undefined)
  await rig.close()
  assert.equal(readMemory(rig.directory, '', { recover: true }).entries.get('kept'), 1)
})

test('a value or a key that is too large is refused, and nothing of its write is kept', async (t) => {
  const rig = await new StoreRig().start(t)
  const { memory } = rig.outbox
  await assert.rejects(memory.write({ fine: 1, large: 'x'.repeat(VALUE_MAX_BYTES) }), (error) => kindOf(error) === 'rejected' && /large is too large/.test(String(error))) // prettier-ignore
  await assert.rejects(memory.write({ ['k'.repeat(2_000)]: 1 }), /its key has more than/)
  assert.equal((await memory.read('')).size, 0)
  await memory.write({ large: 'x'.repeat(VALUE_MAX_BYTES - 2) })
})

test('a damaged state.db is set aside: the memory is empty, and a notice says what that means', async (t) => {
  const rig = await new StoreRig().start(t)
  await rig.outbox.memory.write({ 'applied/p': 1 })
  await rig.outbox.stop(Infinity)
  const path = join(rig.directory, 'state.db')
  writeFileSync(path, new FakeRandom(3).bytes(statSync(path).size))
  const looked = readMemory(rig.directory, '', { recover: true })
  assert.equal(looked.entries.size, 0)
  assert.match(looked.reason ?? '', /state\.db can not be read: file is not a database \(the daemon sets it aside/)
  await rig.restart()
  assert.equal((await rig.outbox.memory.read('')).size, 0)
  assert.match(rig.outbox.state().notices[0]?.text ?? '', /set aside .* not in force until etcd answers and they are applied anew/)
})

test('a file of the release before gets the new table; what it held stays; a newer file is used as it is', async (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'state.db')
  assert.match(readMemory(directory, '').reason ?? '', /there is no .*state\.db/)
  const old = new BetterSqlite(path)
  old.exec(`CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID; PRAGMA user_version = 1;
    INSERT INTO settings VALUES ('kept', '"yes"')`)
  old.close()
  assert.deepEqual(readMemory(directory, ''), { entries: new Map() })
  const rig = await new StoreRig({}, directory).start(t)
  await rig.outbox.memory.write({ new: 'here' })
  await rig.outbox.stop(Infinity)
  assert.equal(readMemory(directory, '').entries.get('new'), 'here')
  const file = new BetterSqlite(path)
  assert.equal(file.prepare("SELECT value FROM settings WHERE key = 'kept'").pluck().get(), '"yes"')
  assert.equal(file.pragma('user_version', { simple: true }), 2)
  file.pragma('user_version = 3')
  file.close()
  await rig.restart()
  assert.equal((await rig.outbox.memory.read('')).get('new'), 'here')
  assert.deepEqual(rig.outbox.state().notices, [])
})
