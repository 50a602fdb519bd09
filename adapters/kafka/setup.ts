/** Creates what the gateway needs in Kafka, for `edgectl kafka setup`. */
import type { AclEntry, Admin } from 'kafkajs'
import { sleep, type Clock } from '../../daemon/clock.ts'
import { GatewayError } from '../../daemon/errors.ts'
import type { Log } from '../../daemon/ports.ts'
import { connectToAny, openClient, type Client } from './client.ts'
import { NO_LEADER, UNKNOWN_TOPIC } from './codes.ts'
import { readCredentials } from './credentials.ts'
import { kafkaError } from './failure.ts'
import kafkajs from './kafkajs.ts'
import type { KafkaClientSettings } from './settings.ts'

export interface WantedTopic {
  readonly topic: string
  /** At least. */
  readonly partitions: number
  /** Copies; without it 3, or as many as there are brokers. */
  readonly replication: number | undefined
  readonly settings: Readonly<Record<string, string>>
}

export interface WantedAcl {
  readonly resource: 'topic' | 'group' | 'transactional-id'
  readonly name: string
  readonly prefixed: boolean
  readonly operations: readonly ('Read' | 'Write' | 'Describe' | 'DescribeConfigs')[]
}

export interface SetUpResult {
  readonly topic: string
  readonly outcome: 'created' | 'present' | 'grown' | 'wrong'
  /** For `wrong`: what is wrong, and the command that mends it. */
  readonly fault?: string
}

const REQUEST_MS = 30_000
const APPEAR_MS = 60_000
const LOOK_MS = 100
const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes, ConfigResourceTypes } = kafkajs
const RESOURCES = {
  topic: AclResourceTypes.TOPIC,
  group: AclResourceTypes.GROUP,
  'transactional-id': AclResourceTypes.TRANSACTIONAL_ID,
} as const
const OPERATIONS = {
  Read: AclOperationTypes.READ,
  Write: AclOperationTypes.WRITE,
  Describe: AclOperationTypes.DESCRIBE,
  DescribeConfigs: AclOperationTypes.DESCRIBE_CONFIGS,
} as const

/** An administrator's session. `use` rejects with a `KafkaFailure` in plain words. */
export class KafkaSetup {
  readonly #settings: KafkaClientSettings
  readonly #clock: Clock
  readonly #log: Log

  constructor(settings: KafkaClientSettings, clock: Clock, log: Log) {
    this.#settings = settings
    this.#clock = clock
    this.#log = log
  }

