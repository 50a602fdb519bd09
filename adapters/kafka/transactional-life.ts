import type { Producer, Transaction } from 'kafkajs'
import { sleep, type Clock } from '../../daemon/clock.ts'
import {
  LANES,
  type EpochId,
  type KafkaRecord,
  type KafkaTimeouts,
  type Lane,
  type Positions,
  type ProducerLife,
  type TopicFacts,
} from '../../daemon/ports.ts'
import { closeWithin } from './closing.ts'
import { type Client, connectToAny } from './client.ts'
import { CONCURRENT_TRANSACTIONS, FENCED } from './codes.ts'
import { kafkaError, KafkaError, type Fate } from './failure.ts'
import { producerOptions, sendChecked } from './producing.ts'
import { groupOf, positionsTopic, transactionalId, type KafkaClientSettings } from './settings.ts'
import { TopicDesk } from './topics.ts'

/** Waits between repetitions of the first request of a transaction; the broker needs a few ms as a rule. */
const REPEAT_MIN_MS = 2
const REPEAT_MAX_MS = 16
const STEADY = new AbortController().signal

/**
 * A life with transactions. In each, the positions go first: AddOffsetsToTxn is then the request that Kafka may
 * answer with CONCURRENT_TRANSACTIONS while it completes the transaction before, and it can be repeated because
 * no record has left. (kafkajs adds partitions per broker and in parallel: when one is refused, another may have
 * sent records already.) The order within a transaction means nothing to readers.
 */
export class TransactionalLife implements ProducerLife {
  readonly #client: Client
  readonly #settings: KafkaClientSettings
  readonly #timeouts: KafkaTimeouts
  readonly #clock: Clock
  readonly #producer: Producer
  readonly #topics: TopicDesk
  /** Begun at the broker by its first request only. */
  #transaction: Transaction | undefined
  #state: 'resting' | 'running' | 'refused' | 'broken' = 'resting'
  #beganMs = 0
  /** The broker took the first request of the running transaction. */
  #isOpen = false
  #closing: Promise<void> | undefined

  constructor(client: Client, settings: KafkaClientSettings, timeouts: KafkaTimeouts, clock: Clock) {
    this.#client = client
    this.#settings = settings
    this.#timeouts = timeouts
    this.#clock = clock
    this.#topics = new TopicDesk(client, settings)
    this.#producer = client.kafka.producer({
      ...producerOptions,
      transactionalId: transactionalId(settings),
      transactionTimeout: timeouts.transactionMs,
    })
  }

  /** InitProducerId: fences the life before, and ends what it left open. Rejects with the error of kafkajs. */
  async begin(): Promise<void> {
    await connectToAny(this.#producer, this.#settings.brokers.length)
    // Sends nothing, but gives the producer a topic to have in mind, or it asks for those of the whole cluster.
    await this.#producer.send({ topic: positionsTopic(this.#settings), messages: [] })
    this.#transaction = await this.#producer.transaction()
  }

  get sentBytes(): number {
    return this.#client.sockets.sentBytes
  }

  topicFacts(topic: string): Promise<TopicFacts> {
    return this.#topics.facts(topic)
  }

  partitionOf(topic: string, key: string): number {
    return this.#topics.partitionOf(topic, key)
  }

  committed(epoch: EpochId): Promise<ReadonlyMap<Lane, number>> {
    return this.#topics.committed(epoch)
  }

  async transact(records: readonly KafkaRecord[], positions: Positions): Promise<void> {
    if (this.#state !== 'resting') throw new Error(`a life that is ${this.#state} can't send`)
    this.#state = 'running'
    this.#client.tap.take()
    this.#beganMs = this.#clock.monotonicMs()
    this.#isOpen = false
    let fate: Fate = 'none'
    try {
      const transaction = (this.#transaction ??= await this.#producer.transaction())
      for (const [epoch, lanes] of positions) await this.#commitPositions(transaction, epoch, lanes)
      if (records.length > 0) await sendChecked(transaction, records, this.#settings, this.#timeouts)
      fate = 'unknown'
      await transaction.commit()
      this.#transaction = undefined
      this.#state = 'resting'
    } catch (error) {
      throw this.#failed(error, fate)
    }
  }

  /** An open transaction is aborted while the broker still talks to us: it holds up readers of its partitions. */
  close(timeoutMs: number): Promise<void> {
    const polite = this.#state === 'resting' || this.#state === 'refused'
    this.#closing ??= closeWithin(polite ? timeoutMs : 0, this.#client, this.#clock, async () => {
      if (this.#state === 'refused') await this.#transaction?.abort()
      await Promise.all([this.#producer.disconnect(), this.#topics.disconnect()])
    })
    return this.#closing
  }

  async #commitPositions(transaction: Transaction, epoch: EpochId, lanes: ReadonlyMap<Lane, number>): Promise<void> {
    const partitions = [...lanes].map(([lane, next]) => ({ partition: LANES.indexOf(lane), offset: String(next) }))
    const offsets = { consumerGroupId: groupOf(this.#settings, epoch), topics: [{ topic: positionsTopic(this.#settings), partitions }] }
    for (let waitMs = REPEAT_MIN_MS; ; waitMs = Math.min(2 * waitMs, REPEAT_MAX_MS)) {
      try {
        await transaction.sendOffsets(offsets)
        this.#isOpen = true
        return
      } catch (error) {
        const isEarly = !this.#isOpen && kafkaError(error, 'none', []).code === CONCURRENT_TRANSACTIONS
        if (!isEarly || this.#ageMs() > this.#timeouts.requestMs) throw error
        await sleep(this.#clock, waitMs, STEADY)
      }
    }
  }

  #failed(error: unknown, fate: Fate): KafkaError {
    const failure = kafkaError(error, fate, this.#client.tap.take())
    this.#state = failure.code === undefined || fate === 'unknown' ? 'broken' : 'refused'
    // Once our transaction is open, only somebody else's InitProducerId, or the broker's timeout, can be completing it.
    const isTaken = failure.code === FENCED || (this.#isOpen && failure.code === CONCURRENT_TRANSACTIONS)
    if (!isTaken) return failure
    // The two get the same answer (KIP-98).
    const isLate = this.#ageMs() >= this.#timeouts.transactionMs
    const message = isLate
      ? `the broker ended our transaction, which was open for longer than ${this.#timeouts.transactionMs / 1_000} s`
      : 'a newer producer with our transactional id began'
    return new KafkaError({ kind: isLate ? 'transient' : 'fenced', message, fate, code: failure.code, cause: error })
  }

  #ageMs(): number {
    return this.#clock.monotonicMs() - this.#beganMs
  }
}
