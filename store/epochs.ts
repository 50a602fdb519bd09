/** Epochs: one row per daemon start that appended something, as long as rows of it are left. */
import type { Database, Statement } from 'better-sqlite3'
import type { EpochId, EpochState, ForeignEpoch, Lane } from '../daemon/ports.ts'
import { DamagedFile } from './damage.ts'
import { lastOf } from './lane-table.ts'
import type { GroupRow, LaneTable } from './lane-table.ts'
import { assertSound } from './salvage-rows.ts'
import type { Transaction } from './transaction.ts'

/** `touched_ms` is kept this exactly; brokers forget positions after days. */
const TOUCH_MS = 60_000

export interface EpochRow {
  readonly id: number
  readonly epoch: EpochId
  readonly boot_id: string
  readonly created_ms: number
  touched_ms: number
}

export class Epochs {
  readonly #rows = new Map<number, EpochRow>()
  readonly #insert: Statement
  readonly #touch: Statement
  readonly #forget: Statement
  #own: { readonly epoch: EpochId; readonly bootId: string }
  #current: EpochRow | undefined

  /** `own.epoch` becomes real with the first append. */
  constructor(db: Database, own: { readonly epoch: EpochId; readonly bootId: string }) {
    this.#own = own
    this.#insert = db.prepare('INSERT INTO epochs (id, epoch, boot_id, created_ms, touched_ms) VALUES (?, ?, ?, ?, ?)')
    this.#touch = db.prepare('UPDATE epochs SET touched_ms = ? WHERE id = ?')
    this.#forget = db.prepare('DELETE FROM epochs WHERE id = ?')
    for (const row of db.prepare('SELECT id, epoch, boot_id, created_ms, touched_ms FROM epochs ORDER BY id').all() as EpochRow[]) {
      assertSound('epochs', row)
      this.#rows.set(row.id, row)
    }
  }

  get current(): EpochId | undefined {
    return this.#current?.epoch
  }

  nameOf(id: number): EpochId {
    const row = this.#rows.get(id)
    if (row === undefined) throw new DamagedFile(`a row refers to epoch ${id}, which is not in the table`)
    return row.epoch
  }

  idOf(epoch: EpochId): number | undefined {
    for (const row of this.#rows.values()) if (row.epoch === epoch) return row.id
    return undefined
  }

  /** What is appended from now on belongs to `epoch`, which becomes real with it. */
  renew(epoch: EpochId): void {
    this.#own = { ...this.#own, epoch }
    this.#current = undefined
  }

  /** The id of an epoch that another box drew; made, behind all others, when it is not there. */
  adopt({ epoch, bootId, createdMs, touchedMs }: ForeignEpoch, transaction: Transaction): number {
    const known = this.idOf(epoch)
    if (known !== undefined) return known
    const id = Math.max(0, ...this.#rows.keys()) + 1
    this.#insert.run(id, epoch, bootId, createdMs, touchedMs)
    this.#rows.set(id, { id, epoch, boot_id: bootId, created_ms: createdMs, touched_ms: touchedMs })
    transaction.onRollback(() => this.#rows.delete(id))
    return id
  }

  /** The id of this start's epoch, made in the caller's transaction if this is its first append. */
  ensure(wallMs: number, transaction: Transaction): number {
    if (this.#current !== undefined) return this.#current.id
    const id = Math.max(0, ...this.#rows.keys()) + 1
    const row = { id, epoch: this.#own.epoch, boot_id: this.#own.bootId, created_ms: wallMs, touched_ms: wallMs }
    this.#insert.run(id, row.epoch, row.boot_id, row.created_ms, row.touched_ms)
    this.#rows.set(id, row)
    this.#current = row
    transaction.onRollback(() => {
      this.#rows.delete(id)
      this.#current = undefined
    })
    return id
  }

  /** Notes an advance of `id`; part of the caller's transaction. */
  touch(id: number, wallMs: number): void {
    const row = this.#rows.get(id)
    if (row === undefined || Math.abs(wallMs - row.touched_ms) < TOUCH_MS) return
    row.touched_ms = wallMs
    this.#touch.run(wallMs, id)
  }

  /** Deletes epochs older than every row that is left. */
  forgetBefore(lanes: readonly LaneTable[], transaction: Transaction): void {
    const oldest = Math.min(...lanes.map((lane) => lane.first()?.epoch ?? Infinity))
    for (const [id, row] of this.#rows) {
      if (id >= oldest || row === this.#current) continue
      this.#forget.run(id)
      this.#rows.delete(id)
      transaction.onRollback(() => this.#rows.set(id, row))
    }
  }

  /** Anything for `forgetBefore` to do? Cheap, so that no transaction is begun for nothing. */
  forgettable(lanes: readonly LaneTable[]): boolean {
    const oldest = Math.min(...lanes.map((lane) => lane.first()?.epoch ?? Infinity))
    return [...this.#rows.values()].some((row) => row.id < oldest && row !== this.#current)
  }

  /** Oldest first. */
  states(lanes: readonly LaneTable[]): EpochState[] {
    const spans = new Map<number, Partial<Record<Lane, { first: number; last: number }>>>()
    for (const lane of lanes) {
      for (const span of spansOf(lane))
        spans.set(span.epoch, { ...spans.get(span.epoch), [lane.lane]: { first: span.first, last: span.last } })
    }
    return [...this.#rows.values()]
      .sort((a, b) => a.id - b.id)
      .map((row) => ({
        epoch: row.epoch,
        bootId: row.boot_id,
        createdMs: row.created_ms,
        touchedMs: row.touched_ms,
        lanes: spans.get(row.id) ?? {},
      }))
  }
}

/** First and last position of each epoch in a lane. Epochs only grow along a lane, so their ends are bisected. */
function spansOf(lane: LaneTable): { epoch: number; first: number; last: number }[] {
  const spans: { epoch: number; first: number; last: number }[] = []
  let row = lane.above(lane.watermark)
  while (row !== undefined) {
    const last = lastOf(lastRowOf(lane, row))
    spans.push({ epoch: row.epoch, first: Math.max(row.first, lane.watermark + 1), last })
    row = lane.above(last)
  }
  return spans
}

function lastRowOf(lane: LaneTable, start: GroupRow): GroupRow {
  let known = start
  let low = lastOf(start)
  let high = lane.highest
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    const row = lane.atOrBelow(middle)
    if (row !== undefined && row.epoch === start.epoch) {
      known = row
      low = Math.max(middle, lastOf(row))
    } else high = middle - 1
  }
  return known
}
