/** Releases over many patches: owners, names, how many are kept, and the way back; archives that mean harm. */
import assert from 'node:assert/strict'
import { chmodSync, existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { releaseName } from '../../adapters/host/releases/plan.ts'
import type { FilesPatch } from '../../daemon/patch/document.ts'
import type { Accepted } from '../../daemon/patch/kinds.ts'
import { back, filesPatch, forward, servedRig, tarOf } from '../fakes/files-rig.ts'
import type { ServedRig } from '../fakes/files-rig.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const never = new AbortController().signal

const rig = (): Promise<ServedRig> => servedRig(scope)

const app = (version: string): Promise<Buffer> => tarOf({ 'bin/app': `#!/bin/sh\necho ${version}\n`, 'share/a.txt': version })
const text = (root: string): string => readFileSync(join(root, 'current/share/a.txt'), 'utf8')
const nameOf = (id: string): string => releaseName(filesPatch(id, {}).digest)
const releasesOf = (root: string): readonly string[] => readdirSync(join(root, 'releases')).filter((name) => !name.endsWith('.manifest'))

test('as many releases are kept as the patch says, the newest; what no patch made stays', async () => {
  const { kind, root, offer } = await rig()
  for (const id of ['1', '2', '3', '4']) await forward(kind, filesPatch(id, { artifacts: [offer(await app(id))] }))
  assert.deepEqual([...releasesOf(root)].sort(), ['2', '3', '4'].map(nameOf).sort())
  mkdirSync(join(root, 'releases/by-hand'))
  mkdirSync(join(root, 'releases/.torn.new'))
  const last = await forward(kind, filesPatch('5', { artifacts: [offer(await app('5'))], keep: 0 }))
  assert.deepEqual([...releasesOf(root)].sort(), ['by-hand', ...['4', '5'].map(nameOf)].sort(), 'an undo still needs the one before')
  await back(kind, last)
  assert.equal(text(root), '4')
})

test('a committed patch is undone; when the version before it is gone, that is said', async () => {
  const { kind, root, calls, offer } = await rig()
  const plans = []
  for (const id of ['1', '2', '3']) {
    plans.push(await forward(kind, filesPatch(id, { artifacts: [offer(await app(id))], units: ['app.service'], keep: 0 })))
  }
  const [, second, third] = plans
  assert.ok(second !== undefined && third !== undefined)
  await back(kind, third)
  assert.deepEqual([text(root), calls().at(-2), readdirSync(root).sort()], ['2', 'start app.service', ['current', 'releases']])
  await assert.rejects(kind.unflip(second), { kind: 'rejected', message: /is no longer below/ })
  assert.equal(text(root), '2')
})

test('the same bytes again are adopted while they are whole, and made beside when they are not', async () => {
  const { kind, root, offer } = await rig()
  await forward(kind, filesPatch('0', { artifacts: [offer(await app('0'))] }))
  const same = filesPatch('1', { artifacts: [offer(await app('1'))], localEdits: 'replace' })
  await forward(kind, same)
  const inode = statSync(join(root, 'current')).ino
  const adopted = await forward(kind, same)
  assert.deepEqual([statSync(join(root, 'current')).ino, adopted.previous], [inode, `releases/${nameOf('0')}`])
  writeFileSync(join(root, 'current/share/a.txt'), 'by hand')
  await forward(kind, same)
  assert.deepEqual([readlinkSync(join(root, 'current')), text(root)], [`releases/${nameOf('1')}-2`, '1'])
  writeFileSync(join(root, 'current/share/a.txt'), 'again')
  const third = await forward(kind, same)
  assert.deepEqual([readlinkSync(join(root, 'current')), text(root)], [`releases/${nameOf('1')}`, '1'])
  await back(kind, third)
  assert.equal(text(root), 'again', 'back to what was there before, edits and all')
})

test('a running program that calls itself something else fails', async () => {
  const { kind, root, offer } = await rig()
  const running = { command: [`${root}/current/bin/app`], timeoutMs: 5_000 }
  const plan = await forward(kind, filesPatch('2', { artifacts: [offer(await app('1'))], running }), 'activate')
  await assert.rejects(kind.verify(plan, never), { kind: 'rejected', message: 'what runs says "1", not "2"' })
})

test('files are given to their owner, by name or number; who may not give them says so', async () => {
  const { kind, root, offer } = await rig()
  const patch = async (id: string, user: string, group: string): Promise<Accepted<FilesPatch>> =>
    filesPatch(id, { artifacts: [offer(await app(id))], owner: { user, group } })
  await forward(kind, await patch('1', 'nobody', '4321'))
  const nobody = Number(/^nobody:[^:]*:(\d+)/m.exec(readFileSync('/etc/passwd', 'utf8'))?.[1])
  for (const path of ['', '/bin', '/bin/app', '/share/a.txt']) {
    const { uid, gid } = lstatSync(`${root}/releases/${nameOf('1')}${path}`)
    assert.deepEqual([uid, gid], [nobody, 4321], path)
  }
  await assert.rejects(kind.prepare(await patch('2', 'no-such-user', '0'), never), {
    kind: 'rejected',
    message: /no-such-user/,
    remedy: /number/,
  })
  // The folders of tests are their makers' own.
  for (const folder of [root, join(root, 'releases')]) chmodSync(folder, 0o755)
  const [other, plain] = [await patch('2', 'root', 'root'), filesPatch('3', { artifacts: [offer(await app('3'))] })]
  process.seteuid?.(nobody)
  try {
    await assert.rejects(kind.prepare(other, never), { kind: 'rejected', message: /may not give files to root:root/, remedy: /CAP_CHOWN/ })
    await assert.rejects(forward(kind, plain), { kind: 'rejected', message: /may not change \//, remedy: /ReadWritePaths/ })
  } finally {
    process.seteuid?.(0)
  }
  assert.equal(text(root), '1')
})

/** A tar header of type `x` (pax), with so many bytes of text behind it (POSIX.1-2001, pax interchange format). */
function paxHeader(bytes: number, type: string): Buffer {
  const header = Buffer.alloc(512)
  header.write('PaxHeader', 0)
  header.write('0000644\0', 100)
  header.write(`${bytes.toString(8).padStart(11, '0')}\0`, 124)
  header.write('00000000000\0', 136)
  header.write('        ', 148)
  header.write(type, 156)
  header.write('ustar\u000000', 257)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return Buffer.concat([header, Buffer.alloc(Math.ceil(bytes / 512) * 512, '1')])
}

test('headers without end are refused before they fill the memory', async () => {
  const tails = [paxHeader(300_000_000, 'x').subarray(0, 64_000_000), paxHeader(64_000_000, 'L'), paxHeader(64_000_000, 'g')]
  const many = Buffer.concat(Array.from({ length: 3_000 }, () => paxHeader(512, 'g')))
  for (const tail of [...tails, many]) {
    const { kind, root, offer } = await rig()
    const plan = await forward(kind, filesPatch('1', { artifacts: [offer(gzipSync(Buffer.concat([(await app('1')).subarray(0, -1_024), tail]), { level: 1 }))] }), 'fetch') // prettier-ignore
    const before = process.memoryUsage().rss
    await assert.rejects(kind.build(plan, never), { kind: 'rejected', message: /bytes of headers/ })
    assert.ok(process.memoryUsage().rss - before < 50_000_000)
    assert.equal(existsSync(join(root, 'current')), false)
  }
})

test('the way back starts what ran before the patch, and nothing else', async () => {
  const { kind, root, calls, control, offer } = await rig()
  await forward(kind, filesPatch('1', { artifacts: [offer(await app('1'))] }))
  writeFileSync(join(control, 'app.service'), 'inactive x\n')
  const spec = { artifacts: [offer(await app('2'))], units: ['app.service'] }
  // The power fails before the pre hook has noted what runs, and after the way back has taken the note away.
  const early = await forward(kind, filesPatch('2', spec), 'build')
  await kind.reactivate(early, never)
  assert.equal(
    calls().some((call) => call.startsWith('start')),
    false,
  )
  const plan = await forward(kind, filesPatch('2', spec))
  await back(kind, plan)
  await kind.reactivate(plan, never)
  assert.deepEqual([text(root), calls().filter((call) => call.startsWith('start')).length, calls().at(-1)], ['1', 1, 'stop app.service'])
})
