/**
 * The outbox of a daemon that is down, for a technician: figures, ledger and dead letters, with nothing changed.
 *
 * SQLite needs its `-wal` and `-shm` beside the file even to read. Where they are missing (after a clean stop), a
 * reader with the right to write makes them, empty and owned like the file itself; one who may only read, by the
 * group, gets a copy in memory, or is told to come as root when the file is too large for that.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import BetterSqlite from 'better-sqlite3'
import type { Database } from 'better-sqlite3'
import { GatewayError, messageOf } from '../daemon/errors.ts'
import { LANES } from '../daemon/ports.ts'
import type { EpochState, Lane, LedgerLine, LedgerTotals, StoredDeadLetter } from '../daemon/ports.ts'
import { Epochs } from './epochs.ts'
import { checkHeader } from './header.ts'
import { LaneTable } from './lane-table.ts'
import { LedgerFile } from './ledger-file.ts'
import { Letters } from './letters.ts'
import { lockOwner } from './lock.ts'
import { storedLetter } from './stored-letter.ts'
import { totalsOf } from './totals.ts'

/** A larger file is not copied into memory only to be looked at. */
const COPY_MAX_BYTES = 256 << 20

export interface StoppedLane {
  readonly messages: number
  readonly bytes: number
  readonly watermark: number
  readonly highest: number
  readonly oldestMs: number | undefined
}

export class StoppedOutbox {
  readonly #db: Database
  readonly #lanes: Readonly<Record<Lane, LaneTable>>
  readonly #epochs: Epochs
  readonly #ledger: LedgerFile
  readonly #letters: Letters

  private constructor(db: Database) {
    this.#db = db
    this.#lanes = Object.fromEntries(LANES.map((lane) => [lane, new LaneTable(db, lane)])) as Record<Lane, LaneTable>
    this.#epochs = new Epochs(db, { epoch: '', bootId: '' })
    this.#letters = new Letters(db)
    this.#ledger = new LedgerFile(db)
    this.#ledger.load()
  }

  /**
   * Throws `rejected`, with what to do, when there is no outbox, it can't be read, or a daemon has it open. `beside`: also
   * then, for a daemon that hangs. What it has committed is read; a checkpoint that it hangs in holds no reader up (WAL).
   */
  static open(dataDir: string, { beside = false }: { readonly beside?: boolean } = {}): StoppedOutbox {
    const path = join(dataDir, 'outbox.db')
    const owner = beside ? undefined : lockOwner(dataDir)
    if (owner !== undefined) {
      const pid = owner.pid === undefined ? '' : ` (pid ${owner.pid})`
      throw new GatewayError('rejected', `a daemon${pid} uses ${dataDir}, but does not answer`, {
        remedy: 'Look at its journal; systemctl restart edge-gateway.',
      })
    }
    if (!existsSync(path)) {
      throw new GatewayError('rejected', `there is no buffer in ${dataDir}, or no right to look`, {
        remedy: 'Check gateway.dataDir; use sudo; or start the daemon once.',
      })
    }
    return openedAt(path, (db) => new StoppedOutbox(db))
  }

  lanes(): Readonly<Record<Lane, StoppedLane>> {
    return Object.fromEntries(LANES.map((lane) => [lane, this.#lane(this.#lanes[lane])])) as Record<Lane, StoppedLane>
  }

  /** Bytes of the file in use. */
  usedBytes(): number {
    const pragma = (name: string): number => this.#db.pragma(name, { simple: true }) as number
    return (pragma('page_count') - pragma('freelist_count')) * pragma('page_size')
  }

  get deadLetterCount(): number {
    return this.#letters.count
  }

  /** Nothing is in flight in a daemon that is down. */
  totals(): LedgerTotals {
    return { ...totalsOf(this.#ledger.book), inFlight: { messages: 0, bytes: 0 } }
  }

  lines(limit: number): readonly LedgerLine[] {
    return this.#ledger.book.top(limit)
  }

  /** Oldest first. */
  epochs(): readonly EpochState[] {
    return this.#epochs.states(LANES.map((lane) => this.#lanes[lane]))
  }

  deadLetters(limit: number): readonly StoredDeadLetter[] {
    return this.#letters.list(limit).map(storedLetter)
  }

  deadLetter(id: number): StoredDeadLetter | undefined {
    const letter = this.#letters.show(id)
    return letter === undefined ? undefined : storedLetter(letter)
  }

  close(): void {
    this.#db.close()
  }

  #lane(lane: LaneTable): StoppedLane {
    const held = this.#ledger.book.lanes[lane.index]
    return {
      messages: held?.messages ?? 0,
      bytes: held?.bytes ?? 0,
      watermark: lane.watermark,
      highest: lane.highest,
      oldestMs: lane.above(lane.watermark)?.oldest_ms,
    }
  }
}

function openedAt<Result>(path: string, use: (db: Database) => Result): Result {
  let db: Database | undefined
  try {
    db = openReadable(path)
    return use(db)
  } catch (error) {
    db?.close()
    throw new GatewayError('rejected', `${path} can not be read: ${messageOf(error)}`, {
      remedy: 'Use sudo; if it is damaged, start the daemon: it sets the file aside, saves what it can, and says what is lost.',
      cause: error,
    })
  }
}

function openReadable(path: string): Database {
  checkHeader(path)
  const db = new BetterSqlite(path, { readonly: true, fileMustExist: true, timeout: 1_000 })
  try {
    db.prepare('SELECT count(*) FROM sqlite_master').get()
    return db
  } catch (error) {
    db.close()
    if (!isReadonlyDirectory(error) || existsSync(`${path}-wal`) || statSync(path).size > COPY_MAX_BYTES) throw error
    return openCopy(path)
  }
}

/** SQLite may not make the files that it needs beside the database. */
function isReadonlyDirectory(error: unknown): boolean {
  return error instanceof BetterSqlite.SqliteError && (error.code.startsWith('SQLITE_READONLY') || error.code === 'SQLITE_CANTOPEN')
}

function openCopy(path: string): Database {
  const bytes = readFileSync(path)
  // Bytes 18 and 19 say that a WAL is used (SQLite file format, 1.3.3); a copy in memory has none.
  bytes[18] = bytes[19] = 1
  return new BetterSqlite(bytes, { readonly: true })
}

/** Of the library that the packages brought. */
export function sqliteVersion(): string {
  const db = new BetterSqlite(':memory:')
  try {
    return db.prepare('SELECT sqlite_version()').pluck().get() as string
  } finally {
    db.close()
  }
}
