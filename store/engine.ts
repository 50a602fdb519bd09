/** Everything that the worker does with an open database, without threads and messages. */
import type { Database } from 'better-sqlite3'
import { LANES } from '../daemon/ports.ts'
import type { EpochId, EpochState, Lane, LaneState } from '../daemon/ports.ts'
import { advanceTo, moveOut } from './advance.ts'
import { Appender } from './append.ts'
import { bringIn } from './bring-in.ts'
import { Epochs } from './epochs.ts'
import { GroupEncoder } from './frames.ts'
import { Gaps } from './gaps.ts'
import { packFrames } from './group.ts'
import { LedgerDelta } from './ledger-book.ts'
import { SHED_CODES } from './ledger-codec.ts'
import { LedgerFile } from './ledger-file.ts'
import { LaneTable } from './lane-table.ts'
import { Letters } from './letters.ts'
import { Protection } from './protection.ts'
import type { CommitRequest, DurableTotals, Now, Question, ReadAnswer, WorkerStart, WorkerState } from './protocol.ts'
import { endOf, readAfter } from './reader.ts'
import { IdsTable } from './stored-ids.ts'
import { Room } from './room.ts'
import type { OutboxSettings } from './settings.ts'
import { totalsOf } from './totals.ts'
import { Transactions } from './transaction.ts'

/** What is asked of `outbox.db`. */
export type EngineQuestion = Exclude<Question, { kind: 'stop' | 'remember' | 'recall' | 'copy' }>

export class Engine {
  readonly db: Database
  readonly transactions: Transactions
  readonly lanes: Readonly<Record<Lane, LaneTable>>
  readonly epochs: Epochs
  readonly ledger: LedgerFile
  readonly letters: Letters
  readonly gaps: Gaps
  readonly room: Room
  readonly protection = new Protection()
  readonly ids: IdsTable
  readonly appender: Appender
  settings: OutboxSettings

  constructor(db: Database, start: WorkerStart) {
    this.db = db
    this.settings = start.settings
    this.transactions = new Transactions(db)
    this.lanes = Object.fromEntries(LANES.map((lane) => [lane, new LaneTable(db, lane)])) as Record<Lane, LaneTable>
    this.epochs = new Epochs(db, start)
    this.ledger = new LedgerFile(db)
    this.ledger.load()
    this.letters = new Letters(db)
    this.gaps = new Gaps(db)
    for (const lane of this.laneTables)
      lane.noteGap = (epoch, first, last, code, transaction) =>
        this.gaps.note(lane.index, this.epochs.nameOf(epoch), first, last, code, transaction)
    this.ids = new IdsTable(db, start.bootId)
    this.room = new Room(db, start.directory, start.settings)
    this.protection.guard(this.laneTables)
    this.appender = new Appender(
      {
        db,
        transactions: this.transactions,
        lanes: this.lanes,
        epochs: this.epochs,
        ledger: this.ledger,
        room: this.room,
        protection: this.protection,
        ids: this.ids,
      },
      start.settings,
    )
  }

  exchanges(): string[] {
    return this.db.prepare('SELECT exchange FROM exchanges').pluck().all() as string[]
  }

  get laneTables(): LaneTable[] {
    return LANES.map((lane) => this.lanes[lane])
  }

  configure(settings: OutboxSettings): void {
    this.settings = settings
    this.appender.settings = settings
    this.room.configure(settings)
  }

  commit(request: CommitRequest): number[] {
    return this.appender.commit(request)
  }

  retryWaiting(now: Now): number[] {
    return this.appender.retry(now)
  }

  /** `between` runs after each transaction of a long answer. */
  answer(question: EngineQuestion, between: () => void): unknown {
    switch (question.kind) {
      case 'read':
        return this.#read(question.lane, question.position, question.maxBytes)
      case 'advance': {
        advanceTo(this, question.advances, question.letters, question.now.wallMs, between)
        this.protection.endGuard()
        return undefined
      }
      case 'epochs':
        return this.epochs.states(this.laneTables)
      case 'totals':
        return this.totals()
      case 'lines':
        return this.ledger.book.top(question.limit)
      case 'letters':
        return this.letters.list(question.limit)
      case 'letter':
        return this.letters.show(question.letter)
      case 'retry':
        return this.#retryLetter(question.letter, question.now)
      case 'drop':
        return this.#dropLetter(question.letter)
      case 'close-epoch':
        return this.#closeEpoch(question.next)
      case 'peek':
        return readAfter(this.lanes[question.lane], this.epochs, question.position, question.maxBytes)
      case 'move-out':
        return moveOut(this, question.ends)
      case 'bring-in':
        return bringIn(this, question.epochs, question.groups)
      case 'gaps':
        return this.gaps.list()
    }
  }

  totals(): DurableTotals {
    return totalsOf(this.ledger.book)
  }

  state(): WorkerState {
    return {
      lanes: Object.fromEntries(LANES.map((lane) => [lane, this.#laneState(this.lanes[lane])])) as Record<Lane, LaneState>,
      usedBytes: this.room.usedBytes,
      maxBytes: this.room.maxBytes,
      freeDiskBytes: this.room.freeDiskBytes,
      blockedReason: this.appender.reason,
      epoch: this.epochs.current,
      commits: this.transactions.commits,
      deadLetters: this.letters.count,
      droppedInternal: this.appender.droppedInternal + this.letters.droppedInternal,
    }
  }

  #laneState(lane: LaneTable): LaneState {
    const held = this.ledger.book.lanes[lane.index]
    return {
      messages: held?.messages ?? 0,
      bytes: held?.bytes ?? 0,
      watermark: lane.watermark,
      highest: lane.highest,
      oldestMs: lane.above(lane.watermark)?.oldest_ms,
      blocked: this.appender.blocked(lane.lane),
    }
  }

  #read(lane: Lane, position: number, maxBytes: number): ReadAnswer | undefined {
    const answer = readAfter(this.lanes[lane], this.epochs, position, maxBytes)
    if (answer !== undefined) this.protection.handOut(lane, endOf(answer))
    return answer
  }

  #closeEpoch(next: EpochId): readonly EpochState[] {
    this.epochs.renew(next)
    return this.epochs.states(this.laneTables).filter(({ lanes }) => Object.keys(lanes).length > 0)
  }

  #retryLetter(id: number, now: Now): boolean {
    return this.transactions.run((transaction) => {
      const books = { transaction, delta: new LedgerDelta(this.ledger.book) }
      const letter = this.letters.take(id, books)
      const lane = this.laneTables[letter?.lane ?? -1]
      if (letter === undefined || lane === undefined) return false
      const encoder = new GroupEncoder()
      encoder.add(letter.envelope)
      lane.append(encoder.facts, packFrames(encoder.finish()), this.epochs.ensure(now.wallMs, transaction), transaction)
      books.delta.lane(lane.index, 1, letter.envelope.payload.length)
      this.ledger.write(books.delta, transaction)
      return true
    })
  }

  #dropLetter(id: number): boolean {
    return this.transactions.run((transaction) => {
      const books = { transaction, delta: new LedgerDelta(this.ledger.book) }
      const letter = this.letters.take(id, books)
      if (letter === undefined) return false
      const { device, stream, payload } = letter.envelope
      books.delta.outcome(device, stream, SHED_CODES['dead-letter-dropped'], 1, payload.length)
      this.ledger.write(books.delta, transaction)
      return true
    })
  }
}
