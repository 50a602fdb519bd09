/**
 * One producer's life, from the committed positions to its end: read back, then plan, protect, send, record, again
 * and again. Whatever Kafka rejects ends the life; the next one begins with reading back, which decides what the
 * last one left undecided.
 */
import type { Clock } from '../clock.ts'
import { LANES, type EpochId, type InternalRecord, type Lane, type OutboxReader } from '../ports.ts'
import { Blame } from './blame.ts'
import { EpochBook } from './epoch-book.ts'
import { LinkFailure } from './failure.ts'
import { LaneQueue } from './lane-queue.ts'
import type { Link } from './link.ts'
import { DeadLetterNotices } from './notice.ts'
import type { Pace, Waiting } from './pace.ts'
import { FIRST_SHARES, planNext, type Plan } from './plan.ts'
import { ReadBack } from './readback.ts'
import { Router, type Needs } from './router.ts'
import { TRANSACTION_MAX_MESSAGES, type RelaySettings } from './settings.ts'
import type { Board, Held } from './state.ts'
import { TopicTemplate } from './topic-template.ts'
import { judgeTopic } from './topics.ts'
import { advancesOf, Transaction } from './transaction.ts'
import type { Wake } from './wake.ts'

export interface ForwarderParts {
  readonly outbox: OutboxReader
  readonly submitInternal: (record: InternalRecord) => void
  readonly clock: Clock
  readonly board: Board
  readonly pace: Pace
  /** Rings when something is new to read, or to be obeyed. */
  readonly news: Wake
}

/** Share of the gateway's own records: small, and never nothing. */
const INTERNAL_WEIGHT = 1
/** Size of a record beside its payload, for the question whether a transaction is full. */
const RECORD_BYTES = 200
/** How long a lane waits whose topic is missing or wrong. */
const HELD_MS = 30_000
/** How often it is looked whether what stands in the way has gone, if nothing rings. */
const LOOK_MS = 1_000
/** A record is given up for its size on facts that were no older when its plan began. */
const FRESH_MS = 1_000

interface HeldLane extends Held {
  readonly untilMs: number
}

export class Forwarder {
  readonly #parts: ForwarderParts
  readonly #queues: Readonly<Record<Lane, LaneQueue>>
  readonly #readBack: ReadBack
  readonly #book: EpochBook
  readonly #blame = new Blame()
  readonly #notices = new DeadLetterNotices()
  readonly #held = new Map<Lane, HeldLane>()
  #settings: RelaySettings
  #template: TopicTemplate
  #shares = FIRST_SHARES
  #cut = false
  /** Since when something waits, monotonic. */
  #waitingSinceMs: number | undefined

