/** I/O errors end the outbox at once: nothing unsure is settled, and the log is left for the next start. */
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { kindOf } from '../../daemon/errors.ts'
import { openGuard, openWritable } from '../../store/database.ts'
import { imbalance, makeDirectory, StoreRig, textOf } from '../fakes/store-rig.ts'

/** A file system on a disk that has promised more than it has: writes succeed, their fsync fails. */
function thinDisk(): { readonly directory: string; readonly remove: () => void } {
  const root = mkdtempSync(join(tmpdir(), 'store-thin-'))
  const [pool, mount] = [join(root, 'pool'), join(root, 'mount')]
  const image = join(pool, 'image')
  mkdirSync(pool)
  mkdirSync(mount)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', pool])
  // Tables and journal are really there, so that the file system itself stays whole: only its files are thin.
  writeFileSync(image, '')
  truncateSync(image, 96 << 20)
  execFileSync('mkfs.ext4', ['-q', '-b', '4096', '-N', '64', '-J', 'size=4,location=4M', '-E', 'nodiscard,lazy_itable_init=0', image])
  const fd = openSync(image, 'r+')
  const tables = Buffer.alloc(9 << 20)
  readSync(fd, tables, 0, tables.length, 0)
  writeSync(fd, tables, 0, tables.length, 0)
  closeSync(fd)
  execFileSync('mount', ['-o', 'loop', image, mount])
  return {
    directory: join(mount, 'gateway'),
    remove: () => {
      spawnSync('umount', ['-l', mount])
      spawnSync('umount', ['-l', pool])
      rmSync(root, { recursive: true })
    },
  }
}

test('a failed fsync ends the outbox, and what it was to make durable is not settled', async (t) => {
  const disk = thinDisk()
  t.after(disk.remove)
  const rig = await new StoreRig({}, disk.directory).start(t)
  let sent = 0
  await assert.rejects(
    async () => {
      for (;;) {
        for (let index = 0; index < 50; index++) rig.send(`${sent++} ${randomBytes(1_000).toString('hex')}`)
        await rig.commit()
      }
    },
    (error) => kindOf(error) === 'fatal',
  )
  await assert.rejects(rig.outbox.ended, /the buffer failed: disk I\/O error/)
  const settled = rig.settled.length
  assert.ok(settled > 0)
  assert.equal(rig.outbox.state().inFlight.messages, sent - settled)
  rig.send('after the end')
  rig.clock.advance(1_000)
  await assert.rejects(rig.outbox.readAfter('normal', 0, 1), (error) => kindOf(error) === 'fatal')
  assert.equal(rig.settled.length, settled, 'nothing is settled any more')
  await rig.close()
  assert.ok(statSync(join(rig.directory, 'outbox.db-wal')).size > 4_096, 'the log is still there, for the next start')
})

test('a failed write ends the process, and all that was settled is there at the next start', async (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  // The kernel refuses (EFBIG) to let any file grow beyond this.
  const child = spawn(
    'prlimit',
    ['--fsize=4500000', process.execPath, new URL('./store-writer.ts', import.meta.url).pathname, directory, 'x'],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk
  })
  const [code] = (await once(child, 'close')) as [number]
  assert.equal(code, 1)
  assert.match(output, /^e GatewayError: the buffer failed: disk I\/O error$/m)
  const told = (kind: string): string[] =>
    output
      .split('\n')
      .filter((line) => line.startsWith(`${kind} `))
      .map((line) => line.slice(2))
  const rig = await new StoreRig({}, directory).start(t)
  assert.deepEqual(rig.outbox.state().notices, [])
  const there = new Set([...told('r'), ...(await rig.readAll('normal')).map(textOf), ...(await rig.readAll('urgent')).map(textOf)])
  assert.ok(told('s').length > 100)
  assert.deepEqual(
    told('s').filter((text) => !there.has(text)),
    [],
  )
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
})

test('while the guard is open, closing the writer neither copies the log nor removes it', (t) => {
  const directory = makeDirectory()
  t.after(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'x.db')
  const writer = openWritable(path)
  const guard = openGuard(path)
  writer.exec('CREATE TABLE t (a); INSERT INTO t VALUES (randomblob(100000))')
  const before = [statSync(path).size, statSync(`${path}-wal`).size]
  writer.close()
  guard.close()
  assert.deepEqual([statSync(path).size, statSync(`${path}-wal`).size], before)
  cpSync(path, `${path}2`)
  cpSync(`${path}-wal`, `${path}2-wal`)
  const again = openWritable(`${path}2`)
  assert.equal(again.prepare('SELECT count(*) FROM t').pluck().get(), 1)
  again.close()
})
