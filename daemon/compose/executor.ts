/** Wires the executor: the small root program that carries out steps of patches of kind files. */
import { lstatSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { FileMemory } from '../../adapters/executor/memory.ts'
import { ExecutorServer, type Executions } from '../../adapters/executor/server.ts'
import { SystemClock } from '../../adapters/host/clock.ts'
import { GuardedFiles } from '../../adapters/host/releases/guarded.ts'
import { SystemdUnits } from '../../adapters/host/units.ts'
import { thisHost } from '../../config/host.ts'
import { loadConfig } from '../../config/load.ts'
import { ConfigError } from '../../config/problem.ts'
import type { Settings } from '../../config/settings.ts'
import { GatewayError, messageOf } from '../errors.ts'
import { Executor } from '../patch/executor/executor.ts'
import { Ledger } from '../patch/executor/ledger.ts'
import { EXECUTED, type Installation } from '../patch/executor/ports.ts'
import type { Log } from '../ports.ts'
import { trustOf } from './trust.ts'

/** Of the daemon's unit: paths in the configuration may lie there, and the board's serial does (systemd.exec(5)). */
const CREDENTIALS = '/run/credentials/edge-gateway.service'

export interface ExecutorOptions {
  readonly configPath: string
  /** Where it remembers; only root writes there. */
  readonly stateDir: string
  /** Without a request for so long it ends; Infinity: never. */
  readonly idleMs: number
  readonly log: Log
  readonly units?: SystemdUnits
}

export function executorServer(options: ExecutorOptions): ExecutorServer {
  return new ExecutorServer(executionsOf(options), options.log, options.idleMs)
}

/** The configuration is read again when its files have changed: what a technician takes back counts at once. */
function executionsOf(options: ExecutorOptions): Executions {
  const clock = new SystemClock()
  const ledger = new Ledger(new FileMemory(options.stateDir))
  const units = options.units ?? new SystemdUnits()
  let known: { readonly state: string; readonly executor: Executor } | undefined
  const executor = (): Executor => {
    const state = stateOf(options.configPath)
    if (known?.state === state) return known.executor
    const settings = settingsOf(options.configPath)
    const parts = { ledger, clock, log: options.log, believed: believedOf(settings), installation: installationOf(settings, units) }
    known = { state, executor: new Executor(parts) }
    return known.executor
  }
  return {
    prepare: async (envelope, signal) => executor().prepare(envelope, signal),
    missing: async (digest) => executor().missing(digest),
    receive: async (digest, sha256, bytes, signal) => executor().receive(digest, sha256, bytes, signal),
    async step(digest, name, endBootMs, signal) {
      const step = EXECUTED.find((one) => one === name)
      if (step === undefined) throw new GatewayError('rejected', 'the executor has no such step')
      return executor().step(digest, step, endBootMs, signal)
    },
  }
}

function believedOf(settings: Settings): ConstructorParameters<typeof Executor>[0]['believed'] {
  const { envelopes, documents, scopes, fleet } = trustOf(settings)
  return { envelopes, documents, scopes: new Map(scopes), fleet, gateway: settings.gateway.id, site: settings.gateway.site }
}

function installationOf({ patches, buffer, gateway }: Settings, units: SystemdUnits): Installation {
  return new GuardedFiles({
    roots: patches.roots,
    allowedUnits: patches.units,
    units,
    reserveBytes: buffer.minFreeBytes,
    hookUser: patches.hookUser,
    daemonUid: statSync(gateway.dataDir, { throwIfNoEntry: false })?.uid,
  })
}

/** From the files alone: layers and overrides lie with the daemon. Its own folders are not the daemon's. */
function settingsOf(path: string): Settings {
  const host = thisHost()
  const daemons = { STATE_DIRECTORY: undefined, RUNTIME_DIRECTORY: undefined, CREDENTIALS_DIRECTORY: CREDENTIALS }
  const environment = { ...host.environment, ...daemons }
  try {
    return loadConfig(path, [], { ...host, environment }).settings
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    const remedy = `edge-gateway check --config ${path} says where and how`
    throw new GatewayError('saturated', `the executor can't use the configuration: ${messageOf(error)}`, { remedy, cause: error })
  }
}

/** What tells one state of the files from another. Throws `saturated` when somebody else than root can change them. */
function stateOf(path: string): string {
  const folder = join(dirname(path), 'config.d')
  const names = statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true ? readdirSync(folder).sort() : []
  const files = names.filter((name) => name.endsWith('.yaml')).map((name) => join(folder, name))
  return [dirname(path), ...(names.length > 0 ? [folder] : []), path, ...files].map(factsOf).join('\n')
}

function factsOf(path: string): string {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  if (stat === undefined) throw new GatewayError('saturated', `${path} is not there`, { remedy: 'Write it, or run edgectl setup.' })
  if (stat.uid === 0n && (stat.mode & 0o22n) === 0n && !stat.isSymbolicLink())
    return `${path} ${stat.ino} ${stat.size} ${stat.mtimeNs} ${stat.ctimeNs}`
  const remedy = `chown root ${path}; chmod go-w ${path}`
  throw new GatewayError('saturated', `${path} can be changed by others than root, so that the executor does not go by it`, { remedy })
}
