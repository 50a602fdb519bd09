/** What the gateway needs to find in Kafka: topics with their settings, and the rights of its principal. */
import { LANES } from '../ports.ts'

export interface TopicPlan {
  readonly topic: string
  readonly partitions: number
  /** Copies; `undefined` lets the command choose by the number of brokers. */
  readonly replication: number | undefined
  readonly settings: Readonly<Record<string, string>>
  readonly purpose: string
}

export interface AclPlan {
  readonly resource: 'topic' | 'group' | 'transactional-id'
  readonly name: string
  readonly prefixed: boolean
  readonly operations: readonly ('Read' | 'Write' | 'Describe' | 'DescribeConfigs')[]
}

export interface KafkaPlan {
  readonly topics: readonly TopicPlan[]
  readonly acls: readonly AclPlan[]
}

export interface PlanInput {
  readonly prefix: string
  readonly gateway: string
  /** The fixed data topic, or all allowed ones of a template. */
  readonly dataTopics: readonly string[]
  readonly partitions: number
  readonly replication: number | undefined
  /** The gateway's principal may read the data topics. */
  readonly readable?: boolean
}

export function kafkaPlan(input: PlanInput): KafkaPlan {
  const { prefix, gateway, dataTopics, partitions, replication } = input
  const own = (name: string, count: number, settings: Record<string, string>, purpose: string): TopicPlan => ({
    topic: `${prefix}.${name}`,
    partitions: count,
    replication,
    settings,
    purpose,
  })
  const topics = [
    ...dataTopics.map((topic) => ({ topic, partitions, replication, settings: { 'cleanup.policy': 'delete' }, purpose: 'device logs' })),
    own('positions', LANES.length, { 'cleanup.policy': 'delete' }, 'names the positions that travel as group offsets; holds no records'),
    own('ledger', 1, { 'cleanup.policy': 'compact' }, 'cumulative totals per gateway and epoch'),
    own('events', 1, { 'cleanup.policy': 'delete' }, 'verdicts and status records'),
    own('dead-letter', 1, { 'cleanup.policy': 'delete' }, 'notices of records that were refused for good'),
  ]
  return { topics, acls: aclsFor(topics, prefix, gateway, input.readable === true ? dataTopics : []) }
}

/** Kafka wants Read on the topic and the group of a transactional offset commit (TxnOffsetCommit). */
function aclsFor(topics: readonly TopicPlan[], prefix: string, gateway: string, readable: readonly string[]): AclPlan[] {
  return [
    ...topics.map(({ topic }): AclPlan => ({
      resource: 'topic',
      name: topic,
      prefixed: false,
      operations:
        topic === `${prefix}.positions` || readable.includes(topic)
          ? ['Read', 'Write', 'Describe', 'DescribeConfigs']
          : ['Write', 'Describe', 'DescribeConfigs'],
    })),
    { resource: 'group', name: `${prefix}.${gateway}.`, prefixed: true, operations: ['Read', 'Describe'] },
    { resource: 'transactional-id', name: `${prefix}.${gateway}`, prefixed: false, operations: ['Write', 'Describe'] },
  ]
}

/** The same as commands of Kafka's own tools, for a cluster that somebody else runs. */
export function commandsOf(plan: KafkaPlan, bootstrap: string, principal: string): string[] {
  const topics = plan.topics.map((topic) => {
    const settings = Object.entries(topic.settings).map(([name, value]) => `--config ${name}=${value}`)
    return `kafka-topics.sh --bootstrap-server ${bootstrap} --create --if-not-exists --topic ${topic.topic} --partitions ${topic.partitions} --replication-factor ${topic.replication ?? 3} ${settings.join(' ')}`
  })
  const acls = plan.acls.map((acl) => {
    const operations = acl.operations.map((operation) => `--operation ${operation}`).join(' ')
    const pattern = acl.prefixed ? ' --resource-pattern-type prefixed' : ''
    return `kafka-acls.sh --bootstrap-server ${bootstrap} --add --allow-principal User:${principal} ${operations} --${acl.resource} ${acl.name}${pattern}`
  })
  return [...topics, ...acls]
}
