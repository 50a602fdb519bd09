/** A box with files patches, whose power fails after so many changes of its disk and its memory together. */
import assert from 'node:assert/strict'
import { readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import type { FilesKind } from '../../adapters/host/releases/files-kind.ts'
import type { Clock } from '../../daemon/clock.ts'
import { GatewayError, kindOf } from '../../daemon/errors.ts'
import type { FilesPatch } from '../../daemon/patch/document.ts'
import type { Accepted, Kind, Outcome } from '../../daemon/patch/kinds.ts'
import type { Json, MemoryChanges } from '../../daemon/patch/memory.ts'
import { Runner } from '../../daemon/patch/runner/runner.ts'
import { artifact, tarOf } from '../fakes/files-rig.ts'
import { checksOf, EXTRA, filesAccepted, kindOn, OneUnit, versionFiles, type FilesVersion, type Flaw } from '../fakes/files-world.ts'
import { honest, lyingServer } from '../fakes/lying-server.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'
import { mountForgetful, type ForgetfulMount } from '../services/forgetful.ts'
import type { ServiceScope } from '../services/index.ts'

const POWER_CUT = new GatewayError('fatal', 'the power failed')

/** Files below it that this program holds open. */
export function openBelow(folder: string): readonly string[] {
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return ''
    }
  })
  return links.filter((path) => path.startsWith(folder))
}

/** Stands on the same power: a write is one of the changes. */
class CutMemory extends FakeMemory {
  readonly #mount: ForgetfulMount
  readonly #dark: () => void

  constructor(entries: Readonly<Record<string, Json>>, mount: ForgetfulMount, dark: () => void) {
    super(entries)
    this.#mount = mount
    this.#dark = dark
  }

  override async write(changes: MemoryChanges): Promise<void> {
    if (await this.#mount.change()) return super.write(changes)
    this.#dark()
    throw POWER_CUT
  }
}

/** One box whose disk is at `mount`. */
export class Box {
  readonly #mount: ForgetfulMount
  readonly root: string
  readonly unit: OneUnit
  readonly patches: Readonly<Record<FilesVersion, Accepted<FilesPatch>>>
  memory: CutMemory
  isDark = false

  constructor(mount: ForgetfulMount, unit: string, patches: Readonly<Record<FilesVersion, Accepted<FilesPatch>>>) {
    this.#mount = mount
    this.root = mount.path
    this.unit = new OneUnit(unit, this.root)
    this.patches = patches
    this.memory = this.remember({})
  }

  remember(entries: Readonly<Record<string, Json>>): CutMemory {
    return (this.memory = new CutMemory(entries, this.#mount, () => (this.isDark = true)))
  }

  /** One life of the gateway; undefined when the power failed in it. */
  async live(act: (runner: Runner) => Promise<Outcome | undefined>): Promise<Outcome | 'nothing' | undefined> {
    const { kind, stop } = kindOn(this.root, this.unit)
    const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
    const files = this.#mortal(kind)
    const kinds = { files, config: files, device: files }
    const parts = { memory: this.memory, clock: this.#clock(), random: systemRandom, log, kinds, checks: checksOf(this.unit) }
    try {
      return (await act(new Runner(parts))) ?? 'nothing'
    } catch (error) {
      if (!this.isDark) throw error
      assert.equal(kindOf(error), 'fatal')
      return undefined
    } finally {
      await stop()
      assert.deepEqual(openBelow(this.root), [], 'files that nobody closed')
    }
  }

  async cut(seed: number | 'names' | undefined): Promise<void> {
    await this.#mount.cut(seed)
    await this.#mount.restore()
    this.isDark = false
    this.unit.boot()
  }

  /** In the dark nothing waits. */
  #clock(): Clock {
    const real = new SystemClock()
    return {
      bootId: real.bootId,
      wallMs: () => real.wallMs(),
      monotonicMs: () => real.monotonicMs(),
      bootMs: () => real.bootMs(),
      wallTrusted: () => real.wallTrusted(),
      after: (ms, fn) => real.after(this.isDark ? 0 : ms, fn),
    }
  }

  #mortal(kind: FilesKind): Kind {
    const lived = async (error: unknown): Promise<never> => {
      if (await this.#mount.isLit()) throw error
      this.isDark = true
      throw POWER_CUT
    }
    const call = (name: string | symbol): unknown => {
      const method = Reflect.get(kind, name) as ((...args: unknown[]) => unknown) | undefined
      return (
        method &&
        ((...args: unknown[]) => {
          const found = method.apply(kind, args)
          return found instanceof Promise ? found.catch(lived) : found
        })
      )
    }
    return new Proxy(kind, { get: (_kind, name) => call(name) })
  }
}

export async function newBox(scope: ServiceScope, flaw: Flaw): Promise<{ readonly box: Box; readonly mount: ForgetfulMount }> {
  const files = new Map<string, Buffer>()
  const server = await lyingServer((request, response, count) =>
    honest(files.get(request.url ?? '') ?? Buffer.alloc(0))(request, response, count),
  )
  scope.atEnd(() => server.stop())
  const patchOf = async (version: FilesVersion): Promise<Accepted<FilesPatch>> => {
    const [tree, extra] = [await tarOf(versionFiles(version)), Buffer.from(`extra of ${version}`)]
    files.set(`/${version}`, tree).set(`/${version}-extra`, extra)
    const both = [
      artifact(`${server.url}/${version}`, tree),
      artifact(`${server.url}/${version}-extra`, extra, { unpack: 'none', path: EXTRA }),
    ]
    return filesAccepted(version, both, version === 'v2' ? flaw : 'none')
  }
  const mount = await mountForgetful(scope, join(scope.folder(), 'disk'))
  const patches = { v1: await patchOf('v1'), v2: await patchOf('v2') }
  return { mount, box: new Box(mount, join(scope.folder(), 'unit'), patches) }
}
