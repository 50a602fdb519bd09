/**
 * A producer's life as the relay uses it: each call has a deadline of its own, so that a client that never answers
 * is given up too, and each failure comes out classified.
 */
import type { Clock } from '../clock.ts'
import type { EpochId, Kafka, KafkaRecord, KafkaTimeouts, Lane, Positions, ProducerLife, TopicFacts } from '../ports.ts'
import { LinkFailure, linkFailure } from './failure.ts'

/** Facts are asked again after this long, at the next transaction: an idle box asks nothing. */
const FACTS_MS = 5 * 60_000
/** A topic that is missing or wrong is looked at again after this long. */
const WRONG_MS = 30_000
/** Routers forget silent connections after 5 min, some brokers' balancers too; then a request would hang. */
const STALE_MS = 4 * 60_000
const SLOW_FACTOR = 1.5
const CLOSE_MS = 2_000
/** When the deadline of a stop has passed. */
const HURRIED_CLOSE_MS = 200

/** A topic that records can't go to now. */
export interface WrongTopic {
  readonly wrong: LinkFailure
}

interface Known {
  readonly facts: TopicFacts | WrongTopic
  readonly atMs: number
}

export interface LinkOptions {
  readonly timeouts: KafkaTimeouts
  readonly clock: Clock
  /** Ends every wait but the one for a transaction. */
  readonly leave: AbortSignal
  /** Ends the wait for a transaction. */
  readonly abandon: AbortSignal
  /** A question was answered after this long. */
  readonly noteAnswer: (ms: number) => void
}

export class Link {
  readonly #beganMs: number
  #usedMs: number
  readonly #life: ProducerLife
  readonly #options: LinkOptions
  readonly #facts = new Map<string, Known>()

  private constructor(life: ProducerLife, options: LinkOptions) {
    this.#life = life
    this.#options = options
    this.#usedMs = this.#beganMs = options.clock.monotonicMs()
  }

  get timeouts(): KafkaTimeouts {
    return this.#options.timeouts
  }

  /** Bytes on the wire since the life began. */
  get sentBytes(): number {
    return this.#life.sentBytes
  }

  /**
   * A new life is better than this one: it was unused for so long that something on the way may have forgotten its
   * connections, or it has the timeouts of a link that was much slower (readers would wait that long for a dead box).
   */
  isStale(wanted: KafkaTimeouts): boolean {
    const nowMs = this.#options.clock.monotonicMs()
    const isSlow = this.timeouts.transactionMs > SLOW_FACTOR * wanted.transactionMs
    return nowMs - this.#usedMs > STALE_MS || (isSlow && nowMs - this.#beganMs > STALE_MS)
  }

  /** Rejects with a `LinkFailure`. */
  static async open(kafka: Kafka, options: LinkOptions): Promise<Link> {
    const { timeouts, clock, leave } = options
    const late = new AbortController()
    const begun = kafka.begin(timeouts, AbortSignal.any([late.signal, leave]))
    try {
      return new Link(await within(begun, patienceMs(timeouts), 'Kafka gave no producer id', clock, leave), options)
    } catch (error) {
      late.abort()
      // A life that begins after we gave up would fence the next one: it ends at once.
      begun.then(
        (life) => life.close(CLOSE_MS),
        () => undefined,
      )
      throw error
    }
  }

  /** The facts of a topic, or why it can't be used, as last heard; `undefined` if that is unknown or old. */
  factsOf(topic: string): TopicFacts | WrongTopic | undefined {
    const known = this.#facts.get(topic)
    if (known === undefined) return undefined
    const age = this.#options.clock.monotonicMs() - known.atMs
    return age < ('wrong' in known.facts ? WRONG_MS : FACTS_MS) ? known.facts : undefined
  }

  /** When the facts of a topic were last heard, monotonic; -Infinity before that. */
  heardMs(topic: string): number {
    return this.#facts.get(topic)?.atMs ?? -Infinity
  }

  /** Asks for the facts of a topic. `judge` says what is wrong with them. Rejects if Kafka can't be asked. */
  async learn(topic: string, judge: (facts: TopicFacts) => LinkFailure | undefined): Promise<TopicFacts | WrongTopic> {
    const facts = await this.#describe(topic, judge)
    this.#facts.set(topic, { facts, atMs: this.#options.clock.monotonicMs() })
    return facts
  }

  partitionOf(topic: string, key: string): number {
    return this.#life.partitionOf(topic, key)
  }

  async committed(epoch: EpochId): Promise<ReadonlyMap<Lane, number>> {
    return this.#ask(this.#life.committed(epoch), 'Kafka did not answer which positions are committed')
  }

  async transact(records: readonly KafkaRecord[], positions: Positions): Promise<void> {
    const { timeouts, clock, abandon } = this.#options
    await within(this.#life.transact(records, positions), patienceMs(timeouts), 'Kafka did not answer a transaction', clock, abandon)
    this.#usedMs = clock.monotonicMs()
  }

  /** Never rejects. */
  async close(): Promise<void> {
    const ms = this.#options.abandon.aborted ? HURRIED_CLOSE_MS : CLOSE_MS
    await within(this.#life.close(ms), 2 * ms, '', this.#options.clock, undefined).catch(() => undefined)
  }

  async #describe(topic: string, judge: (facts: TopicFacts) => LinkFailure | undefined): Promise<TopicFacts | WrongTopic> {
    try {
      const facts = await this.#ask(this.#life.topicFacts(topic), `Kafka did not describe the topic "${topic}"`)
      const wrong = judge(facts)
      return wrong === undefined ? facts : { wrong }
    } catch (error) {
      const failure = linkFailure(error)
      if (failure.class !== 'alarm') throw failure
      return { wrong: failure }
    }
  }

  async #ask<T>(answer: Promise<T>, late: string): Promise<T> {
    const { timeouts, clock, leave, noteAnswer } = this.#options
    const startedMs = clock.monotonicMs()
    const value = await within(answer, patienceMs(timeouts), late, clock, leave)
    noteAnswer(clock.monotonicMs() - startedMs)
    return value
  }
}

/** How long any call may take: the client's own timeouts end it earlier, or the client is broken. */
export function patienceMs(timeouts: KafkaTimeouts): number {
  return timeouts.transactionMs + 2 * timeouts.requestMs
}

function within<T>(work: Promise<T>, ms: number, late: string, clock: Clock, signal: AbortSignal | undefined): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = (message: string): void => {
      settle()
      reject(new LinkFailure({ class: 'transient', message, inDoubt: true }))
    }
    const stopped = (): void => giveUp('given up: the gateway stops, or goes on with other settings')
    const cancel = clock.after(ms, () => giveUp(`${late} within ${Math.round(ms / 1_000)} s`))
    const settle = (): void => {
      cancel()
      signal?.removeEventListener('abort', stopped)
    }
    signal?.addEventListener('abort', stopped, { once: true })
    if (signal?.aborted === true) stopped()
    work.then(
      (value) => {
        settle()
        resolve(value)
      },
      (error: unknown) => {
        settle()
        rejectClassified(error, reject)
      },
    )
  })
}

function rejectClassified(error: unknown, reject: (error: unknown) => void): void {
  try {
    reject(linkFailure(error))
  } catch (fatal) {
    reject(fatal)
  }
}
