/**
 * Copies of the databases while they are written, by SQLite's online backup on the worker's own connections: what is
 * committed meanwhile goes into the copy too, so that it is whole and no reader holds up the log.
 */
import { closeSync, fsyncSync, openSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import BetterSqlite from 'better-sqlite3'
import type { Database } from 'better-sqlite3'
import { messageOf } from '../daemon/errors.ts'
import { isDiskFull } from './damage.ts'
import { PAGE_BYTES, syncDirectory } from './database.ts'
import type { WireError } from './protocol.ts'

/** A step of about 1 MiB: a few ms, in which nothing else is committed. */
const PAGES_A_STEP = 256
/** What stays free on the disk beside the copy. */
const SPARE_BYTES = 64 << 20

export interface Copied {
  readonly db: Database
  readonly name: string
}

/** Returns why there is no copy, or undefined. */
export async function copyDatabases(sources: readonly Copied[], directory: string): Promise<WireError | undefined> {
  try {
    const short = shortage(sources, directory)
    if (short !== undefined) return short
    for (const { db, name } of sources) {
      const path = join(directory, name)
      await db.backup(path, { progress: () => PAGES_A_STEP })
      settle(path)
      sync(path)
    }
    syncDirectory(directory)
    return undefined
  } catch (error) {
    return {
      kind: 'rejected',
      message: `the copy in ${directory} failed: ${messageOf(error)}`,
      remedy: isDiskFull(error)
        ? 'Make room on the disk, or stop the daemon first: then the copy goes straight to its place.'
        : 'Check the disk.',
    }
  }
}

function shortage(sources: readonly Copied[], directory: string): WireError | undefined {
  const disk = statfsSync(directory)
  const needed = sources.reduce((sum, { db }) => sum + sizeOf(db), SPARE_BYTES)
  if (disk.bavail * disk.bsize >= needed) return undefined
  return {
    kind: 'saturated',
    message: `the copy needs ${Math.ceil(needed / 2 ** 20)} MiB on the disk of ${directory}, which has ${Math.floor((disk.bavail * disk.bsize) / 2 ** 20)} MiB free`,
    remedy: 'Make room; or stop the daemon (systemctl stop edge-gateway), take the backup straight to its place, and start it again.',
  }
}

function sizeOf(db: Database): number {
  return Math.max((db.pragma('page_count', { simple: true }) as number) * PAGE_BYTES, statSync(db.name).size)
}

/** One plain file: a copy that says WAL could not be opened on a medium that is read-only. */
function settle(path: string): void {
  const copy = new BetterSqlite(path)
  try {
    copy.pragma('journal_mode = DELETE')
  } finally {
    copy.close()
  }
}

function sync(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
