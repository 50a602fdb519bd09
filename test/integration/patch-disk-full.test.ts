/** A disk that is really full while a files patch is fetched, laid out or noted in the journal. */
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, watch } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { releaseName } from '../../adapters/host/releases/plan.ts'
import { kindOf } from '../../daemon/errors.ts'
import type { FilesPatch } from '../../daemon/patch/document.ts'
import type { Accepted, Outcome } from '../../daemon/patch/kinds.ts'
import type { Memory, MemoryChanges } from '../../daemon/patch/memory.ts'
import { Runner } from '../../daemon/patch/runner/runner.ts'
import { artifact, tarOf } from '../fakes/files-rig.ts'
import { assertTree, checksOf, EXTRA, filesAccepted, kindOn, MAY, OneUnit, versionFiles, type Flaw } from '../fakes/files-world.ts'
import { honest, lyingServer, type Answer } from '../fakes/lying-server.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'
import { StoreRig } from '../fakes/store-rig.ts'
import { mountSmallDisk, type SmallDisk } from '../fleet/small-disk.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const never = new AbortController().signal

interface Rig {
  readonly disk: SmallDisk
  readonly root: string
  readonly unit: OneUnit
  readonly memory: Memory
  readonly accepted: Accepted<FilesPatch>
  readonly run: () => Promise<Outcome>
  answer: Answer
}

interface RigOptions {
  readonly files?: Readonly<Record<string, string>>
  readonly flaw?: Flaw
  /** Just after the flip. */
  readonly onStart?: (disk: SmallDisk) => void
  readonly memory?: (disk: SmallDisk) => Promise<Memory>
}

async function rig({
  files = versionFiles('v2'),
  flaw = 'none',
  onStart = () => undefined,
  memory: remember,
}: RigOptions = {}): Promise<Rig> {
  const disk = mountSmallDisk(scope, 16)
  const root = join(disk.path, 'app')
  mkdirSync(root)
  const [tree, extra] = [await tarOf(files), Buffer.from('extra of v2')]
  const server = await lyingServer((request, response, count) => {
    if (request.url === '/extra') honest(extra)(request, response, count)
    else made.answer(request, response, count)
  })
  scope.atEnd(() => server.stop())
  class Unit extends OneUnit {
    override start(): Promise<void> {
      onStart(disk)
      return super.start()
    }
  }
  const unit = new Unit(join(scope.folder(), 'unit'), root)
  const { kind, stop } = kindOn(root, unit)
  scope.atEnd(stop)
  const memory = (await remember?.(disk)) ?? new FakeMemory()
  const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
  const kinds = { files: kind, config: kind, device: kind } as unknown as ConstructorParameters<typeof Runner>[0]['kinds']
  const runner = new Runner({ memory, clock: new SystemClock(), random: systemRandom, log, kinds, checks: checksOf(unit) })
  const accepted = filesAccepted('v2', [artifact(`${server.url}/tree`, tree), artifact(`${server.url}/extra`, extra, { unpack: 'none', path: EXTRA })], flaw) // prettier-ignore
  const made: Rig = { disk, root, unit, memory, accepted, run: () => runner.apply(accepted, MAY, never), answer: honest(tree) }
  return made
}

/** Waiting is no failure: nothing is denied, nothing is left, and with room it goes on. */
async function assertWaits({ disk, root, memory, run }: Rig, outcome: Outcome): Promise<Outcome> {
  assert.equal(outcome.state, 'interrupted', outcome.reason)
  assert.match(outcome.reason ?? '', /no room|bytes of room/)
  assert.deepEqual(readdirSync(root), [])
  assert.equal((await memory.read('denied/')).size, 0)
  disk.free()
  return run()
}

test('patch path 16: a disk that fills up during the download is a wait, and room is all that it needs', async () => {
  const made = await rig({ files: { ...versionFiles('v2'), big: 'x'.repeat(2_000_000) } })
  const honestly = made.answer
  made.answer = (request, response, count) => {
    made.disk.fill()
    made.answer = honestly
    honestly(request, response, count)
  }
  assert.equal((await assertWaits(made, await made.run())).state, 'completed')
})

test('patch path 16: a disk that fills up while the release is laid out is a wait', async () => {
  const many = Object.fromEntries(Array.from({ length: 400 }, (_, index) => [`many/${index}`, 'x'.repeat(5_000)]))
  const made = await rig({ files: { ...versionFiles('v2'), ...many } })
  const watcher = watch(made.root, { recursive: true }, (_event, name) => {
    if (name === null || !name.includes('.new')) return
    watcher.close()
    made.disk.fill()
  })
  assert.equal((await assertWaits(made, await made.run())).state, 'completed')
})

test('patch path 16: a box that is full before it begins says how much it needs', async () => {
  const made = await rig()
  made.disk.fill()
  const outcome = await made.run()
  assert.match(outcome.reason ?? '', /no room below .*bytes are needed/)
  assert.equal((await assertWaits(made, outcome)).state, 'completed')
  const release = releaseName(made.accepted.digest)
  await assertTree(made.root, made.unit, { releases: [{ release, version: 'v2' }] }, 'with room')
})

/** `state.db` on the same disk; counts what it refused. */
class CountedMemory implements Memory {
  readonly #memory: Memory
  readonly #disk: SmallDisk
  refusals = 0

  constructor(memory: Memory, disk: SmallDisk) {
    this.#memory = memory
    this.#disk = disk
  }

  read(prefix: string): ReturnType<Memory['read']> {
    return this.#memory.read(prefix)
  }

  async write(changes: MemoryChanges): Promise<void> {
    try {
      await this.#memory.write(changes)
    } catch (error) {
      assert.equal(kindOf(error), 'saturated')
      this.refusals += 1
      // Somebody makes room after a while.
      if (this.refusals === 3) this.#disk.free()
      throw error
    }
  }
}

test('patch path 16: a journal that has no room neither loses the run nor leaves it half done', async () => {
  let memory: CountedMemory | undefined
  const made = await rig({
    memory: async (disk) => {
      const store = new StoreRig({}, join(disk.path, 'store'))
      mkdirSync(join(disk.path, 'store'))
      await store.start()
      scope.atEnd(() => store.close())
      memory = new CountedMemory(store.outbox.memory, disk)
      return memory
    },
  })
  const watcher = watch(made.root, { recursive: true }, (_event, name) => {
    if (name === null || !name.includes('.begun')) return
    watcher.close()
    made.disk.fill()
  })
  const outcome = await made.run()
  assert.ok((memory?.refusals ?? 0) >= 3, 'the disk must be full for the journal too')
  assert.equal(outcome.state, 'interrupted', outcome.reason)
  assert.deepEqual(readdirSync(made.root), [])
  assert.equal((await made.run()).state, 'completed')
})

test('patch path 16: the way back is open on a full disk', async () => {
  const made = await rig({ flaw: 'hook', onStart: (disk) => disk.fill() })
  const outcome = await made.run()
  assert.deepEqual([outcome.state, readdirSync(made.root)], ['failed', []], outcome.reason)
})
