/** The box's memory for the patch path, in `state.db`: of a running daemon through its worker, of a stopped one directly. */
import { copyFileSync, existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import BetterSqlite from 'better-sqlite3'
import type { Database } from 'better-sqlite3'
import { GatewayError, messageOf } from '../daemon/errors.ts'
import type { Json, Memory, MemoryChanges } from '../daemon/patch/memory.ts'
import { DamagedFile, isDamage } from './damage.ts'
import { recall } from './memory-table.ts'
import type { Answers, Question, Remembered, Rewrite } from './protocol.ts'
import { STATE_FILE } from './state.ts'

/** Of one value, as JSON in UTF-8. */
export const VALUE_MAX_BYTES = 1 << 20
const KEY_MAX_BYTES = 1_024
const BUSY_MS = 5_000
const COPY_ATTEMPTS = 3

type Ask = <Kind extends 'remember' | 'recall'>(question: Extract<Question, { kind: Kind }>) => Promise<Answers[Kind]>

/** Writes reject with `saturated` on a full disk, with `rejected` what is too large; nothing is changed then. */
export class WorkerMemory implements Memory {
  readonly #ask: Ask

  constructor(ask: Ask) {
    this.#ask = ask
  }

  async read(prefix: string): Promise<ReadonlyMap<string, Json>> {
    return parsed(await this.#ask({ kind: 'recall', prefix }))
  }

  async write(changes: MemoryChanges): Promise<void> {
    const refused = await this.#ask({ kind: 'remember', changes: Object.entries(changes).map(checked) })
    if (refused === undefined) return
    throw new GatewayError(refused.kind, refused.message, refused.remedy === undefined ? {} : { remedy: refused.remedy })
  }
}

function checked([key, value]: readonly [string, Json | undefined]): Rewrite {
  const text = value === undefined ? undefined : JSON.stringify(value)
  if (Buffer.byteLength(key) > KEY_MAX_BYTES) throw tooLarge(key, `its key has more than ${KEY_MAX_BYTES} bytes`)
  if (text !== undefined && Buffer.byteLength(text) > VALUE_MAX_BYTES) throw tooLarge(key, `it has more than ${VALUE_MAX_BYTES} bytes`)
  return [key, text]
}

function tooLarge(key: string, why: string): GatewayError {
  return new GatewayError('rejected', `${key.slice(0, 100)} is too large to be remembered: ${why}`)
}

function parsed(rows: readonly Remembered[]): ReadonlyMap<string, Json> {
  return new Map(rows.map(([key, text]) => [key, JSON.parse(text) as Json]))
}

export interface StoppedMemory {
  readonly entries: ReadonlyMap<string, Json>
  /** Why nothing can be told, in one sentence. Absent when `entries` is all there is, also when that is nothing. */
  readonly reason?: string
}

/**
 * What stands below `prefix` while no daemon runs; only what was committed. Never throws.
 *
 * A crash in the middle of a commit leaves a journal that must be rolled back first. `recover` (the daemon, before it
 * starts) does that in place, as any writer would; without it (a technician's look) it is done on a copy.
 */
export function readMemory(dataDir: string, prefix: string, options: { readonly recover?: boolean } = {}): StoppedMemory {
  const path = join(dataDir, STATE_FILE)
  try {
    if (!existsSync(path)) return { entries: new Map(), reason: `there is no ${path}, or no right to look` }
    return { entries: parsed(readCommitted(path, prefix, options.recover === true)) }
  } catch (error) {
    const remedy = isDamage(error) || error instanceof SyntaxError ? 'the daemon sets it aside at its next start' : 'use sudo'
    return { entries: new Map(), reason: `${path} can not be read: ${messageOf(error)} (${remedy})` }
  }
}

function readCommitted(path: string, prefix: string, recover: boolean): readonly Remembered[] {
  try {
    return readAt(path, prefix, true)
  } catch (error) {
    if (!isHotJournal(error)) throw error
    return recover ? readAt(path, prefix, false) : readCopy(path, prefix)
  }
}

/** SQLite finds a journal whose writer is dead, and may not roll it back read-only (pager.c, SQLITE_READONLY_ROLLBACK). */
function isHotJournal(error: unknown): boolean {
  return error instanceof BetterSqlite.SqliteError && error.code === 'SQLITE_READONLY_ROLLBACK'
}

function readAt(path: string, prefix: string, readonly: boolean): readonly Remembered[] {
  const db = new BetterSqlite(path, { readonly, fileMustExist: true, timeout: BUSY_MS })
  try {
    if (!readonly) db.pragma('synchronous = EXTRA')
    return readTable(db, prefix)
  } finally {
    db.close()
  }
}

function readTable(db: Database, prefix: string): readonly Remembered[] {
  const verdict = db.pragma('quick_check(1)', { simple: true })
  if (verdict !== 'ok') throw new DamagedFile(String(verdict))
  // A file of the release before has no such table yet.
  const isThere = db.prepare("SELECT count(*) FROM sqlite_master WHERE name = 'memory'").pluck().get() === 1
  return isThere ? recall(db, prefix) : []
}

/** Database and journal are two files: a daemon that starts meanwhile changes them one after the other. */
function readCopy(path: string, prefix: string): readonly Remembered[] {
  const folder = mkdtempSync(join(tmpdir(), 'edge-gateway-'))
  const copy = join(folder, STATE_FILE)
  const stamps = (): string => [path, `${path}-journal`].map(stampOf).join()
  try {
    for (let attempt = 0; attempt < COPY_ATTEMPTS; attempt++) {
      const before = stamps()
      copyFileSync(path, copy)
      if (existsSync(`${path}-journal`)) copyFileSync(`${path}-journal`, `${copy}-journal`)
      if (stamps() === before) return readAt(copy, prefix, false)
    }
    throw new Error('a daemon is just starting on it')
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function stampOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return `${stat?.ino}/${stat?.size}/${stat?.mtimeNs}/${stat?.ctimeNs}`
}
