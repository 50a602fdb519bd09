/** `npm run package`: Debian packages for amd64 and arm64 in dist/. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ARCHITECTURES } from './architecture.ts'
import { buildPackage, mebibytes } from './build.ts'
import { run } from './npm.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')
const USAGE = `npm run package -- [--arch amd64|arm64] [--version V] [--out FOLDER] [--level 0-9]

  --arch     only this one; both if it is not given
  --version  instead of package.json's
  --out      instead of dist
  --level    of xz: 1 builds five times as fast, and the packages are a sixth larger (default: 6)

SOURCE_DATE_EPOCH is the time inside the packages; without it, it is that of the last commit.`

function main(): void {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string' },
      version: { type: 'string' },
      out: { type: 'string', default: join(ROOT, 'dist') },
      level: { type: 'string', default: '6' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return console.log(USAGE)
  const architectures = ARCHITECTURES.filter(({ debian }) => values.arch === undefined || debian === values.arch)
  if (architectures.length === 0) throw new Error(`--arch ${String(values.arch)} is not known; it is amd64 or arm64`)
  if (!/^[0-9]$/.test(values.level)) throw new Error(`--level ${values.level} is no number from 0 to 9`)
  const release = { version: debianVersion(values.version ?? statedVersion()), epochSeconds: sourceDate() }
  for (const architecture of architectures) {
    const path = buildPackage({ root: ROOT, architecture, out: values.out, level: Number(values.level), ...release })
    console.log(`${path} (${mebibytes(path)} MiB)`)
  }
}

function statedVersion(): string {
  return (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version
}

/** `1.0.0-rc.1` comes before `1.0.0`; Debian writes that with a tilde. */
function debianVersion(version: string): string {
  if (!/^\d+\.\d+\.\d+([-~][A-Za-z0-9.]+)?$/.test(version))
    throw new Error(`${version} is no version; write for example 1.2.3 or 1.2.3-rc.1`)
  return version.replace('-', '~')
}

/** Seconds since 1970. */
function sourceDate(): number {
  const given = process.env['SOURCE_DATE_EPOCH'] ?? lastCommit()
  if (!/^\d+$/.test(given)) throw new Error(`SOURCE_DATE_EPOCH=${given} is no number of seconds`)
  return Number(given)
}

function lastCommit(): string {
  try {
    return run('git', ['-C', ROOT, 'log', '-1', '--format=%ct']).trim()
  } catch (cause) {
    throw new Error('this is no git repository: set SOURCE_DATE_EPOCH to the time of the release, in seconds since 1970', { cause })
  }
}

try {
  main()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
