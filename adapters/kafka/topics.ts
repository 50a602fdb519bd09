/** What the admin side of a life asks: the facts of topics, and the committed positions. */
import type { Admin } from 'kafkajs'
import { LANES, type EpochId, type Lane, type TopicFacts } from '../../daemon/ports.ts'
import { type Client, connectToAny } from './client.ts'
import { TOPIC_NOT_ALLOWED } from './codes.ts'
import { alarmIfMissing, kafkaError } from './failure.ts'
import kafkajs from './kafkajs.ts'
import { partitionFor } from './murmur2.ts'
import { groupOf, positionsTopic, type KafkaClientSettings } from './settings.ts'

/** The broker's default, when it does not let us read the topic's own. */
const MAX_MESSAGE_BYTES = 1_048_588
/** No epoch has this id; its group is never written. */
const NO_EPOCH = '0'.repeat(16)
const CONFIGS = ['max.message.bytes', 'cleanup.policy', 'message.timestamp.type'] as const

export class TopicDesk {
  readonly #client: Client
  readonly #settings: KafkaClientSettings
  readonly #partitions = new Map<string, number>()
  #admin: Admin | undefined
  #hasTopicInMind = false

  constructor(client: Client, settings: KafkaClientSettings) {
    this.#client = client
    this.#settings = settings
  }

  async facts(topic: string): Promise<TopicFacts> {
    return this.#ask(topic, async (admin) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      const partitions = topics[0]?.partitions.length ?? 0
      this.#partitions.set(topic, partitions)
      const configs = await this.#configs(admin, topic)
      return {
        partitions,
        maxMessageBytes: Number(configs?.get('max.message.bytes') ?? MAX_MESSAGE_BYTES),
        cleanupPolicy: configs?.get('cleanup.policy'),
        timestampType: configs?.get('message.timestamp.type'),
      }
    })
  }

  partitionOf(topic: string, key: string): number {
    const partitions = this.#partitions.get(topic)
    if (partitions === undefined) throw new Error(`the facts of "${topic}" were not asked before`)
    return partitionFor(key, partitions)
  }

  /** OffsetFetch, after InitProducerId: no transaction of ours is open any more, so what is read is final. */
  async committed(epoch: EpochId): Promise<ReadonlyMap<Lane, number>> {
    return this.#ask(positionsTopic(this.#settings), async (admin) => {
      const offsets = await this.#offsets(admin, epoch)
      const positions = offsets.map(({ partition, offset }) => [LANES[partition], Number(offset)] as const)
      return new Map(positions.filter((entry): entry is [Lane, number] => entry[0] !== undefined && entry[1] >= 0))
    })
  }

  async disconnect(): Promise<void> {
    await this.#admin?.disconnect()
  }

  async #ask<T>(topic: string, question: (admin: Admin) => Promise<T>): Promise<T> {
    this.#client.tap.take()
    try {
      this.#admin ??= await this.#connect()
      return await question(this.#admin)
    } catch (error) {
      throw alarmIfMissing(kafkaError(error, 'none', this.#client.tap.take()), topic)
    }
  }

  async #connect(): Promise<Admin> {
    const admin = this.#client.kafka.admin()
    await connectToAny(admin, this.#settings.brokers.length)
    // Brings the brokers' names; without them the first question to a coordinator fails, and is not repeated.
    if (this.#settings.delivery === 'exactly-once') await admin.fetchTopicMetadata({ topics: [positionsTopic(this.#settings)] })
    return admin
  }

  /**
   * kafkajs's admin reads the metadata of every topic of the cluster before it describes one, unless it has a
   * topic in mind: too much for a thin link, and a leaderless topic of somebody else's would fail the answer.
   * Only calls that read offsets give it one.
   */
  async #bearInMind(admin: Admin, topic: string): Promise<void> {
    if (this.#hasTopicInMind) return
    if (this.#settings.delivery === 'exactly-once') await this.#offsets(admin, NO_EPOCH)
    else await admin.fetchTopicOffsets(topic)
    this.#hasTopicInMind = true
  }

  async #offsets(admin: Admin, epoch: EpochId): Promise<readonly { partition: number; offset: string }[]> {
    const [answer] = await admin.fetchOffsets({ groupId: groupOf(this.#settings, epoch), topics: [positionsTopic(this.#settings)] })
    this.#hasTopicInMind = true
    return answer?.partitions ?? []
  }

  async #configs(admin: Admin, topic: string): Promise<ReadonlyMap<string, string> | undefined> {
    await this.#bearInMind(admin, topic)
    try {
      const { resources } = await admin.describeConfigs({
        resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: [...CONFIGS] }],
        includeSynonyms: false,
      })
      return new Map(resources[0]?.configEntries.map(({ configName, configValue }) => [configName, configValue]))
    } catch (error) {
      // DescribeConfigs is a right of its own, and we can do without.
      if (kafkaError(error, 'none', []).code === TOPIC_NOT_ALLOWED) return undefined
      throw error
    }
  }
}
