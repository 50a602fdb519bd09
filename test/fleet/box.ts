/** One box under test: the real daemon in a folder of its own, with what tests set up, break and ask. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { mergePatch, type Json } from '../../config/merge.ts'
import type { LedgerDocument } from '../../daemon/cli/ledger-view.ts'
import type { StatusDocument } from '../../daemon/status.ts'
import { freePort, type ServiceScope } from '../services/index.ts'
import { Fleet, type FleetOptions } from './fleet.ts'
import { GatewayProgram, type Launch } from './gateway.ts'
import { judge, type Judgement } from './judge.ts'
import { readBack, type Consumed } from './read-back.ts'
import { setUpTopics } from './setup.ts'

const EDGECTL = fileURLToPath(new URL('../../daemon/cli/edgectl.js', import.meta.url))

/** The first port and topic level that tests use; `{id}` makes each message known to the judge. */
export const PATTERN = 'devices/{device}/logs/{stream}/{id}'

export interface BoxOptions {
  /** `host:port` of a broker; without it no Kafka is named, and everything is buffered. */
  readonly kafka?: string
  /** Merged over the box's own configuration, as a merge patch (RFC 7396). */
  readonly config?: Json
  /** Of the data topic; created before the first start. */
  readonly partitions?: number
  readonly launch?: Launch
  /** Default: `state` in the box's own folder, made. Another one is for the test, or the daemon, to make. */
  readonly dataDir?: string
}

export interface Box {
  readonly port: number
  readonly configFile: string
  readonly dataDir: string
  readonly dir: string
  /** Name of the data topic. */
  readonly topic: string
  readonly gateway: GatewayProgram
  /** Everything that the daemon logged so far, over all its starts. */
  log(): Promise<string>
  /** Writes the configuration anew, changed by a merge patch. */
  configure(patch: Json): Promise<void>
  /** Samples of /metrics by their full name, labels included. */
  metrics(): Promise<ReadonlyMap<string, number>>
  /** `healthz` or `readyz`: the status code and the text. */
  probe(name: 'healthz' | 'readyz'): Promise<{ readonly code: number; readonly text: string }>
  status(): Promise<StatusDocument>
  ledger(): Promise<LedgerDocument>
  /** Devices that publish to this box. */
  fleet(options?: Partial<FleetOptions>): Fleet
  /** Everything in the data topic, as kcat reads it. */
  consumed(): Promise<Consumed[]>
}

let boxes = 0

/** Sets a box up, without starting it. It is killed at the end of the scope. */
export async function setUpBox(scope: ServiceScope, options: BoxOptions = {}): Promise<Box> {
  const number = (boxes += 1)
  const dir = scope.folder()
  const dataDir = options.dataDir ?? join(dir, 'state')
  const [port, metricsPort] = [await freePort(), await freePort()]
  const topic = `logs-${number}`
  const configFile = join(dir, 'config.yaml')
  const logFile = join(dir, 'gateway.log')
  let config = mergePatch(defaults(number, { dataDir, port, metricsPort, topic, kafka: options.kafka }), options.config ?? {})
  const write = (): Promise<void> => writeFile(configFile, stringify(config))
  if (options.dataDir === undefined) await mkdir(dataDir, { recursive: true })
  await write()
  if (options.kafka !== undefined) await setUpTopics(configFile, options.partitions ?? 2)
  const gateway = new GatewayProgram(configFile, join(dataDir, 'control.sock'), logFile, options.launch)
  scope.atEnd(async () => void (await gateway.end('SIGKILL')))
  const fetched = async (path: string): Promise<Response> => fetch(`http://127.0.0.1:${metricsPort}/${path}`)
  return {
    port,
    configFile,
    dataDir,
    dir,
    topic,
    gateway,
    log: () => readFile(logFile, 'utf8').catch(() => ''),
    configure: (patch) => {
      config = mergePatch(config, patch)
      return write()
    },
    metrics: async () => samples(await (await fetched('metrics')).text()),
    probe: async (name) => {
      const answer = await fetched(name)
      return { code: answer.status, text: await answer.text() }
    },
    status: () => gateway.status(),
    ledger: () => gateway.ledger(),
    fleet: (given) => {
      const fleet = new Fleet({ host: '127.0.0.1', port, devices: 10, ratePerDevice: 20, noisyRate: 0, payloadOf, ...given })
      scope.atEnd(() => fleet.close())
      return fleet
    },
    consumed: () => readBack(options.kafka ?? '', topic),
  }
}

