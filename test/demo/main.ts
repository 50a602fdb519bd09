/**
 * `npm run demo`: the main job, live. Real mosquitto is not needed here, since the gateway listens itself; real
 * Kafka is. Half-way the gateway is killed with -9, later Kafka is stopped for a while; at the end kcat reads
 * Kafka back and the judge counts.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { LedgerDocument } from '../../daemon/cli/ledger-view.ts'
import { Fleet } from '../fleet/fleet.ts'
import { judge } from '../fleet/judge.ts'
import { readBack } from '../fleet/read-back.ts'
import { setUpGateway, setUpTopics, type GatewaySetup } from '../fleet/setup.ts'
import { freePort, startKafka, type KafkaService } from '../services/index.ts'
import { ensurePackages } from '../services/install.ts'
import { Screen } from './screen.ts'

const TOPIC = 'device-logs'
/** The daemon gives no more. */
const LEDGER_LINES_MAX = 1_000

interface DemoOptions {
  readonly json: boolean
  readonly seconds: number
  readonly devices: number
  readonly from: string | undefined
}

async function main(): Promise<void> {
  const options = read()
  ensurePackages()
  const dir = await mkdtemp(join(tmpdir(), 'edge-demo-'))
  const screen = new Screen(options.json)
  screen.say('starting a real Kafka …')
  const kafka = await startKafka({ dir: join(dir, 'kafka') })
  try {
    const port = await freePort()
    const setup = await setUpGateway(dir, configFor(kafka, port))
    await setUpTopics(setup.configFile, 4)
    process.exitCode = await play(options, setup, kafka, port, screen)
  } finally {
    await kafka.kill('SIGKILL')
    await rm(dir, { recursive: true, force: true })
  }
}

function read(): DemoOptions {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      seconds: { type: 'string', default: '40' },
      devices: { type: 'string', default: '200' },
      from: { type: 'string' },
    },
  })
  const seconds = Number(values.seconds)
  const devices = Number(values.devices)
  if (!(seconds >= 10) || !(devices >= 2 && devices <= LEDGER_LINES_MAX))
    throw new Error('--seconds must be at least 10, and --devices from 2 to 1000')
  return { json: values.json, seconds, devices, from: values.from }
}

function configFor(kafka: KafkaService, port: number): Record<string, unknown> {
  return {
    gateway: { id: 'gw-demo' },
    mqtt: {
      listen: { lan: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } },
      topics: { 'device-logs': { pattern: 'devices/{device}/logs/{stream}/{id}' } },
    },
    // The noisy device publishes 200 a second: most of it is shed, and nobody else's.
    limits: { perDevice: { messagesPerSecond: 40, burst: '2s' }, overLimit: 'shed' },
    // Devices send an id with each message, so that a redelivery after a lost PUBACK is dropped at the door.
    buffer: { minFreeBytes: '64MiB', dedupe: { from: 'topic:{id}', window: '10m' } },
    kafka: { brokers: [kafka.endpoint], topic: TOPIC },
    metrics: { listen: 'off' },
  }
}

