/** The dedupe window on disk: the ids of each commit in one row, with the clocks of their time. */
import type { Database } from 'better-sqlite3'
import type { Now, StoredIds } from './protocol.ts'
import type { OutboxSettings } from './settings.ts'

interface IdsRow {
  readonly id: number
  readonly boot_id: string
  readonly boot_ms: number
  readonly wall_ms: number
  readonly trusted: number
  readonly ids: Buffer
}

/**
 * How old a row is. Within one boot the boot time tells. Across boots only the wall clock can, if it was right
 * both times; otherwise the row counts as new: a repeat that is let in is a duplicate, an id that is kept too
 * long costs nothing.
 */
export function ageOf(row: Omit<IdsRow, 'id' | 'ids'>, bootId: string, now: Now): number {
  if (row.boot_id === bootId) return Math.max(0, now.bootMs - row.boot_ms)
  if (row.trusted === 1 && now.trusted) return Math.max(0, now.wallMs - row.wall_ms)
  return 0
}

/** Oldest first; ages never rise along the list, whatever the clocks did. */
export function loadStoredIds(db: Database, start: { readonly bootId: string; readonly now: Now }): StoredIds[] {
  const rows = db.prepare('SELECT * FROM message_ids ORDER BY id').all() as IdsRow[]
  let youngest = Infinity
  return rows.map((row) => {
    youngest = Math.min(youngest, ageOf(row, start.bootId, start.now))
    return { ageMs: youngest, ids: row.ids }
  })
}

/** Deletes rows that are older than the window; all of them where ids are not asked for any more. */
export function pruneStoredIds(db: Database, bootId: string, now: Now, dedupe: OutboxSettings['dedupe'], maxRows: number): void {
  const rows = db.prepare('SELECT id, boot_id, boot_ms, wall_ms, trusted FROM message_ids ORDER BY id LIMIT ?').all(maxRows) as Omit<IdsRow, 'ids'>[]
  let last = 0
  for (const row of rows) {
    if (dedupe !== undefined && ageOf(row, bootId, now) <= dedupe.windowMs) break
    last = row.id
  }
  if (last > 0) db.prepare('DELETE FROM message_ids WHERE id <= ?').run(last)
}
