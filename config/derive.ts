import { strict as assert } from 'node:assert'
import { autoMaxBytes } from './schema/buffer.ts'
import type { Config } from './schema.ts'
import { templateParts } from './schema/topic.ts'
import type {
  AuthSettings,
  BufferSettings,
  ClientTlsSettings,
  ConnectionSettings,
  EtcdSettings,
  KafkaSettings,
  LimitSettings,
  ListenerSettings,
  PatchSettings,
  PresenceSettings,
  SaslSettings,
  Settings,
  TopicSettings,
} from './settings.ts'

type Mqtt = Config['mqtt']
type Kafka = NonNullable<Config['kafka']>
type Listener = NonNullable<Mqtt['listen']>[string]
type Connection = NonNullable<Mqtt['connect']>[string]

/** Longest topic with its two bytes of length, packet id and fixed header: a PUBLISH around its payload (MQTT 3.1.1 section 3.3). */
const PUBLISH_OVERHEAD_BYTES = 5 + 2 + 65_535 + 2

/**
 * Names with units, and defaults that depend on other values. The config must have passed all relations.
 * `diskBytes` is the size of the disk that holds the data folder, undefined when unknown.
 */
export function deriveSettings(config: Config, diskBytes: number | undefined): Settings {
  const { id, dataDir, site, fleet, timezone, labels } = config.gateway
  return {
    gateway: { id: present(id), site, timezone, labels, fleet, dataDir: present(dataDir) },
    mqtt: {
      listen: mapValues(config.mqtt.listen ?? {}, deriveListener),
      connect: mapValues(config.mqtt.connect ?? {}, deriveConnection),
      topics: mapValues(config.mqtt.topics, (topic) => deriveTopic(topic, config.mqtt)),
    },
    limits: deriveLimits(config.limits),
    buffer: deriveBuffer(config.buffer, diskBytes),
    ledger: config.ledger,
    presence: derivePresence(config.presence),
    kafka: config.kafka && deriveKafka(config.kafka),
    etcd: config.etcd && deriveEtcd(config.etcd),
    patches: derivePatches(config.patches),
    metrics: { listen: config.metrics.listen },
    page: { listen: config.page.listen, passwordFile: config.page.passwordFile, tls: config.page.tls, hosts: config.page.hosts },
    control: { socket: present(config.control.socket) },
    log: config.log,
    shutdown: { drainMs: config.shutdown.drain },
  }
}

/** Values that the box's own defaults or a relation have made sure of. */
function present<T>(value: T | undefined): T {
  assert(value !== undefined, 'a value that validation makes sure of is absent')
  return value
}

function mapValues<V, W>(entries: Readonly<Record<string, V>>, change: (value: V) => W): Readonly<Record<string, W>> {
  return Object.fromEntries(Object.entries(entries).map(([name, value]) => [name, change(value)]))
}

function deriveListener(listener: Listener): ListenerSettings {
  return {
    url: listener.url,
    tls: listener.tls && { ...listener.tls, ca: listener.tls.ca, crl: listener.tls.crl },
    auth: deriveAuth(listener),
    maxConnections: listener.maxConnections,
    connectsPerSecond: listener.connectsPerSecond,
    maxKeepaliveMs: listener.maxKeepalive,
    inFlightPerConnection: listener.inFlightPerConnection,
  }
}

function deriveAuth({ auth, tls }: Listener): AuthSettings {
  if (auth === 'none') return { kind: 'none' }
  if (auth !== undefined) {
    return { kind: 'required', passwordFile: auth.passwordFile, aclFile: auth.aclFile, deviceFrom: auth.deviceFrom }
  }
  if (tls?.requireClientCert !== true) return { kind: 'none' }
  return { kind: 'required', passwordFile: undefined, aclFile: undefined, deviceFrom: 'commonName' }
}

function deriveConnection(connection: Connection): ConnectionSettings {
  const urls = connection.urls ?? [present(connection.url)]
  return {
    urls,
    clientId: present(connection.clientId),
    protocolVersion: connection.protocolVersion,
    sessionExpiryMs: connection.sessionExpiry,
    receiveMaximum: connection.receiveMaximum,
    keepaliveMs: connection.keepalive,
    username: connection.username,
    passwordFile: connection.passwordFile,
    tls: urls.some((url) => url.secure) ? clientTls(connection.tls ?? {}) : undefined,
    retained: connection.retained,
  }
}

function clientTls(tls: NonNullable<Connection['tls']>): ClientTlsSettings {
  return { ca: tls.ca, cert: tls.cert, key: tls.key }
}

function deriveTopic(topic: Mqtt['topics'][string], mqtt: Mqtt): TopicSettings {
  return { ...topic.pattern, qos: topic.qos, sources: topic.sources ?? Object.keys(mqtt.connect ?? {}) }
}