  /** Idempotent. A topic that is there keeps its settings: a difference is told, not changed. */
  async topics(wanted: readonly WantedTopic[]): Promise<readonly SetUpResult[]> {
    return this.#session(async (admin) => {
      const present = new Set(await admin.listTopics())
      const missing = wanted.filter(({ topic }) => !present.has(topic))
      if (missing.length > 0) await this.#create(admin, missing)
      const results: SetUpResult[] = missing.map(({ topic }) => ({ topic, outcome: 'created' }))
      for (const topic of wanted.filter((one) => present.has(one.topic))) results.push(await reconcile(admin, topic))
      return results
    })
  }

  /**
   * The controller has taken a topic before the brokers know of it. kafkajs waits for leaders too, but gives up when
   * a broker does not know the topic at all yet.
   */
  async #create(admin: Admin, missing: readonly WantedTopic[]): Promise<void> {
    await create(admin, missing)
    const names = missing.map(({ topic }) => topic)
    const deadlineMs = this.#clock.monotonicMs() + APPEAR_MS
    for (;;) {
      try {
        return void (await admin.fetchTopicMetadata({ topics: names }))
      } catch (error) {
        const { code } = kafkaError(error, 'none', [])
        if ((code !== UNKNOWN_TOPIC && code !== NO_LEADER) || this.#clock.monotonicMs() > deadlineMs) throw error
      }
      await sleep(this.#clock, LOOK_MS, AbortSignal.any([]))
    }
  }

  /** Idempotent. Rejects in plain words on a cluster without an authorizer. */
  async acls(wanted: readonly WantedAcl[], principal: string): Promise<void> {
    const acl = wanted.flatMap((one) => one.operations.map((operation) => entryOf(one, operation, principal)))
    await this.#session((admin) => admin.createAcls({ acl }))
  }

  async #session<Result>(use: (admin: Admin) => Promise<Result>): Promise<Result> {
    const client: Client = openClient(
      this.#settings,
      await readCredentials(this.#settings),
      { requestMs: REQUEST_MS, transactionMs: REQUEST_MS },
      this.#log,
    )
    const admin = client.kafka.admin({ retry: { retries: 5, initialRetryTime: 200 } })
    try {
      await connectToAny(admin, this.#settings.brokers.length)
      return await use(admin)
    } catch (error) {
      throw refused(error instanceof GatewayError ? error : kafkaError(error, 'none', client.tap.take()))
    } finally {
      client.sockets.cut('done')
    }
  }
}

/** What kafkajs says of one topic; its types do not know it. */
interface TopicRefusal extends Error {
  readonly topic: string
  /** Kafka's name of the error. */
  readonly type: string
}

/** Most copies that a topic gets unless more are asked for. */
const COPIES = 3

async function create(admin: Admin, topics: readonly WantedTopic[]): Promise<void> {
  const { brokers } = await admin.describeCluster()
  const creations = topics.map((topic) => creationOf({ ...topic, replication: topic.replication ?? Math.min(COPIES, brokers.length) }))
  try {
    await admin.createTopics({ waitForLeaders: false, topics: creations })
  } catch (error) {
    const first = error instanceof kafkajs.KafkaJSAggregateError ? (error.errors[0] as TopicRefusal | undefined) : undefined
    if (first === undefined) throw error
    const tooMany = `${brokers.length} of ${brokers.length} brokers can hold a copy each: give --replication ${Math.min(COPIES, brokers.length)}`
    const details = first.type === 'INVALID_REPLICATION_FACTOR' ? { cause: error, remedy: tooMany } : { cause: error }
    throw new GatewayError('rejected', `topic ${first.topic} was refused: ${first.message}`, details)
  }
}

/** To a command that runs once, an unreachable Kafka is a refusal: only the daemon goes on trying. */
function refused(error: GatewayError): GatewayError {
  const remedy = error.remedy === undefined ? {} : { remedy: error.remedy }
  return new GatewayError('rejected', error.message, { cause: error, ...remedy })
}

function creationOf({ topic, partitions, replication, settings }: WantedTopic & { readonly replication: number }) {
  const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
  return { topic, numPartitions: partitions, replicationFactor: replication, configEntries }
}

async function reconcile(admin: Admin, wanted: WantedTopic): Promise<SetUpResult> {
  const { topic } = wanted
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
  })
  const actual = new Map(resources[0]?.configEntries.map(({ configName, configValue }) => [configName, configValue]))
  const wrong = Object.entries(wanted.settings).find(([name, value]) => actual.get(name) !== value)
  if (wrong !== undefined) {
    const [name, value] = wrong
    const mend = `kafka-configs.sh --alter --entity-type topics --entity-name ${topic} --add-config ${name}=${value}`
    return { topic, outcome: 'wrong', fault: `${name} is ${actual.get(name)}, and must be ${value}: ${mend}` }
  }
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  if ((topics[0]?.partitions.length ?? 0) >= wanted.partitions || !topic.endsWith('.positions')) return { topic, outcome: 'present' }
  // Only the positions' topic has a number that must be met; more partitions of a data topic would break order.
  await admin.createPartitions({ topicPartitions: [{ topic, count: wanted.partitions }] })
  return { topic, outcome: 'grown' }
}

function entryOf({ resource, name, prefixed }: WantedAcl, operation: WantedAcl['operations'][number], principal: string): AclEntry {
  return {
    principal: `User:${principal}`,
    host: '*',
    operation: OPERATIONS[operation],
    permissionType: AclPermissionTypes.ALLOW,
    resourceType: RESOURCES[resource],
    resourceName: name,
    resourcePatternType: prefixed ? ResourcePatternTypes.PREFIXED : ResourcePatternTypes.LITERAL,
  }
}
