/**
 * The box loses its power after each change that a files patch makes to the disk, and again while it recovers, on a file
 * system that forgets what was not fsynced. All instants, which takes minutes, or other ones:
 *
 *     PATCH_CUTS=all PATCH_SEED=7 node --test test/integration/patch-power-cut.test.ts
 */
import assert from 'node:assert/strict'
import {
  chmodSync,
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { removeAll } from '../../adapters/host/releases/disk.ts'
import { releaseName } from '../../adapters/host/releases/plan.ts'
import { HttpDownloads } from '../../adapters/http/download.ts'
import type { Outcome } from '../../daemon/patch/kinds.ts'
import type { Json } from '../../daemon/patch/memory.ts'
import type { Runner } from '../../daemon/patch/runner/runner.ts'
import { Dice } from '../chaos/dice.ts'
import { assertTree, MAY, outcomeIn, type FilesVersion, type Flaw } from '../fakes/files-world.ts'
import { mountForgetful } from '../services/forgetful.ts'
import { serviceScope } from '../services/index.ts'
import { newBox, openBelow, type Box } from './patch-power-box.ts'

const SEED = Number(process.env['PATCH_SEED'] ?? 1)
/** Instants for each scene. */
const CUTS = process.env['PATCH_CUTS'] === 'all' ? Infinity : Number(process.env['PATCH_CUTS'] ?? 30)
const never = new AbortController().signal

const scope = serviceScope()

test('the forgetful file system: a link comes with its name, a mode with its own fsync', async () => {
  const mount = await mountForgetful(scope, join(scope.folder(), 'disk'))
  const at = (name: string): string => join(mount.path, name)
  const sync = (path: string): void => {
    const fd = openSync(path, 'r')
    fsyncSync(fd)
    closeSync(fd)
  }
  for (const name of ['kept', 'changed']) writeFileSync(at(name), name, { mode: 0o600 })
  for (const name of ['kept', 'changed']) sync(at(name))
  for (const name of ['old', 'replaced']) symlinkSync(name, at(name))
  symlinkSync('x'.repeat(100), at('long'))
  sync(mount.path)
  chmodSync(at('kept'), 0o755)
  sync(at('kept'))
  chmodSync(at('changed'), 0o755)
  symlinkSync('new', at('new'))
  symlinkSync('flipped', at('temporary'))
  renameSync(at('temporary'), at('replaced'))
  assert.equal(readlinkSync(at('replaced')), 'flipped')
  await mount.cut()
  await mount.restore()
  assert.deepEqual(readdirSync(mount.path).sort(), ['changed', 'kept', 'long', 'old', 'replaced'])
  assert.deepEqual([readlinkSync(at('old')), readlinkSync(at('replaced'))], ['old', 'replaced'])
  assert.equal(readlinkSync(at('long')), '')
  assert.deepEqual([lstatSync(at('kept')).mode & 0o777, lstatSync(at('changed')).mode & 0o777], [0o755, 0o600])
  assert.equal(readFileSync(at('kept'), 'utf8'), 'kept')
})

test('the forgetful file system: the power fails after so many changes', async () => {
  const mount = await mountForgetful(scope, join(scope.folder(), 'disk'))
  await mount.limit(3)
  writeFileSync(join(mount.path, 'a'), 'a')
  assert.equal(await mount.change(), true)
  assert.throws(() => symlinkSync('b', join(mount.path, 'b')), { code: 'EIO' })
  assert.deepEqual([await mount.change(), await mount.isLit(), await mount.changes()], [false, false, 3])
})

test('a download that the disk fails in leaves no file open', async () => {
  const { mount } = await newBox(scope, 'none')
  const path = join(mount.path, 'partial')
  writeFileSync(path, 'more than the sidecar vouches for')
  const downloads = new HttpDownloads({ clock: new SystemClock(), random: systemRandom })
  await mount.limit(0)
  const artifact = { url: 'http://127.0.0.1:9/', sha256: 'a'.repeat(64), bytes: 10 }
  await assert.rejects(downloads.fetch(artifact, path, never), { kind: 'transient', message: /EIO/ })
  assert.deepEqual(openBelow(mount.path), [])
  await downloads.stop()
})

test('a removal that the disk fails in goes on nowhere after it has been told', async () => {
  const mount = await mountForgetful(scope, join(scope.folder(), 'disk'))
  const tree = join(mount.path, 'tree')
  for (let at = 0; at < 100; at += 1) mkdirSync(join(tree, `${at}`, 'below'), { recursive: true })
  await mount.limit(20)
  await assert.rejects(removeAll(tree), { code: 'EIO' })
  await mount.limit(undefined)
  const left = readdirSync(tree, { recursive: true })
  assert.deepEqual(openBelow(mount.path), [])
  await sleep(300)
  assert.deepEqual(readdirSync(tree, { recursive: true }), left)
  await removeAll(tree)
  assert.deepEqual(readdirSync(mount.path), [])
})

interface Scene {
  readonly name: string
  readonly first: boolean
  readonly flaw: Flaw
  readonly undo: boolean
  readonly ends: Outcome['state']
}

const SCENES: readonly Scene[] = [
  { name: 'patch path 15: the link leads to a whole version, forward', first: false, flaw: 'none', undo: false, ends: 'completed' },
  { name: 'patch path 15: the link leads to a whole version, back from a failed check', first: false, flaw: 'check', undo: false, ends: 'failed' }, // prettier-ignore
  { name: 'patch path 15: the link leads to a whole version, back from a failed hook', first: false, flaw: 'hook', undo: false, ends: 'failed' }, // prettier-ignore
  { name: 'patch path 15: the first version is there whole or not at all', first: true, flaw: 'none', undo: false, ends: 'completed' },
  { name: 'patch path 15: a first version that is taken back leaves nothing', first: true, flaw: 'check', undo: false, ends: 'failed' },
  { name: 'patch path 19: two files of a version that is undone are never seen mixed', first: false, flaw: 'none', undo: true, ends: 'rolled-back' }, // prettier-ignore
]

/** What happens in the first life of each case. */
function actOf(scene: Scene, box: Box): (runner: Runner) => Promise<Outcome> {
  return (runner) => (scene.undo ? runner.undo('v2', MAY, never) : runner.apply(box.patches.v2, MAY, never))
}

async function begin(scene: Scene, box: Box): Promise<Readonly<Record<string, Json>>> {
  for (const version of [...(scene.first ? [] : ['v1' as const]), ...(scene.undo ? ['v2' as const] : [])]) {
    const outcome = await box.live((runner) => runner.apply(box.patches[version], MAY, never))
    assert.equal((outcome as Outcome).state, 'completed')
  }
  for (const key of [...box.memory.stored.keys()]) if (/^(history|outbound)/.test(key)) box.memory.stored.delete(key)
  return Object.fromEntries(box.memory.below(''))
}

async function judge(scene: Scene, box: Box, about: string): Promise<void> {
  const outcome = await outcomeIn(box.memory, 'v2', about)
  const states: (Outcome['state'] | undefined)[] = scene.undo ? [undefined, 'rolled-back'] : [undefined, 'interrupted', scene.ends]
  assert.ok(states.includes(outcome?.state), `${outcome?.state} (${outcome?.reason}), ${about}`)
  const isNew = scene.undo ? outcome === undefined : outcome?.state === 'completed'
  const releases = ([...(scene.first ? [] : ['v1']), ...(isNew ? ['v2'] : [])] as FilesVersion[]).map((version) => ({
    version,
    release: releaseName(box.patches[version].digest),
  }))
  await assertTree(box.root, box.unit, { releases }, about)
  assert.equal(box.memory.get('applied/v2') !== undefined, isNew, about)
}

/** What an interruption leaves must not stand in the way of the next try. */
async function again(scene: Scene, box: Box, about: string): Promise<void> {
  const [before] = box.memory.below('outbound/').values() as unknown as Iterable<Outcome>
  if (scene.undo || (before !== undefined && before.state !== 'interrupted')) return
  const outcome = (await box.live(actOf(scene, box))) as Outcome
  assert.equal(outcome.state, scene.ends, `again, ${outcome.reason}, ${about}`)
}

for (const [number, scene] of SCENES.entries()) {
  test(scene.name, async (t) => {
    const { box, mount } = await newBox(scope, scene.flaw)
    const memory = await begin(scene, box)
    const runs = box.unit.runs
    await mount.save()
    await mount.limit(undefined)
    assert.equal(((await box.live(actOf(scene, box))) as Outcome).state, scene.ends)
    const total = await mount.changes()
    const stride = Math.max(1, Math.floor(total / CUTS))
    const dice = new Dice(SEED * 1_000 + number)
    const from = Math.floor(dice.unit() * stride)
    t.diagnostic(`${total} changes; the power fails after ${from} of them, and after each ${stride} more (seed ${SEED})`)
    for (let changes = from; changes <= total; changes += stride) {
      const seed = dice.pick([undefined, 'names', Math.floor(dice.unit() * 1e6)] as const)
      const second = dice.unit() < 0.5 ? undefined : Math.floor(dice.between(0, 80))
      const about = `after ${changes} of ${total} changes (${seed ?? 'forget'}), then after ${second}`
      await mount.load()
      box.remember(memory)
      box.isDark = false
      await box.unit.stop()
      if (runs !== '') box.unit.boot()
      await mount.limit(changes)
      await box.live(actOf(scene, box))
      await box.cut(seed)
      if (second !== undefined) {
        await mount.limit(second)
        await box.live((runner) => runner.recover(never))
        await box.cut(seed)
      }
      await box.live((runner) => runner.recover(never))
      await judge(scene, box, about)
      if (dice.unit() < 0.3) await again(scene, box, about)
    }
  })
}
