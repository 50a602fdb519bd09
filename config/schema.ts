import { z } from 'zod'
import { bufferSchema, ledgerSchema } from './schema/buffer.ts'
import { gatewaySchema } from './schema/gateway.ts'
import { kafkaSchema } from './schema/kafka.ts'
import { limitsSchema } from './schema/limits.ts'
import { controlSchema, logSchema, metricsSchema, pageSchema, shutdownSchema } from './schema/local.ts'
import { mqttSchema } from './schema/mqtt.ts'
import { etcdSchema, patchesSchema } from './schema/patches.ts'
import { presenceSchema } from './schema/presence.ts'

/**
 * The whole config file. Keys are those that people write; `settings.ts` gives the program names with units.
 * Every object is strict and every key has a description; the JSON Schema is made from it.
 */
export const configSchema = z.strictObject({
  gateway: gatewaySchema.prefault({}).meta({ description: 'This box.' }),
  mqtt: mqttSchema.prefault({}).meta({ description: 'Where device logs come from.' }),
  limits: limitsSchema.prefault({}).meta({ description: 'What is admitted.' }),
  buffer: bufferSchema.prefault({}).meta({ description: 'What is kept until Kafka has it.' }),
  ledger: ledgerSchema.prefault({}).meta({ description: 'The durable count of all that was dropped.' }),
  presence: presenceSchema.prefault({}).meta({ description: 'When a device counts as silent.' }),
  kafka: kafkaSchema.optional().meta({ description: 'Where device logs go. Without it they are buffered.' }),
  etcd: etcdSchema.optional().meta({ description: 'Where patches come from. Without it there are none.' }),
  patches: patchesSchema.prefault({}).meta({ description: 'Which patches are accepted, and what they may touch.' }),
  metrics: metricsSchema.prefault({}).meta({ description: 'Metrics and health over HTTP.' }),
  page: pageSchema.prefault({}).meta({ description: 'The status page.' }),
  control: controlSchema.prefault({}).meta({ description: 'The local socket for edgectl.' }),
  log: logSchema.prefault({}).meta({ description: "The gateway's own log." }),
  shutdown: shutdownSchema.prefault({}).meta({ description: 'How the gateway stops.' }),
})

/** The config after validation, under the names of the file: durations in ms, sizes in bytes. */
export type Config = z.output<typeof configSchema>
/** A name of a top-level section. */
export type Section = keyof Config
