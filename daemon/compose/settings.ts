/** The validated settings, cut to what each component takes. The only place that knows both shapes. */
import type { KafkaClientSettings } from '../../adapters/kafka/settings.ts'
import type { ConnectSettings } from '../../adapters/mqtt/connect-settings.ts'
import type { ListenSettings, ListenTls } from '../../adapters/mqtt/listen-settings.ts'
import type {
  AuthSettings,
  ClientTlsSettings,
  ConnectionSettings,
  DedupeFrom,
  KafkaSettings,
  ListenerSettings,
  ServerTlsSettings,
  Settings,
  SeverityFrom,
  TopicSettings,
} from '../../config/settings.ts'
import type { OutboxSettings } from '../../store/settings.ts'
import type { IngestSettings } from '../ingest/settings.ts'
import type { RelaySettings } from '../relay/settings.ts'

export function ingestSettings(settings: Settings): IngestSettings {
  const { limits, mqtt, buffer } = settings
  const listeners = Object.keys(mqtt.listen).map((name) => [name, 'accept'] as const)
  const connections = Object.entries(mqtt.connect).map(([name, connection]) => [name, connection.retained] as const)
  return {
    topics: Object.entries(mqtt.topics).map(([name, { pattern }]) => ({ name, pattern })),
    limits,
    severity: { from: severityText(limits.severity.from), urgent: limits.severity.urgent, reserveShare: limits.severity.reserveFraction },
    dedupeFrom: dedupeText(buffer.dedupe.from),
    retained: Object.fromEntries([...listeners, ...connections]),
  }
}

export function outboxSettings(settings: Settings): OutboxSettings {
  const { buffer, ledger } = settings
  return {
    maxBytes: buffer.maxBytes,
    minFreeBytes: buffer.minFreeBytes,
    maxAgeMs: buffer.maxAgeMs,
    lanes: buffer.lanes,
    commit: buffer.commit,
    dedupe: buffer.dedupe.from.kind === 'none' ? undefined : { windowMs: buffer.dedupe.windowMs, maxIds: buffer.dedupe.maxIds },
    ledgerMaxDevices: ledger.maxDevices,
  }
}

/** What the relay runs on while no Kafka is named: it sends nothing. */
const NO_KAFKA: Omit<KafkaSettings, 'brokers' | 'topicParts' | 'compression' | 'tls' | 'sasl'> = {
  topic: 'device-logs',
  allowedTopics: ['device-logs'],
  prefix: 'edge',
  delivery: 'exactly-once',
  unsyncedClock: 'hold',
  uplinkBytesPerSecond: Infinity,
  transaction: { maxBytes: 4 * 1024 * 1024, lingerMs: 500, perSecond: 2 },
}

export function relaySettings(settings: Settings): RelaySettings {
  const { lanes } = settings.buffer
  const { prefix, topic, allowedTopics, delivery, unsyncedClock, uplinkBytesPerSecond, transaction } = settings.kafka ?? NO_KAFKA
  return {
    gatewayId: settings.gateway.id,
    prefix,
    topic,
    allowedTopics,
    delivery,
    unsyncedClock,
    uplinkBytesPerSecond,
    transaction,
    weights: { urgent: lanes.urgent.weight, normal: lanes.normal.weight, deferred: lanes.deferred.weight },
  }
}

/** `undefined` while no Kafka is named. */
export function kafkaSettings({ kafka, gateway }: Settings): KafkaClientSettings | undefined {
  if (kafka === undefined) return undefined
  const { brokers, prefix, delivery, compression, tls, sasl } = kafka
  return { brokers, gatewayId: gateway.id, prefix, delivery, compression, tls, sasl }
}

export function listenSettings(listener: ListenerSettings, settings: Settings): ListenSettings {
  return {
    url: listener.url.href,
    ...(listener.tls === undefined ? {} : { tls: serverTls(listener.tls) }),
    auth: listenAuth(listener.auth),
    maxConnections: listener.maxConnections,
    connectsPerSecond: listener.connectsPerSecond,
    maxPacketBytes: settings.limits.maxPacketBytes,
    keepaliveMaxSeconds: listener.maxKeepaliveMs / 1_000,
    inFlightPerConnection: listener.inFlightPerConnection,
    inFlightBytes: settings.limits.inFlight.bytes,
  }
}

export function connectSettings(name: string, connection: ConnectionSettings, settings: Settings): ConnectSettings {
  return {
    urls: connection.urls.map((url) => url.href),
    clientId: connection.clientId,
    protocolVersion: connection.protocolVersion,
    sessionExpirySeconds: Math.round(connection.sessionExpiryMs / 1_000),
    receiveMaximum: connection.receiveMaximum,
    keepaliveSeconds: Math.round(connection.keepaliveMs / 1_000),
    username: connection.username,
    passwordFile: connection.passwordFile,
    tls: connection.tls === undefined ? undefined : clientTls(connection.tls),
    filters: filtersFor(name, settings.mqtt.topics),
    retained: connection.retained,
    inFlight: settings.limits.inFlight,
  }
}

function filtersFor(source: string, topics: Readonly<Record<string, TopicSettings>>): ConnectSettings['filters'] {
  return Object.values(topics)
    .filter((topic) => topic.sources.includes(source))
    .map(({ filter, qos }) => ({ filter, qos }))
}

function serverTls(tls: ServerTlsSettings): ListenTls {
  return {
    certFile: tls.cert,
    keyFile: tls.key,
    requireClientCert: tls.requireClientCert,
    ...(tls.ca === undefined ? {} : { caFile: tls.ca }),
    ...(tls.crl === undefined ? {} : { crlFile: tls.crl }),
  }
}

function clientTls(tls: ClientTlsSettings): NonNullable<ConnectSettings['tls']> {
  return { caFile: tls.ca, certFile: tls.cert, keyFile: tls.key }
}

function listenAuth(auth: AuthSettings): ListenSettings['auth'] {
  if (auth.kind === 'none') return 'none'
  return {
    deviceFrom: auth.deviceFrom,
    ...(auth.passwordFile === undefined ? {} : { passwordFile: auth.passwordFile }),
    ...(auth.aclFile === undefined ? {} : { aclFile: auth.aclFile }),
  }
}

function severityText(from: SeverityFrom): string {
  switch (from.kind) {
    case 'json':
      return `json:${pointerText(from.pointer)}`
    case 'pattern':
      return `pattern:${from.regex}`
    case 'none':
    case 'syslog':
      return from.kind
  }
}

function dedupeText(from: DedupeFrom): string {
  switch (from.kind) {
    case 'json':
      return `json:${pointerText(from.pointer)}`
    case 'topic':
      return `topic:{${from.part}}`
    case 'user-property':
      return `user-property:${from.name}`
    case 'none':
      return 'none'
  }
}

/** RFC 6901. */
function pointerText(tokens: readonly string[]): string {
  return tokens.map((token) => `/${token.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
}
