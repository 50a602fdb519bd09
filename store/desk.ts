/**
 * The worker's desk: requests in turn, and what to do when the disk is full or locked. Nothing is answered
 * then; requests wait in order and are tried again at each tick.
 */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { GatewayError, messageOf } from '../daemon/errors.ts'
import { LANES } from '../daemon/ports.ts'
import type { Lane, LaneState } from '../daemon/ports.ts'
import { isDamage, isDiskFull, isLocked } from './damage.ts'
import { answerMemory } from './memory-table.ts'
import { OUTBOX_FILE } from './opening.ts'
import { copyDatabases } from './copying.ts'
import type { OpenStore } from './opening.ts'
import type { CommitRequest, Now, Question, ReadAnswer, Report, Request, WorkerStart, WorkerState } from './protocol.ts'
import { RESERVE_BYTES } from './reserve.ts'
import { checkpoint, Upkeep } from './upkeep.ts'

const NOTE_MS = 60_000
const CHANGES: ReadonlySet<Question['kind']> = new Set(['advance', 'retry', 'drop', 'move-out', 'bring-in'])

type MemoryQuestion = Extract<Question, { kind: 'remember' | 'recall' }>
type CopyQuestion = Extract<Question, { kind: 'copy' }>
type Ask = Extract<Request, { kind: 'ask' }>

export class Desk {
  readonly #store: OpenStore
  readonly #upkeep: Upkeep
  readonly #paths: readonly string[]
  readonly #inodes: readonly number[]
  readonly #say: (report: Report, transfer?: ArrayBuffer[]) => void
  readonly #commits: CommitRequest[] = []
  readonly #asks: Ask[] = []
  /** Why requests wait as a whole: the disk is full, or another program holds a lock. */
  #stalled: string | undefined
  /** Why intake stands although the disk has room. */
  #logGrown: string | undefined
  #notedMs = -Infinity

  constructor(store: OpenStore, start: WorkerStart, say: (report: Report, transfer?: ArrayBuffer[]) => void) {
    this.#store = store
    this.#upkeep = new Upkeep(store.engine)
    this.#say = say
    const path = join(start.directory, OUTBOX_FILE)
    this.#paths = [path, `${path}-wal`]
    this.#inodes = this.#paths.map(inodeOf)
  }

  take(request: Exclude<Request, { kind: 'ask'; question: { kind: 'stop' } }>): void {
    const { engine } = this.#store
    switch (request.kind) {
      case 'commit':
        return this.#commit(request)
      case 'ask':
        return this.#ask(request)
      case 'protect':
        return request.ends.forEach(({ lane, position }) => engine.protection.handOut(lane, position))
      case 'unprotect':
        return engine.protection.release()
      case 'keep':
        return engine.protection.keep(request.ends)
      case 'configure':
        return engine.configure(request.settings)
      case 'tick':
        return this.#tick(request.now)
    }
  }

