import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

export interface NpmPackage {
  readonly name: string
  readonly version: string
  /** As package-lock.json writes it: `sha512-<base64>`. */
  readonly integrity: string
}

/** Unpacks a package of the registry into an empty folder. It is fetched once, and its checksum is looked at each time. */
export function unpack(wanted: NpmPackage, folder: string): void {
  const archive = cached(wanted)
  mkdirSync(folder, { recursive: true })
  run('tar', ['-xzf', archive, '--strip-components=1', '--no-same-owner', '--exclude=package/include', '-C', folder])
}

function cached(wanted: NpmPackage): string {
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'edge-gateway', 'npm')
  const archive = join(cache, `${wanted.name.replace('@', '').replace('/', '-')}-${wanted.version}.tgz`)
  mkdirSync(cache, { recursive: true })
  if (!existsSync(archive)) fetch(wanted, cache, archive)
  const found = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`
  if (found === wanted.integrity) return archive
  rmSync(archive)
  throw new Error(
    `${wanted.name}@${wanted.version} is not what was expected: its checksum is ${found}, and ${wanted.integrity} was recorded. ` +
      'Try again; if it stays so, the registry serves another file than the one that was checked.',
  )
}

/** Two builds may fetch at once: each into a folder of its own. */
function fetch(wanted: NpmPackage, cache: string, archive: string): void {
  process.stderr.write(`fetching ${wanted.name}@${wanted.version}\n`)
  const work = mkdtempSync(join(cache, 'fetch-'))
  try {
    run('npm', ['pack', '--silent', '--pack-destination', work, `${wanted.name}@${wanted.version}`])
    const [name = ''] = readdirSync(work)
    renameSync(join(work, name), archive)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Runs a program to its end; throws with what it said when it fails. */
export function run(file: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): string {
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: 'utf8', env, maxBuffer: 64 << 20 })
  if (error !== undefined) throw new Error(`cannot run ${file}: ${error.message}`, { cause: error })
  if (status !== 0) throw new Error(`${file} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`)
  return stdout
}
