/**
 * A new outbox out of a damaged one: every group whose checksum holds, at its old position and epoch; the
 * ledger; dead letters. What is missing is counted as lost, so that the ledger's equation holds.
 */
import type { Database } from 'better-sqlite3'
import { LANES } from '../daemon/ports.ts'
import type { Lane } from '../daemon/ports.ts'
import { messageOf } from '../daemon/errors.ts'
import { isDamage, isDiskFull } from './damage.ts'
import { readDamaged, scanDamaged } from './damaged-rows.ts'
import { openWritable } from './database.ts'
import { skimGroup } from './frames.ts'
import { openGroup } from './group.ts'
import type { GroupRow } from './lane-table.ts'
import { LaneTable, lastOf } from './lane-table.ts'
import { framesOf } from './letters.ts'
import type { LetterRow } from './letters.ts'
import { salvageLedger } from './salvage-ledger.ts'
import { columnsOf, isSound } from './salvage-rows.ts'
import type { RawRow } from './salvage-rows.ts'
import { openSource, removeDatabase } from './salvage-source.ts'
import { migrate } from './schema.ts'
import type { OutboxNote } from './state.ts'
import { Transactions } from './transaction.ts'

/** Rows copied in one transaction. */
const COPY_ROWS = 500

export interface SalvageOrder {
  /** The damaged file; read only. */
  readonly source: string
  /** Where the new one is built. */
  readonly target: string
  readonly note: OutboxNote | undefined
  /** 16 hex digits, for rows whose epoch is unknown. */
  readonly freshEpoch: (id: number) => string
  readonly wallMs: number
}

export interface Salvaged {
  readonly rescued: number
  readonly lostMessages: number
  readonly texts: readonly string[]
}

interface LaneResult {
  readonly lane: Lane
  readonly messages: number
  readonly bytes: number
  /** Rows that are not what was written. */
  readonly leftOut: number
  /** Something of it could not be read at all. */
  readonly damaged: boolean
}

/** Builds `target`, complete and closed. */
export function salvage(order: SalvageOrder): Salvaged {
  const texts: string[] = []
  removeDatabase(order.target)
  const source = openSource(order.source, (text) => texts.push(text))
  const target = openWritable(order.target)
  try {
    migrate(target)
    const results = source === undefined ? [] : copyAll(source, target, order, texts)
    if (source === undefined) texts.push('nothing of it could be read')
    noteHighest(target, order.note)
    const lost = salvageLedger(source, target, order.note, heldBy(target, results), (text) => texts.push(text))
    for (const { lane, messages, damaged, leftOut } of results) {
      if (damaged) texts.push(`lane ${lane}: some pages could not be read, ${messages} messages were saved`)
      tellLeftOut(`lane ${lane}`, leftOut, texts)
    }
    target.pragma('wal_checkpoint(TRUNCATE)')
    return { rescued: results.reduce((sum, result) => sum + result.messages, 0), lostMessages: lost.messages, texts }
  } finally {
    target.close()
    source?.close()
  }
}

function copyAll(source: Database, target: Database, order: SalvageOrder, texts: string[]): LaneResult[] {
  const transactions = new Transactions(target)
  transactions.run(() => {
    copyTable(source, target, 'epochs', 'id', texts)
    copyTable(source, target, 'lanes', 'lane', texts)
    copyTable(source, target, 'dead_letters', 'id', texts)
    copyTable(source, target, 'message_ids', 'id', texts)
    copyUnkeyed(source, target, 'holes', texts)
    copyUnkeyed(source, target, 'exchanges', texts)
  })
  return LANES.map((lane) => copyLane(source, target, lane, transactions, order, texts))
}

function tellLeftOut(what: string, count: number, texts: string[]): void {
  if (count > 0) texts.push(`${what}: ${count} damaged ${count === 1 ? 'row was' : 'rows were'} left out`)
}

/** Rows with an integer key, around damaged places. */
function copyTable(source: Database, target: Database, table: string, key: string, texts: string[]): void {
  const { rows, damaged } = readDamaged<RawRow>(source, table, key, Number.MAX_SAFE_INTEGER)
  copyRows(rows, target, table, texts)
  if (damaged()) texts.push(`${table}: some rows could not be read`)
}

/** Small tables without an integer key: as far as one scan goes. */
function copyUnkeyed(source: Database, target: Database, table: string, texts: string[]): void {
  const { rows, damaged } = scanDamaged<RawRow>(source, table)
  copyRows(rows, target, table, texts)
  if (damaged()) texts.push(`${table}: some rows could not be read`)
}

