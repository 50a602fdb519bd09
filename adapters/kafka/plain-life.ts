import type { Producer } from 'kafkajs'
import type { Clock } from '../../daemon/clock.ts'
import type { KafkaRecord, KafkaTimeouts, Lane, ProducerLife, TopicFacts } from '../../daemon/ports.ts'
import { closeWithin } from './closing.ts'
import { type Client, connectToAny } from './client.ts'
import { kafkaError } from './failure.ts'
import { producerOptions, sendChecked } from './producing.ts'
import type { KafkaClientSettings } from './settings.ts'
import { TopicDesk } from './topics.ts'

/** A life without transactions, for brokers that have none: what failed may be there in part, and is sent again. */
export class PlainLife implements ProducerLife {
  readonly #client: Client
  readonly #settings: KafkaClientSettings
  readonly #timeouts: KafkaTimeouts
  readonly #clock: Clock
  readonly #producer: Producer
  readonly #topics: TopicDesk
  #isBroken = false
  #closing: Promise<void> | undefined

  constructor(client: Client, settings: KafkaClientSettings, timeouts: KafkaTimeouts, clock: Clock) {
    this.#client = client
    this.#settings = settings
    this.#timeouts = timeouts
    this.#clock = clock
    this.#topics = new TopicDesk(client, settings)
    this.#producer = client.kafka.producer(producerOptions)
  }

  async begin(): Promise<void> {
    await connectToAny(this.#producer, this.#settings.brokers.length)
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

  /** Nothing was ever committed. */
  async committed(): Promise<ReadonlyMap<Lane, number>> {
    return new Map()
  }

  /** `positions` are not kept. */
  async transact(records: readonly KafkaRecord[]): Promise<void> {
    this.#client.tap.take()
    try {
      if (records.length > 0) await sendChecked(this.#producer, records, this.#settings, this.#timeouts)
    } catch (error) {
      this.#isBroken = true
      throw kafkaError(error, 'unknown', this.#client.tap.take())
    }
  }

  close(timeoutMs: number): Promise<void> {
    this.#closing ??= closeWithin(this.#isBroken ? 0 : timeoutMs, this.#client, this.#clock, async () => {
      await Promise.all([this.#producer.disconnect(), this.#topics.disconnect()])
    })
    return this.#closing
  }
}
