import { archiveOptions } from './kafka-archive.ts'
import { prepareBroker } from './kafka-broker.ts'
import type { KafkaOptions } from './kafka-broker.ts'
import { DEFAULT_KAFKA_VERSION, kafkaJars } from './kafka-jars.ts'
import { kafkaTool } from './kafka-tool.ts'
import type { ToolOptions, ToolResult } from './kafka-tool.ts'
import { startService } from './service.ts'
import type { Service } from './service.ts'

export type { KafkaOptions } from './kafka-broker.ts'

export interface KafkaService extends Service {
  readonly version: string
  /** A listener in the clear that is never behind a proxy, with all rights. For tools and for looking on. */
  readonly internalEndpoint: string
  /** Runs a Kafka tool against the internal listener; adds `--bootstrap-server`. */
  tool(mainClass: string, args: readonly string[], options?: Omit<ToolOptions, 'version'>): Promise<ToolResult>
}

/** Starts a one-node Apache Kafka (KRaft) on 127.0.0.1; resolves when it answers clients. */
export async function startKafka(options: KafkaOptions): Promise<KafkaService> {
  const version = options.version ?? DEFAULT_KAFKA_VERSION
  await kafkaJars(version)
  const { spec, internalEndpoint } = await prepareBroker(options, version, await archiveOptions(version))
  return asKafka(await startService(spec), version, internalEndpoint)
}

// By descriptors: a plain copy would read the live `pid` once and freeze it.
function asKafka(service: Service, version: string, internalEndpoint: string): KafkaService {
  return Object.defineProperties({} as KafkaService, {
    ...Object.getOwnPropertyDescriptors(service),
    version: { value: version, enumerable: true },
    internalEndpoint: { value: internalEndpoint, enumerable: true },
    tool: {
      value: (mainClass: string, args: readonly string[], options: Omit<ToolOptions, 'version'> = {}) =>
        kafkaTool(mainClass, ['--bootstrap-server', internalEndpoint, ...args], { ...options, version }),
    },
  })
}
