/**
 * The state below a prefix of etcd, brought to one function that reconciles it. State, not events: a hint, an ended
 * watch, a compaction, a timer all do the same, namely look again. So nothing depends on an event that may get lost.
 */
import { sleep } from '../clock.ts'
import { messageOf } from '../errors.ts'
import type { Component } from '../component.ts'
import type { Log } from '../ports.ts'
import { backoffMs, jittered } from './backoff.ts'
import { audit, catchUp, isSame, readAll, rewrittenSince } from './mirror.ts'
import type { Caught, View } from './mirror.ts'
import { EtcdFailure } from './ports.ts'
import type { EtcdReason, Place } from './ports.ts'
import type { Tools } from './wait.ts'

/** Durable: what was reconciled up to. */
export interface FeedCheckpoint {
  read(): Promise<Place | undefined>
  /** Resolves when it would survive a power cut. */
  write(place: Place): Promise<void>
}

export interface FeedSettings {
  readonly prefix: string
  /** Look again after about this time (half to one and a half of it), whatever the watch says. */
  readonly resyncMs: number
  readonly retryMostMs: number
}

export interface FeedConsumer {
  /**
   * Brings the box to the state of `view`. Idempotent: the same view may come again. A rejection is retried with the
   * then current view; the checkpoint does not move before it resolves (confd #671).
   */
  reconcile(view: View, signal: AbortSignal): Promise<void>
  /** etcd's history is another one (`why`): tokens and revisions kept from before mean nothing. Before `reconcile`. */
  reset(why: string): Promise<void>
}

export interface FeedState {
  readonly state: 'starting' | 'current' | 'unreachable' | 'refused' | 'failing'
  /** Why, in plain words; absent when `current`. */
  readonly reason?: string
  /** What a person should do, if that would help. */
  readonly remedy?: string
  /** Wall ms of the last change of `state`. */
  readonly sinceMs: number
  /** Reconciled up to here. */
  readonly checkpoint: Place | undefined
}

const RETRY_FIRST_MS = 500

export class Feed implements Component {
  readonly name = 'feed'
  readonly #tools: Tools
  readonly #settings: FeedSettings
  readonly #consumer: FeedConsumer
  readonly #store: FeedCheckpoint
  readonly #log: Log
  readonly #stopping = new AbortController()
  #running: Promise<void> | undefined
  #known: View | undefined
  #checkpoint: Place | undefined
  #state: Omit<FeedState, 'checkpoint'>

  constructor(tools: Tools, settings: FeedSettings, consumer: FeedConsumer, store: FeedCheckpoint, log: Log) {
    this.#tools = tools
    this.#settings = settings
    this.#consumer = consumer
    this.#store = store
    this.#log = log
    this.#state = { state: 'starting', reason: 'etcd has not answered yet', sinceMs: tools.clock.wallMs() }
  }

  /** Begins, and does not wait: a box boots without etcd. Rejects only when the checkpoint can't be read. */
  async start(signal: AbortSignal): Promise<void> {
    this.#checkpoint = await this.#store.read()
    signal.throwIfAborted()
    this.#running = this.#run(this.#stopping.signal)
  }

