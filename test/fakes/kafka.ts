/**
 * A Kafka cluster in memory behind the `Kafka` port, with the semantics that the relay builds on: InitProducerId
 * fences the life before and ends its transaction, records and positions become visible together or not at all,
 * a prepared commit is completed by the next life. Faults and slowness are decided by the test, call by call.
 */
import type { Clock } from '../../daemon/clock.ts'
import { GatewayError, type ErrorKind } from '../../daemon/errors.ts'
import type {
  EpochId,
  Kafka,
  KafkaFailure,
  KafkaRecord,
  KafkaTimeouts,
  Lane,
  Positions,
  ProducerLife,
  TopicFacts,
} from '../../daemon/ports.ts'

export interface FakeTopic {
  readonly partitions: number
  readonly maxMessageBytes?: number
  readonly cleanupPolicy?: string
}

export type KafkaCall =
  | { readonly kind: 'begin' }
  | { readonly kind: 'facts'; readonly topic: string }
  | { readonly kind: 'committed'; readonly epoch: EpochId }
  | { readonly kind: 'transact'; readonly records: readonly KafkaRecord[]; readonly positions: Positions }

/**
 * - `unreachable`: the call did not reach Kafka.
 * - `answer-lost`: it did its work, and the answer got lost (a transaction: committed, fate unknown).
 * - `left-open`: a transaction's records arrived, its end did not; the next life aborts it. Fate unknown.
 * - `prepared`: the coordinator decided to commit, and the next life completes it. Fate unknown.
 * - `aborted`: the broker aborted it, and said so.
 * - `hang`: no answer, ever; nothing was done.
 */
export type KafkaFault = 'unreachable' | 'answer-lost' | 'left-open' | 'prepared' | 'aborted' | 'hang' | KafkaFailure

interface LogEntry {
  readonly record: KafkaRecord
  state: 'open' | 'committed' | 'aborted'
}

interface OpenTransaction {
  readonly entries: LogEntry[]
  readonly positions: Positions
  readonly prepared: boolean
}

export interface FailureDetails {
  readonly fate?: KafkaFailure['fate']
  readonly alarm?: boolean
  readonly refused?: KafkaFailure['refused']
  readonly remedy?: string
}

export function kafkaFailure(kind: ErrorKind, message: string, details: FailureDetails = {}): KafkaFailure {
  const error = new GatewayError(kind, message, details.remedy === undefined ? {} : { remedy: details.remedy })
  return Object.assign(error, {
    fate: details.fate ?? 'none',
    alarm: details.alarm ?? false,
    ...(details.refused === undefined ? {} : { refused: details.refused }),
  })
}

export class FakeKafka implements Kafka {
  readonly topics = new Map<string, FakeTopic>()
  readonly calls: KafkaCall[] = []
  /** Timeouts of each life. */
  readonly timeouts: KafkaTimeouts[] = []
  fault: ((call: KafkaCall) => KafkaFault | undefined) | undefined
  /** How long a call takes, in ms of the clock; 0 answers at once. */
  latencyMs: ((call: KafkaCall) => number) | undefined
  /** Why the broker does not take a record, if so. */
  refuses: ((record: KafkaRecord) => string | undefined) | undefined
  /** Lives that were begun and not closed. */
  openLives = 0
  readonly #clock: Clock
  readonly #log: LogEntry[] = []
  readonly #offsets = new Map<EpochId, Map<Lane, number>>()
  #producerEpoch = 0
  #open: OpenTransaction | undefined

  constructor(clock: Clock, topics: Readonly<Record<string, FakeTopic>>) {
    this.#clock = clock
    for (const [name, topic] of Object.entries(topics)) this.topics.set(name, topic)
  }

