/** From the source tree to one `.deb`. The same source makes the same bytes, whenever and wherever it is built. */
import { cpSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Architecture } from './architecture.ts'
import { addControl, unitsIn } from './control.ts'
import { productionDependencies } from './dependencies.ts'
import { addDocuments, addManuals, type Release } from './documents.ts'
import { run } from './npm.ts'
import { addDependencies, addOwnCode, addRuntime } from './program.ts'
import { Tree } from './tree.ts'

export interface Build extends Release {
  /** The project's folder. */
  readonly root: string
  readonly architecture: Architecture
  /** Where the package is put. */
  readonly out: string
  /** Of xz, 0 to 9: a low one is fast. */
  readonly level: number
}

/** Returns the package's path. */
export function buildPackage({ root, architecture, out, level, ...release }: Build): string {
  const work = mkdtempSync(join(tmpdir(), 'edge-gateway-package-'))
  try {
    const tree = new Tree(join(work, 'tree'))
    fill(tree, root, architecture, release, work)
    tree.seal(release.epochSeconds)
    const built = join(work, 'built.deb')
    const env = { ...process.env, SOURCE_DATE_EPOCH: String(release.epochSeconds) }
    run('dpkg-deb', ['--root-owner-group', '-Zxz', `-z${level}`, '--build', tree.root, built], env)
    mkdirSync(out, { recursive: true })
    const target = join(out, `edge-gateway_${release.version}_${architecture.debian}.deb`)
    cpSync(built, `${target}.new`)
    renameSync(`${target}.new`, target)
    return target
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

function fill(tree: Tree, root: string, architecture: Architecture, release: Release, work: string): void {
  const runtime = addRuntime(tree, architecture, work)
  addOwnCode(tree, root, release.version)
  const notices = addDependencies(tree, root, architecture, productionDependencies(root, architecture), work)
  addManuals(tree, root, release)
  addDocuments(tree, root, release, architecture.debian, [runtime, ...notices])
  const units = addUnits(tree, join(root, 'systemd'))
  tree.copy('etc/edge-gateway/config.yaml', join(root, 'systemd/package/config.yaml'))
  addControl(tree, architecture, release.version, units)
}

function addUnits(tree: Tree, folder: string): ReturnType<typeof unitsIn> {
  const units = unitsIn(folder)
  for (const name of [...units.enabled, ...units.others]) tree.copy(`lib/systemd/system/${name}`, join(folder, name))
  tree.copy('usr/lib/edge-gateway/rescue', join(folder, 'rescue'), 0o755)
  tree.copy('usr/lib/sysusers.d/edge-gateway.conf', join(folder, 'edge-gateway.sysusers'))
  tree.copy('usr/lib/tmpfiles.d/edge-gateway.conf', join(folder, 'edge-gateway.tmpfiles'))
  return units
}

/** For the line that says what was built. */
export function mebibytes(path: string): string {
  return (statSync(path).size / 2 ** 20).toFixed(1)
}
