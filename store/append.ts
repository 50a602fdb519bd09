/**
 * Chunks into the tables: one transaction a commit. What finds no room waits here, lane by lane and in order,
 * and is tried again when room came.
 */
import type { Database, Statement } from 'better-sqlite3'
import { LANES } from '../daemon/ports.ts'
import type { DeviceLane, Lane } from '../daemon/ports.ts'
import type { Epochs } from './epochs.ts'
import type { GroupFacts } from './frames.ts'
import { packFrames } from './group.ts'
import { RECEIVED, SHED_CODES } from './ledger-codec.ts'
import { LedgerDelta } from './ledger-book.ts'
import type { LedgerFile } from './ledger-file.ts'
import type { LaneTable } from './lane-table.ts'
import type { Protection } from './protection.ts'
import type { ChunkKind, CommitRequest, Now, WireChunk } from './protocol.ts'
import { decodeReceipts } from './receipts.ts'
import { shedOldest } from './removal.ts'
import type { Books } from './removal.ts'
import type { Room } from './room.ts'
import type { OutboxSettings } from './settings.ts'
import type { IdsTable } from './stored-ids.ts'
import type { Transactions } from './transaction.ts'

/** Pages that a chunk touches beside its frames. */
const SLACK_BYTES = 16 << 10
const ROW_BYTES = 64
/** Rows evicted for one chunk in one transaction; the rest follows in the next. */
const MAX_EVICTED_ROWS = 500
const INTERNAL_SHARE = 0.05
const INTERNAL_MAX_BYTES = 16 << 20

interface Chunk {
  readonly id: number
  readonly kind: ChunkKind
  readonly groups: readonly { readonly facts: GroupFacts; readonly packed: Buffer }[]
  readonly receipts: Uint8Array
  readonly exchanges: readonly string[]
  readonly messageIds: Uint8Array | undefined
  /** Bytes that its rows need. */
  readonly size: number
}

export interface AppendParts {
  readonly db: Database
  readonly transactions: Transactions
  readonly lanes: Readonly<Record<Lane, LaneTable>>
  readonly epochs: Epochs
  readonly ledger: LedgerFile
  readonly room: Room
  readonly protection: Protection
  readonly ids: IdsTable
}

type Verdict = 'store' | 'evict' | 'wait'

export class Appender {
  settings: OutboxSettings
  /** Why something waits, in plain words. */
  reason: string | undefined
  /** Records of our own that found no room, or made room for newer ones, since the start. */
  droppedInternal = 0
  readonly #parts: AppendParts
  readonly #waiting = new Map<ChunkKind, Chunk[]>()
  readonly #addExchange: Statement
  readonly #dropExchange: Statement

  constructor(parts: AppendParts, settings: OutboxSettings) {
    this.#parts = parts
    this.settings = settings
    this.#addExchange = parts.db.prepare('INSERT OR IGNORE INTO exchanges (exchange) VALUES (?)')
    this.#dropExchange = parts.db.prepare('DELETE FROM exchanges WHERE exchange = ?')
  }

  get waits(): boolean {
    return this.#waiting.size > 0
  }

  blocked(lane: Lane): boolean {
    return this.#waiting.has(lane)
  }

  /** Returns the ids of the chunks that are durable now. Throws SQLite's errors, with nothing changed. */
  commit(request: CommitRequest): number[] {
    const chunks = request.chunks.map(packChunk).sort((a, b) => rank(a.kind) - rank(b.kind))
    return this.#write(chunks, request, request.now, 0)
  }

