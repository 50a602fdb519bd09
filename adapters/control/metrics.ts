import { Counter, Gauge, Registry } from 'prom-client'
import type { Metric } from '../../daemon/ports.ts'

const PREFIX = 'edge_gateway_'

/** The samples in Prometheus' text format, escaped by the library that the format's readers are tested with. */
export async function exposition(metrics: readonly Metric[]): Promise<string> {
  const registry = new Registry()
  for (const metric of metrics) register(registry, metric)
  return registry.metrics()
}

function register(registry: Registry, metric: Metric): void {
  const options = {
    name: PREFIX + metric.name,
    help: metric.help,
    labelNames: Object.keys(metric.samples[0]?.labels ?? {}),
    registers: [registry],
  }
  if (metric.type === 'counter') {
    const counter = new Counter(options)
    for (const sample of metric.samples) counter.inc({ ...sample.labels }, sample.value)
    return
  }
  const gauge = new Gauge(options)
  for (const sample of metric.samples) gauge.set({ ...sample.labels }, sample.value)
}
