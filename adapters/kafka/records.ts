/** Records as kafkajs wants them: one list per topic. */
import type { Message, TopicMessages } from 'kafkajs'
import type { KafkaRecord } from '../../daemon/ports.ts'

/** Our own encoder takes the records as they are; of kafkajs itself nothing looks into them but for the partition. */
export function topicMessagesOf(records: readonly KafkaRecord[]): TopicMessages[] {
  const topics = new Map<string, KafkaRecord[]>()
  for (const record of records) {
    const messages = topics.get(record.topic)
    if (messages === undefined) topics.set(record.topic, [record])
    else messages.push(record)
  }
  return [...topics].map(([topic, messages]) => ({ topic, messages: messages as unknown as Message[] }))
}

/** kafkajs leaves out, without a word, a partition that its metadata does not have. Returns the first one. */
export function missingFrom(
  results: readonly { topicName: string; partition: number }[],
  records: readonly KafkaRecord[],
): KafkaRecord | undefined {
  const taken = new Map<string, Set<number>>()
  for (const { topicName, partition } of results) taken.set(topicName, (taken.get(topicName) ?? new Set()).add(partition))
  return records.find(({ topic, partition }) => taken.get(topic)?.has(partition) !== true)
}