function copyRows(rows: Iterable<RawRow>, target: Database, table: string, texts: string[]): void {
  const columns = columnsOf(table)
  const insert = target.prepare(`INSERT OR REPLACE INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`)
  let leftOut = 0
  for (const row of rows) {
    if (isSound(table, row) && (table !== 'dead_letters' || isWholeLetter(row))) insert.run(...columns.map((column) => row[column]))
    else leftOut++
  }
  tellLeftOut(table, leftOut, texts)
}

function isWholeLetter(row: RawRow): boolean {
  try {
    framesOf(row as unknown as LetterRow)
    return true
  } catch (error) {
    if (isDamage(error)) return false
    throw error
  }
}

function copyLane(
  source: Database,
  target: Database,
  lane: Lane,
  transactions: Transactions,
  order: SalvageOrder,
  texts: string[],
): LaneResult {
  const table = new LaneTable(target, lane)
  const known = Math.max(table.highest, order.note?.lanes[table.index]?.highest ?? 0) + 1_000_000
  const { rows, damaged } = readDamaged<GroupRow & { frames: Buffer }>(source, `outbox_${lane}`, 'first', known)
  const result = { lane, messages: 0, bytes: 0, leftOut: 0, damaged: false }
  let end = table.watermark
  const take = (row: GroupRow & { frames: Buffer }): void => {
    const open = openCount(row, table)
    if (open === undefined) {
      result.leftOut++
      return
    }
    if (lastOf(row) <= end) return
    ensureEpoch(target, row.epoch, order)
    table.put(row, row.frames)
    result.messages += open.messages
    result.bytes += open.bytes
    end = lastOf(row)
  }
  try {
    inBatches(rows, (batch) => transactions.run(() => batch.forEach(take)))
  } catch (error) {
    if (!isDiskFull(error)) throw error
    texts.push(`lane ${lane}: the disk is full, the rest of it stays in the file that was set aside (${messageOf(error)})`)
    result.damaged = true
  }
  result.damaged ||= damaged()
  return result
}

/** What of a row still counts as buffered; undefined when it is damaged. */
function openCount(row: GroupRow & { frames: Buffer }, table: LaneTable): { messages: number; bytes: number } | undefined {
  if (!isSound(`outbox_${table.lane}`, { ...row })) return undefined
  try {
    let messages = 0
    let bytes = 0
    skimGroup(openGroup(row.frames, { ...row, lane: table.index }), (index, size) => {
      const position = row.first + index
      if (position <= table.watermark || table.holes.has(position)) return true
      messages++
      bytes += size
      return true
    })
    return { messages, bytes }
  } catch (error) {
    if (isDamage(error)) return undefined
    throw error
  }
}

/** Rows of an unknown epoch are sent again under a new one: Kafka's positions for the old are unknown too. */
function ensureEpoch(target: Database, id: number, order: SalvageOrder): void {
  if (target.prepare('SELECT 1 FROM epochs WHERE id = ?').get(id) !== undefined) return
  target
    .prepare('INSERT INTO epochs (id, epoch, boot_id, created_ms, touched_ms) VALUES (?, ?, ?, ?, ?)')
    .run(id, order.freshEpoch(id), 'unknown', order.wallMs, order.wallMs)
}

/** Positions are never given twice, even if `lanes` was damaged. */
function noteHighest(target: Database, note: OutboxNote | undefined): void {
  for (const [index] of LANES.entries()) {
    const known = note?.lanes[index]
    target.prepare('INSERT OR IGNORE INTO lanes (lane, highest, watermark) VALUES (?, 0, 0)').run(index)
    target
      .prepare('UPDATE lanes SET highest = max(highest, ?), watermark = max(watermark, ?) WHERE lane = ?')
      .run(known?.highest ?? 0, known?.watermark ?? 0, index)
  }
}

function heldBy(
  target: Database,
  results: readonly LaneResult[],
): { lanes: { messages: number; bytes: number }[]; deadLetters: { messages: number; bytes: number } } {
  const deadLetters = target.prepare('SELECT count(*) AS messages, coalesce(sum(bytes), 0) AS bytes FROM dead_letters').get() as {
    messages: number
    bytes: number
  }
  return { lanes: LANES.map((lane) => results.find((result) => result.lane === lane) ?? { messages: 0, bytes: 0 }), deadLetters }
}

function inBatches<Row>(rows: Iterable<Row>, write: (batch: Row[]) => void): void {
  let batch: Row[] = []
  for (const row of rows) {
    batch.push(row)
    if (batch.length < COPY_ROWS) continue
    write(batch)
    batch = []
  }
  if (batch.length > 0) write(batch)
}
