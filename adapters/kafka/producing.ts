import type { Producer, Transaction } from 'kafkajs'
import type { KafkaRecord, KafkaTimeouts } from '../../daemon/ports.ts'
import { KafkaError } from './failure.ts'
import kafkajs from './kafkajs.ts'
import { missingFrom, topicMessagesOf } from './records.ts'
import type { KafkaClientSettings } from './settings.ts'

const { GZIP, ZSTD, None } = kafkajs.CompressionTypes
const COMPRESSION = { gzip: GZIP, zstd: ZSTD, none: None } as const

/** The partition is chosen before; the relay reads partition counts and sizes per partition. */
export const producerOptions = {
  allowAutoTopicCreation: false,
  maxInFlightRequests: 1,
  retry: { retries: 0 },
  createPartitioner:
    () =>
    ({ message }: { message: { partition?: number } }) =>
      message.partition ?? 0,
}

/** One Produce request per broker. Rejects, as kafkajs does not, when a partition was left out. */
export async function sendChecked(
  sender: Pick<Producer | Transaction, 'sendBatch'>,
  records: readonly KafkaRecord[],
  settings: KafkaClientSettings,
  timeouts: KafkaTimeouts,
): Promise<void> {
  const results = await sender.sendBatch({
    topicMessages: topicMessagesOf(records),
    acks: -1,
    timeout: timeouts.requestMs,
    compression: COMPRESSION[settings.compression],
  })
  const missing = missingFrom(results, records)
  if (missing === undefined) return
  const message = `partition ${missing.partition} of the topic "${missing.topic}" has gone, or was not known yet`
  throw new KafkaError({ kind: 'transient', message, fate: 'none' })
}
