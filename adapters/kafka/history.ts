/** Reads topics from their beginning, or from a time, to where they end now: what a `read_committed` consumer sees. */
import { randomBytes } from 'node:crypto'
import type { Admin, Consumer, KafkaMessage } from 'kafkajs'
import { sleep, type Clock } from '../../daemon/clock.ts'
import { GatewayError } from '../../daemon/errors.ts'
import type { EpochId, Lane, Log } from '../../daemon/ports.ts'
import { connectToAny, openClient, type Client } from './client.ts'
import { TOPIC_NOT_ALLOWED } from './codes.ts'
import { readCredentials } from './credentials.ts'
import { withUndecided } from './kafkajs.ts'
import { kafkaError, KafkaError } from './failure.ts'
import type { KafkaClientSettings } from './settings.ts'
import { TopicDesk } from './topics.ts'

export interface HistoryRecord {
  readonly topic: string
  readonly partition: number
  readonly key: string
  /** Of the headers `gw` and `pos`; undefined where they are missing. */
  readonly gateway: string | undefined
  readonly position: string | undefined
}

export interface ReadSpan {
  readonly topic: string
  readonly partition: number
  /** Kafka's offsets: from, and the one after the last. */
  readonly from: number
  readonly to: number
  /** Something stood before it that was not read. */
  readonly isCut: boolean
}

export interface Reading {
  readonly topics: readonly string[]
  /** Wall ms; undefined: from the beginning. */
  readonly sinceMs: number | undefined
  readonly visit: (record: HistoryRecord) => void
  /** Called once for each topic whose end is held back by an open transaction, of whatever producer. */
  readonly wait: (topic: string, partitions: readonly number[]) => void
}

const REQUEST_MS = 30_000
/** Transactions that are open when a topic's ends are asked for are waited for so long; most brokers allow none so long. */
const DECIDED_MS = 15 * 60_000
const LOOK_MS = 250
const TOLD_AFTER_LOOKS = 8
/** Nothing came for so long although the end is not reached. */
const SILENT_MS = 60_000
const PARTITION_BYTES = 1 << 20
const TRIES_MAX = 5
const TRY_AGAIN_MS = 300

export class KafkaHistory {
  readonly #settings: KafkaClientSettings
  readonly #clock: Clock
  readonly #log: Log

  constructor(settings: KafkaClientSettings, clock: Clock, log: Log) {
    this.#settings = settings
    this.#clock = clock
    this.#log = log
  }

  /** Committed next positions; an epoch that has none has an empty map. Rejects with a `GatewayError`. */
  committed(epochs: readonly EpochId[]): Promise<ReadonlyMap<EpochId, ReadonlyMap<Lane, number>>> {
    return this.#use(async (client) => {
      const desk = new TopicDesk(client, this.#settings)
      const found = new Map<EpochId, ReadonlyMap<Lane, number>>()
      for (const epoch of epochs) found.set(epoch, await this.#patiently(() => desk.committed(epoch)))
      await desk.disconnect()
      return found
    })
  }