  async begin(timeouts: KafkaTimeouts, signal: AbortSignal): Promise<ProducerLife> {
    this.timeouts.push(timeouts)
    await this.#arrive({ kind: 'begin' }, signal)
    this.#producerEpoch += 1
    this.#endOpen()
    this.openLives += 1
    return new FakeLife(this, this.#producerEpoch)
  }

  /** What a `read_committed` consumer sees, in the order of the log. */
  committedRecords(topic?: string): readonly KafkaRecord[] {
    return this.#log
      .filter(({ record, state }) => state === 'committed' && (topic === undefined || record.topic === topic))
      .map(({ record }) => record)
  }

  /** Kafka forgets the positions of groups that nobody committed for long. */
  forgetPositions(): void {
    this.#offsets.clear()
  }

  async facts(topic: string): Promise<TopicFacts> {
    await this.#arrive({ kind: 'facts', topic })
    const known = this.topics.get(topic)
    if (known === undefined)
      throw kafkaFailure('rejected', `the topic "${topic}" does not exist`, { alarm: true, remedy: 'run `edgectl kafka setup`' })
    return {
      partitions: known.partitions,
      maxMessageBytes: known.maxMessageBytes ?? 1_048_588,
      cleanupPolicy: known.cleanupPolicy ?? 'delete',
      timestampType: 'CreateTime',
    }
  }

  async committed(epoch: EpochId): Promise<ReadonlyMap<Lane, number>> {
    await this.#arrive({ kind: 'committed', epoch })
    return new Map(this.#offsets.get(epoch))
  }

  async transact(life: number, records: readonly KafkaRecord[], positions: Positions): Promise<void> {
    const call = { kind: 'transact', records, positions } as const
    const fault = await this.#arrive(call)
    if (life !== this.#producerEpoch) throw kafkaFailure('fenced', 'a newer producer with the same transactional id exists')
    this.#refuse(records)
    const entries = records.map((record): LogEntry => ({ record, state: 'open' }))
    this.#log.push(...entries)
    this.#open = { entries, positions, prepared: fault === 'prepared' }
    if (fault === 'left-open' || fault === 'prepared') throw kafkaFailure('transient', 'no answer to the commit', { fate: 'unknown' })
    this.#end(fault !== 'aborted')
    if (fault === 'aborted') throw kafkaFailure('transient', 'the coordinator aborted the transaction')
    if (fault === 'answer-lost') throw kafkaFailure('transient', 'no answer to the commit', { fate: 'unknown' })
  }

  /** Waits as long as the call takes, and fails as the test wants; returns what concerns the work itself. */
  async #arrive(call: KafkaCall, signal?: AbortSignal): Promise<KafkaFault | undefined> {
    this.calls.push(call)
    const fault = this.fault?.(call)
    const ms = this.latencyMs?.(call) ?? 0
    if (ms > 0) await new Promise<void>((resolve) => this.#clock.after(ms, resolve))
    else await Promise.resolve()
    if (fault === 'hang') await endOf(signal)
    if (fault === 'unreachable' || fault === 'hang') throw kafkaFailure('transient', 'Kafka is unreachable')
    if (fault === 'answer-lost' && call.kind !== 'transact') throw kafkaFailure('transient', 'no answer')
    if (typeof fault === 'object') throw fault
    return fault
  }

  #refuse(records: readonly KafkaRecord[]): void {
    const batchBytes = new Map<string, number>()
    for (const record of records) {
      const { topic, partition } = record
      const refused = { topic, partition }
      const known = this.topics.get(topic)
      if (known === undefined) throw kafkaFailure('rejected', `the topic "${topic}" does not exist`, { alarm: true })
      const reason = this.refuses?.(record)
      if (reason !== undefined) throw kafkaFailure('rejected', reason, { refused })
      const bytes = (batchBytes.get(`${topic}/${partition}`) ?? 0) + wireBytes(record)
      batchBytes.set(`${topic}/${partition}`, bytes)
      if (bytes > (known.maxMessageBytes ?? 1_048_588)) throw kafkaFailure('rejected', 'MESSAGE_TOO_LARGE', { refused })
    }
  }

  #end(commit: boolean): void {
    const open = this.#open
    this.#open = undefined
    if (open === undefined) return
    for (const entry of open.entries) entry.state = commit ? 'committed' : 'aborted'
    if (!commit) return
    for (const [epoch, lanes] of open.positions) {
      const known = this.#offsets.get(epoch) ?? new Map<Lane, number>()
      for (const [lane, position] of lanes) known.set(lane, position)
      this.#offsets.set(epoch, known)
    }
  }

  #endOpen(): void {
    this.#end(this.#open?.prepared === true)
  }
}

class FakeLife implements ProducerLife {
  readonly #kafka: FakeKafka
  readonly #epoch: number
  readonly #partitions = new Map<string, number>()
  #isClosed = false
  #sentBytes = 0

  constructor(kafka: FakeKafka, epoch: number) {
    this.#kafka = kafka
    this.#epoch = epoch
  }

  async topicFacts(topic: string): Promise<TopicFacts> {
    const facts = await this.#kafka.facts(topic)
    this.#partitions.set(topic, facts.partitions)
    return facts
  }

  partitionOf(topic: string, key: string): number {
    const partitions = this.#partitions.get(topic)
    if (partitions === undefined) throw new Error(`topicFacts("${topic}") was not asked before`)
    let hash = 0
    for (let index = 0; index < key.length; index += 1) hash = (Math.imul(hash, 31) + key.charCodeAt(index)) >>> 0
    return hash % partitions
  }

  committed(epoch: EpochId): Promise<ReadonlyMap<Lane, number>> {
    return this.#kafka.committed(epoch)
  }

  get sentBytes(): number {
    return this.#sentBytes
  }

  transact(records: readonly KafkaRecord[], positions: Positions): Promise<void> {
    this.#sentBytes += records.reduce((sum, record) => sum + wireBytes(record), 0)
    if (this.#isClosed) throw new Error('the life was closed')
    return this.#kafka.transact(this.#epoch, records, positions)
  }

  async close(): Promise<void> {
    if (!this.#isClosed) this.#kafka.openLives -= 1
    this.#isClosed = true
  }
}

/** Size of a record in a batch, without compression. */
export function wireBytes(record: KafkaRecord): number {
  return record.headers.reduce((sum, [name, value]) => sum + 3 + name.length + value.length, 20 + record.key.length + record.value.length)
}

function endOf(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => signal?.addEventListener('abort', () => resolve(), { once: true }))
}
