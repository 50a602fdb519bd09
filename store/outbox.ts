/**
 * The outbox: envelopes accepted and not yet in Kafka, in `<directory>/outbox.db`.
 *
 * This class is the main thread's side. It encodes what is submitted, lets a worker thread commit it, and
 * settles entries once their transaction is fsynced.
 */
import type { Clock, Random } from '../daemon/clock.ts'
import type { Component } from '../daemon/component.ts'
import type { Memory } from '../daemon/patch/memory.ts'
import { GatewayError } from '../daemon/errors.ts'
import { LANES } from '../daemon/ports.ts'
import type {
  Advance,
  DeadLetter,
  DeadLetters,
  Entry,
  EpochId,
  EpochState,
  InternalRecord,
  Lane,
  LaneState,
  Ledger,
  Log,
  OutboxMoves,
  OutboxNotice,
  OutboxReader,
  OutboxState,
  OutboxWriter,
  Stored,
} from '../daemon/ports.ts'
import { CommitQueue, readNow } from './commit-queue.ts'
import { autoDelayMs, diskKind } from './disk.ts'
import { Exchanges } from './exchanges.ts'
import { Link } from './link.ts'
import { WorkerMemory } from './memory.ts'
import { loadIds, MessageIds } from './message-ids.ts'
import { WorkerMoves } from './moves.ts'
import type { Notice, WorkerState } from './protocol.ts'
import type { OutboxSettings } from './settings.ts'
import { storedLetter } from './stored-letter.ts'
import { storedMessages } from './stored-messages.ts'

const TICK_MS = 1_000
const NOTICES_MAX = 20
/** Node's timers count in 32 bits. */
const MAX_TIMER_MS = 2 ** 31 - 1

export interface OutboxParts {
  readonly dataDir: string
  readonly settings: OutboxSettings
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Of a damaged file; default: `mend`, which sets it aside and saves what can be saved. `refuse`: `start` rejects. */
  readonly whenDamaged?: 'mend' | 'refuse'
}

const EMPTY_LANE: LaneState = { messages: 0, bytes: 0, watermark: 0, highest: 0, oldestMs: undefined, blocked: false }
const NO_STATE: WorkerState = {
  lanes: Object.fromEntries(LANES.map((lane) => [lane, EMPTY_LANE])) as Record<Lane, LaneState>,
  usedBytes: 0,
  maxBytes: 0,
  freeDiskBytes: 0,
  blockedReason: undefined,
  epoch: undefined,
  commits: 0,
  deadLetters: 0,
  droppedInternal: 0,
}

export class Outbox implements OutboxWriter, OutboxReader, Component {
  readonly name = 'outbox'
  readonly ended: Promise<never>
  readonly ledger: Ledger
  readonly deadLetters: DeadLetters
  readonly memory: Memory
  readonly moves: OutboxMoves
  readonly #parts: OutboxParts
  readonly #queue: CommitQueue
  readonly #appendListeners = new Set<() => void>()
  readonly #roomListeners = new Set<() => void>()
  readonly #exchanges = new Exchanges()
  #ids: MessageIds | undefined
  #settings: OutboxSettings
  #state = NO_STATE
  #notices: readonly OutboxNotice[] = []
  #link: Link | undefined
  #ticking = false
  #droppedHere = 0
  #toldDropped = 0
  #cancelTick: (() => void) | undefined
  #end: (error: GatewayError) => void = () => undefined
  #stopped: Promise<void> | undefined

