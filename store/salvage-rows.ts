/**
 * What a row must hold to be copied out of a damaged file. SQLite's types are those of the values, not of the columns,
 * and a damaged cell keeps to none of our rules: what is not checked here would break one in the new file.
 */
import type { Database } from 'better-sqlite3'
import { LANES } from '../daemon/ports.ts'
import { DamagedFile, isMissingTable } from './damage.ts'
import { ID_BYTES } from './message-ids.ts'

/** A row as it was read: anything can be in it. */
export type RawRow = Readonly<Record<string, unknown>>
type Check = (value: unknown) => boolean

const whole: Check = (value) => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
/** Wall and boot times may have fractions. */
const time: Check = (value) => typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER
const flag: Check = (value) => value === 0 || value === 1
const text: Check = (value) => typeof value === 'string'
const bytes: Check = (value) => Buffer.isBuffer(value) && value.length > 0
const lane: Check = (value) => whole(value) && (value as number) < LANES.length
const ids: Check = (value) => bytes(value) && (value as Buffer).length % ID_BYTES === 0

const GROUP = { first: whole, count: whole, epoch: whole, bytes: whole, oldest_ms: time, newest_ms: time, trusted: flag, frames: bytes }

/** The columns of each table that is copied or replayed, by the table's name. */
const TABLES = new Map<string, Readonly<Record<string, Check>>>([
  ['epochs', { id: whole, epoch: text, boot_id: text, created_ms: time, touched_ms: time }],
  ['lanes', { lane, highest: whole, watermark: whole }],
  ...LANES.map((name) => [`outbox_${name}`, GROUP] as const),
  ['ledger_snapshot', { shard: whole, lines: bytes }],
  ['ledger_log', { id: whole, delta: bytes }],
  ['dead_letters', { id: whole, lane, epoch: text, position: whole, at_ms: time, bytes: whole, reason: text, frame: bytes }],
  ['holes', { lane, position: whole }],
  ['exchanges', { exchange: text }],
  ['message_ids', { id: whole, boot_id: text, boot_ms: time, wall_ms: time, trusted: flag, ids }],
])

function checksOf(table: string): Readonly<Record<string, Check>> {
  const checks = TABLES.get(table)
  if (checks === undefined) throw new RangeError(`no table ${table}`)
  return checks
}

export function columnsOf(table: string): string[] {
  return Object.keys(checksOf(table))
}

/** Every column holds what the table allows. */
export function isSound(table: string, row: RawRow): boolean {
  return Object.entries(checksOf(table)).every(([column, check]) => check(row[column]))
}

/** For rows that are read at each start: throws `DamagedFile`, so that the file is salvaged. A row that is missing is none. */
export function assertSound(table: string, row: object | undefined): void {
  if (!isSound(table, { ...row })) throw new DamagedFile(`a row of ${table} is not what was written`)
}

/** Throws `DamagedFile` unless all tables have our columns; those of newer releases may be there too. */
export function assertTables(db: Database): void {
  for (const table of TABLES.keys()) {
    try {
      db.prepare(`SELECT ${columnsOf(table).join(', ')} FROM ${table}`)
    } catch (error) {
      if (isMissingTable(error)) throw new DamagedFile(`its schema is not the one that was written: ${(error as Error).message}`)
      throw error
    }
  }
}
