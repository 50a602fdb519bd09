/**
 * Guards the start against a layer on trial: a patch whose settings the box can't start with must not make it start
 * for ever. A small file in the data directory counts the starts that were tried with it and did not become ready.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { writeWhole } from '../../adapters/host/durable.ts'
import type { LeftOut } from './layers.ts'

/** A power cut during a start is no fault of the patch; three in a row are one as far as anybody can tell. */
const STARTS_MAX = 3

interface Mark {
  readonly key: string
  readonly starts: number
  /** Why the last one ended, where the program could still say. */
  readonly failed?: string
}

export class TrialMark {
  readonly #path: string

  constructor(dataDir: string) {
    this.#path = join(dataDir, 'trial-start.json')
  }

  /** What stays out of this start, out of the layers on trial (`labels` by key). */
  barred(labels: ReadonlyMap<string, string>): readonly LeftOut[] {
    const mark = this.#read()
    const label = mark === undefined ? undefined : labels.get(mark.key)
    if (mark === undefined || label === undefined || (mark.failed === undefined && mark.starts < STARTS_MAX)) return []
    const reason = mark.failed ?? `${mark.starts} starts with it ended before the daemon was ready`
    return [{ key: mark.key, label, reason: `the daemon did not start with it: ${reason}` }]
  }

  /** Before a start with this layer. */
  begin(key: string): void {
    const mark = this.#read()
    this.#write({ key, starts: mark?.key === key ? mark.starts + 1 : 1 })
  }

  /** The start with this layer was refused. */
  failed(key: string, reason: string): void {
    this.#write({ key, starts: this.#read()?.starts ?? 1, failed: reason })
  }

  /** The daemon is ready with the layer, or was told to end before. */
  clear(): void {
    if (existsSync(this.#path)) rmSync(this.#path, { force: true })
  }

  /** The layer that it names is gone: the same patch may be tried anew. */
  forgetOthers(labels: ReadonlyMap<string, string>): void {
    const mark = this.#read()
    if (mark !== undefined && !labels.has(mark.key)) this.clear()
  }

  /** A file that can't be read counts as none: it is written anew before the next start. */
  #read(): Mark | undefined {
    if (!existsSync(this.#path)) return undefined
    try {
      const mark = JSON.parse(readFileSync(this.#path, 'utf8')) as Mark
      return typeof mark.key === 'string' && typeof mark.starts === 'number' ? mark : undefined
    } catch (error) {
      if (error instanceof SyntaxError) return undefined
      throw error
    }
  }

  #write(mark: Mark): void {
    writeWhole(this.#path, JSON.stringify(mark))
  }
}
