/** One lane's table: rows of groups, its highest position and its watermark. */
import type { Database, Statement } from 'better-sqlite3'
import { LANES } from '../daemon/ports.ts'
import type { Lane } from '../daemon/ports.ts'
import type { GroupFacts } from './frames.ts'
import { openGroup, sealGroup } from './group.ts'
import { assertSound } from './salvage-rows.ts'
import { KnownShares } from './shares.ts'
import type { Transaction } from './transaction.ts'

export interface GroupRow {
  readonly first: number
  readonly count: number
  /** `epochs.id`. */
  readonly epoch: number
  readonly bytes: number
  readonly oldest_ms: number
  readonly newest_ms: number
  readonly trusted: number
}

export function lastOf(row: GroupRow): number {
  return row.first + row.count - 1
}

/** The last group that was opened, so that a batch that ends in the middle of a group does not open it twice. */
interface Opened {
  readonly first: number
  readonly frames: Buffer
}

const COLUMNS = 'first, count, epoch, bytes, oldest_ms, newest_ms, trusted'

export class LaneTable {
  readonly lane: Lane
  readonly index: number
  /** Highest position ever given. */
  highest = 0
  /** All up to here are done. */
  watermark = 0
  /** Positions above the watermark that were set aside as dead letters. */
  readonly holes = new Set<number>()
  readonly known = new KnownShares()
  /** Told of rows that leave in another way than into Kafka. */
  noteGap: (epoch: number, first: number, last: number, code: number, transaction: Transaction) => void = () => undefined
  #opened: Opened | undefined
  readonly #insert: Statement
  readonly #delete: Statement
  readonly #at: Statement
  readonly #after: Statement
  readonly #before: Statement
  readonly #frames: Statement
  readonly #note: Statement
  readonly #addHole: Statement
  readonly #dropHole: Statement

  constructor(db: Database, lane: Lane) {
    this.lane = lane
    this.index = LANES.indexOf(lane)
    const table = `outbox_${lane}`
    this.#insert = db.prepare(`INSERT INTO ${table} (${COLUMNS}, frames) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
    this.#delete = db.prepare(`DELETE FROM ${table} WHERE first = ?`)
    this.#at = db.prepare(`SELECT ${COLUMNS} FROM ${table} WHERE first <= ? ORDER BY first DESC LIMIT 1`)
    this.#after = db.prepare(`SELECT ${COLUMNS} FROM ${table} WHERE first > ? ORDER BY first LIMIT 1`)
    this.#before = db.prepare(`SELECT ${COLUMNS} FROM ${table} ORDER BY first DESC LIMIT 1`)
    this.#frames = db.prepare(`SELECT frames FROM ${table} WHERE first = ?`).pluck()
    this.#note = db.prepare('UPDATE lanes SET highest = ?, watermark = ? WHERE lane = ?')
    this.#addHole = db.prepare('INSERT INTO holes (lane, position) VALUES (?, ?)')
    this.#dropHole = db.prepare('DELETE FROM holes WHERE lane = ? AND position = ?')
    this.#load(db)
  }

  #load(db: Database): void {
    const noted = db.prepare('SELECT lane, highest, watermark FROM lanes WHERE lane = ?').get(this.index) as {
      highest: number
      watermark: number
    }
    assertSound('lanes', noted)
    const last = this.last()
    // `lanes` is written only by transactions that delete rows; appends after it show in the last row.
    this.highest = Math.max(noted.highest, last === undefined ? 0 : lastOf(last))
    this.watermark = noted.watermark
    const holes = db.prepare('SELECT position FROM holes WHERE lane = ?').pluck().all(this.index) as number[]
    for (const position of holes) this.holes.add(position)
  }

  /** Appends a packed group under the next positions; returns the first of them. */
  append(facts: GroupFacts, packed: Buffer, epoch: number, transaction: Transaction): number {
    const first = this.highest + 1
    this.put({ ...facts, first, epoch, trusted: facts.trusted ? 1 : 0, oldest_ms: facts.oldestMs, newest_ms: facts.newestMs }, packed)
    this.highest += facts.count
    transaction.onRollback(() => {
      this.highest = first - 1
    })
    return first
  }

  /** Appends a group under positions that another box gave; `group.first` is above `highest`. */
  bring(group: { readonly facts: GroupFacts; readonly first: number }, packed: Buffer, epoch: number, transaction: Transaction): void {
    const { facts, first } = group
    const before = this.highest
    this.put({ ...facts, first, epoch, trusted: facts.trusted ? 1 : 0, oldest_ms: facts.oldestMs, newest_ms: facts.newestMs }, packed)
    this.highest = first + facts.count - 1
    transaction.onRollback(() => {
      this.highest = before
    })
  }

  /** Writes a row as it is given; for salvage and for a group that was cut. */
  put(row: GroupRow, packed: Buffer): void {
    sealGroup(packed, { ...row, lane: this.index })
    this.#insert.run(row.first, row.count, row.epoch, row.bytes, row.oldest_ms, row.newest_ms, row.trusted, packed)
  }

  remove(row: GroupRow): void {
    this.#delete.run(row.first)
    this.known.forget(row.first)
    if (this.#opened?.first === row.first) this.#opened = undefined
  }

  /** The first row that holds a position above `position`. */
  above(position: number): GroupRow | undefined {
    const row = this.#at.get(position + 1) as GroupRow | undefined
    if (row !== undefined && lastOf(row) > position) return row
    return this.#after.get(position) as GroupRow | undefined
  }

  /** The row that holds `position`, or the nearest below it. */
  atOrBelow(position: number): GroupRow | undefined {
    return this.#at.get(position) as GroupRow | undefined
  }

  first(): GroupRow | undefined {
    return this.#after.get(0) as GroupRow | undefined
  }

  last(): GroupRow | undefined {
    return this.#before.get() as GroupRow | undefined
  }

  /** Decompressed frames of a row; throws `DamagedGroup`. The buffer is kept: callers must not change it. */
  open(row: GroupRow): Buffer {
    if (this.#opened?.first === row.first) return this.#opened.frames
    const packed = this.#frames.get(row.first) as Buffer
    const frames = openGroup(packed, { ...row, lane: this.index })
    this.#opened = { first: row.first, frames }
    return frames
  }

  /** As `open`, but the buffer is the caller's; what the removal of the row needs of it is kept. */
  take(row: GroupRow): Buffer {
    const frames = this.open(row)
    this.#opened = undefined
    this.known.note(row.first, frames)
    return frames
  }

  /** Part of each transaction that removes rows: positions must survive an emptied table. */
  note(watermark: number, transaction: Transaction): void {
    const before = this.watermark
    this.watermark = watermark
    this.#note.run(this.highest, watermark, this.index)
    transaction.onRollback(() => {
      this.watermark = before
    })
  }

  addHole(position: number, transaction: Transaction): void {
    this.#addHole.run(this.index, position)
    this.holes.add(position)
    transaction.onRollback(() => this.holes.delete(position))
  }

  /** Forgets holes up to `position`, where the rows are gone. */
  dropHoles(from: number, to: number, transaction: Transaction): void {
    for (const position of this.holes) {
      if (position < from || position > to) continue
      this.#dropHole.run(this.index, position)
      this.holes.delete(position)
      transaction.onRollback(() => this.holes.add(position))
    }
  }
}
