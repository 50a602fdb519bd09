import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { renameOnce } from './kafka-jars.ts'
import { lastLines } from './program.ts'

const run = promisify(execFile)

const SUITE = 'bookworm'
/** What a box has and `minbase` has not: dbus for systemctl, the rest for people and package scripts. */
const INCLUDE = ['systemd', 'systemd-sysv', 'dbus', 'procps', 'iproute2', 'ca-certificates', 'less']
/** Raised when the tree below is made in another way. */
const RECIPE = createHash('sha256')
  .update(JSON.stringify([1, SUITE, INCLUDE]))
  .digest('hex')
  .slice(0, 8)

/** Debian 12 as debootstrap leaves it, made at the first call and kept. Nobody may write below it. */
export function debianTree(): Promise<string> {
  return kept(`debian-${SUITE}-${RECIPE}`, async (tree, log) => {
    await debootstrap(['--variant=minbase', `--include=${INCLUDE.join(',')}`], tree, log)
    tidy(tree)
  })
}

/**
 * The libraries of an arm64 Debian 12, for programs that an emulator of the processor runs; made at the first call and kept.
 * Packages are only unpacked, so nothing of arm64 has to run for it.
 */
export function arm64Libraries(): Promise<string> {
  return kept(`debian-${SUITE}-arm64-1`, async (tree, log) => {
    const whole = `${tree}-whole`
    await debootstrap(['--arch=arm64', '--foreign', '--variant=minbase', '--include=libstdc++6,libsystemd0'], whole, log)
    mkdirSync(join(tree, 'usr/lib'), { recursive: true })
    symlinkSync('usr/lib', join(tree, 'lib'))
    for (const name of ['aarch64-linux-gnu', 'ld-linux-aarch64.so.1']) renameSync(join(whole, 'usr/lib', name), join(tree, 'usr/lib', name))
  })
}

async function kept(name: string, make: (tree: string, logFile: string) => Promise<void>): Promise<string> {
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'edge-gateway')
  const target = join(cache, name)
  if (existsSync(target)) return target
  mkdirSync(cache, { recursive: true })
  const work = mkdtempSync(join(cache, 'debian-new-'))
  const tree = join(work, 'root')
  try {
    await make(tree, join(work, 'log'))
    renameOnce(tree, target)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return target
}

async function debootstrap(how: readonly string[], tree: string, logFile: string): Promise<void> {
  process.stderr.write(`making a Debian ${SUITE} with debootstrap (once)\n`)
  const mirror = await ownMirror()
  const args = [...how, SUITE, tree, ...(mirror === undefined ? [] : [mirror])]
  const log = createWriteStream(logFile)
  const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` }
  const code = await new Promise<number | null>((resolve, reject) => {
    const child = spawn('debootstrap', args, { stdio: ['ignore', 'pipe', 'pipe'], env })
    child.stdout.pipe(log, { end: false })
    child.stderr.pipe(log, { end: false })
    child.once('error', (cause) => reject(new Error(`cannot run debootstrap (it needs root): ${cause.message}`, { cause })))
    child.once('close', resolve)
  })
  await new Promise((resolve) => log.end(resolve))
  if (code !== 0) throw new Error(`debootstrap ended with ${code}; it needs root and a Debian mirror. It said:\n${lastLines(logFile)}`)
}

/** Where this machine's apt gets the suite from; undefined on another system: debootstrap then knows a mirror itself. */
async function ownMirror(): Promise<string | undefined> {
  const args = ['indextargets', '--format', '$(REPO_URI) $(RELEASE) $(COMPONENT)', 'Identifier: Packages']
  const { stdout } = await run('apt-get', args)
  const lines = stdout.split('\n').map((line) => line.split(' '))
  return lines.find(([, release, component]) => release === SUITE && component === 'main')?.[0]
}

/** Each copy is a machine of its own, with a journal that outlives a reboot; what only a later apt needs goes. */
function tidy(tree: string): void {
  writeFileSync(join(tree, 'etc/machine-id'), '')
  // systemd would take it from here; at a boot it becomes a link.
  rmSync(join(tree, 'var/lib/dbus/machine-id'), { force: true })
  writeFileSync(join(tree, 'etc/hostname'), 'box\n')
  const journal = join(tree, 'var/log/journal')
  mkdirSync(journal, { recursive: true })
  for (const name of readdirSync(journal)) rmSync(join(journal, name), { recursive: true })
  const archives = join(tree, 'var/cache/apt')
  for (const name of readdirSync(archives)) rmSync(join(archives, name), { recursive: true })
}