async function play(options: DemoOptions, setup: GatewaySetup, kafka: KafkaService, port: number, screen: Screen): Promise<number> {
  const { gateway } = setup
  const started = performance.now()
  await gateway.start()
  const fleet = new Fleet({
    host: '127.0.0.1',
    port,
    devices: options.devices,
    ratePerDevice: 4,
    noisyRate: 200,
    payloadOf: await payloads(options.from),
  })
  fleet.start()
  const live = setInterval(() => void screen.show(gateway, fleet), 1_000)
  try {
    await faults(options, setup, kafka, screen)
    fleet.quiet()
    screen.say('devices are quiet; waiting until everything is acknowledged and forwarded …')
    await drained(setup, fleet)
    const ledger = (await gateway.ask(`/ledger?devices=${LEDGER_LINES_MAX}`)) as LedgerDocument
    fleet.close()
    await gateway.end('SIGTERM')
    const shed = Object.fromEntries(Object.entries(ledger.totals.shed).map(([reason, counted]) => [reason, counted.messages]))
    const consumed = await readBack(kafka.endpoint, TOPIC)
    const verdict = judge(fleet.published, consumed, shedByDevice(ledger))
    const seconds = Math.round((performance.now() - started) / 100) / 10
    screen.result({
      published: fleet.published.size,
      acknowledged: fleet.acknowledged,
      inKafka: verdict.inKafka,
      shed,
      lost: verdict.lost.length,
      duplicates: verdict.duplicates.length,
      outOfOrder: verdict.outOfOrder.length,
      seconds,
    })
    const bad = [...verdict.lost, ...verdict.duplicates, ...verdict.outOfOrder, ...verdict.altered]
    if (bad.length > 0) screen.say(`not as promised: ${bad.slice(0, 10).join(' ')}`)
    if (!ledger.equation.holds) screen.say(`the ledger's equation is off by ${ledger.equation.difference}`)
    return bad.length === 0 && ledger.equation.holds ? 0 : 1
  } finally {
    clearInterval(live)
    fleet.close()
    await gateway.end('SIGKILL')
  }
}

/** A redelivery that was dropped at the door is no message of its own. */
function shedByDevice({ devices }: LedgerDocument): ReadonlyMap<string, number> {
  const shed = new Map<string, number>()
  for (const line of devices) {
    const messages = Object.entries(line.shed).reduce(
      (sum, [reason, counted]) => (reason === 'duplicate' ? sum : sum + counted.messages),
      0,
    )
    shed.set(line.device, (shed.get(line.device) ?? 0) + messages)
  }
  return shed
}

/** The devices publish all the while. */
async function faults(options: DemoOptions, { gateway }: GatewaySetup, kafka: KafkaService, screen: Screen): Promise<void> {
  const share = (fraction: number): Promise<void> => sleep(options.seconds * 1_000 * fraction)
  await share(0.3)
  screen.say('kill -9 of the gateway')
  await gateway.end('SIGKILL')
  await gateway.start()
  screen.say('the gateway is back')
  await share(0.2)
  screen.say('Kafka is stopped')
  await kafka.stop()
  await share(0.25)
  await kafka.start()
  screen.say('Kafka is back')
  await share(0.25)
}

async function drained({ gateway }: GatewaySetup, fleet: Fleet): Promise<void> {
  for (let second = 0; second < 120; second += 0.25) {
    // First: a message that is acknowledged after the status was made may be missing in it.
    const { pending } = fleet
    const status = await gateway.status()
    const waiting = Object.entries(status.lanes).reduce((sum, [name, lane]) => sum + (name === 'internal' ? 0 : lane.messages), 0)
    if (pending === 0 && waiting === 0) return
    await sleep(250)
  }
  throw new Error(`not drained after 120 s: ${fleet.pending} messages unacknowledged, status ${JSON.stringify(await gateway.status())}`)
}

/** A file's lines as bytes, over and over, or lines of our own. */
async function payloads(from: string | undefined): Promise<(device: string, sequence: number) => Buffer> {
  if (from === undefined) {
    return (device, sequence) =>
      Buffer.from(
        JSON.stringify({
          level: sequence % 50 === 0 ? 'error' : 'info',
          device,
          sequence,
          msg: `pump pressure ${(sequence * 7919) % 100} kPa`,
        }),
      )
  }
  const lines = linesOf(await readFile(from))
  if (lines.length === 0) throw new Error(`${from} has no lines`)
  let next = 0
  return () => lines[next++ % lines.length] ?? Buffer.alloc(0)
}

/** Without the line feed; a carriage return before it belongs to the line. */
function linesOf(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf(0x0a, at)
    const stop = end === -1 ? bytes.length : end
    lines.push(bytes.subarray(at, stop))
    at = stop + 1
  }
  return lines
}

await main()
