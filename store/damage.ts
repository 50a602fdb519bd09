/** What kind of trouble an error of the database is. */
import BetterSqlite from 'better-sqlite3'
import { GatewayError } from '../daemon/errors.ts'
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

/** What a command says that met `damage` and may not set the file aside. */
export function leftToTheStart(damage: string): GatewayError {
  return new GatewayError('rejected', `${damage}; nothing was changed`, {
    remedy:
      'start the daemon (systemctl start edge-gateway): it sets the file aside, saves what can be saved, and says what is lost; then try again',
  })
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
