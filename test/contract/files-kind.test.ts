import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import type { FilesSpec } from '../../daemon/patch/document.ts'
import { executorRig } from '../fakes/executor-rig.ts'
import { back, filesPatch, forward, offering, servedRig, tarOf } from '../fakes/files-rig.ts'
import type { ServedRig } from '../fakes/files-rig.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const never = new AbortController().signal

/** The same holds for the daemon on its own, and by way of the executor. */
const WAYS: Readonly<Record<string, () => Promise<ServedRig>>> = {
  'in the daemon': () => servedRig(scope),
  'through the executor': async () => ({ ...(await executorRig(scope)), offer: await offering(scope) }),
}

const app = (version: string): Record<string, string> => ({
  'bin/app': `#!/bin/sh\necho ${version}\n`,
  'share/a.txt': version,
  'empty/': '',
})
const text = (root: string, path: string): string => readFileSync(join(root, 'current', path), 'utf8')

const REFUSALS = /leads outside|neither a file nor a folder|there twice|control characters|set-uid/

test('no room is a wait with the reason', async () => {
  const full = await servedRig(scope, Number.MAX_SAFE_INTEGER / 2)
  const spec = { artifacts: [full.offer(await tarOf(app('1')))] }
  await assert.rejects(full.kind.prepare(filesPatch('1', spec), never), { kind: 'saturated', message: /no room/ })
})

