/**
 * A real Debian 12 with its own systemd, booted by systemd-nspawn: for tests of units and packages. It shares the network
 * of this machine (so use free ports) and its kernel; all else is its own. Needs root.
 */
import { execFile, type ExecFileException } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeCgroup, type Cgroup } from './cgroup.ts'
import { debianTree } from './debian-base.ts'
import { endProgram, isAlive, lastLines, launch, signalProgram, waitForEnd, type ProgramIdentity } from './program.ts'
import type { ServiceScope } from './scope.ts'

export interface DebianOptions {
  /** Folders and files of this machine, to be seen inside at the same or another path: `{ '/opt/app': '/opt/app' }`. */
  readonly binds?: Readonly<Record<string, string>>
  /** The same, not to be written. */
  readonly readOnlyBinds?: Readonly<Record<string, string>>
}

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  /** Default: two minutes. */
  readonly timeoutMs?: number
  readonly input?: string
}

/** How a boot and an orderly end are waited for. */
const BOOT_TIMEOUT_MS = 60_000
const END_TIMEOUT_MS = 60_000
const ENVIRONMENT = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'LANG=C.UTF-8', 'HOME=/root', 'TERM=dumb']
let machines = 0

/** A fresh machine, booted; it is gone, with all its changes, at the end of the scope. */
export async function bootDebian(scope: ServiceScope, options: DebianOptions = {}): Promise<Debian> {
  const machine = new Debian(await debianTree(), scope.folder(), options)
  scope.atEnd(() => machine.kill())
  await machine.boot()
  return machine
}

export class Debian {
  readonly #tree: string
  readonly #dir: string
  readonly #options: DebianOptions
  readonly #name: string
  readonly #uuid = randomUUID()
  #program: ProgramIdentity | undefined
  #cgroup: Cgroup | undefined
  #pid = 0

  /** `dir`: an empty folder for what this machine writes. */
  constructor(tree: string, dir: string, options: DebianOptions) {
    this.#tree = tree
    this.#dir = dir
    this.#options = options
    machines += 1
    this.#name = `edge-gateway-test-${process.pid}-${machines}`
    for (const name of ['upper', 'work', 'root']) mkdirSync(join(dir, name))
  }

  /** The pid of its systemd, seen from outside. */
  get pid(): number {
    return this.#pid
  }

  /** Where a path inside is found from outside while it runs. Absolute links on the way lead astray. */
  path(inside: string): string {
    return `/proc/${this.#pid}/root${inside}`
  }

