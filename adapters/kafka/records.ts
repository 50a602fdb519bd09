/** Records as kafkajs wants them. */
import type { Message, TopicMessages } from 'kafkajs'
import type { KafkaRecord } from '../../daemon/ports.ts'

/** kafkajs copies what it has gathered for a partition at each message: quadratic in this number. */
const PARTITION_MAX_RECORDS = 1_000

/** Cuts records into requests of at most so many per partition; the order within each partition stays. */
export function requestsOf(records: readonly KafkaRecord[]): readonly (readonly KafkaRecord[])[] {
  const requests: KafkaRecord[][] = []
  const counts = new Map<string, number>()
  for (const record of records) {
    const place = placeOf(record.topic, record.partition)
    const before = counts.get(place) ?? 0
    counts.set(place, before + 1)
    const request = (requests[Math.floor(before / PARTITION_MAX_RECORDS)] ??= [])
    request.push(record)
  }
  return requests
}

export function topicMessagesOf(records: readonly KafkaRecord[]): TopicMessages[] {
  const topics = new Map<string, Message[]>()
  for (const record of records) {
    const messages = topics.get(record.topic)
    if (messages === undefined) topics.set(record.topic, [messageOf(record)])
    else messages.push(messageOf(record))
  }
  return [...topics].map(([topic, messages]) => ({ topic, messages }))
}

/** kafkajs leaves out, without a word, a partition that its metadata does not have. Returns the first one. */
export function missingFrom(results: readonly { topicName: string; partition: number }[], records: readonly KafkaRecord[]): KafkaRecord | undefined {
  const taken = new Set(results.map(({ topicName, partition }) => placeOf(topicName, partition)))
  return records.find(({ topic, partition }) => !taken.has(placeOf(topic, partition)))
}

function messageOf({ partition, key, value, timestampMs, headers }: KafkaRecord): Message {
  return { partition, key, value: bufferOf(value), timestamp: String(timestampMs), headers: headersOf(headers) }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** A name that comes again makes a list; names come from devices, so the object has no prototype. */
function headersOf(pairs: KafkaRecord['headers']): NonNullable<Message['headers']> {
  const headers = Object.create(null) as Record<string, string | string[]>
  for (const [name, value] of pairs) {
    const before = headers[name]
    headers[name] = before === undefined ? value : [before, value].flat()
  }
  return headers
}

function placeOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}
