import type { Settings } from '../../config/settings.ts'
import type { Kafka, Log } from '../ports.ts'
export function kafkaOf(_s: Settings, _l: Log): Kafka | undefined { return undefined }
