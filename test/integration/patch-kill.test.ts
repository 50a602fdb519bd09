/**
 * A gateway is killed at each record that a files patch writes to its journal: before it, after it, and in the middle of
 * the step that follows; and again while it recovers. All of these, which takes minutes, or other ones:
 *
 *     PATCH_KILLS=all PATCH_SEED=7 node --test test/integration/patch-kill.test.ts
 */
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { releaseName } from '../../adapters/host/releases/plan.ts'
import type { Artifact } from '../../daemon/patch/document.ts'
import type { Outcome } from '../../daemon/patch/kinds.ts'
import { Dice } from '../chaos/dice.ts'
import { artifact, tarOf } from '../fakes/files-rig.ts'
import { assertTree, EXTRA, filesAccepted, OneUnit, outcomeIn, versionFiles, type FilesVersion, type Flaw } from '../fakes/files-world.ts'
import { honest, lyingServer } from '../fakes/lying-server.ts'
import { serviceScope } from '../services/index.ts'
import { FileMemory, type Kill, type Life, type LifeStory } from './patch-kill-child.ts'

const SEED = Number(process.env['PATCH_SEED'] ?? 1)
/** For each scene. */
const KILLS = process.env['PATCH_KILLS'] === 'all' ? Infinity : Number(process.env['PATCH_KILLS'] ?? 6)
const CHILD = fileURLToPath(new URL('./patch-kill-child.ts', import.meta.url))
/** Step that follows a record: a spawned hook takes some. */
const WITHIN_MS = [1, 3, 8, 20] as const

const scope = serviceScope()

interface Scene {
  readonly name: string
  readonly first: boolean
  readonly flaw: Flaw
  readonly undo: boolean
  readonly ends: Outcome['state']
}

const SCENES: readonly Scene[] = [
  { name: 'killed at a record on the way forward, one version or the other is in force', first: false, flaw: 'none', undo: false, ends: 'completed' }, // prettier-ignore
  { name: 'killed at a record on the way back, the old version is in force', first: false, flaw: 'check', undo: false, ends: 'failed' },
  { name: 'killed at a record of a first version', first: true, flaw: 'hook', undo: false, ends: 'failed' },
  { name: 'killed at a record of an undo', first: false, flaw: 'none', undo: true, ends: 'rolled-back' },
]

/** Undefined: it was killed. */
function live(life: Life): Promise<LifeStory | undefined> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [CHILD, JSON.stringify(life)], (error, out, err) => {
      if (error === null) resolve(JSON.parse(out) as LifeStory)
      else if (error.signal === 'SIGKILL') resolve(undefined)
      else reject(new Error(`${error.message}\n${err}`))
    })
  })
}

/** With owners, which Node's own copy leaves out. */
function copyAll(from: string, to: string): void {
  execFileSync('cp', ['-a', from, to])
}

class Box {
  readonly scene: Scene
  readonly #folder: string
  readonly #saved: string
  readonly #artifacts: Readonly<Record<FilesVersion, readonly Artifact[]>>