  /** Waits for a reconcile that is under way until `deadlineMs` (monotonic), which sees its signal abort. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopping.abort()
    const leftMs = Math.max(0, deadlineMs - this.#tools.clock.monotonicMs())
    const ended = new AbortController()
    await Promise.race([this.#running?.finally(() => ended.abort()), sleep(this.#tools.clock, leftMs, ended.signal)])
  }

  state(): FeedState {
    return { ...this.#state, checkpoint: this.#checkpoint }
  }

  async #run(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.#follow(signal, () => (failures = 0))
      } catch (error) {
        if (!signal.aborted) this.#note(error)
      }
      await sleep(this.#tools.clock, backoffMs(failures, RETRY_FIRST_MS, this.#settings.retryMostMs, this.#tools.random), signal)
    }
  }

  /** Until the watch ends, or something fails. A watch that ended may have hidden anything: the next round audits. */
  async #follow(signal: AbortSignal, onCurrent: () => void): Promise<void> {
    await this.#bring(this.#known === undefined ? undefined : await audit(this.#tools.etcd, this.#settings.prefix, this.#known), signal)
    const watch = this.#watch(signal)
    try {
      while (!signal.aborted) {
        this.#setState({ state: 'current' })
        if ((await watch.next(jittered(this.#settings.resyncMs, this.#tools.random))) === 'ended') return
        if (signal.aborted || this.#known === undefined) return
        onCurrent() // not earlier: watches that end at once, again and again, must slow down
        await this.#bring(await catchUp(this.#tools.etcd, this.#settings.prefix, this.#known), signal)
      }
    } finally {
      watch.end()
    }
  }

  async #bring(caught: Caught | undefined, signal: AbortSignal): Promise<void> {
    if (caught !== undefined && 'view' in caught) {
      const isNews = this.#known === undefined || !isSame(this.#known, caught.view) || this.#checkpoint === undefined
      return isNews ? this.#reconcile(caught.view, signal) : void (this.#known = caught.view)
    }
    this.#known = undefined
    const view = await readAll(this.#tools.etcd, this.#settings.prefix)
    const why = caught?.rewritten ?? (this.#checkpoint && rewrittenSince(this.#checkpoint, view))
    if (why !== undefined) await this.#reset(why)
    await this.#reconcile(view, signal)
  }

  async #reset(why: string): Promise<void> {
    this.#log.error({ why }, 'etcd was restored or replaced: revisions and tokens start anew')
    await this.#consumer.reset(why)
    this.#checkpoint = undefined
  }

  async #reconcile(view: View, signal: AbortSignal): Promise<void> {
    await this.#consumer.reconcile(view, signal)
    const place = { clusterId: view.clusterId, revision: view.revision }
    await this.#store.write(place)
    this.#checkpoint = place
    this.#known = view
  }

  #watch(signal: AbortSignal): HintQueue {
    const queue = new HintQueue(this.#tools, signal)
    queue.begin(this.#settings.prefix, (this.#known?.revision ?? 0) + 1)
    return queue
  }

  #note(error: unknown): void {
    const { state, remedy } = describe(error)
    const reason = messageOf(error)
    if (this.#state.state !== state) this.#log.warn({ err: error }, `patches stand still: ${reason}`)
    this.#setState({ state, reason, ...(remedy !== undefined && { remedy }) })
  }

  #setState(next: Omit<FeedState, 'sinceMs' | 'checkpoint'>): void {
    const sinceMs = next.state === this.#state.state ? this.#state.sinceMs : this.#tools.clock.wallMs()
    this.#state = { ...next, sinceMs }
  }
}

const STATES: Record<EtcdReason, FeedState['state']> = {
  unavailable: 'unreachable',
  compacted: 'unreachable',
  credentials: 'refused',
  refused: 'refused',
  'lease-gone': 'failing',
}

function describe(error: unknown): Pick<FeedState, 'state' | 'remedy'> {
  if (!(error instanceof EtcdFailure)) return { state: 'failing' }
  return { state: STATES[error.reason], ...(error.remedy !== undefined && { remedy: error.remedy }) }
}

/** The watch's hints, folded: between two looks one is as good as a thousand. */
class HintQueue {
  readonly #tools: Tools
  readonly #signal: AbortSignal
  #pending: 'changed' | 'ended' | undefined
  #wake = (): void => undefined
  #end = (): void => undefined

  constructor(tools: Tools, signal: AbortSignal) {
    this.#tools = tools
    this.#signal = signal
  }

  begin(prefix: string, revision: number): void {
    this.#end = this.#tools.etcd.watch([{ prefix }], revision, (hint) => {
      if (this.#pending !== 'ended') this.#pending = hint
      this.#wake()
    })
  }

  /** `resync` when `mostMs` passed without a hint, or at the stop. */
  next(mostMs: number): Promise<'changed' | 'ended' | 'resync'> {
    return new Promise((resolve) => {
      const finish = (): void => {
        cancel()
        this.#signal.removeEventListener('abort', finish)
        this.#wake = () => undefined
        const hint = this.#pending ?? 'resync'
        if (hint === 'changed') this.#pending = undefined
        resolve(hint)
      }
      const cancel = this.#tools.clock.after(mostMs, finish)
      this.#signal.addEventListener('abort', finish, { once: true })
      this.#wake = finish
      if (this.#pending !== undefined || this.#signal.aborted) finish()
    })
  }

  end(): void {
    this.#end()
  }
}
