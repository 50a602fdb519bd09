/** Opening of SQLite files with the settings that the durability promise hangs on, each read back. */
import { closeSync, fsyncSync, openSync } from 'node:fs'
import BetterSqlite from 'better-sqlite3'
import type { Database } from 'better-sqlite3'
import { GatewayError } from '../daemon/errors.ts'
import { DamagedFile } from './damage.ts'
import { APPLICATION_ID } from './schema.ts'

export const PAGE_BYTES = 4096
/** How long a statement waits for another program's lock; the worker's thread stands still meanwhile. */
const BUSY_MS = 1_000
const CACHE_KIB = 4_096
/** A WAL that grew is cut back to this at the next restart of the log. */
export const WAL_KEEP_BYTES = 16 << 20

/** Opens `path` for writing, creating it when absent, with WAL and FULL. Throws SQLite's own errors. */
export function openWritable(path: string): Database {
  const db = new BetterSqlite(path, { timeout: BUSY_MS })
  try {
    applySettings(db)
  } catch (error) {
    db.close()
    throw error
  }
  return db
}

/**
 * A second, read-only connection. While it is open, closing the writer copies nothing into the main file. That is
 * what must happen after an I/O error: a failed fsync is reported once, the copy at a second try looks whole, and
 * SQLite would then delete the log, the only good copy (seen: settled messages gone after a remount).
 */
export function openGuard(path: string): Database {
  const guard = new BetterSqlite(path, { readonly: true, timeout: BUSY_MS })
  guard.pragma('cache_size = 0')
  // A connection in WAL mode holds its shared lock from the first read on.
  guard.prepare('SELECT count(*) FROM sqlite_master').get()
  return guard
}

function applySettings(db: Database): void {
  // Page size and auto-vacuum only act before the first table is made; on a file with tables they do nothing.
  db.pragma(`page_size = ${PAGE_BYTES}`)
  db.pragma('auto_vacuum = INCREMENTAL')
  if (db.pragma('application_id', { simple: true }) === 0) db.pragma(`application_id = ${APPLICATION_ID}`)
  db.pragma('journal_mode = WAL')
  // Turning WAL on sets `synchronous` to NORMAL without a word: a commit would then not be fsynced.
  db.pragma('synchronous = FULL')
  db.pragma('wal_autocheckpoint = 0')
  db.pragma(`journal_size_limit = ${WAL_KEEP_BYTES}`)
  db.pragma(`cache_size = -${CACHE_KIB}`)
  db.pragma('temp_store = MEMORY')
  assertSettings(db)
}

function assertSettings(db: Database): void {
  const expected = { application_id: APPLICATION_ID, page_size: PAGE_BYTES, auto_vacuum: 2, journal_mode: 'wal', synchronous: 2 }
  for (const [name, value] of Object.entries(expected)) {
    const actual = db.pragma(name, { simple: true })
    if (actual === value) continue
    const text = `SQLite reports ${name} = ${String(actual)} instead of ${value} for ${db.name}`
    // These are properties of the file: with other values it is not ours, or not whole.
    if (name === 'auto_vacuum' || name === 'page_size' || name === 'application_id') throw new DamagedFile(text)
    throw new GatewayError('fatal', text, { remedy: 'Put the data directory on a local file system that supports shared memory maps.' })
  }
}

/** Makes the entries of a directory durable: a new or renamed file is else lost with the power. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
