/** Files and their rights, versions, the service, memory and heat. Pure. */
import { duration } from '../health.ts'
import { size } from '../cli/text.ts'
import { Findings, type Check } from './check.ts'
import type { FileFound, MachineFound, PortOwner, UnitFound } from './facts.ts'

export interface SecretFile {
  /** The key that names it. */
  readonly key: string
  readonly found: FileFound
  /** A certificate is no secret. */
  readonly secret: boolean
}

export function judgeFiles(files: readonly SecretFile[], dataDir: FileFound, daemonUid: number | undefined, findings: Findings): void {
  judgeFolder(dataDir, daemonUid, findings)
  for (const { key, found, secret } of files) {
    const { path, code, mode = 0, readable } = found
    if (code === 'ENOENT') findings.fail(key, `${path} is missing`, `put it there, or correct ${key}`)
    else if (secret && (mode & 0o004) !== 0) findings.warn(key, `${path} can be read by everybody on this box`, `chmod o= ${path}`)
    else if (code === 'EACCES' || !readable) findings.skip(key, `this user may not look at ${path}; run the doctor with sudo`)
    else findings.ok(key, path)
  }
}

function judgeFolder({ path, code, uid, isFolder, mode = 0 }: FileFound, daemonUid: number | undefined, findings: Findings): void {
  const name = 'data folder'
  if (code === 'ENOENT')
    return findings.warn(
      name,
      `${path} is not there yet: the daemon makes it at its first start`,
      'start the daemon; if it was there before, see whether its disk is mounted: `findmnt`',
    )
  if (code !== undefined) return findings.skip(name, `this user may not look at ${path} (${code}); run the doctor with sudo`)
  if (isFolder !== true) return findings.fail(name, `${path} is no folder`, 'correct gateway.dataDir')
  if (daemonUid !== undefined && uid !== daemonUid && daemonUid !== 0)
    return findings.fail(
      name,
      `${path} belongs to user number ${uid}, and the daemon runs as ${daemonUid}`,
      `chown -R edge-gateway: ${path}`,
    )
  if ((mode & 0o002) !== 0) return findings.warn(name, `everybody on this box may write to ${path}`, `chmod o= ${path}`)
  findings.ok(name, path)
}

export interface PortFacts {
  readonly name: string
  readonly port: number
  readonly owner: PortOwner | undefined
  readonly user?: string
  /** Of the daemon, when it is known. */
  readonly daemonPid?: number
  /** The daemon can't be asked, so it may well be it that listens. */
  readonly mayRun?: boolean
  /** The listener's own state, from the daemon. */
  readonly up?: boolean
  readonly reason?: string
}

export function judgePort({ name, port, owner, user, daemonPid, mayRun = false, up, reason }: PortFacts, findings: Findings): void {
  const check = `${name} port`
  if (owner === undefined) {
    if (daemonPid === undefined) return findings.skip(check, `port ${port} is free; the daemon does not run`)
    return findings.fail(
      check,
      `the daemon runs and nothing listens on port ${port}${reason === undefined ? '' : `: ${reason}`}`,
      '`systemctl restart edge-gateway`, and read its journal',
    )
  }
  const isOurs = up === true || (owner.pid !== undefined && owner.pid === daemonPid)
  if (isOurs) return findings.ok(check, `the daemon listens on ${port}`)
  const isGuess = owner.pid === undefined && user !== 'mosquitto'
  if (isGuess && (mayRun || (daemonPid !== undefined && up !== false)))
    return findings.skip(check, `somebody listens on ${port}; who can be seen only with sudo`)
  const who = owner.program === undefined ? `a program of user ${user ?? owner.uid}` : `${owner.program} (pid ${owner.pid})`
  const way =
    owner.program === 'mosquitto' || user === 'mosquitto'
      ? 'stop it (`systemctl disable --now mosquitto`), or keep it and let the gateway be its client (mqtt.connect)'
      : `stop that program, or choose another port in ${name}`
  findings.fail(check, `port ${port} is taken by ${who}`, way)
}

export interface DaemonFacts {
  /** `down`: nothing answers; `stuck`: it has the data folder and does not answer. */
  readonly state: 'up' | 'down' | 'stuck' | 'denied'
  readonly words?: string
  readonly version?: string
  readonly pid?: number
  readonly uptimeSeconds?: number
}

export function judgeService(daemon: DaemonFacts, unit: UnitFound | undefined, findings: Findings): void {
  if (unit === undefined) findings.skip('unit', 'systemd does not run on this box')
  else judgeUnit(unit, daemon, findings)
  const name = 'daemon'
  const { state, words = '' } = daemon
  if (state === 'up') findings.ok(name, `runs for ${duration((daemon.uptimeSeconds ?? 0) * 1_000)}, pid ${daemon.pid}`)
  else if (state === 'denied') findings.warn(name, words, 'run it with sudo, or add yourself to the group edge-gateway and log in again')
  else if (state === 'stuck')
    findings.fail(
      name,
      `the daemon${daemon.pid === undefined ? '' : ` (pid ${daemon.pid})`} holds its data folder and does not answer`,
      '`systemctl restart edge-gateway`; keep its journal: `edgectl support-bundle`',
    )
  else findings.fail(name, 'the daemon is not running: devices are not heard', start(unit))
}