  constructor(parts: OutboxParts) {
    this.#parts = parts
    this.#settings = parts.settings
    this.#queue = new CommitQueue(parts.clock, { maxDelayMs: 0, maxBytes: parts.settings.commit.maxBytes }, (request, transfer) =>
      this.#open.post(request, transfer),
    )
    this.ended = new Promise((_, reject) => {
      this.#end = reject
    })
    // Whoever watches `ended` sees the reason; a rejection that nobody watches must not be a second failure.
    this.ended.catch(() => undefined)
    this.ledger = { totals: () => this.#totals(), lines: (limit) => this.#open.ask({ kind: 'lines', limit }) }
    this.memory = new WorkerMemory((question) => this.#open.ask(question))
    const drawn = (): EpochId => drawEpoch(parts.random)
    this.moves = new WorkerMoves(() => this.#open, drawn)
    this.deadLetters = {
      list: async (limit) => (await this.#open.ask({ kind: 'letters', limit })).map(storedLetter),
      show: async (id) => {
        const letter = await this.#open.ask({ kind: 'letter', letter: id })
        return letter === undefined ? undefined : storedLetter(letter)
      },
      retry: (id) => this.#open.ask({ kind: 'retry', letter: id, now: readNow(parts.clock) }),
      drop: (id) => this.#open.ask({ kind: 'drop', letter: id }),
    }
  }

  async start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const { clock, dataDir, random } = this.#parts
    const link = new Link(
      {
        directory: dataDir,
        settings: this.#settings,
        epoch: drawEpoch(random),
        bootId: clock.bootId,
        now: readNow(clock),
        whenDamaged: this.#parts.whenDamaged ?? 'mend',
      },
      {
        state: (state) => this.#take(state),
        committed: (stored) => this.#settle(this.#queue.committed(stored)),
        spent: (buffers) => this.#queue.reuse(buffers),
        stored: (stored) => this.#settle(this.#queue.stored(stored)),
        ticked: () => this.#ticked(),
        notice: (notice) => this.#tell(notice),
        failed: (error) => this.#end(error),
      },
    )
    this.#link = link
    const ready = await untilAborted(link.ready, signal, () => link.terminate())
    this.#queue.limits = commitLimits(this.#settings, dataDir)
    for (const notice of ready.notices) this.#tell(notice)
    for (const exchange of ready.exchanges) this.#addExchange(exchange)
    this.#ids = loadIds(this.#settings.dedupe, ready.ids, clock.bootMs())
    this.#tick()
  }

  stop(deadlineMs: number): Promise<void> {
    this.#stopped ??= this.#stop(deadlineMs)
    return this.#stopped
  }

  /** Ends the worker in the middle of whatever it does, as a kill would. */
  async abandon(): Promise<void> {
    await this.#link?.terminate()
  }

  configure(settings: OutboxSettings): void {
    this.#settings = settings
    this.#queue.limits = commitLimits(settings, this.#parts.dataDir)
    this.#ids = settings.dedupe === undefined ? undefined : (this.#ids ?? new MessageIds(settings.dedupe))
    if (settings.dedupe !== undefined) this.#ids?.configure(settings.dedupe)
    this.#link?.post({ kind: 'configure', settings })
  }

  submit(entry: Entry): void {
    const { verdict, exchange } = entry
    if ('shed' in verdict) {
      if (entry.messageId !== undefined) this.#ids?.add(entry.messageId, this.#parts.clock.bootMs())
      return this.#queue.add(entry, verdict.shed === 'duplicate' ? 'duplicate' : 'shed', verdict.shed)
    }
    if (entry.qos === 0 && this.#state.lanes[verdict.lane].blocked) return this.#queue.add(entry, 'shed', 'buffer-full')
    if (exchange !== undefined && this.#exchanges.has(exchange)) return this.#queue.add(entry, 'duplicate', 'duplicate')
    if (exchange !== undefined) this.#addExchange(exchange)
    if (entry.messageId !== undefined) this.#ids?.add(entry.messageId, this.#parts.clock.bootMs())
    this.#queue.add(entry, verdict.lane, undefined)
  }

  /** While nothing can be stored at all, records of our own are dropped and counted: no sender holds them back. */
  submitInternal(record: InternalRecord): void {
    if (this.#state.lanes.internal.blocked) this.#droppedHere++
    else this.#queue.addInternal(record)
  }

  hasExchange(exchange: string): boolean {
    return this.#exchanges.has(exchange)
  }

  releaseExchange(exchange: string, done: () => void): void {
    this.#exchanges.delete(exchange)
    this.#queue.release(exchange, done)
  }

  seen(id: Uint8Array): boolean {
    return this.#ids?.has(id, this.#parts.clock.bootMs()) ?? false
  }

  state(): OutboxState {
    return { ...this.#state, inFlight: this.#queue.inFlight, notices: this.#notices }
  }

  onRoomChange(listener: () => void): () => void {
    this.#roomListeners.add(listener)
    return () => this.#roomListeners.delete(listener)
  }

  onAppend(listener: () => void): () => void {
    this.#appendListeners.add(listener)
    return () => this.#appendListeners.delete(listener)
  }

  async readAfter(lane: Lane, position: number, maxBytes: number): Promise<readonly Stored[]> {
    const answer = await this.#open.ask({ kind: 'read', lane, position, maxBytes })
    return answer === undefined ? [] : storedMessages(answer)
  }

  protect(ends: readonly { readonly lane: Lane; readonly position: number }[]): void {
    this.#open.post({ kind: 'protect', ends })
  }

  unprotect(): void {
    this.#open.post({ kind: 'unprotect' })
  }

  async advanceTo(advances: readonly Advance[], deadLetters: readonly DeadLetter[]): Promise<void> {
    await this.#open.ask({ kind: 'advance', advances, letters: deadLetters, now: readNow(this.#parts.clock) })
  }

  epochs(): Promise<readonly EpochState[]> {
    return this.#open.ask({ kind: 'epochs' })
  }

  get #open(): Link {
    if (this.#link === undefined) throw new Error('the outbox was used before it was started')
    return this.#link
  }

  #addExchange(exchange: string): void {
    const given = this.#exchanges.add(exchange)
    for (const old of given) this.#queue.release(old, () => undefined)
    if (given.length > 0)
      this.#parts.log.warn(
        { exchanges: given.length },
        'too many unfinished QoS 2 exchanges: the oldest were forgotten, their repeats may be stored twice',
      )
  }

  async #totals(): ReturnType<Ledger['totals']> {
    const durable = await this.#open.ask({ kind: 'totals' })
    // Reports come in order, so what the worker had not stored at its answer is what is in flight now.
    const { inFlight } = this.#queue
    const received = { messages: durable.received.messages + inFlight.messages, bytes: durable.received.bytes + inFlight.bytes }
    return { ...durable, received, inFlight }
  }

  #take(state: WorkerState): void {
    const before = this.#state
    this.#state = state
    if (LANES.some((lane) => state.lanes[lane].highest > before.lanes[lane].highest))
      for (const listener of this.#appendListeners) listener()
    if (state.blockedReason !== before.blockedReason) for (const listener of this.#roomListeners) listener()
  }

  #settle(entries: readonly Entry[]): void {
    for (const entry of entries) entry.settle()
  }

  #tell(notice: Notice): void {
    this.#notices = [...this.#notices, { text: notice.text, atMs: this.#parts.clock.wallMs() }].slice(-NOTICES_MAX)
    this.#parts.log[notice.level]({}, notice.text)
  }

  #ticked(): void {
    this.#ticking = false
    const dropped = this.#state.droppedInternal + this.#droppedHere
    const records = dropped - this.#toldDropped
    if (records === 0) return
    this.#toldDropped = dropped
    this.#parts.log.warn(
      { records },
      "records of the gateway's own (events, ledger) were dropped: their share of the buffer is full, or Kafka refuses them",
    )
  }

