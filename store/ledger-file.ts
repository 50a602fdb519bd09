/**
 * The ledger on disk: an append-only log of small deltas, each in the transaction that decided it, folded now
 * and then into a snapshot. Totals are the snapshot plus the log.
 */
import type { Database, Statement } from 'better-sqlite3'
import { LANES } from '../daemon/ports.ts'
import { LedgerWriter, replayLedger } from './ledger-codec.ts'
import { LedgerBook } from './ledger-book.ts'
import type { LedgerDelta } from './ledger-book.ts'
import type { Transaction, Transactions } from './transaction.ts'

/** The log may grow to this, or to twice the snapshot, before a snapshot pays. */
const MIN_LOG_BYTES = 256 << 10
/** A row costs a page's share however small its delta; start-up reads them all. */
const MAX_LOG_ROWS = 20_000
const SHARD_LINES = 256
/** Lines may exceed their limit by this share before a fold, so that a fold is not due at every new device. */
const SLACK = 1.25

export class LedgerFile {
  readonly book = new LedgerBook()
  readonly #insert: Statement
  readonly #db: Database
  #logBytes = 0
  #logRows = 0
  #snapshotBytes = 0

  constructor(db: Database) {
    this.#db = db
    this.#insert = db.prepare('INSERT INTO ledger_log (delta) VALUES (?)')
  }

  /** Throws `MalformedBytes` when a record is damaged. */
  load(): void {
    for (const row of this.#db.prepare('SELECT lines AS blob FROM ledger_snapshot ORDER BY shard').all() as { blob: Buffer }[]) {
      replayLedger(row.blob, this.book)
      this.#snapshotBytes += row.blob.length
    }
    for (const row of this.#db.prepare('SELECT delta AS blob FROM ledger_log ORDER BY id').all() as { blob: Buffer }[]) {
      replayLedger(row.blob, this.book)
      this.#logBytes += row.blob.length
      this.#logRows++
    }
  }

  /** Part of the caller's transaction; the book follows after the commit. */
  write(delta: LedgerDelta, transaction: Transaction): void {
    if (delta.empty) return
    const blob = delta.encode()
    this.#insert.run(blob)
    transaction.afterCommit(() => {
      delta.apply()
      this.#logBytes += blob.length
      this.#logRows++
    })
  }

  foldDue(maxLines: number): boolean {
    return (
      this.#logBytes > Math.max(MIN_LOG_BYTES, 2 * this.#snapshotBytes) ||
      this.#logRows > MAX_LOG_ROWS ||
      this.book.lines.size - 1 > maxLines * SLACK
    )
  }

  /** Writes a snapshot and empties the log, in a transaction of its own. */
  fold(transactions: Transactions, maxLines: number): void {
    this.book.fold(maxLines)
    const shards = this.#shards()
    transactions.run((transaction) => {
      this.#db.exec('DELETE FROM ledger_snapshot; DELETE FROM ledger_log;')
      const insert = this.#db.prepare('INSERT INTO ledger_snapshot (shard, lines) VALUES (?, ?)')
      for (const [index, blob] of shards.entries()) insert.run(index, blob)
      transaction.afterCommit(() => {
        this.#logBytes = 0
        this.#logRows = 0
        this.#snapshotBytes = shards.reduce((sum, blob) => sum + blob.length, 0)
        for (const line of this.book.lines.values()) line.durable = line.tally.counts.size > 0
      })
    })
  }

  #shards(): Buffer[] {
    const shards: Buffer[] = []
    const lines = [...this.book.lines.values()].filter((line) => line.tally.counts.size > 0)
    for (let from = 0; from < Math.max(1, lines.length); from += SHARD_LINES) {
      const out = new LedgerWriter()
      if (from === 0)
        for (const index of LANES.keys()) out.lane(index, this.book.lanes[index]?.messages ?? 0, this.book.lanes[index]?.bytes ?? 0)
      for (const line of lines.slice(from, from + SHARD_LINES)) {
        out.define(line.id, line.device, line.stream)
        for (const [code, count] of line.tally.counts) out.count(line.id, code, count.messages, count.bytes)
      }
      shards.push(out.finish())
    }
    return shards
  }
}
