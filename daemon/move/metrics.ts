/** What `/metrics` says of messages that leave on a medium, and of those that come by one. */
import type { Metric, MetricSample } from '../ports.ts'
import type { Snapshot } from '../status.ts'
import type { ImportFigures } from './figures.ts'

/** The box's own account counts what it gave away (`exported`), and nothing of an import. */
export function moveMetrics({ ledger, imports = [], importTally }: Snapshot): readonly Metric[] {
  const { exported } = ledger
  const total = (pick: (one: ImportFigures) => number): number => imports.reduce((sum, one) => sum + pick(one), 0)
  const stands = imports.some(({ reason }) => reason !== undefined)
  return [
    counter('exported_messages_total', 'Messages that left the buffer with an export, over all starts', exported.messages),
    counter('exported_bytes_total', 'Payload bytes that left the buffer with an export, over all starts', exported.bytes),
    counter('imported_messages_total', 'Messages taken in from exports since the start', importTally?.taken.messages ?? 0),
    counter('imported_bytes_total', 'Payload bytes taken in from exports since the start', importTally?.taken.bytes ?? 0),
    counter(
      'import_delivered_messages_total',
      'Messages of imports committed to Kafka since the start',
      importTally?.delivered.messages ?? 0,
    ),
    counter(
      'import_delivered_bytes_total',
      'Payload bytes of imports committed to Kafka since the start',
      importTally?.delivered.bytes ?? 0,
    ),
    gauge(
      'import_waiting_messages',
      'Messages of imports that are not in Kafka yet',
      total(({ left }) => left),
    ),
    gauge(
      'import_waiting_bytes',
      'Payload bytes of imports that are not in Kafka yet',
      total(({ leftBytes }) => leftBytes),
    ),
    gauge(
      'import_dead_letters',
      'Messages of imports that Kafka refused for good, kept aside',
      total(({ deadLetters }) => deadLetters),
    ),
    gauge('import_stands', '1 while something keeps an import from being delivered', stands ? 1 : 0),
  ]
}

function gauge(name: string, help: string, value: number): Metric {
  return { name, type: 'gauge', help, samples: one(value) }
}

function counter(name: string, help: string, value: number): Metric {
  return { name, type: 'counter', help, samples: one(value) }
}

function one(value: number): MetricSample[] {
  return [{ labels: {}, value }]
}
