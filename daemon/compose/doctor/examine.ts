/** The walk over all that the gateway depends on, from causes to effects. Runs in a command and in the daemon alike. */
import { dirname } from 'node:path'
import { lookAtClock } from '../../../adapters/host/probe-clock.ts'
import { controlSockets } from '../../../config/control-place.ts'
import { thisHost } from '../../../config/host.ts'
import { loadConfig, type LoadedConfig } from '../../../config/load.ts'
import { ConfigError, formatOrigin, formatPath, type Problem } from '../../../config/problem.ts'
import type { Settings } from '../../../config/settings.ts'
import { Findings, gathered, GROUPS, type Check, type Group } from '../../doctor/check.ts'
import { judgeClock } from '../../doctor/clock.ts'
import { judgeGateway } from '../../doctor/gateway.ts'
import { messageOf } from '../../errors.ts'
import { loadForStart } from '../starting.ts'
import { accessChecks, diskChecks, machineChecks, serviceChecks, versionChecks } from './box.ts'
import { lookAtDaemon, type DaemonLook, type DaemonPlace } from './daemon.ts'
import { etcdChecks, type EtcdLook } from './etcd.ts'
import { kafkaChecks } from './kafka.ts'
import { connectionChecks, listenerChecks } from './mqtt.ts'
import { ways as waysOf, type Ways } from './ways.ts'

export interface ExamineOptions {
  readonly configFile: string
  /** Without it all groups. */
  readonly only?: readonly Group[]
  /** For one step over the network. */
  readonly timeoutMs?: number
  /** For the whole walk; what is not done by then is skipped, and says so. */
  readonly limitMs?: number
  readonly unit?: string
}

const LIMIT_MS = 40_000

/** In the order of `GROUPS`; the groups are looked at side by side. Never rejects for what it finds. */
export async function* examine(options: ExamineOptions): AsyncGenerator<Check, void> {
  const { configFile, only = GROUPS, limitMs = LIMIT_MS, unit = 'edge-gateway.service' } = options
  const ways = waysOf(options.timeoutMs)
  const { promise: over, resolve } = Promise.withResolvers<'over'>()
  const timer = setTimeout(() => resolve('over'), limitMs)
  try {
    const { loaded, checks } = configChecks(configFile, ways)
    const sections = sectionsOf(loaded?.settings, checks, { configFile, unit, ways, only })
    // Without a configuration most says nothing, so that comes before all.
    const order = loaded === undefined ? ['config' as const, ...GROUPS.filter((name) => name !== 'config')] : GROUPS
    for (const group of order.filter((name) => only.includes(name) || (name === 'config' && loaded === undefined))) {
      const found = await Promise.race([sections[group](), over])
      yield* found === 'over' ? unfinished(group, limitMs) : found
    }
  } finally {
    clearTimeout(timer)
  }
}

export async function examineAll(options: ExamineOptions): Promise<readonly Check[]> {
  return gathered(examine(options))
}

interface Surroundings {
  readonly configFile: string
  readonly unit: string
  readonly ways: Ways
  readonly only: readonly Group[]
}

type Section = () => Promise<readonly Check[]>

/** Each is begun at once if it is wanted, and never rejects. */
function sectionsOf(settings: Settings | undefined, config: readonly Check[], around: Surroundings): Readonly<Record<Group, Section>> {
  const { configFile, unit, ways, only } = around
  const places = placesOf(settings, configFile)
  const daemon = places.length === 0 ? undefined : lookAtDaemon(places)
  const etcd: Promise<EtcdLook> | undefined =
    settings !== undefined && (only.includes('etcd') || only.includes('clock')) ? etcdChecks(settings, ways) : undefined
  // Two sections wait for it, later; each says what it met.
  etcd?.catch(() => undefined)
  const begin = (group: Group, look: (set: Settings, daemon: DaemonLook) => Promise<readonly Check[]> | readonly Check[]): Section => {
    if (!only.includes(group)) return () => Promise.resolve([])
    const begun = settings === undefined || daemon === undefined ? withoutConfig(group) : daemon.then((found) => look(settings, found))
    const safe = begun.catch((error: unknown) => broken(group, error))
    return () => safe
  }
  const own = (group: Group, look: () => Promise<readonly Check[]>): Section => {
    const safe = only.includes(group) ? look().catch((error: unknown) => broken(group, error)) : Promise.resolve([])
    return () => safe
  }
  return {
    clock: own('clock', async () => judgeClock(await lookAtClock(ways.clock.wallTrusted(), ways.timeoutMs), (await etcd)?.clocks ?? [])),
    config: async () => (settings === undefined ? [...config, ...keptOn(await daemon)] : config),
    versions: own('versions', async () => versionChecks(ways, await daemon)),
    access: begin('access', (set, found) => accessChecks(set, configFile, ways, found)),
    disk: begin('disk', (set, found) => diskChecks(set, found)),
    mqtt: begin('mqtt', async (set, found) => [...(await listenerChecks(set, ways, found)), ...(await connectionChecks(set, ways))]),
    service: own('service', async () => (daemon === undefined ? withoutConfig('service') : serviceChecks(ways, unit, await daemon))),
    kafka: begin('kafka', (set) => kafkaChecks(set, ways)),
    etcd: begin('etcd', async () => (await etcd)?.checks ?? []),
    machine: own('machine', () => machineChecks(ways)),
    gateway: own('gateway', async () => (daemon === undefined ? withoutConfig('gateway') : gatewayChecks(await daemon))),
  }
}