/** Sets a box up and starts it. */
export async function openBox(scope: ServiceScope, options: BoxOptions = {}): Promise<Box> {
  const box = await setUpBox(scope, options)
  await box.gateway.start()
  return box
}

interface Named {
  readonly dataDir: string
  readonly port: number
  readonly metricsPort: number
  readonly topic: string
  readonly kafka: string | undefined
}

function defaults(number: number, { dataDir, port, metricsPort, topic, kafka }: Named): Json {
  return {
    gateway: { id: `gw-${number}`, dataDir },
    mqtt: { listen: { lan: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } }, topics: { logs: { pattern: PATTERN } } },
    buffer: { minFreeBytes: '4MiB', dedupe: { from: 'topic:{id}', window: '1h' } },
    metrics: { listen: `127.0.0.1:${metricsPort}` },
    ...(kafka === undefined ? {} : { kafka: { brokers: [kafka], topic, prefix: `edge-${number}` } }),
  }
}

function payloadOf(device: string, sequence: number): Buffer {
  return Buffer.from(`{"device":"${device}","sequence":${sequence},"text":"${'pump '.repeat(sequence % 20)}"}`)
}

function samples(text: string): Map<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
}

/** Looks until `look` gives something true, and returns that. Rejects after a minute and a half, saying what did not come. */
export async function until<Value>(
  what: string,
  look: () => Value | Promise<Value>,
  timeoutMs = 90_000,
): Promise<Exclude<Value, undefined | null | false>> {
  const deadline = performance.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const found = await look()
      if (found !== undefined && found !== null && found !== false) return found as Exclude<Value, undefined | null | false>
      last = found
    } catch (error) {
      last = error
    }
    if (performance.now() > deadline)
      throw new Error(`waited in vain for: ${what}; last: ${last instanceof Error ? last.message : String(last)}`)
    await sleep(50)
  }
}

/** Waits until all of the fleet's messages are acknowledged and Kafka has all that the box held. */
export async function drained(box: Box, fleet: Fleet): Promise<void> {
  await until('everything acknowledged and in Kafka', async () => {
    // Before the status is asked: what is acknowledged after it was written is not in it.
    if (fleet.pending > 0) return false
    const { lanes } = await box.status()
    return Object.entries(lanes).every(([name, lane]) => name === 'internal' || lane.messages === 0)
  })
}

/** Holds what the fleet published against what Kafka shows. */
export async function judged(box: Box, fleet: Fleet): Promise<Judgement> {
  return judge(fleet.published, await box.consumed())
}

/** Nothing lost, nothing twice, nothing out of order, nothing altered. */
export function assertExact({ lost, duplicates, outOfOrder, altered }: Judgement): void {
  const few = (ids: readonly string[]): string => `${ids.length} ${ids.slice(0, 8).join(' ')}`.trim()
  assert.deepEqual(
    { lost: few(lost), duplicates: few(duplicates), outOfOrder: few(outOfOrder), altered: few(altered) },
    { lost: '0', duplicates: '0', outOfOrder: '0', altered: '0' },
  )
}

/** The program's exit code and what it said; for commands that may fail. */
export function edgectlOf(
  box: Pick<Box, 'configFile'>,
  args: readonly string[],
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [EDGECTL, ...args, '--config', box.configFile], { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : 1, stdout, stderr })
    })
  })
}