  /**
   * Rejects with a `GatewayError`. kafkajs can't read a partition without joining a group: it joins one of its own, whose
   * name begins like those of the positions, so that the gateway's right to groups covers it, and commits nothing.
   */
  read(reading: Reading): Promise<readonly ReadSpan[]> {
    const { topics, visit } = reading
    return this.#use(async (client) => {
      const admin = client.kafka.admin({ retry: { retries: 5, initialRetryTime: 200 } })
      await connectToAny(admin, this.#settings.brokers.length)
      const spans = (await Promise.all(topics.map((topic) => this.#spansOf(admin, topic, reading)))).flat()
      await admin.disconnect()
      if (spans.every(({ from, to }) => from >= to)) return spans
      const { prefix, gatewayId } = this.#settings
      const consumer = client.kafka.consumer({
        groupId: `${prefix}.${gatewayId}.verify-${randomBytes(6).toString('hex')}`,
        maxBytesPerPartition: PARTITION_BYTES,
        maxWaitTimeInMs: 200,
        retry: { retries: 5, initialRetryTime: 200 },
      })
      try {
        await connectToAny(consumer, this.#settings.brokers.length)
        await this.#consume(consumer, spans, visit)
      } finally {
        await consumer.disconnect().catch(() => undefined)
      }
      return spans
    })
  }

  async #consume(consumer: Consumer, spans: readonly ReadSpan[], visit: (record: HistoryRecord) => void): Promise<void> {
    const open = new Map(spans.filter(({ from, to }) => from < to).map((span) => [`${span.topic}/${span.partition}`, span]))
    const ended = Promise.withResolvers<void>()
    let cancel = (): void => undefined
    const watch = (): void => {
      cancel()
      cancel = this.#clock.after(SILENT_MS, () =>
        ended.reject(
          new GatewayError('rejected', `Kafka gave nothing for ${SILENT_MS / 1_000} s`, { remedy: 'edgectl doctor looks at the brokers' }),
        ),
      )
    }
    consumer.on(consumer.events.CRASH, ({ payload }) => ended.reject(payload.error))
    // Also of batches that hold only ends of transactions, which `eachBatch` does not get.
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
      const place = `${payload.topic}/${payload.partition}`
      watch()
      if (Number(payload.lastOffset) + 1 >= (open.get(place)?.to ?? 0)) open.delete(place)
      if (open.size === 0) ended.resolve()
    })
    watch()
    try {
      await consumer.subscribe({ topics: [...new Set(spans.map(({ topic }) => topic))], fromBeginning: true })
      await consumer.run({
        autoCommit: false,
        eachBatch: async ({ batch: { topic, partition, messages } }) => {
          const span = open.get(`${topic}/${partition}`)
          if (span === undefined) return
          for (const message of messages) if (isWithin(message, span)) visit(recordOf(topic, partition, message))
        },
      })
      for (const { topic, partition, from } of open.values()) consumer.seek({ topic, partition, offset: String(from) })
      await ended.promise
    } finally {
      cancel()
    }
  }

  async #spansOf(admin: Admin, topic: string, { sinceMs, wait }: Reading): Promise<ReadSpan[]> {
    const offsets = await this.#decided(admin, topic, wait)
    const starts = sinceMs === undefined ? [] : await admin.fetchTopicOffsetsByTimestamp(topic, sinceMs)
    return offsets.map(({ partition, low, high }) => {
      const start = starts.find((one) => one.partition === partition)?.offset
      const to = Number(high)
      const from = start === undefined ? Number(low) : Number(start) < 0 ? to : Math.max(Number(start), Number(low))
      return { topic, partition, from, to, isCut: from > 0 }
    })
  }

  /**
   * The ends up to which a `read_committed` reader sees everything that stands there now. Kafka answers a commit before it
   * has written its markers, and any producer's open transaction hides what others committed behind its first record.
   */
  async #decided(admin: Admin, topic: string, wait: Reading['wait']): Promise<Awaited<ReturnType<Admin['fetchTopicOffsets']>>> {
    const ends = await withUndecided(() => admin.fetchTopicOffsets(topic))
    const deadlineMs = this.#clock.monotonicMs() + DECIDED_MS
    for (let looks = 0; ; looks += 1) {
      const stable = await admin.fetchTopicOffsets(topic)
      const endOf = (partition: number): number => Number(stable.find((one) => one.partition === partition)?.high ?? 0)
      const open = ends.filter(({ partition, high }) => endOf(partition) < Number(high)).map(({ partition }) => partition)
      if (open.length === 0) return stable
      if (looks === TOLD_AFTER_LOOKS) wait(topic, open)
      if (this.#clock.monotonicMs() > deadlineMs) throw undecided(topic, open)
      await sleep(this.#clock, LOOK_MS, AbortSignal.any([]))
    }
  }

  /** A cluster that has just started has no coordinator for a while. */
  async #patiently<Result>(ask: () => Promise<Result>): Promise<Result> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await ask()
      } catch (error) {
        const passing = error instanceof KafkaError && error.code !== undefined && !error.alarm
        if (!passing || tries === TRIES_MAX) throw error
        await sleep(this.#clock, tries * TRY_AGAIN_MS, AbortSignal.any([]))
      }
    }
  }

  async #use<Result>(work: (client: Client) => Promise<Result>): Promise<Result> {
    const timeouts = { requestMs: REQUEST_MS, transactionMs: REQUEST_MS }
    const client = openClient(this.#settings, await readCredentials(this.#settings), timeouts, this.#log)
    try {
      return await work(client)
    } catch (error) {
      throw error instanceof GatewayError && error.kind === 'rejected' ? error : refused(kafkaError(error, 'none', client.tap.take()))
    } finally {
      client.sockets.cut('done')
    }
  }
}

function undecided(topic: string, partitions: readonly number[]): GatewayError {
  return new GatewayError(
    'rejected',
    `a transaction has been open in ${topic}, partition ${partitions.join(', ')}, for ${DECIDED_MS / 60_000} minutes: what is committed behind its first record can't be read`,
    { remedy: `kafka-transactions.sh find-hanging --topic ${topic} names it, and its abort ends it; then verify again` },
  )
}

/** Not a word of a broker: nobody answers. */
function refused(error: KafkaError): GatewayError {
  if (error.code === undefined && !error.alarm)
    return new GatewayError('transient', error.message, { cause: error, remedy: '`edgectl doctor` looks at each broker' })
  const remedy = error.code === TOPIC_NOT_ALLOWED ? 'grant the right to read: `edgectl kafka setup --print --for-verify`' : error.remedy
  return new GatewayError('rejected', error.message, { cause: error, ...(remedy === undefined ? {} : { remedy }) })
}

function isWithin({ offset }: KafkaMessage, { from, to }: ReadSpan): boolean {
  const at = Number(offset)
  return at >= from && at < to
}

function recordOf(topic: string, partition: number, { key, headers }: KafkaMessage): HistoryRecord {
  return { topic, partition, key: key?.toString() ?? '', gateway: textOf(headers?.['gw']), position: textOf(headers?.['pos']) }
}

function textOf(header: Buffer | string | (Buffer | string)[] | undefined): string | undefined {
  const one = Array.isArray(header) ? header[0] : header
  return one?.toString()
}
