/** Dead letters: records that Kafka refused for good, kept aside with the reason until an operator decides. */
import type { Database, Statement } from 'better-sqlite3'
import { LANES } from '../daemon/ports.ts'
import type { DeadLetter, Envelope } from '../daemon/ports.ts'
import { DamagedFile } from './damage.ts'
import type { Epochs } from './epochs.ts'
import { decodeGroup, GroupEncoder } from './frames.ts'
import { openGroup, packFrames, sealGroup } from './group.ts'
import { DEAD_LETTERED } from './ledger-codec.ts'
import { lastOf } from './lane-table.ts'
import type { LaneTable } from './lane-table.ts'
import type { WireLetter } from './protocol.ts'
import type { Books } from './removal.ts'
import type { Transaction } from './transaction.ts'

export interface LetterRow {
  readonly id: number
  readonly lane: number
  readonly epoch: string
  readonly position: number
  readonly at_ms: number
  readonly bytes: number
  readonly reason: string
  readonly frame: Buffer
}

export interface Letter {
  readonly id: number
  readonly lane: number
  readonly envelope: Envelope
}

export class Letters {
  count: number
  /** Records of our own that Kafka refused since the start: nobody could act on them. */
  droppedInternal = 0
  readonly #insert: Statement
  readonly #delete: Statement
  readonly #list: Statement
  readonly #get: Statement

  constructor(db: Database) {
    this.#insert = db.prepare('INSERT INTO dead_letters (lane, epoch, position, at_ms, bytes, reason, frame) VALUES (?, ?, ?, ?, ?, ?, ?)')
    this.#delete = db.prepare('DELETE FROM dead_letters WHERE id = ?')
    this.#list = db.prepare('SELECT * FROM dead_letters ORDER BY id LIMIT ?')
    this.#get = db.prepare('SELECT * FROM dead_letters WHERE id = ?')
    this.count = db.prepare('SELECT count(*) FROM dead_letters').pluck().get() as number
  }

  /**
   * Copies the message out of its row and leaves a hole there. A message that is not in the buffer (any more),
   * or was set aside before, changes nothing: the relay may repeat itself after a crash.
   */
  setAside(letter: DeadLetter, lane: LaneTable, epochs: Epochs, atMs: number, books: Books): void {
    const { position } = letter
    const row = lane.atOrBelow(position)
    if (row === undefined || lastOf(row) < position || epochs.nameOf(row.epoch) !== letter.epoch) return
    if (position <= lane.watermark || lane.holes.has(position)) return
    const [message] = decodeGroup(lane.open(row), position - row.first, position - row.first + 1)
    lane.addHole(position, books.transaction)
    lane.noteGap(row.epoch, position, position, DEAD_LETTERED, books.transaction)
    if (message === undefined) return
    if ('internal' in message) {
      books.transaction.afterCommit(() => this.droppedInternal++)
      return books.delta.lane(lane.index, -1, -message.internal.value.length)
    }
    const { envelope } = message
    this.put(lane, letter, envelope, atMs, books.transaction)
    books.delta.outcome(envelope.device, envelope.stream, DEAD_LETTERED, 1, envelope.payload.length)
    books.delta.lane(lane.index, -1, -envelope.payload.length)
  }

  put(lane: LaneTable, letter: DeadLetter, envelope: Envelope, atMs: number, transaction: Transaction): void {
    const encoder = new GroupEncoder()
    encoder.add(envelope)
    const frame = packFrames(encoder.finish())
    sealGroup(frame, columnsOf(lane.index, letter.position, envelope.payload.length))
    this.#insert.run(lane.index, letter.epoch, letter.position, atMs, envelope.payload.length, letter.reason, frame)
    transaction.afterCommit(() => this.count++)
  }

  list(limit: number): WireLetter[] {
    return (this.#list.all(limit) as LetterRow[]).map(wireLetter)
  }

  show(id: number): WireLetter | undefined {
    const row = this.#get.get(id) as LetterRow | undefined
    return row === undefined ? undefined : wireLetter(row)
  }

  /** Takes a letter out; what becomes of it is the caller's business, in the same transaction. */
  take(id: number, books: Books): Letter | undefined {
    const row = this.#get.get(id) as LetterRow | undefined
    if (row === undefined) return undefined
    const envelope = envelopeOf(row)
    this.#delete.run(id)
    books.transaction.afterCommit(() => this.count--)
    books.delta.revive(envelope.device, envelope.stream, row.bytes)
    return { id, lane: row.lane, envelope }
  }
}

function columnsOf(
  lane: number,
  position: number,
  bytes: number,
): { lane: number; first: number; count: number; epoch: number; bytes: number } {
  return { lane, first: position, count: 1, epoch: 0, bytes }
}

/** Throws `DamagedGroup`. */
export function framesOf(row: LetterRow): Buffer {
  return openGroup(row.frame, columnsOf(row.lane, row.position, row.bytes))
}

function envelopeOf(row: LetterRow): Envelope {
  const [message] = decodeGroup(framesOf(row), 0, 1)
  if (message === undefined || !('envelope' in message)) throw new DamagedFile(`dead letter ${row.id} holds no envelope`)
  return message.envelope
}

function wireLetter(row: LetterRow): WireLetter {
  const lane = LANES[row.lane]
  if (lane === undefined) throw new DamagedFile(`dead letter ${row.id} names lane ${row.lane}, which does not exist`)
  return { id: row.id, epoch: row.epoch, lane, position: row.position, atMs: row.at_ms, reason: row.reason, frame: framesOf(row) }
}