  state(): WorkerState {
    const state = this.#store.engine.state()
    const reason = this.#stalled ?? this.#logGrown ?? state.blockedReason
    if (this.#commits.length === 0) return { ...state, blockedReason: reason }
    const lanes = Object.fromEntries(LANES.map((lane) => [lane, { ...state.lanes[lane], blocked: true }])) as Record<Lane, LaneState>
    return { ...state, lanes, blockedReason: reason }
  }

  /** Returns the last state. */
  close(now: Now): WorkerState {
    const { engine, guard, lock, state } = this.#store
    this.#note(now)
    this.#tolerate(() => {
      state.running = false
      checkpoint(engine.db, 'TRUNCATE')
    })
    const last = this.state()
    guard.close()
    engine.db.close()
    state.close()
    lock.close()
    return last
  }

  /** Before a worker that can't go on ends: the next start looks closely at a file that proved damaged. */
  fail(error: unknown): void {
    this.#store.engine.db.close()
    if (isDamage(error)) this.#tolerate(() => (this.#store.state.suspicion = messageOf(error)))
  }

  #commit(request: CommitRequest): void {
    if (this.#commits.length > 0 || this.#stalled !== undefined || this.#logGrown !== undefined || !this.#tryCommit(request, 'committed')) {
      this.#commits.push(request)
      this.#say({ kind: 'committed', id: request.id, stored: [], spent: [], state: this.state() })
    }
  }

  #tryCommit(request: CommitRequest, kind: 'committed' | 'stored'): boolean {
    const stored = this.#tolerate(() => this.#store.engine.commit(request))
    if (stored === undefined) return false
    this.#afterWrite()
    const spent = request.chunks.flatMap(({ groups }) => groups.map(({ frames }) => frames.buffer as ArrayBuffer))
    if (kind === 'committed') this.#say({ kind, id: request.id, stored, spent, state: this.state() }, spent)
    else this.#say({ kind, stored, spent, state: this.state() }, spent)
    return true
  }

  #ask(request: Ask): void {
    if (this.#asks.length > 0 && changes(request.question)) this.#asks.push(request)
    else if (!this.#tryAsk(request)) this.#asks.push(request)
  }

  #tryAsk({ id, question }: Ask): boolean {
    if (question.kind === 'stop') return true
    if (question.kind === 'remember' || question.kind === 'recall') return this.#askMemory(id, question)
    if (question.kind === 'copy') return this.#copy(id, question)
    const answer = this.#tolerate(() => ({ value: this.#store.engine.answer(question, () => this.#afterWrite()) }))
    if (answer === undefined) return false
    if (changes(question)) this.#afterWrite()
    this.#say(
      { kind: 'answer', id, value: answer.value, state: this.state() },
      question.kind === 'read' || question.kind === 'peek' ? handedOver(answer.value as ReadAnswer | undefined) : [],
    )
    if (question.kind === 'advance') this.#retry(question.now)
    return true
  }

  /** Answered at once, also on a full disk: a journal that waits in silence would hang its patch. */
  #askMemory(id: number, question: MemoryQuestion): true {
    this.#say({ kind: 'answer', id, value: answerMemory(this.#store.state, question), state: this.state() })
    return true
  }

  /** In steps, between which requests are served. It never rejects: a refusal is its answer. */
  #copy(id: number, { directory }: CopyQuestion): true {
    const { engine, state } = this.#store
    const sources = [state.source, { db: engine.db, name: OUTBOX_FILE }]
    void copyDatabases(sources, directory).then((value) => this.#say({ kind: 'answer', id, value, state: this.state() }))
    return true
  }

  #tick(now: Now): void {
    this.#tolerate(() => this.#upkeep.tick(now, this.#stalled !== undefined))
    for (const text of this.#tolerate(() => this.#upkeep.stateLosses()) ?? [])
      this.#say({ kind: 'notice', notice: { level: 'error', text } })
    this.#afterWrite()
    this.#clear()
    this.#retry(now)
    if (Math.abs(now.wallMs - this.#notedMs) >= NOTE_MS) this.#note(now)
    this.#say({ kind: 'ticked', state: this.state() })
  }

  /** Tries what stalled, in order. */
  #clear(): void {
    const { engine, reserve } = this.#store
    const full = this.#stalled !== undefined && !reserve.held
    if (full && (engine.room.freeDiskBytes < 2 * RESERVE_BYTES || !reserve.take())) {
      // Deletes are what makes room, so they are tried even now.
      while (this.#asks[0] !== undefined && this.#tryAsk(this.#asks[0])) this.#asks.shift()
      return
    }
    this.#stalled = undefined
    while (this.#asks[0] !== undefined && this.#tryAsk(this.#asks[0])) this.#asks.shift()
    while (this.#commits[0] !== undefined && this.#logGrown === undefined && this.#tryCommit(this.#commits[0], 'stored'))
      this.#commits.shift()
  }

  #retry(now: Now): void {
    if (this.#stalled !== undefined || this.#logGrown !== undefined) return
    const stored = this.#tolerate(() => this.#store.engine.retryWaiting(now))
    if (stored === undefined || stored.length === 0) return
    this.#afterWrite()
    this.#say({ kind: 'stored', stored, spent: [], state: this.state() })
  }

  #afterWrite(): void {
    this.#assertInPlace()
    this.#tolerate(() => (this.#logGrown = this.#upkeep.keepLogShort()))
  }

  /** A file that was deleted under us takes every further write along; nobody may be told that it is stored. */
  #assertInPlace(): void {
    if (this.#paths.every((path, index) => inodeOf(path) === this.#inodes[index])) return
    throw new GatewayError('fatal', 'outbox.db or its log was moved or deleted while the gateway ran', {
      remedy: 'Stop the gateway before touching its files. What had not reached Kafka is lost with the file.',
    })
  }

  /** Undefined, with nothing changed, when the disk is full or locked; other errors are thrown on. */
  #tolerate<Result>(work: () => Result): Result | undefined {
    try {
      return work()
    } catch (error) {
      if (isDiskFull(error)) {
        this.#store.reserve.giveUp()
        this.#stalled = 'the disk is full: nothing can be stored until there is room'
      } else if (isLocked(error)) this.#stalled = 'another program holds a lock on outbox.db: end that program'
      else throw error
      return undefined
    }
  }

  #note(now: Now): void {
    const { engine, state } = this.#store
    const { book } = engine.ledger
    this.#notedMs = now.wallMs
    this.#tolerate(() => {
      state.note = {
        atMs: now.wallMs,
        totals: [...book.totals.counts].map(([code, count]) => [code, count.messages, count.bytes] as const),
        lanes: engine.laneTables.map((lane) => ({
          highest: lane.highest,
          watermark: lane.watermark,
          messages: book.lanes[lane.index]?.messages ?? 0,
          bytes: book.lanes[lane.index]?.bytes ?? 0,
        })),
      }
    })
  }
}

function changes(question: Question): boolean {
  return CHANGES.has(question.kind)
}

function inodeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.ino ?? 0
}

/** Small buffers share one with others, and stay where they are. */
function handedOver(answer: ReadAnswer | undefined): ArrayBuffer[] {
  const slices = answer?.slices.filter(({ handedOver, frames }) => handedOver && frames.buffer.byteLength > Buffer.poolSize) ?? []
  return slices.map(({ frames }) => frames.buffer as ArrayBuffer)
}
