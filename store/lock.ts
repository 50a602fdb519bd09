/**
 * One daemon per data directory: an exclusive SQLite lock on an empty file, which the kernel drops when its
 * owner dies, however it dies.
 */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import BetterSqlite from 'better-sqlite3'
import type { Database } from 'better-sqlite3'
import { GatewayError } from '../daemon/errors.ts'
import { isDiskFull } from './damage.ts'

const LOCK_FILE = 'lock.db'
const PID_FILE = 'lock.pid'

/** Holds until the returned connection is closed or its owner dies; refuses (`transient`: until the first has gone) a second owner. */
export function lockDirectory(directory: string): Database {
  const path = join(directory, LOCK_FILE)
  const lock = new BetterSqlite(path, { timeout: 0 })
  try {
    begin(lock, path)
  } catch (error) {
    lock.close()
    if (!isBusy(error)) throw error
    const pid = ownerPid(directory)
    throw new GatewayError('transient', `another gateway${pid === undefined ? '' : ` (pid ${pid})`} uses the data directory ${directory}`, {
      remedy: 'Stop it first (systemctl stop edge-gateway), or give this one a gateway.dataDir of its own.',
      cause: error,
    })
  }
  notePid(directory)
  return lock
}

function notePid(directory: string): void {
  try {
    writeFileSync(join(directory, PID_FILE), `${process.pid}\n`)
  } catch (error) {
    // The lock holds without it; only the words of a refusal are poorer.
    if (!isDiskFull(error)) throw error
  }
}

/** Whether a daemon runs on the directory, and its pid if it is known. */
export function lockOwner(directory: string): { readonly pid: number | undefined } | undefined {
  let probe: Database
  try {
    probe = new BetterSqlite(join(directory, LOCK_FILE), { timeout: 0, readonly: true, fileMustExist: true })
  } catch {
    // No lock file, or none that we may read: nobody is known to run.
    return undefined
  }
  try {
    probe.prepare('SELECT count(*) FROM sqlite_master').get()
    return undefined
  } catch (error) {
    return isBusy(error) ? { pid: ownerPid(directory) } : undefined
  } finally {
    probe.close()
  }
}

function begin(lock: Database, path: string): void {
  try {
    // A journal on the disk would need room, and the lock must be had on a full one too.
    lock.pragma('journal_mode = MEMORY')
    lock.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    if (!(error instanceof BetterSqlite.SqliteError) || error.code !== 'SQLITE_NOTADB') throw error
    // Nothing was ever written to it by us; whatever did, an empty file locks as well.
    truncateSync(path)
    lock.exec('BEGIN EXCLUSIVE')
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof BetterSqlite.SqliteError && error.code.startsWith('SQLITE_BUSY')
}

function ownerPid(directory: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(join(directory, PID_FILE), 'utf8'), 10)
    return Number.isSafeInteger(pid) ? pid : undefined
  } catch {
    // The owner may have found no room to write it.
    return undefined
  }
}
