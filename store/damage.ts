/** What kind of trouble an error of the database is. */
import BetterSqlite from 'better-sqlite3'
import { MalformedBytes } from './bytes.ts'
import { DamagedGroup } from './group.ts'

/** The file is not what we wrote. */
export class DamagedFile extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'DamagedFile'
  }
}

function codeOf(error: unknown): string {
  return error instanceof BetterSqlite.SqliteError ? error.code : ''
}

/** Bytes on the disk are wrong: set aside and salvage. */
export function isDamage(error: unknown): boolean {
  const code = codeOf(error)
  // A short read: the file ends in the middle of a row's overflow pages, which SQLite reads past its cache.
  return (
    code.startsWith('SQLITE_CORRUPT') ||
    code === 'SQLITE_NOTADB' ||
    code === 'SQLITE_IOERR_SHORT_READ' ||
    error instanceof DamagedFile ||
    error instanceof DamagedGroup ||
    error instanceof MalformedBytes
  )
}

/** A statement names a table or a column that the file does not have. */
export function isMissingTable(error: unknown): boolean {
  return codeOf(error) === 'SQLITE_ERROR'
}

/** The disk is full: nothing was written, and it goes on when there is room. */
export function isDiskFull(error: unknown): boolean {
  return codeOf(error) === 'SQLITE_FULL' || (error instanceof Error && 'code' in error && error.code === 'ENOSPC')
}

/** Another program holds a lock: nothing was written, and it goes on when the lock is gone. */
export function isLocked(error: unknown): boolean {
  return codeOf(error).startsWith('SQLITE_BUSY')
}
