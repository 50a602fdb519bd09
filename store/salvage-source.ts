/** The damaged file, opened so that as much as possible of it can be read, and never written to. */
import { closeSync, existsSync, openSync, readSync, rmSync, statSync, writeSync } from 'node:fs'
import BetterSqlite from 'better-sqlite3'
import type { Database } from 'better-sqlite3'
import { messageOf } from '../daemon/errors.ts'
import { isDamage, isMissingTable } from './damage.ts'
import { openWritable, PAGE_BYTES } from './database.ts'
import { assertTables } from './salvage-rows.ts'
import { APPLICATION_ID, migrate } from './schema.ts'

/** SQLite file format, 1.3. */
const MAGIC = 'SQLite format 3\0'
const HEADER_BYTES = 100

/** Opens the source; undefined when nothing of it can be read. `tell` gets what was done to it. */
export function openSource(path: string, tell: (text: string) => void): Database | undefined {
  if (!existsSync(path)) return undefined
  const direct = tryOpen(path)
  if (direct instanceof BetterSqlite) return direct
  if (!repairFirstPage(path)) return undefined
  tell(`its first page was unreadable (${messageOf(direct)}) and was rebuilt from the schema`)
  const repaired = tryOpen(path)
  return repaired instanceof BetterSqlite ? repaired : undefined
}

function tryOpen(path: string): Database | Error {
  let db: Database | undefined
  try {
    db = new BetterSqlite(path, { readonly: true, fileMustExist: true })
    db.prepare('SELECT name FROM sqlite_master').all()
    // No look at rows: one that can't be read costs itself, and a first page built anew would not mend it.
    assertTables(db)
    return db
  } catch (error) {
    db?.close()
    if (isDamage(error) || isMissingTable(error)) return error as Error
    throw error
  }
}

/**
 * Puts the first page of an empty outbox in the place of a damaged one. The tables are always made in the same
 * order, so their root pages are the same in every file of this schema version.
 */
function repairFirstPage(path: string): boolean {
  const { size } = statSync(path)
  if (size < 2 * PAGE_BYTES || isForeign(path)) return false
  const page = templateFirstPage(`${path}.template`)
  // Header fields (SQLite file format, 1.3): size in pages; no freelist, whose trunk we don't know.
  page.writeUInt32BE(Math.floor(size / PAGE_BYTES), 28)
  page.writeUInt32BE(0, 32)
  page.writeUInt32BE(0, 36)
  const fd = openSync(path, 'r+')
  try {
    writeSync(fd, page, 0, PAGE_BYTES, 0)
  } finally {
    closeSync(fd)
  }
  return true
}

/** A sound header with another application's id: somebody else's database, which must stay as it is. */
function isForeign(path: string): boolean {
  const head = readStart(path, HEADER_BYTES)
  return head.toString('latin1', 0, MAGIC.length) === MAGIC && head.readUInt32BE(68) !== APPLICATION_ID
}

function templateFirstPage(path: string): Buffer {
  removeDatabase(path)
  const db = openWritable(path)
  migrate(db)
  db.pragma('wal_checkpoint(TRUNCATE)')
  db.close()
  try {
    return readStart(path, PAGE_BYTES)
  } finally {
    removeDatabase(path)
  }
}

function readStart(path: string, bytes: number): Buffer {
  const start = Buffer.alloc(bytes)
  const fd = openSync(path, 'r')
  try {
    readSync(fd, start, 0, bytes, 0)
  } finally {
    closeSync(fd)
  }
  return start
}

export function removeDatabase(path: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true })
}
