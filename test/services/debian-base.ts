import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
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
export async function debianTree(): Promise<string> {
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'edge-gateway')
  const target = join(cache, `debian-${SUITE}-${RECIPE}`)
  if (existsSync(target)) return target
  mkdirSync(cache, { recursive: true })
  const work = mkdtempSync(join(cache, 'debian-new-'))
  const tree = join(work, 'root')
  try {
    await debootstrap(tree, join(work, 'log'))
    tidy(tree)
    renameOnce(tree, target)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return target
}

async function debootstrap(tree: string, logFile: string): Promise<void> {
  process.stderr.write(`making a Debian ${SUITE} with debootstrap (once)\n`)
  const mirror = await ownMirror()
  const args = ['--variant=minbase', `--include=${INCLUDE.join(',')}`, SUITE, tree, ...(mirror === undefined ? [] : [mirror])]
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
