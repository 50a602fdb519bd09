/**
 * Positions that left the buffer in another way than into Kafka, and why: what `edgectl verify` needs to tell a gap
 * that was decided from one that nobody can explain. Written in the transaction that decides; bounded.
 */
import { join } from 'node:path'
import BetterSqlite from 'better-sqlite3'
import type { Database, Statement } from 'better-sqlite3'
import { LANES } from '../daemon/ports.ts'
import type { EpochId, Gap } from '../daemon/ports.ts'
import { DEAD_LETTERED, EXPORTED, LOST, SHED_CODES } from './ledger-codec.ts'
import type { Transaction } from './transaction.ts'

const OUTBOX = 'outbox.db'
/** Neighbours are one row, so that this is far more than a box needs; the oldest go first. */
const ROWS_MAX = 10_000

const REASONS: ReadonlyMap<number, string> = new Map([
  ...Object.entries(SHED_CODES).map(([reason, code]) => [code, reason] as const),
  [EXPORTED, 'exported'],
  [DEAD_LETTERED, 'dead-lettered'],
  [LOST, 'lost'],
])

interface Newest {
  readonly id: number
  readonly epoch: EpochId
  last: number
}

export class Gaps {
  readonly #insert: Statement
  readonly #extend: Statement
  readonly #forget: Statement
  readonly #all: Statement
  /** By lane and reason: what a neighbour would extend. */
  readonly #newest = new Map<string, Newest>()

  constructor(db: Database) {
    this.#insert = db.prepare('INSERT INTO gaps (lane, epoch, first, last, reason) VALUES (?, ?, ?, ?, ?)')
    this.#extend = db.prepare('UPDATE gaps SET last = ? WHERE id = ?')
    this.#forget = db.prepare('DELETE FROM gaps WHERE id <= ?')
    this.#all = db.prepare('SELECT lane, epoch, first, last, reason FROM gaps ORDER BY id')
  }

  /** Positions `first` to `last` of an epoch in a lane; part of the caller's transaction. */
  note(lane: number, epoch: EpochId, first: number, last: number, code: number, transaction: Transaction): void {
    if (last < first) return
    const reason = REASONS.get(code) ?? String(code)
    const key = `${lane} ${reason}`
    const newest = this.#newest.get(key)
    transaction.onRollback(() => this.#newest.clear())
    // Its row may have been forgotten since, and can't grow then.
    if (newest?.epoch === epoch && newest.last === first - 1 && this.#extend.run(last, newest.id).changes === 1) {
      newest.last = last
      return
    }
    const id = Number(this.#insert.run(lane, epoch, first, last, reason).lastInsertRowid)
    this.#newest.set(key, { id, epoch, last })
    this.#forget.run(id - ROWS_MAX)
  }

  list(): Gap[] {
    return listGaps(this.#all)
  }
}

/** Of a daemon that is down; a file that the release before wrote has no such table. */
export function stoppedGaps(dataDir: string): Gap[] {
  const db = new BetterSqlite(join(dataDir, OUTBOX), { readonly: true, fileMustExist: true })
  try {
    return gapsOf(db)
  } finally {
    db.close()
  }
}

function gapsOf(db: Database): Gap[] {
  const there = db.prepare("SELECT count(*) FROM sqlite_master WHERE name = 'gaps'").pluck().get() === 1
  return there ? listGaps(db.prepare('SELECT lane, epoch, first, last, reason FROM gaps ORDER BY id')) : []
}

function listGaps(all: Statement): Gap[] {
  const rows = all.all() as { lane: number; epoch: string; first: number; last: number; reason: string }[]
  return rows.flatMap(({ lane, ...gap }) => {
    const name = LANES[lane]
    return name === undefined ? [] : [{ lane: name, ...gap }]
  })
}
