import { KafkaClient } from '../../adapters/kafka/kafka.ts'
import type { Settings } from '../../config/settings.ts'
import type { Clock } from '../clock.ts'
import type { Kafka, Log } from '../ports.ts'
import { kafkaSettings } from './settings.ts'

/** `undefined` while no broker is named. */
export function kafkaOf(settings: Settings, clock: Clock, log: Log): Kafka | undefined {
  const kafka = kafkaSettings(settings)
  return kafka === undefined ? undefined : new KafkaClient(kafka, clock, log)
}
