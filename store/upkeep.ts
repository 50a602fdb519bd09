/** What the worker does besides: the log kept short, the file kept small, old things forgotten. */
import type { Database } from 'better-sqlite3'
import { LANES } from '../daemon/ports.ts'
import { LedgerDelta } from './ledger-book.ts'
import type { Engine } from './engine.ts'
import { mib } from './room.ts'
import { PAGE_BYTES } from './database.ts'
import type { Now } from './protocol.ts'
import { LOST, SHED_CODES } from './ledger-codec.ts'
import { lastOf } from './lane-table.ts'
import type { LaneTable } from './lane-table.ts'
import { removeRow } from './removal.ts'

/** Pages in the log at which it is copied into the file: fewer, larger copies write a page once that changed often. */
const CHECKPOINT_PAGES = 2_048
/**
 * Bytes by which the file must grow at the next copy. On a full disk the reserve must suffice for that copy, and for
 * deletes before it; else the log can't be emptied any more, and nothing can be deleted.
 */
const OWED_MAX_BYTES = 1 << 20
/** A reader's open snapshot keeps the log from being reused; beyond this intake stands until it has ended. */
export const WAL_MAX_BYTES = 64 << 20
const VACUUM_PAGES = 512
/** Free pages that are kept for the next messages rather than given back. */
const KEEP_FREE_PAGES = 256
/** The file shrinks only when this much has stayed free for this many ticks: each page given back is a page written. */
const VACUUM_MIN_PAGES = 1_024
const VACUUM_AFTER_TICKS = 10
const EXPIRE_ROWS = 1_000
/** A wall clock that jumped may jump back: nothing expires until it has kept pace with the boot time this long. */
const STEADY_MS = 600_000
const STEADY_SHARE = 0.1
const JUMP_MS = 60_000

interface Checkpoint {
  readonly busy: number
  readonly log: number
  readonly checkpointed: number
}

export class Upkeep {
  readonly #engine: Engine
  /** Groups below are known not to expire by age: their clocks were not trusted. */
  readonly #expiryFrom = LANES.map(() => 0)
  #spareTicks = 0
  #shrinking = false
  #steady: { aheadMs: number; sinceMs: number } | undefined

  constructor(engine: Engine) {
    this.#engine = engine
  }

  /** After each transaction. Returns why intake must stand, if the log can't be kept short. */
  keepLogShort(): string | undefined {
    const { db, room } = this.#engine
    const owed = room.owedBytes()
    if (checkpoint(db, 'NOOP').log < CHECKPOINT_PAGES && owed < OWED_MAX_BYTES) return undefined
    // A copy that can't be finished would take the room that deletes need.
    if (owed > 0 && owed > room.refresh()) return undefined
    const { log, checkpointed } = checkpoint(db, 'PASSIVE')
    if (log - checkpointed === 0 || log * PAGE_BYTES < WAL_MAX_BYTES) return undefined
    return `another program reads outbox.db since long ago, and its log has grown to ${mib(log * PAGE_BYTES)}: end that program`
  }

  /** Once a second; `short`: the disk is full, and each page given back counts. */
  tick(now: Now, short: boolean): void {
    const engine = this.#engine
    engine.room.refresh()
    this.#expire(now)
    this.#forget(now)
    const { ledgerMaxDevices } = engine.settings
    if (engine.ledger.foldDue(ledgerMaxDevices)) engine.ledger.fold(engine.transactions, ledgerMaxDevices)
    this.#shrink(short)
  }

  /**
   * Lanes that hold nothing although the ledger counts messages in them: a page that was lost without any error.
   * They are counted as lost; the texts say so.
   */
  stateLosses(): string[] {
    const { laneTables, ledger, transactions } = this.#engine
    return laneTables.flatMap((lane) => {
      const held = ledger.book.lanes[lane.index]
      if (held === undefined || held.messages === 0 || lane.above(lane.watermark) !== undefined) return []
      const { messages, bytes } = held
      transactions.run((transaction) => {
        const delta = new LedgerDelta(ledger.book)
        delta.lane(lane.index, -messages, -bytes)
        if (lane.lane !== 'internal') delta.unowned(LOST, messages, bytes)
        ledger.write(delta, transaction)
      })
      return [`lane ${lane.lane} is empty, but ${messages} messages should be in it: they are lost, and counted as such`]
    })
  }

