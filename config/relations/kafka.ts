import type { Finding } from '../issues.ts'
import type { Config } from '../schema.ts'
import { isLoopback } from '../schema/scalars.ts'
import { templateParts } from '../schema/topic.ts'
import { clientCertificate } from './links.ts'
import { type Relation, relation, warning, wrong } from './relation.ts'

type Kafka = NonNullable<Config['kafka']>

export const kafkaRelations: readonly Relation[] = [
  relation(['kafka'], ({ kafka }) => (kafka === undefined ? [] : topics(kafka))),
  relation(['kafka', 'mqtt'], ({ kafka, mqtt }) => (kafka === undefined ? [] : templateHasParts(kafka, mqtt))),
  relation(['kafka'], ({ kafka }) => (kafka === undefined ? [] : login(kafka))),
  relation(['kafka'], ({ kafka }) => clientCertificate(kafka?.tls, ['kafka'])),
]

function* topics(kafka: Kafka): Iterable<Finding> {
  const { topic, allowedTopics } = kafka
  const isTemplate = templateParts(topic).length > 0
  if (isTemplate && allowedTopics === undefined) {
    yield wrong(['kafka', 'topic'], 'a template lets a device choose the topic; add allowedTopics: [ … ] with those that it may lead to')
  }
  const shape = new RegExp(
    `^${topic
      .split(/\{[^{}]*\}/)
      .map((text) => text.replaceAll('.', '\\.'))
      .join('.+')}$`,
  )
  for (const [index, allowed] of (allowedTopics ?? []).entries()) {
    const path = ['kafka', 'allowedTopics', index]
    if (!shape.test(allowed)) yield wrong(path, `${allowed} can never come of kafka.topic (${topic}); remove it`)
    else if (isOwn(allowed, kafka.prefix)) yield wrong(path, OWN)
  }
  if (!isTemplate && isOwn(topic, kafka.prefix)) yield wrong(['kafka', 'topic'], OWN)
}

const OWN = 'the gateway keeps its own records in this topic; write another, or another kafka.prefix'

function isOwn(topic: string, prefix: string): boolean {
  return ['positions', 'ledger', 'events', 'dead-letter'].some((name) => topic === `${prefix}.${name}`)
}

function* templateHasParts(kafka: Kafka, mqtt: Config['mqtt']): Iterable<Finding> {
  // {stream} is the name of the pattern where that has no such part.
  for (const part of new Set(templateParts(kafka.topic).filter((name) => name !== 'stream'))) {
    const without = Object.entries(mqtt.topics).filter(([, { pattern }]) => !pattern.parts.includes(part))
    if (without.length === 0) continue
    const names = without.map(([name]) => `mqtt.topics.${name}`).join(', ')
    yield wrong(['kafka', 'topic'], `{${part}} is no part of ${names}; add a level {${part}} there, or write a topic without it`)
  }
}

function* login(kafka: Kafka): Iterable<Finding> {
  const { sasl } = kafka
  const path = ['kafka', 'sasl']
  if (sasl === undefined) return
  const inClear = kafka.tls === undefined && kafka.brokers.some(({ host }) => !isLoopback(host))
  if (inClear && (sasl.mechanism === 'plain' || sasl.mechanism === 'oauthbearer')) {
    yield warning(
      [...path, 'mechanism'],
      `${sasl.mechanism} sends the ${sasl.mechanism === 'plain' ? 'password' : 'token'} in clear; add kafka.tls, or use scram-sha-512`,
    )
  }
  if (sasl.mechanism !== 'oauthbearer') return
  if (sasl.tokenFile === undefined && sasl.tokenUrl === undefined)
    yield wrong(path, 'no token is named; add tokenFile: /path, or tokenUrl with clientId and clientSecretFile')
  if (sasl.tokenFile !== undefined && sasl.tokenUrl !== undefined)
    yield wrong([...path, 'tokenUrl'], 'tokenFile and tokenUrl exclude each other; keep one')
  if (sasl.tokenUrl !== undefined && (sasl.clientId === undefined || sasl.clientSecretFile === undefined)) {
    yield wrong([...path, 'tokenUrl'], 'asking for a token needs a client; add clientId and clientSecretFile')
  }
  if (sasl.tokenUrl?.startsWith('http://') === true && !isLoopback(new URL(sasl.tokenUrl).hostname)) {
    yield warning([...path, 'tokenUrl'], 'the client secret goes over the network in clear; write https://')
  }
}