function start(unit: UnitFound | undefined): string {
  return unit?.active === 'failed'
    ? '`journalctl -u edge-gateway -n 30` says why it ended; then `systemctl start edge-gateway`'
    : '`systemctl start edge-gateway`'
}

function judgeUnit({ load, active, sub, enabled, restarts, result, exitStatus }: UnitFound, daemon: DaemonFacts, findings: Findings): void {
  const name = 'unit'
  if (load !== 'loaded') {
    if (daemon.state === 'up') return findings.skip(name, 'the daemon was not started by the unit edge-gateway')
    return findings.skip(name, `systemd knows no unit edge-gateway (${load})`)
  }
  const words = `${active} (${sub}), started again ${restarts} times${result === 'success' || result === '' ? '' : `, last end: ${result} ${exitStatus}`}`
  if (active === 'failed')
    return findings.fail(name, words, '`journalctl -u edge-gateway -n 30` says why; then `systemctl start edge-gateway`')
  if (enabled === 'disabled') return findings.warn(name, `${words}; it will not start at the next boot`, '`systemctl enable edge-gateway`')
  if (restarts > 3) return findings.warn(name, words, '`journalctl -u edge-gateway` says why it ends')
  findings.ok(name, words)
}

export interface Versions {
  readonly own: string
  readonly daemon: string | undefined
  readonly node: string
  readonly sqlite: string | undefined
  readonly systemd: string | undefined
  readonly kernel: string
}

export function judgeVersions(versions: Versions): readonly Check[] {
  const findings = new Findings('versions')
  const { own, daemon, node, sqlite, systemd, kernel } = versions
  const rest = [`node ${node}`, sqlite && `SQLite ${sqlite}`, systemd && `systemd ${systemd}`, `Linux ${kernel}`].filter(Boolean).join(', ')
  if (daemon !== undefined && daemon !== own)
    findings.warn(
      'release',
      `installed is ${own}, and the daemon that runs is ${daemon}; ${rest}`,
      '`systemctl restart edge-gateway`: nothing is lost by it',
    )
  else findings.ok('release', `edge-gateway ${own}, ${rest}`)
  return findings.checks
}

export function judgeMachine(machine: MachineFound, kernel: readonly string[] | undefined): readonly Check[] {
  const findings = new Findings('machine')
  const { availableBytes, memoryBytes, swapBytes, swapFreeBytes, celsius, throttled, load, cpus } = machine
  const memory = `${size(availableBytes)} of ${size(memoryBytes)} available, swap ${swapBytes === 0 ? 'none' : `${size(swapBytes - swapFreeBytes)} of ${size(swapBytes)} used`}`
  if (availableBytes < Math.min(64 << 20, memoryBytes / 10))
    findings.warn('memory', `${memory}: the kernel may end programs`, 'see what takes it: `top -o %MEM`')
  else findings.ok('memory', memory)
  const busy = `load ${load.toFixed(1)} on ${cpus} ${cpus === 1 ? 'core' : 'cores'}`
  if (load > 4 * cpus) findings.warn('load', `${busy}: everything is slow`, 'see what runs: `top`')
  else findings.ok('load', busy)
  if (celsius !== undefined) {
    if (celsius >= 85) findings.warn('heat', `${Math.round(celsius)} °C: it slows itself down`, 'cool the box')
    else findings.ok('heat', `${Math.round(celsius)} °C`)
  }
  if (throttled !== undefined && (throttled & 0x5) !== 0)
    findings.warn(
      'power',
      throttled & 1 ? 'too little voltage now' : 'slowed down now by heat or voltage',
      'use the power supply that the board asks for',
    )
  else if (throttled !== undefined && (throttled & 0x50000) !== 0)
    findings.warn('power', 'too little voltage or heat since the boot', 'use the power supply that the board asks for')
  else if (throttled !== undefined) findings.ok('power', 'well')
  if (kernel === undefined) findings.skip('kernel errors', 'only root may read them; run the doctor with sudo')
  else if (kernel.length > 0)
    findings.warn(
      'kernel errors',
      `${kernel.length} lately, the last: ${(kernel.at(-1) ?? '').slice(0, 160)}`,
      /out of memory: killed/i.test(kernel.at(-1) ?? '')
        ? '`free -m` and `systemd-cgtop -m` show who needs the memory'
        : 'save what matters; a disk that gives I/O errors is replaced',
    )
  else findings.ok('kernel errors', 'none on disks or memory')
  return findings.checks
}
