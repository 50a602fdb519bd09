/** Brokers and what the cluster says of our topics and rights. Pure. */
import type { Findings } from './check.ts'
import type { BrokerLogin, ClusterAnswer, ClusterLook, NamedTopic, Reach } from './facts.ts'
import { judgeReach, type Outcome, type PeerWords } from './peers.ts'

export interface BrokerFacts {
  readonly found: Reach
  /** Absent when it was not reached. */
  readonly login?: BrokerLogin
}

export interface WantedTopic {
  readonly topic: string
  readonly partitionsLeast: number
  readonly needsRead: boolean
}

/** AclOperation (org.apache.kafka.common.acl.AclOperation): the bit of a right in `authorized_operations`. */
const READ = 1 << 3
const WRITE = 1 << 4
const SETUP = '`edgectl kafka setup`, or `edgectl kafka setup --print` and have whoever runs Kafka enter the commands'
const GRANT = 'let whoever runs Kafka grant it: `edgectl kafka setup --print` shows the commands'

/** `bootstrap`: named in the configuration; else named by the cluster, which is where messages really go. */
export function judgeBroker(
  { found, login }: BrokerFacts,
  bootstrap: boolean,
  secure: boolean,
  nowMs: number,
  findings: Findings,
): Outcome {
  const place = `${found.host}:${found.port}`
  const name = bootstrap ? place : `${place} (advertised)`
  const words: PeerWords = {
    name,
    address: bootstrap ? 'kafka.brokers' : "the broker's advertised.listeners",
    tls: 'kafka.tls',
    secure,
    ...(bootstrap ? {} : { nameRemedy: advertised(found.host) }),
  }
  const outcome = judgeReach(found, words, nowMs, findings)
  const step = `${name} login`
  if (!outcome.reached) {
    findings.skipBecause(step, outcome.failed)
    return outcome
  }
  if (login?.fault !== undefined) {
    findings.fail(step, login.fault, login.remedy ?? 'look at kafka.sasl and kafka.tls, and at the port: it may be one for other listeners')
    return { reached: false, failed: step }
  }
  findings.ok(step, `let in (${login?.ms ?? 0} ms)`)
  return outcome
}

function advertised(host: string): string {
  return `add "<address> ${host}" to /etc/hosts on this box, or let whoever runs Kafka set advertised.listeners to a name that this box knows`
}

export function judgeCluster(cluster: ClusterAnswer, old: boolean, wanted: readonly WantedTopic[], findings: Findings): void {
  findings.ok('cluster', `${cluster.brokers.length} ${cluster.brokers.length === 1 ? 'broker' : 'brokers'}, id ${cluster.clusterId}`)
  if (old) findings.warn('kafka version', 'the broker is older than Kafka 4.0, for which this gateway is made', 'update the brokers')
  for (const want of wanted) {
    const topic = cluster.topics.find((one) => one.topic === want.topic)
    if (topic !== undefined) judgeTopic(topic, want, findings)
  }
}

function judgeTopic(topic: NamedTopic, { partitionsLeast, needsRead }: WantedTopic, findings: Findings): void {
  const name = `topic ${topic.topic}`
  if (topic.code === 3) return findings.fail(name, `Kafka has no topic "${topic.topic}"`, SETUP)
  if (topic.code === 29) return findings.fail(name, `we are not allowed to see the topic "${topic.topic}"`, GRANT)
  if (topic.code === 17)
    return findings.fail(name, `Kafka does not allow the name "${topic.topic}"`, 'correct kafka.topic, kafka.allowedTopics or kafka.prefix')
  if (topic.code !== 0 && topic.code !== 5)
    return findings.fail(name, `Kafka answers with error ${topic.code} for "${topic.topic}"`, 'ask whoever runs Kafka')
  const lacks =
    topic.rights === undefined ? [] : [...(topic.rights & WRITE ? [] : ['write']), ...(needsRead && !(topic.rights & READ) ? ['read'] : [])]
  if (lacks.length > 0) return findings.fail(name, `we may not ${lacks.join(' or ')} "${topic.topic}"`, GRANT)
  if (topic.leaderless > 0)
    return findings.fail(
      name,
      `${topic.leaderless} of ${topic.partitions} partitions have no leader now`,
      'a broker is down: ask whoever runs Kafka',
    )
  if (topic.partitions < partitionsLeast)
    return findings.fail(name, `it has ${topic.partitions} partitions, and needs ${partitionsLeast}`, SETUP)
  findings.ok(name, `${topic.partitions} ${topic.partitions === 1 ? 'partition' : 'partitions'}, rights are there`)
}

export function judgeRights(
  { fault, rights, settings }: ClusterLook,
  maxMessageBytes: number,
  dataTopics: readonly string[],
  findings: Findings,
): void {
  if (fault !== undefined) return findings.warn('rights', `they could not be asked for: ${fault}`, 'run the doctor again')
  if (rights.group === undefined) findings.ok('consumer groups', 'allowed')
  else findings.fail('consumer groups', rights.group, GRANT)
  if (rights.transactionalId === undefined)
    findings.ok('transactional id', 'allowed to see it; the right to write shows when the daemon sends')
  else findings.fail('transactional id', rights.transactionalId, GRANT)
  for (const { topic, maxMessageBytes: most, cleanupPolicy } of settings.filter((one) => dataTopics.includes(one.topic))) {
    const name = `limits of ${topic}`
    if (most !== undefined && most < maxMessageBytes)
      findings.warn(
        name,
        `it takes messages of ${most} bytes at most, and limits.maxMessageBytes is ${maxMessageBytes}: larger ones become dead letters`,
        `lower limits.maxMessageBytes, or raise max.message.bytes of ${topic}`,
      )
    else if (cleanupPolicy?.includes('compact') === true)
      findings.warn(name, 'it is compacted: of each device only the last message stays', `set cleanup.policy=delete for ${topic}`)
    else if (most !== undefined) findings.ok(name, `messages up to ${most} bytes`)
  }
}