function deriveLimits(limits: Config['limits']): LimitSettings {
  const bucket = ({ messagesPerSecond, bytesPerSecond, burst }: Config['limits']['global']) => ({
    messagesPerSecond,
    bytesPerSecond,
    burstMs: burst,
  })
  const names = Object.keys(limits.overrides).sort()
  return {
    global: bucket(limits.global),
    perDevice: bucket(limits.perDevice),
    overrides: names.map((name) => ({ name, ...overrideOf(limits, name) })),
    overLimit: limits.overLimit,
    severity: {
      from: limits.severity.from,
      urgent: urgentOf(limits.severity),
      reserveFraction: limits.severity.reserve,
    },
    knownDevices: limits.knownDevices,
    maxMessageBytes: limits.maxMessageBytes,
    maxPacketBytes: limits.maxMessageBytes + PUBLISH_OVERHEAD_BYTES,
    inFlight: limits.inFlight,
  }
}

/** An override with what it leaves open taken from `perDevice`. */
export function overrideOf(limits: Config['limits'], name: string): Omit<LimitSettings['overrides'][number], 'name'> {
  const override = limits.overrides[name]
  return {
    devices: override?.devices ?? '',
    messagesPerSecond: override?.messagesPerSecond ?? limits.perDevice.messagesPerSecond,
    bytesPerSecond: override?.bytesPerSecond ?? limits.perDevice.bytesPerSecond,
    burstMs: override?.burst ?? limits.perDevice.burst,
  }
}

/** RFC 5424 section 6.2.1, in the order of the numbers. */
export const SYSLOG_SEVERITIES = ['emerg', 'alert', 'crit', 'err', 'warning', 'notice', 'info', 'debug'] as const

/** A number 0 to 7 as the RFC's keyword; any other word in lower case. */
export function syslogSeverity(word: string): string {
  return /^[0-7]$/.test(word) ? (SYSLOG_SEVERITIES[Number(word)] ?? word) : word.toLowerCase()
}

function urgentOf({ from, urgent }: Config['limits']['severity']): readonly string[] {
  const words = urgent ?? ['error', 'fatal']
  return [...new Set(words.map((word) => (from.kind === 'syslog' ? syslogSeverity(word) : word.toLowerCase())))]
}

function deriveBuffer(buffer: Config['buffer'], diskBytes: number | undefined): BufferSettings {
  return {
    maxBytes: buffer.maxBytes === 'auto' ? autoMaxBytes(diskBytes) : buffer.maxBytes,
    minFreeBytes: buffer.minFreeBytes,
    maxAgeMs: buffer.maxAge,
    lanes: buffer.lanes,
    commit: { maxDelayMs: buffer.commit.maxDelay, maxBytes: buffer.commit.maxBytes },
    dedupe: { from: buffer.dedupe.from, windowMs: buffer.dedupe.window, maxIds: buffer.dedupe.maxIds },
  }
}

function derivePresence({ silentAfter, maxDevices, groups }: Config['presence']): PresenceSettings {
  const entries = Object.entries(groups).map(([name, group]) => [name, { devices: group.devices, silentAfterMs: group.silentAfter }])
  return { silentAfterMs: silentAfter, maxDevices, groups: Object.fromEntries(entries) as PresenceSettings['groups'] }
}

function deriveKafka(kafka: Kafka): KafkaSettings {
  const { transaction } = kafka
  return {
    brokers: kafka.brokers,
    topic: kafka.topic,
    topicParts: templateParts(kafka.topic),
    allowedTopics: kafka.allowedTopics ?? [kafka.topic],
    prefix: kafka.prefix,
    delivery: kafka.delivery,
    compression: kafka.compression,
    uplinkBytesPerSecond: kafka.uplinkBytesPerSecond,
    transaction: { maxBytes: transaction.maxBytes, lingerMs: transaction.linger, perSecond: transaction.perSecond },
    unsyncedClock: kafka.unsyncedClock,
    tls: kafka.tls && clientTls(kafka.tls),
    sasl: kafka.sasl && deriveSasl(kafka.sasl),
  }
}

function deriveSasl(sasl: NonNullable<Kafka['sasl']>): SaslSettings {
  if (sasl.mechanism !== 'oauthbearer') return sasl
  if (sasl.tokenFile !== undefined) return { mechanism: sasl.mechanism, token: { file: sasl.tokenFile } }
  return {
    mechanism: sasl.mechanism,
    token: {
      url: present(sasl.tokenUrl),
      clientId: present(sasl.clientId),
      clientSecretFile: present(sasl.clientSecretFile),
      scope: sasl.scope,
    },
  }
}

function deriveEtcd(etcd: NonNullable<Config['etcd']>): EtcdSettings {
  const secure = etcd.endpoints.some((endpoint) => endpoint.secure)
  return {
    endpoints: etcd.endpoints,
    prefix: etcd.prefix,
    tls: secure ? clientTls(etcd.tls ?? {}) : undefined,
    username: etcd.username,
    passwordFile: etcd.passwordFile,
  }
}

function derivePatches(patches: Config['patches']): PatchSettings {
  return {
    controller: patches.controller,
    trustedKeys: patches.trustedKeys,
    lockTtlMs: patches.lockTtl,
    roots: patches.roots,
    units: patches.units,
    executor: patches.executor,
    hookUser: patches.hookUser,
  }
}