  #tick(): void {
    this.#cancelTick = this.#parts.clock.after(TICK_MS, () => {
      // A disk that hangs for minutes must not find as many rounds waiting.
      if (!this.#ticking) this.#open.post({ kind: 'tick', now: readNow(this.#parts.clock) })
      this.#ticking = true
      this.#tick()
    })
  }

  async #stop(deadlineMs: number): Promise<void> {
    const link = this.#link
    this.#cancelTick?.()
    if (link === undefined) return
    const leftMs = deadlineMs - this.#parts.clock.monotonicMs()
    if (leftMs <= 0) return link.terminate()
    const drained = this.#drain(link).then(
      () => true,
      () => false,
    )
    let cancel = (): void => undefined
    const late = new Promise<boolean>((resolve) => {
      cancel = this.#parts.clock.after(Math.min(leftMs, MAX_TIMER_MS), () => resolve(false))
    })
    if (!(await Promise.race([drained, late]))) await link.terminate()
    cancel()
  }

  async #drain(link: Link): Promise<void> {
    await this.#queue.flush()
    link.expectExit()
    await link.ask({ kind: 'stop', now: readNow(this.#parts.clock) })
    await link.exited
  }
}

async function untilAborted<Result>(work: Promise<Result>, signal: AbortSignal, giveUp: () => Promise<void>): Promise<Result> {
  const aborted = Promise.withResolvers<never>()
  const abort = (): void => aborted.reject(signal.reason as Error)
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([work, aborted.promise])
  } catch (error) {
    if (signal.aborted) await giveUp()
    throw error
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

function commitLimits({ commit }: OutboxSettings, directory: string): { maxDelayMs: number; maxBytes: number } {
  return { maxDelayMs: commit.maxDelayMs === 'auto' ? autoDelayMs(diskKind(directory)) : commit.maxDelayMs, maxBytes: commit.maxBytes }
}

function drawEpoch(random: Random): EpochId {
  return Buffer.from(random.bytes(8)).toString('hex')
}
