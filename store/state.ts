/**
 * `state.db`: what must outlive a broken outbox. Small, written rarely; a rollback journal and EXTRA make each
 * of its transactions durable, the directory entry of the journal included.
 */
import { existsSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import BetterSqlite from 'better-sqlite3'
import type { Database } from 'better-sqlite3'
import { messageOf } from '../daemon/errors.ts'
import { DamagedFile, isDamage, leftToTheStart } from './damage.ts'
import { recall, remember } from './memory-table.ts'
import type { Remembered, Rewrite } from './protocol.ts'
import { APPLICATION_ID } from './schema.ts'

export const STATE_FILE = 'state.db'
/** Step n takes a file from version n to n + 1. Tables are only added: the release before opens the file as its own. */
const STEPS: readonly string[] = [
  'CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;',
  'CREATE TABLE memory (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;',
]

/** What the outbox held at some recent moment, for the statement of a loss. */
export interface OutboxNote {
  readonly atMs: number
  /** Ledger totals: code, messages, bytes. */
  readonly totals: readonly (readonly [number, number, number])[]
  /** Per lane index. */
  readonly lanes: readonly { readonly highest: number; readonly watermark: number; readonly messages: number; readonly bytes: number }[]
}

export class StateFile {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  /** Set while the outbox is open: an unclean shutdown shows at the next start. */
  get running(): boolean {
    return this.#get('running') === true
  }

  set running(value: boolean) {
    this.#set('running', value)
  }

  /** Why the outbox needs a full check at the next start. */
  get suspicion(): string | undefined {
    const value = this.#get('suspicion')
    return typeof value === 'string' ? value : undefined
  }

  set suspicion(reason: string | undefined) {
    this.#set('suspicion', reason ?? null)
  }

  get note(): OutboxNote | undefined {
    return this.#get('outbox') as OutboxNote | undefined
  }

  set note(note: OutboxNote) {
    this.#set('outbox', note)
  }

  remember(changes: readonly Rewrite[]): void {
    remember(this.#db, changes)
  }

  recall(prefix: string): Remembered[] {
    return recall(this.#db, prefix)
  }

  /** For a copy. */
  get source(): { readonly db: Database; readonly name: string } {
    return { db: this.#db, name: STATE_FILE }
  }

  close(): void {
    this.#db.close()
  }

  #get(key: string): unknown {
    const text = this.#db.prepare('SELECT value FROM settings WHERE key = ?').pluck().get(key) as string | undefined
    return text === undefined ? undefined : (JSON.parse(text) as unknown)
  }

  #set(key: string, value: unknown): void {
    this.#db
      .prepare('INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value')
      .run(key, JSON.stringify(value))
  }
}

/** Opens or makes the file; a damaged one is set aside, and `tell` says so. */
export function openState(
  directory: string,
  stamp: string,
  tell: (text: string) => void,
  whenDamaged: 'mend' | 'refuse' = 'mend',
): StateFile {
  const path = join(directory, STATE_FILE)
  try {
    return new StateFile(openChecked(path))
  } catch (error) {
    if (!isDamage(error)) throw error
    if (whenDamaged === 'refuse') throw leftToTheStart(`state.db is damaged (${messageOf(error)})`)
    const aside = join(directory, `state.corrupt-${stamp}`)
    renameSync(path, aside)
    if (existsSync(`${path}-journal`)) renameSync(`${path}-journal`, `${aside}-journal`)
    tell(
      `state.db was damaged (${messageOf(error)}) and is set aside as ${aside}; a new one was made. Patches and layers that it held are not in force until etcd answers and they are applied anew`,
    )
    return new StateFile(openChecked(path))
  }
}

function openChecked(path: string): Database {
  const db = new BetterSqlite(path, { timeout: 1_000 })
  try {
    if (db.pragma('application_id', { simple: true }) === 0) db.pragma(`application_id = ${APPLICATION_ID}`)
    db.pragma('journal_mode = TRUNCATE')
    db.pragma('synchronous = EXTRA')
    migrate(db)
    const verdict = db.pragma('quick_check', { simple: true })
    if (verdict !== 'ok') throw new DamagedFile(String(verdict))
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** A file of a newer release has more tables, and is used as it is. */
function migrate(db: Database): void {
  const version = db.pragma('user_version', { simple: true }) as number
  if (version >= STEPS.length) return
  db.transaction(() => {
    db.exec(STEPS.slice(version).join(''))
    db.pragma(`user_version = ${STEPS.length}`)
  }).immediate()
}