for (const [way, rig] of Object.entries(WAYS)) {
  describe(way, () => {
    test('two versions go in, the old one is kept, and the units are stopped and started around the flip', async () => {
      const { kind, root, calls, offer } = await rig()
      const spec = async (version: string, pack: (bytes: Buffer) => Buffer = gzipSync): Promise<Partial<FilesSpec>> => ({
        artifacts: [offer(pack(await tarOf(app(version)))), offer(Buffer.from('#!'), { unpack: 'none', path: 'extra/run', mode: 0o755 })],
        units: ['app.service'],
        running: { command: [`${root}/current/bin/app`], timeoutMs: 5_000 },
        hooks: { pre: { command: ['bin/app'], timeoutMs: 5_000 } },
      })
      await forward(kind, filesPatch('1', await spec('1')))
      assert.equal(text(root, 'share/a.txt'), '1')
      const plan = await forward(kind, filesPatch('2', await spec('2', zstdCompressSync)))
      assert.equal(text(root, 'share/a.txt'), '2')
      assert.equal(text(root, 'extra/run'), '#!')
      assert.equal(readdirSync(join(root, 'releases')).length, 4)
      assert.deepEqual(readdirSync(root).sort(), ['current', 'releases'])
      assert.deepEqual(
        calls().filter((call) => /^(stop|start)/.test(call)),
        ['stop app.service', 'start app.service', 'stop app.service', 'start app.service'],
      )
      await back(kind, plan)
      assert.equal(text(root, 'share/a.txt'), '1')
      assert.equal(readdirSync(join(root, 'releases')).length, 2)
    })

    test('a first patch that is taken back leaves nothing, and a failed pre hook starts the units again', async () => {
      const { kind, root, calls, offer } = await rig()
      const plan = await forward(kind, filesPatch('1', { artifacts: [offer(await tarOf(app('1')))] }), 'verify')
      await back(kind, plan)
      assert.deepEqual(readdirSync(root), [])
      const hooks = {
        pre: { command: ['/bin/false'], timeoutMs: 5_000 },
        rollback: { command: ['/usr/bin/touch', `${root}/undone`], timeoutMs: 5_000 },
      }
      const second = await kind.prepare(
        filesPatch('2', { artifacts: [offer(await tarOf(app('2')))], hooks, units: ['app.service'] }),
        never,
      )
      await kind.fetch(second, never)
      await kind.build(second, never)
      await assert.rejects(kind.pre(second, never), { kind: 'rejected', message: /false ended with exit code 1/ })
      await kind.discard(second)
      assert.deepEqual(readdirSync(root), ['undone'])
      assert.equal(calls().at(-1), 'start app.service')
    })

    test('patch path 16: a stale .new and a torn release are made anew', async () => {
      const { kind, root, offer } = await rig()
      const accepted = filesPatch('1', { artifacts: [offer(await tarOf(app('1')))] })
      const plan = await forward(kind, accepted, 'build')
      writeFileSync(join(root, 'releases', plan.release, 'share/a.txt'), '')
      mkdirSync(join(root, 'releases', `.${plan.release}.new`, 'stale'), { recursive: true })
      await forward(kind, accepted)
      assert.equal(text(root, 'share/a.txt'), '1')
      assert.deepEqual(readdirSync(join(root, 'releases')).sort(), [plan.release, `${plan.release}.manifest`])
    })

    test('a patch is held by what a technician changed, until it says replace', async () => {
      const { kind, root, offer } = await rig()
      await forward(kind, filesPatch('1', { artifacts: [offer(await tarOf(app('1')))] }))
      writeFileSync(join(root, 'current/share/a.txt'), 'mine')
      writeFileSync(join(root, 'current/new'), '')
      const spec = { artifacts: [offer(await tarOf(app('2')))] }
      await assert.rejects(kind.prepare(filesPatch('2', spec), never), {
        kind: 'saturated',
        message: /share\/a.txt \(changed\).*new \(added\)|new \(added\).*share\/a.txt \(changed\)/,
      })
      await forward(kind, filesPatch('2', { ...spec, localEdits: 'replace' }))
      assert.equal(text(root, 'share/a.txt'), '2')
    })

    test('a version that no patch made holds too; what is no link is refused', async () => {
      const { kind, root, offer } = await rig()
      mkdirSync(join(root, 'mine'))
      symlinkSync('mine', join(root, 'current'))
      const spec = { artifacts: [offer(await tarOf(app('1')))] }
      await assert.rejects(kind.prepare(filesPatch('1', spec), never), { kind: 'saturated', message: /no patch made/ })
      const plan = await forward(kind, filesPatch('1', { ...spec, localEdits: 'replace' }))
      await back(kind, plan)
      assert.equal(readlinkSync(join(root, 'current')), 'mine')
      const other = await rig()
      mkdirSync(join(other.root, 'current'))
      await assert.rejects(other.kind.prepare(filesPatch('1', spec), never), { kind: 'rejected', message: /is no link/ })
    })

    test('an archive that would lead outside, or holds what is no file, is refused and leaves nothing', async () => {
      const headers = [
        { name: '../evil', type: 'file' },
        { name: '/evil', type: 'file' },
        { name: 'a/../../evil', type: 'file' },
        { name: 'link', type: 'symlink', linkname: '/etc' },
        { name: 'link', type: 'link', linkname: 'share/a.txt' },
        { name: 'fifo', type: 'fifo' },
        { name: 'device', type: 'character-device', devmajor: 1, devminor: 3 },
        { name: 'share/a.txt', type: 'file' },
        { name: 'bin', type: 'file' },
        { name: 'share/a.txt/b', type: 'file' },
        { name: 'bad\nname', type: 'file' },
        { name: 'root', type: 'file', mode: 0o4755 },
      ] as const
      const { kind, root, offer } = await rig()
      for (const [number, header] of headers.entries()) {
        const plan = await forward(kind, filesPatch(String(number), { artifacts: [offer(await tarOf(app('1'), [header]))] }), 'fetch')
        await assert.rejects(kind.build(plan, never), { kind: 'rejected', message: REFUSALS }, header.name)
        assert.deepEqual(readdirSync(join(root, 'releases')), [])
        assert.equal(existsSync(join(root, '..', 'evil')), false)
        await kind.discard(plan)
      }
    })

    test('a bomb and a truncated archive are refused', async () => {
      const { kind, offer } = await rig()
      const bomb = gzipSync(await tarOf({ zeros: '\0'.repeat(20 * 1024 * 1024) }))
      const first = await forward(kind, filesPatch('1', { artifacts: [offer(bomb)] }), 'fetch')
      await assert.rejects(kind.build(first, never), { kind: 'rejected', message: /unpacks to more/ })
      // What nobody listens to ends the program a moment later.
      await pause(50)
      const torn = (await tarOf(app('1'))).subarray(0, 700)
      const second = await forward(kind, filesPatch('2', { artifacts: [offer(torn)] }), 'fetch')
      await assert.rejects(kind.build(second, never), { kind: 'rejected', message: /can't be read/ })
    })

    test('patch path 11: a unit that was not restarted is not taken for the new version, nor for the old one', async () => {
      const { kind, root, control, offer } = await rig()
      await forward(kind, filesPatch('1', { artifacts: [offer(await tarOf(app('1')))], units: ['app.service'] }))
      writeFileSync(join(control, 'deaf'), '')
      const plan = await forward(kind, filesPatch('2', { artifacts: [offer(await tarOf(app('2')))], units: ['app.service'] }), 'activate')
      await assert.rejects(kind.verify(plan, never), { kind: 'rejected', message: /app.service is inactive/ })
      writeFileSync(
        join(control, 'app.service'),
        readFileSync(join(root, '.incoming', `${plan.release}.begun`), 'utf8').replace(/.*"invocation":"([^"]*)".*/, 'active $1\n'),
      )
      await assert.rejects(kind.verify(plan, never), { kind: 'rejected', message: /was not restarted/ })
      await kind.unflip(plan)
      await assert.rejects(kind.reactivate(plan, never), { kind: 'rejected', message: /app.service is inactive/ })
    })

    test('a link that somebody moved is not moved again', async () => {
      const { kind, root, offer } = await rig()
      const first = await forward(kind, filesPatch('1', { artifacts: [offer(await tarOf(app('1')))] }))
      const plan = await forward(kind, filesPatch('2', { artifacts: [offer(await tarOf(app('2')))] }), 'pre')
      symlinkSync('elsewhere', join(root, 'x'))
      const { renameSync } = await import('node:fs')
      renameSync(join(root, 'x'), join(root, 'current'))
      await assert.rejects(kind.flip(plan), { kind: 'rejected', message: /by hand/ })
      await assert.rejects(kind.unflip(first), { kind: 'rejected', message: /by hand/ })
    })
  })
}
