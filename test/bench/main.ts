/**
 * `npm run bench [-- --json]`: the ceilings of the drivers and the gateway's own figures, all from one run on one
 * machine. Only the ratios travel: absolute figures are this machine's. CPU, memory and writes are the gateway's.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { setUpGateway, setUpTopics } from '../fleet/setup.ts'
import { freePort, startKafka, startMosquitto } from '../services/index.ts'
import { ensurePackages } from '../services/install.ts'
import { measureCeilings } from './ceilings.ts'
import { Scenarios, type BenchPlace } from './scenarios.ts'

const TOPIC = 'device-logs'

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { json: { type: 'boolean', default: false }, only: { type: 'string' } } })
  ensurePackages()
  const dir = await mkdtemp(join(tmpdir(), 'edge-bench-'))
  const kafka = await startKafka({ dir: join(dir, 'kafka') })
  const mosquitto = await startMosquitto({ dir: join(dir, 'mosquitto'), conf: ['max_queued_messages 100000', 'max_inflight_messages 0'] })
  try {
    const place: BenchPlace = { dir, kafka, mosquitto, topic: TOPIC, listenPort: await freePort() }
    const { configFile } = await setUpGateway(join(dir, 'ceiling'), { kafka: { brokers: [kafka.endpoint], topic: 'ceiling' } })
    await setUpTopics(configFile, 4)
    const result = await measure(place, values.only?.split(','))
    console.log(values.json ? JSON.stringify(result) : JSON.stringify(result, undefined, 2))
  } finally {
    await Promise.all([kafka.kill('SIGKILL'), mosquitto.kill('SIGKILL')])
    await rm(dir, { recursive: true, force: true })
  }
}

/** In this order, or only the named ones. */
async function measure(place: BenchPlace, only: readonly string[] | undefined): Promise<Record<string, unknown>> {
  const scenarios = new Scenarios(place)
  const all: Readonly<Record<string, () => Promise<unknown>>> = {
    ceilings: () => measureCeilings(place.dir, place.mosquitto, place.kafka.endpoint, 'ceiling'),
    connect: () => scenarios.connect(),
    listen: () => scenarios.listen(),
    at1000: () => scenarios.paced(1_000, 20_000),
    at10000: () => scenarios.paced(10_000, 30_000),
    backlog: () => scenarios.backlog(1_000_000),
    idle: () => scenarios.idle(30_000),
    devices: () => scenarios.devices(10_000),
  }
  const result: Record<string, unknown> = {}
  for (const [name, run] of Object.entries(all)) {
    if (only !== undefined && !only.includes(name)) continue
    process.stderr.write(`measuring ${name} …\n`)
    result[name] = await run()
    process.stderr.write(`  ${JSON.stringify(result[name])}\n`)
  }
  return result
}

await main()