  /** Tries what waits, oldest first; returns the ids of the chunks that are durable now. */
  retry(now: Now): number[] {
    const chunks = [...this.#waiting.values()].flat().sort((a, b) => rank(a.kind) - rank(b.kind) || a.id - b.id)
    if (chunks.length === 0) return []
    const before = new Map(this.#waiting)
    this.#waiting.clear()
    try {
      return this.#write(chunks, undefined, now, this.#parts.room.resumeBytes)
    } catch (error) {
      for (const [kind, list] of before) this.#waiting.set(kind, list)
      throw error
    }
  }

  #write(chunks: readonly Chunk[], request: CommitRequest | undefined, now: Now, margin: number): number[] {
    const { transactions, ledger, room } = this.#parts
    room.refresh()
    return transactions.run((transaction) => {
      const books = { transaction, delta: new LedgerDelta(ledger.book) }
      const held = new Map<ChunkKind, Chunk[]>()
      const stored: number[] = []
      let reason: string | undefined
      // Before the inserts: a released packet id may be taken again by a message of the same commit.
      for (const exchange of request?.releases ?? []) this.#dropExchange.run(exchange)
      if (request !== undefined) stored.push(request.releaseId)
      for (const chunk of chunks) {
        const objection = this.#place(chunk, held, now, margin, books)
        if (objection === undefined) stored.push(chunk.id)
        else {
          reason ??= objection
          held.set(chunk.kind, [...(held.get(chunk.kind) ?? []), chunk])
        }
      }
      ledger.write(books.delta, transaction)
      transaction.afterCommit(() => this.#hold(held, reason))
      return stored
    })
  }

  #hold(held: Map<ChunkKind, Chunk[]>, reason: string | undefined): void {
    for (const [kind, chunks] of held) this.#waiting.set(kind, [...(this.#waiting.get(kind) ?? []), ...chunks])
    this.reason = this.waits ? (reason ?? this.reason) : undefined
  }

  /** Stores or sheds a chunk, or says why it must wait. */
  #place(chunk: Chunk, held: ReadonlyMap<ChunkKind, Chunk[]>, now: Now, margin: number, books: Books): string | undefined {
    const { kind } = chunk
    if (kind === 'duplicate' && (this.waits || held.size > 0)) return this.reason ?? 'earlier messages wait for room'
    if (kind === 'shed' || kind === 'duplicate') {
      this.#remember(chunk, now, books)
      return this.#count(chunk, books)
    }
    if (this.#waiting.has(kind) || held.has(kind)) return this.reason ?? 'earlier messages of the lane wait for room'
    const objection = this.#parts.room.objection(kind, chunk.size + margin)
    const verdict = objection === undefined ? 'store' : this.#makeRoom(chunk, kind, margin, books)
    if (verdict === 'wait') return objection ?? 'the buffer is full'
    if (verdict === 'evict') this.#shedNew(chunk, books)
    else this.#store(chunk, kind, now, books)
    return undefined
  }

  #makeRoom(chunk: Chunk, lane: Lane, margin: number, books: Books): Verdict {
    if (lane === 'internal') return 'evict'
    let rows = 0
    for (const victim of this.#victims(lane)) {
      while (this.#parts.room.objection(lane, chunk.size + margin) !== undefined) {
        if (rows++ >= MAX_EVICTED_ROWS) return 'wait'
        if (!shedOldest(victim, this.#parts.protection.endOf(victim), 'evicted', books)) break
      }
    }
    if (this.#parts.room.objection(lane, chunk.size + margin) === undefined) return 'store'
    return this.settings.lanes[lane].whenFull === 'drop-oldest' ? 'evict' : 'wait'
  }

  /** Lanes that may lose messages for `lane`: `drop-oldest` ones of the same or a lower rank, lowest first. */
  #victims(lane: DeviceLane): LaneTable[] {
    const order: readonly DeviceLane[] = ['deferred', 'normal', 'urgent']
    const ranks = order.slice(0, order.indexOf(lane) + 1)
    return ranks.filter((name) => this.settings.lanes[name].whenFull === 'drop-oldest').map((name) => this.#parts.lanes[name])
  }

  #store(chunk: Chunk, lane: Lane, now: Now, books: Books): void {
    const { lanes, epochs } = this.#parts
    const epoch = epochs.ensure(now.wallMs, books.transaction)
    for (const { facts, packed } of chunk.groups) {
      lanes[lane].append(facts, packed, epoch, books.transaction)
      books.delta.lane(lanes[lane].index, facts.count, facts.bytes)
    }
    if (lane === 'internal') this.#boundInternal(books)
    this.#count(chunk, books)
    this.#remember(chunk, now, books)
  }

  #count(chunk: Chunk, { delta }: Books): undefined {
    decodeReceipts(chunk.receipts, (device, stream, code, messages, bytes) => {
      delta.received(device, stream, messages, bytes)
      if (code !== RECEIVED) delta.shed(device, stream, code, messages, bytes)
    })
  }

  /** A lane that never blocks has nothing older to give up: the newcomer itself is what is dropped. */
  #shedNew(chunk: Chunk, { delta, transaction }: Books): void {
    if (chunk.kind === 'internal') {
      const dropped = chunk.groups.reduce((sum, group) => sum + group.facts.count, 0)
      transaction.afterCommit(() => (this.droppedInternal += dropped))
    }
    decodeReceipts(chunk.receipts, (device, stream, _code, messages, bytes) => {
      delta.received(device, stream, messages, bytes)
      delta.shed(device, stream, SHED_CODES.evicted, messages, bytes)
    })
    for (const exchange of chunk.exchanges) this.#addExchange.run(exchange)
  }

  #remember(chunk: Chunk, now: Now, { transaction }: Books): void {
    for (const exchange of chunk.exchanges) this.#addExchange.run(exchange)
    if (chunk.messageIds !== undefined) this.#parts.ids.add(chunk.messageIds, now, transaction)
  }

  /** Our own events must not eat the buffer; ledger records are cumulative, so the older ones are worthless. */
  #boundInternal(books: Books): void {
    const { lanes, ledger, protection, room } = this.#parts
    const lane = lanes.internal
    const limit = Math.min(INTERNAL_MAX_BYTES, room.maxBytes * INTERNAL_SHARE)
    let excess = (ledger.book.lanes[lane.index]?.bytes ?? 0) - limit
    while (excess > 0) {
      const row = lane.above(Math.max(protection.endOf(lane), lane.watermark))
      if (row === undefined || !shedOldest(lane, protection.endOf(lane), 'evicted', books)) return
      books.transaction.afterCommit(() => (this.droppedInternal += row.count))
      excess -= row.bytes
    }
  }
}

/** Duplicates come last: they may only be acknowledged with or after what they repeat. */
function rank(kind: ChunkKind): number {
  if (kind === 'shed') return LANES.length
  if (kind === 'duplicate') return LANES.length + 1
  return LANES.indexOf(kind)
}

function packChunk(chunk: WireChunk): Chunk {
  const groups = chunk.groups.map(({ facts, frames }) => ({ facts, packed: packFrames(frames) }))
  const size = groups.reduce((sum, { packed }) => sum + packed.length + ROW_BYTES, SLACK_BYTES)
  const { id, kind, receipts, exchanges, messageIds } = chunk
  return { id, kind, groups, receipts, exchanges, messageIds, size }
}
