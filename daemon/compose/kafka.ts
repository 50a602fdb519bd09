import { KafkaClient } from '../../adapters/kafka/client.ts'
import type { Settings } from '../../config/settings.ts'
import type { Kafka, Log } from '../ports.ts'
import { kafkaSettings } from './settings.ts'

/** `undefined` while no broker is named. */
export function kafkaOf(settings: Settings, log: Log): Kafka | undefined {
  const kafka = kafkaSettings(settings)
  return kafka === undefined ? undefined : new KafkaClient(kafka, log)
}
