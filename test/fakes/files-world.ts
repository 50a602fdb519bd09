/** A box with a unit that runs from `<root>/current`, patches for it, and a judge of what a run left behind. */
import assert from 'node:assert/strict'
import { existsSync, lstatSync, readFileSync, readlinkSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { Hooks } from '../../adapters/host/hooks.ts'
import { FilesKind } from '../../adapters/host/releases/files-kind.ts'
import { walk } from '../../adapters/host/releases/manifest.ts'
import type { Units, UnitState } from '../../adapters/host/units.ts'
import { HttpDownloads } from '../../adapters/http/download.ts'
import type { Artifact, FilesPatch } from '../../daemon/patch/document.ts'
import type { Accepted, Checks, Outcome, Permit } from '../../daemon/patch/kinds.ts'
import type { Memory } from '../../daemon/patch/memory.ts'
import { filesPatch } from './files-rig.ts'

const UNIT = 'app.service'
/** Files are given to somebody, so that a lost chown is seen. */
const OWNER = 1_234

export type FilesVersion = 'v1' | 'v2'
/** What is wrong with v2. */
export type Flaw = 'none' | 'check' | 'hook'

/** The two files of one version must never be seen with those of the other. */
export function versionFiles(version: string): Record<string, string> {
  return { 'bin/app': `#!/bin/sh\nexec echo ${version}\n`, 'etc/a.conf': `a of ${version}`, 'etc/b.conf': `b of ${version}`, 'empty/': '' }
}
export const EXTRA = 'lib/extra'

export function filesAccepted(version: FilesVersion, artifacts: readonly Artifact[], flaw: Flaw = 'none'): Accepted<FilesPatch> {
  const owner = { user: String(OWNER), group: String(OWNER) }
  const command = flaw === 'hook' ? ['/bin/false'] : ['bin/app']
  const hooks = { post: { command, timeoutMs: 5_000 } }
  const accepted = filesPatch(version, { version, artifacts, owner, units: [UNIT], hooks })
  const health = { checks: [flaw === 'check' ? 'not-v2' : 'any'], consecutive: 1, deadlineMs: 0, bakeMs: 0 }
  return { ...accepted, patch: { ...accepted.patch, channel: 'app', sequence: Number(version.slice(1)), health } }
}

/** One unit, as systemd would run it; its state is in a file, since it outlives the gateway. */
export class OneUnit implements Units {
  readonly limitMs = 5_000
  readonly #path: string
  readonly #root: string

  constructor(path: string, root: string) {
    this.#path = path
    this.#root = root
  }

  /** The release that it runs from; empty: it does not run. */
  get runs(): string {
    return this.#now().runs
  }

  stop(): Promise<void> {
    this.#become('')
    return Promise.resolve()
  }

  start(): Promise<void> {
    if (this.runs === '') this.boot()
    return Promise.resolve()
  }

  state(): Promise<UnitState> {
    const { runs, invocation } = this.#now()
    return Promise.resolve({ load: 'loaded', active: runs === '' ? 'inactive' : 'active', invocation: String(invocation) })
  }

  /** After a power cut, or a start: what `current` leads to runs. */
  boot(): void {
    const current = join(this.#root, 'current')
    this.#become(existsSync(current) ? realpathSync(current) : '')
  }

  #now(): { runs: string; invocation: number } {
    if (!existsSync(this.#path)) return { runs: '', invocation: 0 }
    return JSON.parse(readFileSync(this.#path, 'utf8')) as { runs: string; invocation: number }
  }

  #become(runs: string): void {
    writeFileSync(this.#path, JSON.stringify({ runs, invocation: this.#now().invocation + 1 }))
  }
}

/** `any` is always well; `not-v2` is not while v2 runs. */
export function checksOf(unit: OneUnit): Checks {
  const isV2 = (): boolean => unit.runs !== '' && readFileSync(join(unit.runs, 'etc/a.conf'), 'utf8') === 'a of v2'
  const result = (name: string): { name: string; ok: boolean } => ({ name, ok: name !== 'not-v2' || !isV2() })
  return { run: (names) => Promise.resolve(names.map(result)) }
}

export const MAY: Permit = { assertFits: () => undefined, assertWindow: () => undefined }

export function kindOn(root: string, unit: OneUnit, reserveBytes = 0): { readonly kind: FilesKind; readonly stop: () => Promise<void> } {
  const downloads = new HttpDownloads({ clock: new SystemClock(), random: systemRandom, attempts: 1, backoffMs: 1 })
  const sources = { roots: { app: root }, allowedUnits: [UNIT], units: unit, reserveBytes }
  return { kind: new FilesKind({ ...sources, downloads, hooks: new Hooks(200) }), stop: () => downloads.stop() }
}

/** How often each version may have ended, and which of them are in force. */
export interface Expected {
  /** In the order in which they went in. */
  readonly releases: readonly { readonly release: string; readonly version: FilesVersion }[]
}

/** The tree holds these releases and nothing else, each whole; the last is the one in force, and runs. */
export async function assertTree(root: string, unit: OneUnit, { releases }: Expected, about: string): Promise<void> {
  const last = releases.at(-1)
  const names = releases.flatMap(({ release }) => [
    `releases/${release}`,
    `releases/${release}.manifest`,
    ...['bin', 'bin/app', 'etc', 'etc/a.conf', 'etc/b.conf', 'empty', 'lib', EXTRA].map((path) => `releases/${release}/${path}`),
  ])
  assert.deepEqual([...(await walk(root))].sort(), [...(last ? ['current', 'releases'] : []), ...names].sort(), about)
  for (const { release, version } of releases) {
    for (const [path, text] of Object.entries({ ...versionFiles(version), [EXTRA]: `extra of ${version}` })) {
      const full = join(root, 'releases', release, path)
      const { uid, gid, mode } = lstatSync(full)
      const isRun = path.endsWith('/') || text.startsWith('#!')
      assert.deepEqual({ uid, gid, mode: mode & 0o7777 }, { uid: OWNER, gid: OWNER, mode: isRun ? 0o755 : 0o644 }, `${path}, ${about}`)
      if (!path.endsWith('/')) assert.equal(readFileSync(full, 'utf8'), text, `${path}, ${about}`)
    }
  }
  if (last) assert.equal(readlinkSync(join(root, 'current')), `releases/${last.release}`, about)
  assert.equal(unit.runs, last ? join(realpathSync(root), 'releases', last.release) : '', `what runs, ${about}`)
}

/** The one outcome of a patch that the box's memory tells of; undefined when it never began. */
export async function outcomeIn(memory: Memory, patch: string, about: string): Promise<Outcome | undefined> {
  const all = [...(await memory.read('history/')).values()] as unknown as Outcome[]
  const ours = all.filter((outcome) => outcome.patch === patch)
  assert.ok(ours.length <= 1, `${ours.length} outcomes, ${about}`)
  assert.deepEqual((await memory.read('outbound/')).get(`outbound/${patch}`), ours[0], about)
  assert.deepEqual([...(await memory.read('journal/run')).values()], [], `${JSON.stringify(all)} ${about}`)
  return ours[0]
}
