/** Each broker that is named, then each that the cluster names, then topics and rights. */
import { reach } from '../../../adapters/host/probe-net.ts'
import type { Settings } from '../../../config/settings.ts'
import { kafkaPlan } from '../../cli/kafka-plan.ts'
import { Findings, type Check } from '../../doctor/check.ts'
import type { Reach } from '../../doctor/facts.ts'
import { judgeBroker, judgeCluster, judgeRights, type BrokerFacts, type WantedTopic } from '../../doctor/kafka.ts'
import type { Outcome } from '../../doctor/peers.ts'
import { LANES } from '../../ports.ts'
import { kafkaSettings } from '../settings.ts'
import type { Ways } from './ways.ts'

interface Address {
  readonly host: string
  readonly port: number
}

/** A cluster may have hundreds; each gateway talks to all, and the first ones tell enough. */
const ADVERTISED_MAX = 12

export async function kafkaChecks(settings: Settings, ways: Ways): Promise<readonly Check[]> {
  const findings = new Findings('kafka')
  const { kafka } = settings
  if (kafka === undefined) {
    findings.warn(
      'kafka',
      'no Kafka is named: messages are buffered and go nowhere',
      'write kafka: { brokers: ["host:9092"] }, or run `edgectl setup`',
    )
    return findings.checks
  }
  const nowMs = ways.clock.wallMs()
  const secure = kafka.tls !== undefined
  const wanted = wantedTopics(settings)
  const ask = (broker: Address): Promise<BrokerFacts> => lookAt(broker, settings, wanted, ways)
  const named = await Promise.all(kafka.brokers.map(ask))
  const outcomes = named.map((facts) => judgeBroker(facts, true, secure, nowMs, findings))
  const told = named.find((facts) => facts.login?.cluster !== undefined)?.login
  if (told?.cluster === undefined) {
    findings.skipBecause('advertised brokers', failedIn(outcomes))
    findings.skipBecause('topics and rights', failedIn(outcomes))
    return findings.checks
  }
  const known = new Set(kafka.brokers.map(placeOf))
  const others = told.cluster.brokers.filter((broker) => !known.has(placeOf(broker))).slice(0, ADVERTISED_MAX)
  const advertised = (await Promise.all(others.map(ask))).map((facts) => judgeBroker(facts, false, secure, nowMs, findings))
  judgeCluster(told.cluster, told.beforeKafka4 === true, wanted, findings)
  if (advertised.some(({ reached }) => !reached)) findings.skipBecause('rights', failedIn(advertised))
  else await askRights(named, wanted, settings, ways, findings)
  return findings.checks
}

async function askRights(
  named: readonly BrokerFacts[],
  wanted: readonly WantedTopic[],
  settings: Settings,
  ways: Ways,
  findings: Findings,
): Promise<void> {
  const first = named.find(({ login }) => login?.cluster !== undefined)?.found
  const client = kafkaSettings(settings)
  if (first === undefined || client === undefined) return
  const { lookAtCluster } = await import('../../../adapters/kafka/probe.ts')
  const topics = wanted.map(({ topic }) => topic)
  const look = await lookAtCluster({ settings: client, broker: first, topics, timeoutMs: ways.timeoutMs, log: ways.log })
  judgeRights(look, settings.limits.maxMessageBytes, settings.kafka?.allowedTopics ?? [], findings)
}

async function lookAt(broker: Address, settings: Settings, wanted: readonly WantedTopic[], { timeoutMs, log }: Ways): Promise<BrokerFacts> {
  const found: Reach = await reach({ ...broker, tls: settings.kafka?.tls }, timeoutMs)
  const client = kafkaSettings(settings)
  const isReached = found.tcp?.ok === true && (found.tls === undefined || (found.tls.ok && found.tls.fault === undefined))
  if (!isReached || client === undefined) return { found }
  const { tryLogin } = await import('../../../adapters/kafka/probe.ts')
  return { found, login: await tryLogin({ settings: client, broker, topics: wanted.map(({ topic }) => topic), timeoutMs, log }) }
}

function wantedTopics({ kafka, gateway }: Settings): readonly WantedTopic[] {
  if (kafka === undefined) return []
  const { prefix, allowedTopics } = kafka
  const plan = kafkaPlan({ prefix, gateway: gateway.id, dataTopics: allowedTopics, partitions: 1, replication: undefined })
  const positions = `${prefix}.positions`
  return plan.topics
    .filter(({ topic }) => kafka.delivery === 'exactly-once' || topic !== positions)
    .map(({ topic }) => ({ topic, partitionsLeast: topic === positions ? LANES.length : 1, needsRead: topic === positions }))
}

function placeOf({ host, port }: Address): string {
  return `${host}:${port}`
}

function failedIn(outcomes: readonly Outcome[]): string {
  return outcomes.flatMap((outcome) => (outcome.reached ? [] : [outcome.failed]))[0] ?? 'login'
}
