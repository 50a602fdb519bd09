import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import type { Json, Memory, MemoryChanges } from '../../daemon/patch/memory.ts'

/** The executor's memory: one small file of JSON, whole or not at all, also after a power cut. */
export class FileMemory implements Memory {
  readonly #folder: string
  readonly #path: string
  #entries: Map<string, Json> | undefined

  constructor(folder: string) {
    this.#folder = folder
    this.#path = join(folder, 'state.json')
  }

  async read(prefix: string): Promise<ReadonlyMap<string, Json>> {
    const found = [...this.#known].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1))
    return Promise.resolve(new Map(found))
  }

  async write(changes: MemoryChanges): Promise<void> {
    const next = new Map(this.#known)
    for (const [key, value] of Object.entries(changes)) {
      if (value === undefined) next.delete(key)
      else next.set(key, value)
    }
    try {
      this.#store(JSON.stringify(Object.fromEntries(next)))
    } catch (error) {
      const kind = ['ENOSPC', 'EDQUOT'].includes(String((error as NodeJS.ErrnoException).code)) ? 'saturated' : 'transient'
      throw new GatewayError(kind, `the executor can't remember what it does: ${messageOf(error)}`, { cause: error })
    }
    this.#entries = next
    return Promise.resolve()
  }

  /** Plain objects without a prototype's names: what is stored is JSON. */
  get #known(): Map<string, Json> {
    return (this.#entries ??= this.#load())
  }

  #load(): Map<string, Json> {
    try {
      return new Map(Object.entries(JSON.parse(readFileSync(this.#path, 'utf8')) as Record<string, Json>))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map()
      throw new GatewayError('saturated', `the executor's memory ${this.#path} can't be read: ${messageOf(error)}`, {
        remedy: `Put it back from a backup; or remove it: then older patches that are well signed may come once more.`,
        cause: error,
      })
    }
  }

  #store(text: string): void {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 })
    const fd = openSync(`${this.#path}.new`, 'w', 0o600)
    try {
      writeFileSync(fd, text)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(`${this.#path}.new`, this.#path)
    const folder = openSync(this.#folder, 'r')
    try {
      fsyncSync(folder)
    } finally {
      closeSync(folder)
    }
  }
}
