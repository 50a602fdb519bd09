import { resolve } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { ensurePackages } from './install.ts'
import { DEFAULT_KAFKA_VERSION } from './kafka-jars.ts'
import { down, status, up } from './set.ts'
import type { RequestedPorts, ServiceRecord } from './set.ts'

const DEFAULT_DIR = resolve(import.meta.dirname, '../../.services')
const NOT_ALL_RUNNING = 3

interface UpFlags {
  readonly dir: string
  readonly kafkaPort?: number
  readonly mqttPort?: number
  readonly etcdPort?: number
  readonly kafkaVersion?: string
}

function parsePort(text: string): number {
  const port = Number(text)
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port
  throw new InvalidArgumentError('a port is a number from 1 to 65535')
}

/** The one line of stdout; everything else goes to stderr. */
function print(answer: object): void {
  process.stdout.write(JSON.stringify(answer) + '\n')
}

/** What a reader needs; start time and command line stay in services.json. */
function shown({ startTicks: _ticks, command: _command, ...rest }: ServiceRecord): object {
  return rest
}

function showAll(records: Readonly<Record<string, ServiceRecord>>): object {
  return Object.fromEntries(Object.entries(records).map(([name, record]) => [name, shown(record)]))
}

function requestedPorts(flags: UpFlags): RequestedPorts {
  const ports = { mosquitto: flags.mqttPort, etcd: flags.etcdPort, kafka: flags.kafkaPort }
  return Object.fromEntries(Object.entries(ports).filter(([, port]) => port !== undefined))
}

async function runUp(flags: UpFlags): Promise<void> {
  ensurePackages()
  const { kafkaVersion } = flags
  const version = kafkaVersion === undefined ? {} : { kafkaVersion }
  print(showAll(await up({ dir: resolve(flags.dir), ports: requestedPorts(flags), ...version })))
}

async function runDown(flags: { dir: string }): Promise<void> {
  print({ ended: await down(resolve(flags.dir)) })
}

function runStatus(flags: { dir: string }): void {
  const services = status(resolve(flags.dir))
  print(showAll(services))
  const running = Object.values(services).filter((service) => service.running)
  if (running.length < 3) process.exitCode = NOT_ALL_RUNNING
}

function program(): Command {
  const root = new Command('services').description('real mosquitto, etcd and Apache Kafka for tests and the demo')
  const subcommand = (name: string, text: string): Command =>
    root.command(name).description(text).option('--dir <dir>', 'folder for state, logs and services.json', DEFAULT_DIR)
  subcommand('up', 'start what does not run, print one JSON line with endpoints and pids')
    .option('--kafka-port <port>', 'default: a free one', parsePort)
    .option('--mqtt-port <port>', 'default: a free one', parsePort)
    .option('--etcd-port <port>', 'default: a free one', parsePort)
    .option('--kafka-version <version>', `default: ${DEFAULT_KAFKA_VERSION}`)
    .action(runUp)
  subcommand('down', 'end what runs; the folder stays').action(runDown)
  subcommand('status', `print what runs; exit code ${NOT_ALL_RUNNING} unless all three do`).action(runStatus)
  return root
}

try {
  await program().parseAsync()
} catch (error) {
  process.stderr.write(`services: ${(error as Error).message}\n`)
  process.exitCode = 1
}
