import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startEtcd } from './etcd.ts'
import { startKafka } from './kafka.ts'
import type { KafkaService } from './kafka.ts'
import { DEFAULT_KAFKA_VERSION } from './kafka-jars.ts'
import { startMosquitto } from './mosquitto.ts'
import { endProgram, isAlive } from './program.ts'
import type { ProgramIdentity } from './program.ts'
import type { Service } from './service.ts'

const NAMES = ['mosquitto', 'etcd', 'kafka'] as const
export type ServiceName = (typeof NAMES)[number]

/** What services.json keeps of one service. */
export interface ServiceRecord extends ProgramIdentity {
  readonly endpoint: string
  readonly port: number
  readonly logFile: string
  /** Kafka only. */
  readonly version?: string
  readonly internalEndpoint?: string
}

export type ServiceRecords = Readonly<Partial<Record<ServiceName, ServiceRecord>>>
export type RequestedPorts = Readonly<Partial<Record<ServiceName, number>>>

export interface UpOptions {
  readonly dir: string
  readonly ports?: RequestedPorts
  readonly kafkaVersion?: string
}

/**
 * Starts what does not run yet; the services outlive us. Idempotent: what runs is left as it is.
 * Each service is written down as soon as it runs, so that `down` can end it whatever happens next.
 * On failure everything that this call started is ended again.
 */
export async function up(options: UpOptions): Promise<ServiceRecords> {
  mkdirSync(options.dir, { recursive: true })
  const known = readRecords(options.dir)
  refuseOtherSettings(known, options)
  const missing = NAMES.filter((name) => !isRunning(known[name]))
  let records: ServiceRecords = known
  const starts = missing.map(async (name) => {
    const started = performance.now()
    const service = await startOne(name, known[name], options)
    records = { ...records, [name]: recordOf(service) }
    writeRecords(options.dir, records)
    service.release() // only now: what is not written down must not outlive us
    process.stderr.write(`${name} up after ${((performance.now() - started) / 1000).toFixed(1)} s\n`)
  })
  const failure = (await Promise.allSettled(starts)).find((start) => start.status === 'rejected')
  if (failure === undefined) return inOrder(records)
  await endAll(missing.map((name) => records[name]))
  throw failure.reason
}

function inOrder(records: ServiceRecords): ServiceRecords {
  return Object.fromEntries(NAMES.map((name) => [name, records[name]]))
}

/** Ends what runs, by pid, after a check that the pid is still that program. Returns the names that it ended. */
export async function down(dir: string): Promise<ServiceName[]> {
  const records = readRecords(dir)
  const running = NAMES.filter((name) => isRunning(records[name]))
  await endAll(running.map((name) => records[name]))
  rmSync(recordsFile(dir), { force: true })
  return running
}

export type ServiceStatus = ServiceRecord & { readonly running: boolean }

/** Each known service and whether it runs now. */
export function status(dir: string): Partial<Record<ServiceName, ServiceStatus>> {
  const records = Object.entries(readRecords(dir))
  return Object.fromEntries(records.map(([name, record]) => [name, { ...record, running: isRunning(record) }]))
}

function isRunning(record: ServiceRecord | undefined): boolean {
  return record !== undefined && isAlive(record)
}

async function endAll(records: readonly (ServiceRecord | undefined)[]): Promise<void> {
  const known = records.filter((record) => record !== undefined)
  await Promise.all(known.map((record) => endProgram(record, 20_000)))
}

function refuseOtherSettings(known: ServiceRecords, options: UpOptions): void {
  for (const name of NAMES) {
    const record = known[name]
    const port = options.ports?.[name]
    if (!isRunning(record) || record === undefined) continue
    if (port !== undefined && port !== record.port) {
      throw new Error(`${name} already runs on port ${record.port}; run "down" before another port`)
    }
    const version = options.kafkaVersion
    if (name === 'kafka' && version !== undefined && version !== record.version) {
      throw new Error(`Kafka ${record.version} already runs; run "down" before another version`)
    }
  }
}

/** A service that ran before keeps its port, unless another one is asked for. */
function startOne(name: ServiceName, before: ServiceRecord | undefined, options: UpOptions): Promise<Service> {
  const port = options.ports?.[name] ?? before?.port
  const place = { dir: join(options.dir, name), ...(port === undefined ? {} : { port }) }
  if (name === 'mosquitto') return startMosquitto(place)
  if (name === 'etcd') return startEtcd(place)
  return startKafka({ ...place, version: options.kafkaVersion ?? before?.version ?? DEFAULT_KAFKA_VERSION })
}

function recordOf(service: Service): ServiceRecord {
  const { endpoint, port, logFile, identity } = service
  const record = { endpoint, port, logFile, ...identity }
  if (!('internalEndpoint' in service)) return record
  const { version, internalEndpoint } = service as KafkaService
  return { ...record, version, internalEndpoint }
}

function recordsFile(dir: string): string {
  return join(dir, 'services.json')
}

function readRecords(dir: string): ServiceRecords {
  const file = recordsFile(dir)
  if (!existsSync(file)) return {}
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as ServiceRecords
  } catch (cause) {
    throw new Error(`${file} is no valid JSON; end its services by hand and remove it`, { cause })
  }
}

/** By rename: an `up` that is interrupted never leaves half a file. */
function writeRecords(dir: string, records: ServiceRecords): void {
  const file = recordsFile(dir)
  writeFileSync(`${file}.new`, JSON.stringify(records, undefined, 2) + '\n')
  renameSync(`${file}.new`, file)
}
