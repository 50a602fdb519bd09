/** The ledger of a salvaged outbox: what could be read of it, closed with what was lost. */
import type { Database } from 'better-sqlite3'
import { LANES } from '../daemon/ports.ts'
import type { Counted } from '../daemon/ports.ts'
import { isDamage } from './damage.ts'
import { readDamaged } from './damaged-rows.ts'
import { LedgerBook, LedgerDelta, OTHER_ID } from './ledger-book.ts'
import { DEAD_LETTERED, LOST, RECEIVED, replayLedger } from './ledger-codec.ts'
import { LedgerFile } from './ledger-file.ts'
import { isSound } from './salvage-rows.ts'
import type { RawRow } from './salvage-rows.ts'
import type { OutboxNote } from './state.ts'
import { Transactions } from './transaction.ts'

export interface Held {
  /** Per lane index: what the new file holds. */
  readonly lanes: readonly Counted[]
  readonly deadLetters: Counted
}

/**
 * Writes a snapshot into `target` such that received = delivered + buffered + dead-lettered + shed + lost +
 * exported, and returns what was lost now. `tell` gets what is missing apart from that.
 */
export function salvageLedger(
  source: Database | undefined,
  target: Database,
  note: OutboxNote | undefined,
  held: Held,
  tell: (text: string) => void,
): Counted {
  const file = new LedgerFile(target)
  if (source === undefined || !replayAll(source, file.book)) {
    restart(file.book, note)
    if (source !== undefined) tell('the ledger could not be read: it begins anew, with the last totals known apart from it')
  }
  const transactions = new Transactions(target)
  const lost = transactions.run((transaction) => {
    const delta = new LedgerDelta(file.book)
    const missing = close(file.book, delta, held)
    file.write(delta, transaction)
    return missing
  })
  file.fold(transactions, Infinity)
  return lost
}

/** True when the whole ledger could be read. */
function replayAll(source: Database, book: LedgerBook): boolean {
  const trial = new LedgerBook()
  for (const [table, key, column] of [
    ['ledger_snapshot', 'shard', 'lines'],
    ['ledger_log', 'id', 'delta'],
  ] as const) {
    const { rows, damaged } = readDamaged<RawRow>(source, table, key, 1 << 30)
    for (const row of rows) if (!isSound(table, row) || !replayOne(row[column] as Buffer, trial)) return false
    if (damaged()) return false
  }
  for (const line of trial.lines.values()) {
    if (line.id !== OTHER_ID) book.define(line.id, line.device, line.stream)
    for (const [code, count] of line.tally.counts) book.count(line.id, code, count.messages, count.bytes)
  }
  for (const [index, lane] of trial.lanes.entries()) book.lane(index, lane.messages, lane.bytes)
  return true
}

function replayOne(blob: Buffer, book: LedgerBook): boolean {
  try {
    replayLedger(blob, book)
    return true
  } catch (error) {
    if (isDamage(error)) return false
    throw error
  }
}

/** With holes in the ledger its lines are worth nothing: the last totals that `state.db` noted are the base. */
function restart(book: LedgerBook, note: OutboxNote | undefined): void {
  for (const [code, messages, bytes] of note?.totals ?? []) book.count(OTHER_ID, code, messages, bytes)
  for (const [index, lane] of (note?.lanes ?? []).entries()) book.lane(index, lane.messages, lane.bytes)
}

function close(book: LedgerBook, delta: LedgerDelta, held: Held): Counted {
  const buffered = { messages: 0, bytes: 0 }
  for (const [index, lane] of LANES.entries()) {
    const now = held.lanes[index] ?? { messages: 0, bytes: 0 }
    const before = book.lanes[index] ?? { messages: 0, bytes: 0 }
    delta.lane(index, now.messages - before.messages, now.bytes - before.bytes)
    if (lane === 'internal') continue
    buffered.messages += now.messages
    buffered.bytes += now.bytes
  }
  const dead = book.totals.get(DEAD_LETTERED)
  const deadChange = { messages: held.deadLetters.messages - dead.messages, bytes: held.deadLetters.bytes - dead.bytes }
  delta.unowned(DEAD_LETTERED, deadChange.messages, deadChange.bytes)
  const open = book.totals.balance
  const missing = {
    messages: open.messages - deadChange.messages - buffered.messages,
    bytes: open.bytes - deadChange.bytes - buffered.bytes,
  }
  // More was found than the ledger knew of: it was received all the same.
  delta.unowned(RECEIVED, Math.max(0, -missing.messages), Math.max(0, -missing.bytes))
  const lost = { messages: Math.max(0, missing.messages), bytes: Math.max(0, missing.bytes) }
  delta.unowned(LOST, lost.messages, lost.bytes)
  return lost
}
