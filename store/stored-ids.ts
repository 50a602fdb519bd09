/** The dedupe window on disk: the ids of each commit in one row, with the clocks of their time. */
import type { Database, Statement } from 'better-sqlite3'
import { DamagedFile } from './damage.ts'
import { ID_BYTES } from './message-ids.ts'
import type { Now, StoredIds } from './protocol.ts'
import type { OutboxSettings } from './settings.ts'
import type { Transaction } from './transaction.ts'

/** Rows that one round of upkeep looks at. */
const PRUNE_ROWS = 2_000

interface IdsTime {
  readonly boot_id: string
  readonly boot_ms: number
  readonly wall_ms: number
  readonly trusted: number
}

interface IdsRow extends IdsTime {
  readonly id: number
  readonly bytes: number
}

/**
 * How old a row is. Within one boot the boot time tells. Across boots only the wall clock can, if it was right
 * both times; otherwise the row counts as new: a repeat that is let in is a duplicate, an id that is kept too
 * long costs nothing.
 */
export function ageOf(row: IdsTime, bootId: string, now: Now): number {
  if (row.boot_id === bootId) return Math.max(0, now.bootMs - row.boot_ms)
  if (row.trusted === 1 && now.trusted) return Math.max(0, now.wallMs - row.wall_ms)
  return 0
}

export class IdsTable {
  readonly #db: Database
  readonly #bootId: string
  readonly #insert: Statement
  readonly #oldest: Statement
  readonly #delete: Statement
  #ids: number

  constructor(db: Database, bootId: string) {
    this.#db = db
    this.#bootId = bootId
    this.#insert = db.prepare('INSERT INTO message_ids (boot_id, boot_ms, wall_ms, trusted, ids) VALUES (?, ?, ?, ?, ?)')
    this.#oldest = db.prepare('SELECT id, boot_id, boot_ms, wall_ms, trusted, length(ids) AS bytes FROM message_ids ORDER BY id LIMIT ?')
    this.#delete = db.prepare('DELETE FROM message_ids WHERE id <= ?')
    const broken = db.prepare(`SELECT 1 FROM message_ids WHERE typeof(ids) <> 'blob' OR length(ids) % ? <> 0 LIMIT 1`)
    if (broken.get(ID_BYTES) !== undefined) throw new DamagedFile('a row of message_ids is not what was written')
    this.#ids = (db.prepare('SELECT coalesce(sum(length(ids)), 0) FROM message_ids').pluck().get() as number) / ID_BYTES
  }

  /** Oldest first; ages never rise along the list, whatever the clocks did. */
  load(now: Now): StoredIds[] {
    const rows = this.#db.prepare('SELECT * FROM message_ids ORDER BY id').all() as (IdsTime & { ids: Buffer })[]
    let youngest = Infinity
    return rows.map((row) => {
      youngest = Math.min(youngest, ageOf(row, this.#bootId, now))
      return { ageMs: youngest, ids: row.ids }
    })
  }

  /** Part of the caller's transaction. */
  add(ids: Uint8Array, now: Now, transaction: Transaction): void {
    this.#insert.run(this.#bootId, Math.round(now.bootMs), Math.round(now.wallMs), now.trusted ? 1 : 0, ids)
    transaction.afterCommit(() => (this.#ids += ids.length / ID_BYTES))
  }

  /** Deletes rows that are older than the window or in excess of its number; all where ids are not asked for any more. */
  prune(now: Now, dedupe: OutboxSettings['dedupe']): void {
    let last: IdsRow | undefined
    let left = this.#ids
    for (const row of this.#oldest.all(PRUNE_ROWS) as IdsRow[]) {
      const after = left - row.bytes / ID_BYTES
      const needed = dedupe !== undefined && after < dedupe.maxIds && ageOf(row, this.#bootId, now) <= dedupe.windowMs
      if (needed) break
      left = after
      last = row
    }
    if (last === undefined) return
    this.#delete.run(last.id)
    this.#ids = left
  }
}
