/** A broker behind a proxy whose faults hit one gateway at a time, a model of the relay, and an independent reader. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Kafka, logLevel } from 'kafkajs'
import { messageOf } from '../../daemon/errors.ts'
import { KafkaError } from '../../adapters/kafka/failure.ts'
import { KafkaClient } from '../../adapters/kafka/kafka.ts'
import type { KafkaClientSettings } from '../../adapters/kafka/settings.ts'
import { SystemClock } from '../../adapters/host/clock.ts'
import type { KafkaRecord, KafkaTimeouts, Lane, Log, Positions, ProducerLife } from '../../daemon/ports.ts'
import type { KafkaService, KafkaVerdict, Proxy, RequestHook } from '../services/index.ts'

export const TIMEOUTS: KafkaTimeouts = { requestMs: 1_500, transactionMs: 20_000 }
export const EPOCH = '00000000000000e1'
export const clock = new SystemClock()
export const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} }

/** Another Kafka than the default one: `KAFKA_VERSION=4.0.0 node --test test/contract/kafka*.test.ts`. */
const { KAFKA_VERSION: version } = process.env
export const brokerOptions: { readonly version?: string } = version === undefined ? {} : { version }

let ids = 0
/** A name that no other test of this run uses. */
export function fresh(what: string): string {
  ids += 1
  return `${what}-${ids}`
}

export function settingsFor(endpoint: string, gatewayId: string, more: Partial<KafkaClientSettings> = {}): KafkaClientSettings {
  const [host = '', port] = endpoint.split(':')
  return {
    brokers: [{ host, port: Number(port) }],
    gatewayId,
    prefix: 'edge',
    delivery: 'exactly-once',
    compression: 'gzip',
    tls: undefined,
    sasl: undefined,
    ...more,
  }
}

export function gateway(endpoint: string, gatewayId: string, more: Partial<KafkaClientSettings> = {}): KafkaClient {
  return new KafkaClient(settingsFor(endpoint, gatewayId, more), clock, quiet)
}

export const never = new AbortController().signal

export function begin(kafka: KafkaClient, timeouts = TIMEOUTS): Promise<ProducerLife> {
  return kafka.begin(timeouts, never)
}

/** A broker that has just started creates its internal topics at the first question, and refuses until they are there. */
export async function beginPatiently(kafka: KafkaClient, failures: KafkaError[] = []): Promise<ProducerLife> {
  for (;;) {
    try {
      return await begin(kafka)
    } catch (error) {
      if (!(error instanceof KafkaError) || error.alarm) throw error
      failures.push(error)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

export async function createTopic(
  kafka: KafkaService,
  topic: string,
  partitions: number,
  configs: Record<string, string> = {},
): Promise<void> {
  const admin = new Kafka({ brokers: [kafka.internalEndpoint], logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions, configEntries }], waitForLeaders: false })
  // The controller has the topic before the broker does, and the broker before it leads: it tells offsets once it leads.
  for (let attempt = 0; ; attempt += 1) {
    try {
      await admin.fetchTopicOffsets(topic)
      break
    } catch (error) {
      if (attempt === 200) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  await admin.disconnect()
}

/** The faults of one gateway: asked for each of its requests. */
export type Fault = (apiKey: number, frame: Buffer) => KafkaVerdict

/** Finds whose request it is by the client id in its head (request header version 1), so tests can run side by side. */
export class Faults {
  readonly #byClient = new Map<string, Fault>()

  constructor(proxy: Proxy) {
    const hook: RequestHook = (apiKey, _version, _correlationId, frame) => this.#byClient.get(clientIdOf(frame))?.(apiKey, frame) ?? 'pass'
    proxy.onRequest(hook)
  }

  set(gatewayId: string, fault: Fault): void {
    this.#byClient.set(`edge-gateway.${gatewayId}`, fault)
  }

  clear(gatewayId: string): void {
    this.#byClient.delete(`edge-gateway.${gatewayId}`)
  }
}

function clientIdOf(frame: Buffer): string {
  return frame.toString('utf8', 14, 14 + frame.readInt16BE(12))
}

export interface Read {
  readonly partition: number
  readonly value: string
}

/** All that a `read_committed` consumer (librdkafka) sees, one line each, as kcat's `-f` has it. */
export async function readFormatted(kafka: KafkaService, topic: string, format: string): Promise<string[]> {
  const args = [
    '-b',
    kafka.internalEndpoint,
    '-C',
    '-t',
    topic,
    '-e',
    '-q',
    '-o',
    'beginning',
    '-X',
    'isolation.level=read_committed',
    '-f',
    `${format}\n`,
  ]
  const { stdout } = await promisify(execFile)('kcat', args, { maxBuffer: 1 << 28, timeout: 30_000 })
  return stdout.split('\n').filter(Boolean)
}

export async function readCommitted(kafka: KafkaService, topic: string): Promise<Read[]> {
  const lines = await readFormatted(kafka, topic, '%p %s')
  return lines.map((line) => ({ partition: Number(line.slice(0, line.indexOf(' '))), value: line.slice(line.indexOf(' ') + 1) }))
}

export function recordOf(topic: string, partition: number, value: string, more: Partial<KafkaRecord> = {}): KafkaRecord {
  return { topic, partition, key: `key-${partition}`, value: Buffer.from(value), timestampMs: Date.now(), headers: [['gw', 'x']], ...more }
}

export function positionsAt(next: number, lane: Lane = 'normal', epoch = EPOCH): Positions {
  return new Map([[epoch, new Map([[lane, next]])]])
}

/**
 * What the relay does, in short: transactions of `step` messages, alternating over two partitions; after any
 * failure a new life, which goes on at the committed position. Returns the failures.
 */
export async function deliver(kafka: KafkaClient, topic: string, total: number, step: number): Promise<KafkaError[]> {
  const failures: KafkaError[] = []
  let next = 0
  let life: ProducerLife | undefined
  while (life === undefined || next < total) {
    try {
      if (life === undefined) {
        life = await beginPatiently(kafka, failures)
        next = (await life.committed(EPOCH)).get('normal') ?? 0
      }
      const end = Math.min(next + step, total)
      const records = Array.from({ length: end - next }, (_, i) => recordOf(topic, (next + i) % 2, String(next + i)))
      if (records.length > 0) await life.transact(records, positionsAt(end))
      next = end
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error
      failures.push(error)
      await life?.close(500)
      life = undefined
    }
  }
  await life.close(500)
  return failures
}

/** What `deliver` must have left in the topic: each message once, in order within its partition. */
export function expected(total: number): Read[] {
  const all = Array.from({ length: total }, (_, i) => ({ partition: i % 2, value: String(i) }))
  return [...all.filter(({ partition }) => partition === 0), ...all.filter(({ partition }) => partition === 1)]
}

export function byPartition(reads: readonly Read[]): Read[] {
  return reads.toSorted((a, b) => a.partition - b.partition)
}

/** The failure that a promise rejects with. */
export async function failureOf(work: Promise<unknown>): Promise<KafkaError> {
  return asFailure(
    await work.then(
      () => undefined,
      (error: unknown) => error,
    ),
  )
}

export function asFailure(result: unknown): KafkaError {
  if (result instanceof KafkaError) return result
  throw new Error(result === undefined ? 'it did not reject' : `it rejected with ${messageOf(result)}`, { cause: result })
}