function configChecks(path: string, ways: Ways): { readonly loaded?: LoadedConfig; readonly checks: readonly Check[] } {
  const findings = new Findings('config')
  try {
    const loaded = inForce(path, ways)
    for (const [index, problem] of loaded.warnings.entries()) findings.warn(`warning ${index + 1}`, wordsOf(problem), placeOf(problem))
    findings.ok('valid', `${path}, gateway ${loaded.settings.gateway.id}`)
    return { loaded, checks: findings.checks }
  } catch (error) {
    const remedy = 'correct it; `edge-gateway check` says whether it is right'
    if (error instanceof ConfigError)
      for (const [index, problem] of error.problems.entries())
        findings.fail(`problem ${index + 1}`, wordsOf(problem), problem.denied === true ? 'run the doctor with sudo' : remedy)
    else findings.fail('valid', `${path} can't be read: ${messageOf(error)}`, remedy)
    return { checks: findings.checks }
  }
}

/** With patches and overrides where their memory can be read; else what the files say. */
function inForce(path: string, { clock }: Ways): LoadedConfig {
  try {
    return loadForStart(path, clock, 'command').layered.loaded
  } catch (error) {
    if (error instanceof ConfigError) throw error
    return loadConfig(path, [], thisHost())
  }
}

function wordsOf({ origin, path, message }: Problem): string {
  return `${formatOrigin(origin)} ${path.length === 0 ? '' : `${formatPath(path)}: `}${message}`
}

function placeOf({ origin }: Problem): string {
  return `see ${formatOrigin(origin)}`
}

function withoutConfig(group: Group): Promise<readonly Check[]> {
  const findings = new Findings(group)
  findings.skipBecause(group, 'config')
  return Promise.resolve(findings.checks)
}

/** Without a valid file: where the daemon may still listen that runs on what the file said before. */
function placesOf(settings: Settings | undefined, configFile: string): readonly DaemonPlace[] {
  if (settings !== undefined) return [{ socket: settings.control.socket, dataDir: settings.gateway.dataDir }]
  return controlSockets(configFile, thisHost()).map((socket) => ({ socket, dataDir: dirname(socket) }))
}

function keptOn(daemon: DaemonLook | undefined): readonly Check[] {
  const findings = new Findings('config')
  if (daemon?.facts.state === 'up')
    findings.warn(
      'in force',
      `the running daemon (pid ${daemon.facts.pid}) keeps the old configuration`,
      'correct the file before its next restart',
    )
  return findings.checks
}

function gatewayChecks({ status }: DaemonLook): readonly Check[] {
  if (status !== undefined) return judgeGateway(status)
  const findings = new Findings('gateway')
  findings.skipBecause('verdict', 'daemon')
  return findings.checks
}

/** A fault in a probe must not hide what the others found. */
function broken(group: Group, error: unknown): readonly Check[] {
  const findings = new Findings(group)
  findings.warn(group, `this could not be looked at: ${messageOf(error)}`)
  return findings.checks
}

function unfinished(group: Group, limitMs: number): readonly Check[] {
  const findings = new Findings(group)
  findings.warn(group, `not finished within ${limitMs / 1_000} s`, `\`edgectl doctor --only ${group}\``)
  return findings.checks
}
