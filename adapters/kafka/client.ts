import type { Kafka, LogEntry } from 'kafkajs'
import type { KafkaTimeouts, Log } from '../../daemon/ports.ts'
import type { Credentials } from './credentials.ts'
import kafkajs from './kafkajs.ts'
import type { KafkaClientSettings } from './settings.ts'
import { Sockets } from './sockets.ts'
import { Tap } from './tap.ts'

/** All that one producer's life has of its own. */
export interface Client {
  readonly kafka: Kafka
  readonly sockets: Sockets
  readonly tap: Tap
}

/**
 * A kafkajs of its own for each life, with no retries: a repeated produce request loses messages in silence
 * (kafkajs#1303), and whatever fails inside a transaction is the end of the life anyway. Only InitProducerId and
 * TxnOffsetCommit are repeated nevertheless, on answers that say so: kafkajs reads their retries elsewhere.
 */
export function openClient(settings: KafkaClientSettings, credentials: Credentials, timeouts: KafkaTimeouts, log: Log): Client {
  const tap = new Tap()
  const sockets = new Sockets(settings, credentials.tls, tap)
  const { requestMs } = timeouts
  const kafka = new kafkajs.Kafka({
    clientId: `edge-gateway.${settings.gatewayId}`,
    brokers: Sockets.seeds(settings),
    connectionTimeout: requestMs,
    authenticationTimeout: requestMs,
    requestTimeout: requestMs,
    retry: { retries: 0 },
    ssl: credentials.tls !== undefined,
    ...(credentials.sasl === undefined ? {} : { sasl: credentials.sasl }),
    socketFactory: sockets.factory,
    logLevel: kafkajs.logLevel.WARN,
    // What matters comes as an error, and is logged once by who decides.
    logCreator: () => (entry) => log.debug(fieldsOf(entry), `kafkajs: ${entry.log.message}`),
  })
  return { kafka, sockets, tap }
}

function fieldsOf({ namespace, log }: LogEntry): object {
  const fields = log as Readonly<Record<string, unknown>>
  return { namespace, broker: fields['broker'], error: fields['error'] }
}

/** `connect()` tries one broker of the list, and the next one when it is called again. */
export async function connectToAny(peer: { connect(): Promise<void> }, brokers: number): Promise<void> {
  for (let left = brokers - 1; ; left -= 1) {
    try {
      return await peer.connect()
    } catch (error) {
      if (left === 0) throw error
    }
  }
}
