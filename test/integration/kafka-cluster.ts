/** What an operator of the cluster does to topics, past any proxy. Each resolves when the broker shows the change. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import kafkajs from '../../adapters/kafka/kafkajs.ts'
import type { Admin, SASLOptions } from 'kafkajs'
import { until } from '../fleet/box.ts'
import type { KafkaService } from '../services/index.ts'

export async function withAdmin<Result>(kafka: KafkaService, use: (admin: Admin) => Promise<Result>): Promise<Result> {
  const admin = new kafkajs.Kafka({ brokers: [kafka.internalEndpoint], logLevel: kafkajs.logLevel.NOTHING }).admin()
  await admin.connect()
  try {
    return await use(admin)
  } finally {
    await admin.disconnect()
  }
}

export async function configureTopic(kafka: KafkaService, topic: string, settings: Readonly<Record<string, string>>): Promise<void> {
  const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
  const resource = { type: kafkajs.ConfigResourceTypes.TOPIC, name: topic }
  await withAdmin(kafka, async (admin) => {
    await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] })
    await until(`${topic} has ${JSON.stringify(settings)}`, async () => {
      const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
      const actual = new Map(resources[0]?.configEntries.map(({ configName, configValue }) => [configName, configValue]))
      return configEntries.every(({ name, value }) => actual.get(name) === value)
    })
  })
}

export async function createTopic(
  kafka: KafkaService,
  topic: string,
  partitions: number,
  settings: Readonly<Record<string, string>> = {},
): Promise<void> {
  const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
  await withAdmin(kafka, async (admin) => {
    await admin.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions: partitions, configEntries }] })
    await until(`${topic} is there`, async () => (await partitionsOf(admin, topic)) === partitions)
  })
}

export async function deleteTopic(kafka: KafkaService, topic: string): Promise<void> {
  await withAdmin(kafka, async (admin) => {
    await admin.deleteTopics({ topics: [topic] })
    await until(`${topic} has gone`, async () => !(await admin.listTopics()).includes(topic))
  })
}

export async function growTopic(kafka: KafkaService, topic: string, partitions: number): Promise<void> {
  await withAdmin(kafka, async (admin) => {
    await admin.createPartitions({ topicPartitions: [{ topic, count: partitions }] })
    await until(`${topic} has ${partitions} partitions`, async () => (await partitionsOf(admin, topic)) === partitions)
  })
}

export interface ScramPassword {
  readonly mechanism: 'SCRAM-SHA-256' | 'SCRAM-SHA-512'
  readonly username: string
  readonly password: string
}

/** The controller has a new password before the broker takes it. `caFile`: of the broker's certificate. */
export async function setPassword(kafka: KafkaService, { mechanism, username, password }: ScramPassword, caFile: string): Promise<void> {
  const change = ['--alter', '--entity-type', 'users', '--entity-name', username, '--add-config', `${mechanism}=[password=${password}]`]
  await kafka.tool('kafka.admin.ConfigCommand', change)
  const sasl: SASLOptions = { mechanism: mechanism === 'SCRAM-SHA-256' ? 'scram-sha-256' : 'scram-sha-512', username, password }
  const client = new kafkajs.Kafka({
    brokers: [kafka.endpoint],
    ssl: { ca: readFileSync(caFile) },
    sasl,
    retry: { retries: 0 },
    logLevel: kafkajs.logLevel.NOTHING,
  })
  await until(`the broker takes the ${mechanism} password of ${username}`, async () => {
    const admin = client.admin()
    try {
      await admin.connect()
      return true
    } finally {
      await admin.disconnect()
    }
  })
}

async function partitionsOf(admin: Admin, topic: string): Promise<number> {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  return topics[0]?.partitions.length ?? 0
}

/** The scripts of Kafka's `bin` folder, and what they run. */
const TOOLS: Readonly<Record<string, string>> = {
  'kafka-configs.sh': 'kafka.admin.ConfigCommand',
  'kafka-topics.sh': 'org.apache.kafka.tools.TopicCommand',
  'kafka-acls.sh': 'org.apache.kafka.tools.AclCommand',
}

/** Runs a command that the gateway printed, by Kafka's own tool, with an operator's rights. */
export async function runPrinted(kafka: KafkaService, command: string): Promise<void> {
  const [script = '', ...args] = command.replace(/ --bootstrap-server \S+/, '').split(' ')
  const tool = TOOLS[script]
  assert.ok(tool !== undefined, `"${command}" is no command of Kafka's`)
  await kafka.tool(tool, args)
}
