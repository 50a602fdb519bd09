/** One life of the gateway, as far as files patches go: it ends itself by `kill -9` at a record of the journal. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import type { Artifact } from '../../daemon/patch/document.ts'
import type { Kind, Outcome } from '../../daemon/patch/kinds.ts'
import type { Json, MemoryChanges } from '../../daemon/patch/memory.ts'
import { Runner } from '../../daemon/patch/runner/runner.ts'
import { checksOf, filesAccepted, kindOn, MAY, OneUnit, type FilesVersion, type Flaw } from '../fakes/files-world.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'

export interface Kill {
  /** Counted from 1. */
  readonly record: number
  readonly when: 'before' | 'after'
  /** Of work after the record. */
  readonly ms: number
}

export interface Life {
  readonly root: string
  readonly unit: string
  readonly memory: string
  readonly act: 'apply' | 'undo' | 'recover'
  readonly version: FilesVersion
  readonly artifacts: readonly Artifact[]
  readonly flaw: Flaw
  readonly kill: Kill | undefined
}

/** What it says when it was not killed. */
export interface LifeStory {
  readonly outcome: Outcome | undefined
  readonly records: number
}

/** The memory in a file, whole or not at all. A kill leaves the page cache alone, so it needs no fsync. */
export class FileMemory extends FakeMemory {
  readonly #path: string
  records = 0

  constructor(path: string) {
    super(existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Record<string, Json>) : {})
    this.#path = path
  }

  override async write(changes: MemoryChanges): Promise<void> {
    await super.write(changes)
    this.records += 1
    writeFileSync(`${this.#path}.new`, JSON.stringify(Object.fromEntries(this.below(''))))
    renameSync(`${this.#path}.new`, this.#path)
  }
}

class MortalMemory extends FileMemory {
  readonly #kill: Kill | undefined

  constructor(path: string, kill: Kill | undefined) {
    super(path)
    this.#kill = kill
  }

  override async write(changes: MemoryChanges): Promise<void> {
    const isIt = this.#kill?.record === this.records + 1
    if (isIt && this.#kill?.when === 'before') die()
    await super.write(changes)
    if (isIt && this.#kill?.ms === 0) die()
    else if (isIt) setTimeout(die, this.#kill?.ms)
  }
}

function die(): void {
  process.kill(process.pid, 'SIGKILL')
}

async function live(life: Life): Promise<LifeStory> {
  const unit = new OneUnit(life.unit, life.root)
  const memory = new MortalMemory(life.memory, life.kill)
  const { kind, stop } = kindOn(life.root, unit)
  const files = kind as unknown as Kind
  const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
  const kinds = { files, config: files, device: files }
  const runner = new Runner({ memory, clock: new SystemClock(), random: systemRandom, log, kinds, checks: checksOf(unit) })
  const never = new AbortController().signal
  const { act, version, artifacts, flaw } = life
  const doing = {
    apply: () => runner.apply(filesAccepted(version, artifacts, flaw), MAY, never),
    undo: () => runner.undo(version, MAY, never),
    recover: () => runner.recover(never),
  }
  // The clock of the flows does not keep Node alive.
  const alive = setInterval(() => undefined, 60_000)
  const outcome = await doing[act]()
  clearInterval(alive)
  await stop()
  return { outcome, records: memory.records }
}

if (import.meta.main) console.log(JSON.stringify(await live(JSON.parse(process.argv[2] ?? '') as Life)))