  constructor(parts: ForwarderParts, settings: RelaySettings) {
    this.#parts = parts
    this.#settings = settings
    this.#template = new TopicTemplate(settings.topic, settings.allowedTopics)
    this.#readBack = new ReadBack(parts.clock)
    this.#book = new EpochBook(parts.outbox, this.#readBack)
    this.#queues = {
      urgent: new LaneQueue('urgent'),
      normal: new LaneQueue('normal'),
      deferred: new LaneQueue('deferred'),
      internal: new LaneQueue('internal'),
    }
  }

  /** Holds from the next transaction on. Throws a `GatewayError` on a wrong topic, and then changes nothing. */
  configure(settings: RelaySettings): void {
    this.#template = new TopicTemplate(settings.topic, settings.allowedTopics)
    this.#settings = settings
    this.#held.clear()
  }

  /** True while records would leave with times that can't be right. */
  get clockHolds(): boolean {
    return this.#settings.unsyncedClock === 'hold' && !this.#parts.clock.wallTrusted()
  }

  /** Nothing is there to send. */
  get isIdle(): boolean {
    const { lanes } = this.#parts.outbox.state()
    return LANES.every((lane) => lanes[lane].messages === 0)
  }

  /** Runs until `goesOn` says no, between two transactions. Rejects with a `LinkFailure`, or with what is fatal. */
  async run(link: Link, goesOn: () => boolean): Promise<void> {
    this.#parts.board.enter('reading-back')
    this.#held.clear()
    try {
      await this.#book.open(this.#positionsAt(link))
      this.#parts.board.heard()
      for (;;) {
        const plan = await this.#next(link)
        if (!goesOn() || (plan !== undefined && link.isStale(this.#parts.pace.timeouts()))) return
        if (plan !== undefined) await this.#carryOut(link, plan)
      }
    } finally {
      // It must be read again before it is sent; and an outage of days should not hold it in memory.
      this.#forgetReadAhead()
    }
  }

  // ------------------------------------------------------------- what is next

  /** The next transaction, once it is due; `undefined` means: look again. */
  async #next(link: Link): Promise<Plan | undefined> {
    const { board, news, pace, clock } = this.#parts
    const waiting = this.#waiting()
    if (waiting === undefined) return this.#rest()
    if (this.clockHolds) return this.#holdForClock()
    const delayMs = pace.delayMs(clock.monotonicMs(), waiting)
    if (delayMs > 0) {
      board.enter('ready')
      await news.sleep(delayMs)
      return undefined
    }
    await this.#fill()
    return this.#plan(link)
  }

  #waiting(): Waiting | undefined {
    const nowMs = this.#parts.clock.monotonicMs()
    const { lanes } = this.#parts.outbox.state()
    const open = LANES.filter((lane) => (this.#held.get(lane)?.untilMs ?? 0) <= nowMs)
    const messages = open.reduce((sum, lane) => sum + lanes[lane].messages, 0)
    if (messages === 0) {
      this.#waitingSinceMs = undefined
      return undefined
    }
    const bytes = open.reduce((sum, lane) => sum + lanes[lane].bytes, messages * RECORD_BYTES)
    this.#waitingSinceMs ??= nowMs
    return { messages, bytes, sinceMs: this.#waitingSinceMs, cut: this.#cut }
  }

  /** Nothing can be sent: there is nothing, or all that is there waits for its topic. */
  async #rest(): Promise<undefined> {
    const { board, news, clock } = this.#parts
    const held = [...this.#held.values()][0]
    this.#cut = false
    if (held === undefined || this.isIdle) {
      board.enter('ready')
      board.hold({})
      board.flowing()
      board.progress()
      await news.sleep()
    } else {
      board.enter('alarmed')
      // No trouble of the link: the lanes that wait say why, and that must not come and go with what flows past them.
      board.flowing()
      await news.sleep(Math.max(1, held.untilMs - clock.monotonicMs()))
    }
    return undefined
  }

  async #holdForClock(): Promise<undefined> {
    sayClockHolds(this.#parts.board, this.#parts.clock)
    await this.#parts.news.sleep(LOOK_MS)
    return undefined
  }

  async #plan(link: Link): Promise<Plan | undefined> {
    const freshMs = this.#parts.clock.monotonicMs() - FRESH_MS
    for (;;) {
      const router = new Router(link, this.#settings, this.#template, this.#blame, (epoch) => this.#book.knows(epoch), freshMs)
      const plan = this.#draw(router)
      const { epochs, topics } = router.needs
      if (epochs.size === 0 && topics.size === 0) return this.#accept(plan, router)
      // What was read ahead may be in Kafka already: look again from the new watermarks.
      if (await this.#learn(link, router.needs)) return undefined
    }
  }

  #draw(router: Router): Plan {
    const { pace, outbox } = this.#parts
    const { urgent, normal, deferred, internal } = this.#queues
    return planNext(
      {
        queues: { urgent: urgent.waiting, normal: normal.waiting, deferred: deferred.waiting, internal: internal.waiting },
        weights: { ...this.#settings.weights, internal: INTERNAL_WEIGHT },
        limits: {
          bytes: pace.sizeBytes(),
          messages: Math.min(TRANSACTION_MAX_MESSAGES, this.#blame.refusals.limit(undefined)),
          epochs: pace.epochs(),
        },
        isWhole: (lane) => this.#queues[lane].isWhole(outbox),
        route: (lane, stored) => router.route(lane, stored),
      },
      this.#shares,
    )
  }

  async #learn(link: Link, needs: Needs): Promise<boolean> {
    for (const topic of needs.topics) await link.learn(topic, (facts) => judgeTopic(topic, facts, this.#settings))
    return needs.epochs.size > 0 && this.#book.learn(this.#positionsAt(link), needs.epochs)
  }

  async #accept(plan: Plan, router: Router): Promise<Plan | undefined> {
    const { board, clock, news } = this.#parts
    this.#held.clear()
    const untilMs = clock.monotonicMs() + HELD_MS
    for (const lane of LANES) {
      const held = router.held[lane]
      if (held !== undefined) this.#held.set(lane, { ...held, untilMs })
    }
    board.hold(router.held)
    if (plan.parts.length > 0) return plan
    // Counted, but not there to read: evicted or set aside a moment ago. Never spin on it.
    if (this.#held.size === 0) await news.sleep(LOOK_MS)
    return undefined
  }

  // ------------------------------------------------------------- one transaction

  async #carryOut(link: Link, plan: Plan): Promise<void> {
    const { outbox, board } = this.#parts
    const letters = this.#announceDeadLetters(plan)
    if (letters.length > 0) {
      board.enter('recording')
      // A transaction passes a dead letter only once the outbox has it aside, or a crash between would lose it.
      await outbox.advanceTo(plan.messages === 0 ? advancesOf(plan) : [], letters)
      board.deadLettered(letters.length)
    }
    if (plan.messages > 0) {
      outbox.protect(advancesOf(plan))
      await this.#send(link, plan)
      board.enter('recording')
      await outbox.advanceTo(advancesOf(plan), [])
    } else {
      for (const { lane, taken } of plan.parts) this.#queues[lane].drop(taken)
    }
    this.#settle(plan)
  }

  #announceDeadLetters(plan: Plan): readonly { lane: Lane; epoch: EpochId; position: number; reason: string }[] {
    const { clock, submitInternal } = this.#parts
    return plan.parts.flatMap(({ lane, refused }) =>
      refused.map((letter) => {
        const notice = this.#notices.about(letter, lane, clock.wallMs(), clock.monotonicMs())
        if (notice !== undefined) submitInternal(notice)
        return { lane, epoch: letter.stored.epoch, position: letter.stored.position, reason: letter.reason }
      }),
    )
  }

  async #send(link: Link, plan: Plan): Promise<void> {
    const { board, pace, clock } = this.#parts
    const transaction = new Transaction(plan, this.#settings.gatewayId, clock, this.#book, this.#readBack, this.#blame)
    board.enter('sending')
    board.begin(plan.messages, plan.bytes)
    const startedMs = clock.monotonicMs()
    const sentBefore = link.sentBytes
    pace.started(startedMs, plan.bytes)
    for (const epoch of transaction.positions.keys()) this.#readBack.begun(epoch)
    for (const { lane, taken } of plan.parts) this.#queues[lane].drop(taken)
    const filled = this.#fill()
    // Looked at below, after the transaction's own end.
    filled.catch(() => undefined)
    try {
      await link.transact(transaction.records, transaction.positions)
    } catch (error) {
      await filled
      throw this.#failed(error, plan, transaction, clock.monotonicMs() - startedMs, link)
    } finally {
      board.end()
    }
    await filled
    pace.committed(plan.bytes, clock.monotonicMs() - startedMs)
    pace.metered(plan.bytes, link.sentBytes - sentBefore)
    for (const epoch of transaction.positions.keys()) this.#readBack.decided(epoch)
    board.flowing()
    board.delivered(transaction.delivered)
    this.#waitingSinceMs = startedMs
  }

  #failed(error: unknown, plan: Plan, transaction: Transaction, durationMs: number, link: Link): unknown {
    if (!(error instanceof LinkFailure)) return error
    const { pace, clock } = this.#parts
    pace.failed(plan.bytes, durationMs, link.timeouts)
    if (this.#settings.delivery === 'at-least-once' && error.inDoubt) {
      for (const { lane, stored } of transaction.sent()) this.#readBack.resend(lane, stored.epoch, stored.position, stored.position)
    }
    return error.class === 'refused' ? this.#blame.refused(error, transaction.sent(), clock.wallMs()) : error
  }

  #settle(plan: Plan): void {
    this.#shares = plan.shares
    this.#cut = plan.cut
    this.#blame.committed(plan)
    for (const { lane, ends } of plan.parts) {
      for (const position of ends.values()) {
        this.#blame.passed(lane, position)
        this.#readBack.passed(lane, position)
      }
    }
  }

  #forgetReadAhead(): void {
    for (const lane of LANES) this.#queues[lane].reset()
  }

  async #fill(): Promise<void> {
    const bytes = this.#parts.pace.sizeBytes()
    for (const lane of LANES) await this.#queues[lane].fill(this.#parts.outbox, bytes)
  }

  #positionsAt(link: Link): Link | undefined {
    return this.#settings.delivery === 'exactly-once' ? link : undefined
  }
}

export function sayClockHolds(board: Board, clock: Clock): void {
  board.enter('holding')
  board.trouble(
    `the clock of this box is not set (it says ${new Date(clock.wallMs()).toISOString().slice(0, 16)}Z), and records wait for it`,
    'let the box reach a time server (`timedatectl`), or set kafka.unsyncedClock: send',
  )
}