  #forget(now: Now): void {
    const { epochs, ids, laneTables, settings, transactions } = this.#engine
    if (epochs.forgettable(laneTables)) transactions.run((transaction) => epochs.forgetBefore(laneTables, transaction))
    ids.prune(now, settings.dedupe)
  }

  #shrink(short: boolean): void {
    const { db, room } = this.#engine
    const free = room.reusableBytes / PAGE_BYTES
    this.#spareTicks = free < VACUUM_MIN_PAGES ? 0 : this.#spareTicks + 1
    if (this.#spareTicks >= (short ? 1 : VACUUM_AFTER_TICKS)) this.#shrinking = true
    if (free <= KEEP_FREE_PAGES) this.#shrinking = false
    if (!this.#shrinking) return
    db.pragma(`incremental_vacuum(${Math.min(VACUUM_PAGES, free - KEEP_FREE_PAGES)})`)
    // The main file itself is cut when the log has been copied into it.
    checkpoint(db, 'PASSIVE')
  }

  #expire(now: Now): void {
    const { maxAgeMs } = this.#engine.settings
    if (!this.#wallIsSteady(now, maxAgeMs) || !Number.isFinite(maxAgeMs)) return
    const before = now.wallMs - maxAgeMs
    for (const lane of this.#engine.laneTables) {
      if (lane.lane !== 'internal' && this.#oldestExpired(lane, before)) this.#expireLane(lane, before)
    }
  }

  #wallIsSteady(now: Now, maxAgeMs: number): boolean {
    const aheadMs = now.wallMs - now.bootMs
    if (!now.trusted) this.#steady = undefined
    else if (this.#steady === undefined || Math.abs(aheadMs - this.#steady.aheadMs) > JUMP_MS)
      this.#steady = { aheadMs, sinceMs: now.bootMs }
    else this.#steady.aheadMs = aheadMs
    return this.#steady !== undefined && now.bootMs - this.#steady.sinceMs >= Math.min(STEADY_MS, maxAgeMs * STEADY_SHARE)
  }

  #oldestExpired(lane: LaneTable, before: number): boolean {
    this.#skipUntrusted(lane)
    const row = lane.above(Math.max(lane.watermark, this.#expiryFrom[lane.index] ?? 0, this.#engine.protection.endOf(lane)))
    return row !== undefined && row.trusted === 1 && row.newest_ms < before
  }

  #skipUntrusted(lane: LaneTable): void {
    let at = Math.max(lane.watermark, this.#expiryFrom[lane.index] ?? 0)
    for (let rows = 0; rows < EXPIRE_ROWS; rows++) {
      const row = lane.above(at)
      if (row === undefined || row.trusted === 1) break
      at = lastOf(row)
    }
    this.#expiryFrom[lane.index] = at
  }

  #expireLane(lane: LaneTable, before: number): void {
    const { ledger, protection, transactions } = this.#engine
    transactions.run((transaction) => {
      const books = { transaction, delta: new LedgerDelta(ledger.book) }
      let at = Math.max(lane.watermark, this.#expiryFrom[lane.index] ?? 0, protection.endOf(lane))
      for (let rows = 0; rows < EXPIRE_ROWS; rows++) {
        const row = lane.above(at)
        if (row === undefined || (row.trusted === 1 && row.newest_ms >= before)) break
        at = lastOf(row)
        if (row.trusted === 1 && row.first > protection.endOf(lane)) removeRow(lane, row, SHED_CODES.expired, books)
      }
      ledger.write(books.delta, transaction)
    })
  }
}

export function checkpoint(db: Database, mode: 'NOOP' | 'PASSIVE' | 'TRUNCATE'): Checkpoint {
  return (db.pragma(`wal_checkpoint(${mode})`) as Checkpoint[])[0] as Checkpoint
}
