/**
 * `npm run bench [-- --json] [--only NAME,…]`: the ceilings of the drivers and the gateway's own figures, all from one
 * run on one machine. Only the ratios travel: absolute figures are this machine's. CPU, memory and writes are the
 * gateway's. It starts real services itself, and ends them by pid, also when it fails or is interrupted.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { setUpGateway, setUpTopics } from '../fleet/setup.ts'
import { freePort, serviceScope, type ServiceScope } from '../services/index.ts'
import { ensurePackages } from '../services/install.ts'
import { measureCeilings } from './ceilings.ts'
import { measureFleet } from './fleet.ts'
import { Scenarios, type BenchPlace } from './scenarios.ts'

const TOPIC = 'device-logs'
/** As shells say it of a program that SIGINT ended. */
const INTERRUPTED = 130

async function bench(scope: ServiceScope): Promise<string> {
  const { values } = parseArgs({ options: { json: { type: 'boolean', default: false }, only: { type: 'string' } } })
  ensurePackages()
  const dir = scope.folder()
  const kafka = await scope.kafka()
  // mosquitto 2.0.11 counts its queue wrong, and drops long before a limit; the load itself keeps the queue short.
  const mosquitto = await scope.mosquitto({ conf: ['max_queued_messages 0', 'max_inflight_messages 0'] })
  const place: BenchPlace = { scope, dir, kafka, mosquitto, topic: TOPIC, listenPort: await freePort() }
  const { configFile } = await setUpGateway(join(dir, 'ceiling'), { kafka: { brokers: [kafka.endpoint], topic: 'ceiling' } })
  await setUpTopics(configFile, 4)
  const result = await measure(place, values.only?.split(','))
  return values.json ? JSON.stringify(result) : JSON.stringify(result, undefined, 2)
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
    fleet: () => measureFleet(place.scope),
  }
  const unknown = (only ?? []).filter((name) => !(name in all))
  if (unknown.length > 0) throw new Error(`there is no ${unknown.join(', ')}; there are ${Object.keys(all).join(', ')}`)
  const result: Record<string, unknown> = {}
  for (const [name, run] of Object.entries(all)) {
    if (only !== undefined && !only.includes(name)) continue
    process.stderr.write(`measuring ${name} …\n`)
    result[name] = await run()
    process.stderr.write(`  ${JSON.stringify(result[name])}\n`)
  }
  return result
}

async function main(): Promise<void> {
  let release: () => Promise<void> = () => Promise.resolve()
  const scope = serviceScope((end) => {
    release = end
  })
  const interrupted = (): void => void release().finally(() => process.exit(INTERRUPTED))
  process.once('SIGINT', interrupted)
  process.once('SIGTERM', interrupted)
  try {
    console.log(await bench(scope))
  } finally {
    await release()
  }
}

await main()