  constructor(scene: Scene, artifacts: Readonly<Record<FilesVersion, readonly Artifact[]>>) {
    this.scene = scene
    const folder = scope.folder()
    this.#folder = join(folder, 'box')
    this.#saved = join(folder, 'saved')
    this.#artifacts = artifacts
    mkdirSync(join(this.#folder, 'root'), { recursive: true })
  }

  get root(): string {
    return join(this.#folder, 'root')
  }

  life(act: Life['act'], version: FilesVersion, kill?: Kill): Promise<LifeStory | undefined> {
    const at = (name: string): string => join(this.#folder, name)
    const flaw = version === 'v2' ? this.scene.flaw : 'none'
    return live({ root: this.root, unit: at('unit'), memory: at('memory'), act, version, artifacts: this.#artifacts[version], flaw, kill })
  }

  act(kill?: Kill): Promise<LifeStory | undefined> {
    return this.life(this.scene.undo ? 'undo' : 'apply', 'v2', kill)
  }

  async begin(): Promise<void> {
    const versions: FilesVersion[] = [...(this.scene.first ? [] : ['v1' as const]), ...(this.scene.undo ? ['v2' as const] : [])]
    for (const version of versions) assert.equal((await this.life('apply', version))?.outcome?.state, 'completed')
    const forget = [...this.memory().stored.keys()].filter((key) => /^(history|outbound)/.test(key))
    await this.memory().write(Object.fromEntries(forget.map((key) => [key, undefined])))
    copyAll(this.#folder, this.#saved)
  }

  /** As it was after `begin`. */
  reset(): void {
    rmSync(this.#folder, { recursive: true })
    copyAll(this.#saved, this.#folder)
  }

  memory(): FileMemory {
    return new FileMemory(join(this.#folder, 'memory'))
  }

  async judge(about: string): Promise<Outcome | undefined> {
    const { undo, first, ends } = this.scene
    const outcome = await outcomeIn(this.memory(), 'v2', about)
    const states: (Outcome['state'] | undefined)[] = undo ? [undefined, 'rolled-back'] : [undefined, 'interrupted', ends]
    assert.ok(states.includes(outcome?.state), `${outcome?.state} (${outcome?.reason}), ${about}`)
    const isNew = undo ? outcome === undefined : outcome?.state === 'completed'
    const versions = [...(first ? [] : ['v1']), ...(isNew ? ['v2'] : [])] as FilesVersion[]
    const releases = versions.map((version) => ({ version, release: releaseName(filesAccepted(version, []).digest) }))
    await assertTree(this.root, new OneUnit(join(this.#folder, 'unit'), this.root), { releases }, about)
    return outcome
  }
}

async function newBox(scene: Scene): Promise<Box> {
  const files = new Map<string, Buffer>()
  const server = await lyingServer((request, response, count) =>
    honest(files.get(request.url ?? '') ?? Buffer.alloc(0))(request, response, count),
  )
  scope.atEnd(() => server.stop())
  const offer = async (version: FilesVersion): Promise<readonly Artifact[]> => {
    const [tree, extra] = [await tarOf(versionFiles(version)), Buffer.from(`extra of ${version}`)]
    files.set(`/${version}`, tree).set(`/${version}-extra`, extra)
    const more = { unpack: 'none', path: EXTRA } as const
    return [artifact(`${server.url}/${version}`, tree), artifact(`${server.url}/${version}-extra`, extra, more)]
  }
  return new Box(scene, { v1: await offer('v1'), v2: await offer('v2') })
}

function killsOf(records: number, dice: Dice): Kill[] {
  const all = Array.from({ length: records }, (_, index): Kill[] => {
    const record = index + 1
    return [
      { record, when: 'before', ms: 0 },
      { record, when: 'after', ms: 0 },
      { record, when: 'after', ms: dice.pick(WITHIN_MS) },
    ]
  }).flat()
  const stride = Math.max(1, all.length / KILLS)
  const from = dice.unit() * stride
  return Array.from({ length: Math.min(KILLS, all.length) }, (_, index) => all[Math.floor(from + index * stride)] ?? []).flat()
}

async function assertSurvives(box: Box, kill: Kill, dice: Dice): Promise<void> {
  const second: Kill = { record: Math.ceil(dice.between(0, 8)), when: dice.pick(['before', 'after']), ms: dice.pick([0, ...WITHIN_MS]) }
  const about = `killed at ${JSON.stringify(kill)}, then at ${JSON.stringify(second)}`
  box.reset()
  await box.act(kill)
  if (dice.unit() < 0.6) await box.life('recover', 'v2', second)
  await box.life('recover', 'v2')
  const outcome = await box.judge(about)
  if (box.scene.undo || (outcome !== undefined && outcome.state !== 'interrupted') || dice.unit() < 0.7) return
  assert.equal((await box.act())?.outcome?.state, box.scene.ends, `again, ${about}`)
}

describe('kill -9', { concurrency: 2 }, () => {
  for (const [number, scene] of SCENES.entries()) {
    test(scene.name, async (t) => {
      const dice = new Dice(SEED * 1_000 + number)
      const box = await newBox(scene)
      await box.begin()
      const story = await box.act()
      assert.equal(story?.outcome?.state, scene.ends)
      const kills = killsOf(story.records, dice)
      t.diagnostic(`${story.records} records, ${kills.length} kills (seed ${SEED})`)
      for (const kill of kills) await assertSurvives(box, kill, dice)
    })
  }
})
