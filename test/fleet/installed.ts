/** The gateway as a technician installs it: the package, in a Debian with its own systemd, on a disk of its own. */
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { StatusDocument } from '../../daemon/status.ts'
import type { LedgerDocument } from '../../daemon/cli/ledger-view.ts'
import { bootDebian, type Debian, type ServiceScope } from '../services/index.ts'

const run = promisify(execFile)
const PACKAGER = fileURLToPath(new URL('../../systemd/package/main.ts', import.meta.url))
const ARCHITECTURE = process.arch === 'arm64' ? 'arm64' : 'amd64'

/** Builds the package for this machine, quickly; returns its folder. */
export async function buildDeb(scope: ServiceScope): Promise<string> {
  const out = scope.folder()
  await run(process.execPath, [PACKAGER, '--arch', ARCHITECTURE, '--level', '0', '--out', out])
  return out
}

/** A file system of its own on a loop device: it can be filled up and frozen. Needs root. */
export interface LoopDisk {
  readonly path: string
  fill(): void
  free(): void
  /** What writes hangs from now on, in the kernel. */
  freeze(): void
  thaw(): void
}

export function mountLoopDisk(scope: ServiceScope, mib: number): LoopDisk {
  const dir = scope.folder()
  const [image, path] = [join(dir, 'image'), join(dir, 'disk')]
  writeFileSync(image, '')
  truncateSync(image, mib * 1024 * 1024)
  mkdirSync(path)
  execFileSync('mkfs.ext4', ['-q', '-F', '-m', '0', image])
  execFileSync('mount', ['-o', 'loop', image, path])
  let frozen = false
  const freeze = (how: '-f' | '-u'): void => {
    if (frozen === (how === '-f')) return
    execFileSync('fsfreeze', [how, path])
    frozen = how === '-f'
  }
  scope.atEnd(() => {
    freeze('-u')
    execFileSync('umount', ['-l', path])
  })
  const ballast = join(path, 'ballast')
  return {
    path,
    // dd ends when nothing is left.
    fill: () => void execFileSync('sh', ['-c', `dd if=/dev/zero of=${ballast} bs=64k 2>&1 || true; sync -f ${path}`]),
    free: () => void execFileSync('rm', [ballast]),
    freeze: () => freeze('-f'),
    thaw: () => freeze('-u'),
  }
}

export class Installed {
  readonly machine: Debian
  readonly unit = 'edge-gateway.service'

  constructor(machine: Debian) {
    this.machine = machine
  }

  /** One property of the unit. */
  async show(property: string): Promise<string> {
    return (await this.machine.must(['systemctl', 'show', '--value', `--property=${property}`, this.unit])).trim()
  }

  /** The daemon's pid, seen from outside. */
  async outerPid(): Promise<number> {
    const inner = await this.show('MainPID')
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
    const found = pids.find((pid) => isInside(pid, inner, this.machine.pid))
    if (found === undefined || inner === '0') throw new Error('the daemon does not run')
    return Number(found)
  }

  journal(): Promise<string> {
    return this.machine.must(['journalctl', '--unit', this.unit, '--output', 'cat', '--no-pager'])
  }

  async status(): Promise<StatusDocument> {
    return JSON.parse((await this.machine.run(['edgectl', 'status', '--json'])).stdout) as StatusDocument
  }

  async ledger(): Promise<LedgerDocument> {
    return JSON.parse((await this.machine.run(['edgectl', 'ledger', '--json'])).stdout) as LedgerDocument
  }
}

/** Whether this is the program that `inner` is in the machine's own counting. */
function isInside(pid: string, inner: string, machine: number): boolean {
  try {
    if (readlinkSync(`/proc/${pid}/ns/pid`) !== readlinkSync(`/proc/${machine}/ns/pid`)) return false
    const numbers = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return numbers?.split(/\s+/).at(-1) === inner
  } catch {
    return false // it has just ended
  }
}

/** Installs the package of the folder `deb` with this configuration; resolves when dpkg has ended, and then the service is active. */
export async function install(scope: ServiceScope, deb: string, config: string, stateDisk?: LoopDisk): Promise<Installed> {
  const binds = stateDisk === undefined ? {} : { binds: { [stateDisk.path]: '/var/lib/edge-gateway' } }
  const machine = await bootDebian(scope, { readOnlyBinds: { [deb]: '/mnt' }, ...binds })
  await machine.write('/etc/edge-gateway/config.yaml', config)
  await machine.must(['sh', '-c', 'dpkg --force-unsafe-io --force-confold -i /mnt/*.deb'])
  return new Installed(machine)
}