  /** Boots the disk as it is; resolves when systemd has done all it does at a boot. */
  async boot(): Promise<void> {
    const cgroup = makeCgroup(this.#name)
    this.#cgroup = cgroup
    const logFile = join(this.#dir, 'console.log')
    const env = { SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1', SYSTEMD_NSPAWN_LOCK: '0' }
    const holder = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '/bin/sh', '-c', this.#script(cgroup), 'sh']
    const { program } = await launch({ file: 'unshare', args: [...holder, ...this.#nspawn()], logFile, env })
    this.#program = program
    try {
      await this.#untilBooted()
    } catch (error) {
      await this.kill().catch(() => undefined) // what failed first is the news
      throw new Error(`Debian did not boot: ${(error as Error).message}; its console ends with:\n${lastLines(logFile)}`, { cause: error })
    }
  }

  /** Runs a command as root; never rejects because of what the command does. Others: `['runuser', '-u', 'tech', '--', …]`. */
  run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
    const args = [...this.#entrance(), '--', 'env', '-i', ...ENVIRONMENT, ...argv]
    const limits = { timeout: options.timeoutMs ?? 120_000, killSignal: 'SIGKILL', maxBuffer: 64 * 1024 * 1024 } as const
    return new Promise((resolve) => {
      const child = execFile('nsenter', args, limits, (error, stdout, stderr) => resolve({ code: codeOf(error), stdout, stderr }))
      child.stdin?.on('error', () => undefined) // a command that reads nothing and ends
      child.stdin?.end(options.input ?? '')
    })
  }

  /** The standard output of a command; rejects with all it said when it fails. */
  async must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(argv, options)
    if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}:\n${stdout}${stderr}`)
    return stdout
  }

  /** Writes a file, with its folders, as root. */
  async write(path: string, text: string, mode = '0644'): Promise<void> {
    const script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'
    await this.must(['sh', '-c', script, 'sh', path, mode], { input: text })
  }

  /** As a technician who types `poweroff`: units are stopped in their order. The disk stays. */
  async powerOff(): Promise<void> {
    if (this.#program === undefined) return
    await this.run(['systemctl', 'poweroff'])
    if (!(await waitForEnd(this.#program, END_TIMEOUT_MS))) {
      await this.kill()
      throw new Error(`Debian did not power off; its console ends with:\n${lastLines(join(this.#dir, 'console.log'))}`)
    }
    await this.#left()
  }

  /** An orderly end and another boot of the same disk. */
  async reboot(): Promise<void> {
    await this.powerOff()
    await this.boot()
  }

  /** As a power cut, but for what is in the page cache. */
  async kill(): Promise<void> {
    if (this.#program === undefined) return
    signalProgram(this.#program, 'SIGKILL')
    await endProgram(this.#program, 0)
    await this.#left()
  }

  async #left(): Promise<void> {
    this.#program = undefined
    this.#pid = 0
    await this.#cgroup?.remove()
    this.#cgroup = undefined
  }

  /**
   * All that runs inside is in one namespace of pids, and all mounts are in one namespace of mounts: both go with the
   * program that holds them, however it ends.
   */
  #script({ entrances }: Cgroup): string {
    const overlay = `lowerdir=${this.#tree},upperdir=${join(this.#dir, 'upper')},workdir=${join(this.#dir, 'work')}`
    return [
      ...entrances.map((file) => `echo 0 > ${file}`),
      `mount -t overlay overlay -o ${overlay} ${join(this.#dir, 'root')}`,
      'mkdir -p /run/systemd/nspawn',
      'mount -t tmpfs tmpfs /run/systemd/nspawn',
      'exec systemd-nspawn "$@"',
    ].join(' && ')
  }

  #nspawn(): string[] {
    const fixed = ['--quiet', '--boot', '--register=no', '--keep-unit', '--link-journal=no', '--console=pipe']
    // Its own name server file would hide that of this machine from apt.
    const same = ['--resolv-conf=copy-host', '--timezone=off']
    const binds = Object.entries(this.#options.binds ?? {}).map(([from, to]) => `--bind=${from}:${to}`)
    const readOnly = Object.entries(this.#options.readOnlyBinds ?? {}).map(([from, to]) => `--bind-ro=${from}:${to}`)
    return [
      ...fixed,
      ...same,
      `--machine=${this.#name}`,
      `--uuid=${this.#uuid}`,
      `--directory=${join(this.#dir, 'root')}`,
      ...binds,
      ...readOnly,
    ]
  }

  /** Into all of its namespaces but the network's, which is ours too. */
  #entrance(): string[] {
    return ['--target', String(this.#pid), '--mount', '--uts', '--ipc', '--pid', '--cgroup']
  }

  async #untilBooted(): Promise<void> {
    const deadline = performance.now() + BOOT_TIMEOUT_MS
    const program = this.#program
    let last = 'nothing yet'
    while (performance.now() < deadline) {
      if (program === undefined || !isAlive(program)) throw new Error('systemd-nspawn ended')
      this.#pid = systemdBelow(program.pid) ?? 0
      if (this.#pid !== 0) {
        const { stdout, stderr } = await this.run(['systemctl', 'is-system-running', '--wait'], { timeoutMs: 30_000 })
        last = `${stdout}${stderr}`.trim()
        if (/^(running|degraded)$/.test(stdout.trim())) return
      }
      await sleep(50)
    }
    throw new Error(`after ${BOOT_TIMEOUT_MS} ms its state is: ${last}`)
  }
}

/** unshare, systemd-nspawn and its systemd are parent, child and grandchild. */
function systemdBelow(pid: number): number | undefined {
  const [nspawn] = childrenOf(pid)
  const systemd = nspawn === undefined ? [] : childrenOf(nspawn)
  return systemd.find((child) => nameOf(child) === 'systemd')
}

function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number),
    )
  } catch {
    return [] // it has just ended; the caller looks whether all of it has
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  } catch {
    return '' // as above
  }
}

function codeOf(error: ExecFileException | null): number {
  if (error === null) return 0
  return typeof error.code === 'number' ? error.code : 124
}
