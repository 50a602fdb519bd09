/** What a one-node broker listens on. Clients get `client`; the others are for the broker itself and for tools. */
export interface KafkaPorts {
  readonly client: number
  /** The port that the broker names to clients: a proxy's, when one stands in front. */
  readonly advertised: number
  readonly advertisedHost: string
  readonly internal: number
  readonly controller: number
}

export interface KafkaSasl {
  readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512'
  /** Password by user name. */
  readonly users: Readonly<Record<string, string>>
}

export interface KafkaTls {
  /** One PEM file with the broker's key (PKCS 8) and its certificate chain. */
  readonly keyAndCertFile: string
  /** PEM file with the authorities that client certificates must come from. */
  readonly clientCaFile?: string
}

export interface KafkaSecurity {
  readonly sasl?: KafkaSasl
  readonly tls?: KafkaTls
  /** Kafka's own ACLs: whatever is not allowed is denied. Tools on the internal listener may do all. */
  readonly authorizer?: boolean
}

export type KafkaProperties = Readonly<Record<string, string | number | boolean>>

// Few partitions for the internal topics: a broker creates them at the first
// transaction, and fifty of them each take seconds on a small machine.
const FAST_AND_SMALL: KafkaProperties = {
  'process.roles': 'broker,controller',
  'node.id': 1,
  // A broker that was killed cannot register again before its old session has ended.
  'broker.session.timeout.ms': 3_000,
  'broker.heartbeat.interval.ms': 500,
  'auto.create.topics.enable': false,
  'group.initial.rebalance.delay.ms': 0,
  'offsets.topic.replication.factor': 1,
  'offsets.topic.num.partitions': 5,
  'transaction.state.log.replication.factor': 1,
  'transaction.state.log.min.isr': 1,
  'transaction.state.log.num.partitions': 5,
  'share.coordinator.state.topic.replication.factor': 1,
  'share.coordinator.state.topic.min.isr': 1,
  'share.coordinator.state.topic.num.partitions': 1,
  'num.network.threads': 2,
  'num.io.threads': 4,
  'log.cleaner.dedupe.buffer.size': 8_000_000,
  'log.cleaner.threads': 1,
}

/** The text of server.properties. `extra` wins over what we set. */
export function kafkaProperties(dir: string, ports: KafkaPorts, security: KafkaSecurity, extra: KafkaProperties = {}): string {
  const all: KafkaProperties = {
    ...FAST_AND_SMALL,
    'log.dirs': `${dir}/state`,
    ...listenerProperties(ports, security),
    ...saslProperties(security.sasl),
    ...tlsProperties(security.tls),
    ...authorizerProperties(security.authorizer ?? false),
    ...extra,
  }
  return Object.entries(all)
    .map(([key, value]) => `${key}=${value}\n`)
    .join('')
}

// The broker talks to itself over INTERNAL, in the clear and past any proxy:
// a fault put on a client's way must not also hit the broker's own requests.
function listenerProperties(ports: KafkaPorts, security: KafkaSecurity): KafkaProperties {
  const address = '127.0.0.1'
  const listeners = { CLIENT: ports.client, INTERNAL: ports.internal, CONTROLLER: ports.controller }
  return {
    listeners: Object.entries(listeners)
      .map(([name, port]) => `${name}://${address}:${port}`)
      .join(','),
    'advertised.listeners': `CLIENT://${ports.advertisedHost}:${ports.advertised},INTERNAL://${address}:${ports.internal}`,
    'listener.security.protocol.map': `CLIENT:${clientProtocol(security)},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT`,
    'inter.broker.listener.name': 'INTERNAL',
    'controller.listener.names': 'CONTROLLER',
    'controller.quorum.voters': `1@${address}:${ports.controller}`,
  }
}

function clientProtocol(security: KafkaSecurity): string {
  if (security.sasl !== undefined) return security.tls === undefined ? 'SASL_PLAINTEXT' : 'SASL_SSL'
  return security.tls === undefined ? 'PLAINTEXT' : 'SSL'
}

function saslProperties(sasl: KafkaSasl | undefined): KafkaProperties {
  if (sasl === undefined) return {}
  const prefix = `listener.name.client.${sasl.mechanism.toLowerCase()}.sasl.jaas.config`
  return {
    'sasl.enabled.mechanisms': sasl.mechanism,
    [prefix]: sasl.mechanism === 'PLAIN' ? plainLogin(sasl.users) : 'org.apache.kafka.common.security.scram.ScramLoginModule required;',
  }
}

function plainLogin(users: Readonly<Record<string, string>>): string {
  const entries = Object.entries(users).map(([name, password]) => `user_${name}="${password}"`)
  return `org.apache.kafka.common.security.plain.PlainLoginModule required ${entries.join(' ')};`
}

function tlsProperties(tls: KafkaTls | undefined): KafkaProperties {
  if (tls === undefined) return {}
  const trust: KafkaProperties =
    tls.clientCaFile === undefined
      ? {}
      : {
          'listener.name.client.ssl.truststore.type': 'PEM',
          'listener.name.client.ssl.truststore.location': tls.clientCaFile,
          'listener.name.client.ssl.client.auth': 'required',
        }
  return {
    'listener.name.client.ssl.keystore.type': 'PEM',
    'listener.name.client.ssl.keystore.location': tls.keyAndCertFile,
    ...trust,
  }
}

function authorizerProperties(wanted: boolean): KafkaProperties {
  if (!wanted) return {}
  return {
    'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    // Who comes without a name comes over INTERNAL or CONTROLLER: the broker and our tools.
    'super.users': 'User:ANONYMOUS',
    'allow.everyone.if.no.acl.found': false,
  }
}
