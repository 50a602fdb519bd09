/**
 * The tables of `outbox.db` and how a file of one release becomes a file of the next.
 *
 * Rule for changes: only add (tables, columns with defaults), so that the release before still reads the file;
 * `user_version` is the writer's version, `meta.min_reader` the oldest release's version that may open it.
 */
import type { Database } from 'better-sqlite3'
import { GatewayError } from '../daemon/errors.ts'
import { LANES } from '../daemon/ports.ts'

/** "EdGW": `file(1)` and a wrong file in the data directory are told apart by it. */
export const APPLICATION_ID = 0x4564_4757
export const SCHEMA_VERSION = 2
export const MIN_READER = 1

const OUTBOX_TABLES = LANES.map(
  (lane) => `
  CREATE TABLE outbox_${lane} (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, epoch INTEGER NOT NULL, bytes INTEGER NOT NULL,
    oldest_ms INTEGER NOT NULL, newest_ms INTEGER NOT NULL, trusted INTEGER NOT NULL, frames BLOB NOT NULL
  );`,
).join('')

/** The order of the tables fixes their root pages; a salvage relies on it when the first page is damaged. */
const VERSION_1 = `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
  CREATE TABLE epochs (
    id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, boot_id TEXT NOT NULL, created_ms INTEGER NOT NULL, touched_ms INTEGER NOT NULL
  );
  CREATE TABLE lanes (lane INTEGER PRIMARY KEY, highest INTEGER NOT NULL, watermark INTEGER NOT NULL);
  ${OUTBOX_TABLES}
  CREATE TABLE ledger_snapshot (shard INTEGER PRIMARY KEY, lines BLOB NOT NULL);
  CREATE TABLE ledger_log (id INTEGER PRIMARY KEY, delta BLOB NOT NULL);
  CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, epoch TEXT NOT NULL, position INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, bytes INTEGER NOT NULL, reason TEXT NOT NULL, frame BLOB NOT NULL
  );
  CREATE TABLE holes (lane INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (lane, position)) WITHOUT ROWID;
  CREATE TABLE exchanges (exchange TEXT PRIMARY KEY) WITHOUT ROWID;
  CREATE TABLE message_ids (
    id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, boot_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL,
    trusted INTEGER NOT NULL, ids BLOB NOT NULL
  );
  INSERT INTO lanes (lane, highest, watermark) VALUES (0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0);
  INSERT INTO meta (key, value) VALUES ('min_reader', ${MIN_READER});
`

/** Positions that left in another way than into Kafka. */
const VERSION_2 = `
  CREATE TABLE gaps (
    id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, epoch TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    reason TEXT NOT NULL
  );
`

/** Step n takes a file from version n to n + 1. */
const STEPS: readonly string[] = [VERSION_1, VERSION_2]

/**
 * Brings the file to this release's version, each step in a transaction of its own. A newer file is left as it
 * is when its `min_reader` allows us, and refused otherwise (`fatal`).
 */
export function migrate(db: Database, steps: readonly string[] = STEPS): void {
  const version = db.pragma('user_version', { simple: true }) as number
  if (version > steps.length) return assertReadable(db, version, steps.length)
  for (let next = version; next < steps.length; next++) {
    db.transaction(() => {
      db.exec(steps[next] ?? '')
      db.pragma(`user_version = ${next + 1}`)
    }).immediate()
  }
}

function assertReadable(db: Database, version: number, ours: number): void {
  const row = db.prepare(`SELECT value FROM meta WHERE key = 'min_reader'`).get() as { value: number } | undefined
  if (row !== undefined && row.value <= ours) return
  throw new GatewayError('fatal', `outbox.db was written by a newer release (version ${version}); this release reads up to ${ours}`, {
    remedy: 'Install the newer release again, or move outbox.db away and start empty.',
  })
}
