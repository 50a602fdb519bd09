/** `/usr/lib/edge-gateway`: the runtime, our own code, and what it needs of npm. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Architecture } from './architecture.ts'
import { type Dependency, installedFolder } from './dependencies.ts'
import { strip } from './elf.ts'
import { javascriptName, toJavaScript } from './javascript.ts'
import { type NpmPackage, unpack } from './npm.ts'
import { isNeeded, LICENCE_FILE } from './pruning.ts'
import type { Tree } from './tree.ts'

export const HOME = 'usr/lib/edge-gateway'
const PARTS = ['daemon', 'adapters', 'store', 'config']
const COMMANDS: Readonly<Record<string, string>> = { 'edge-gateway': 'daemon/edge-gateway.js', edgectl: 'daemon/cli/edgectl.js' }
const SHEBANG = '#!/usr/bin/env node\n'

/** What somebody gave us, and under which terms. */
export interface Notice {
  readonly dependency: Dependency
  readonly text: string
}

/** Node, without what only a debugger reads. Returns its licence. */
export function addRuntime(tree: Tree, architecture: Architecture, work: string): Notice {
  const runtime = runtimePackage(architecture)
  const folder = join(work, 'runtime')
  unpack(runtime, folder)
  tree.write(`${HOME}/bin/node`, strip(readFileSync(join(folder, 'bin/node'))), 0o755)
  const dependency = { ...runtime, license: 'MIT', path: 'bin/node' }
  return { dependency, text: readFileSync(join(folder, 'LICENSE'), 'utf8') }
}

/** The exact file that is shipped is recorded here; package-lock.json names only what chooses among such files. */
function runtimePackage({ node }: Architecture): NpmPackage {
  const recorded = JSON.parse(readFileSync(new URL('npm-packages.json', import.meta.url), 'utf8')) as Record<
    string,
    Omit<NpmPackage, 'name'>
  >
  const name = `node-linux-${node}`
  const found = recorded[name]
  if (found === undefined) throw new Error(`npm-packages.json does not name ${name}`)
  return { name, ...found }
}

export function addOwnCode(tree: Tree, root: string, version: string): void {
  for (const part of PARTS) {
    for (const entry of readdirSync(join(root, part), { recursive: true, withFileTypes: true })) {
      const source = join(entry.parentPath, entry.name)
      if (entry.isFile() && !/\.(md|yaml|test\.ts)$/.test(source)) addOwnFile(tree, source, source.slice(root.length + 1))
    }
  }
  const { name, license } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { name: string; license: string }
  tree.write(`${HOME}/package.json`, `${JSON.stringify({ name, version, license, private: true, type: 'module' }, null, 2)}\n`)
  for (const [command, entry] of Object.entries(COMMANDS)) tree.link(`usr/bin/${command}`, `../lib/edge-gateway/${entry}`)
}

function addOwnFile(tree: Tree, source: string, path: string): void {
  const target = `${HOME}/${javascriptName(path)}`
  if (!/\.(ts|js)$/.test(path)) return tree.copy(target, source)
  const text = toJavaScript(readFileSync(source, 'utf8'), path)
  const isCommand = Object.values(COMMANDS).includes(path)
  if (isCommand && !text.startsWith(SHEBANG)) throw new Error(`${path} does not begin with ${SHEBANG.trim()}`)
  tree.write(target, isCommand ? text.replace(SHEBANG, `#!/${HOME}/bin/node\n`) : text, isCommand ? 0o755 : 0o644)
}

/** Copies what is needed of each package; a package for another processor than this machine's is fetched. */
export function addDependencies(
  tree: Tree,
  root: string,
  architecture: Architecture,
  dependencies: readonly Dependency[],
  work: string,
): Notice[] {
  return dependencies.map((dependency) => {
    const folder = installedFolder(root, dependency) ?? fetched(dependency, work)
    const files = filesOf(folder)
    for (const path of files.filter((path) => isNeeded(dependency.name, path, architecture)))
      addForeignFile(tree, join(folder, path), `${HOME}/${dependency.path}/${path}`)
    return { dependency, text: licenceText(folder, files) }
  })
}

function fetched(dependency: Dependency, work: string): string {
  const folder = join(work, dependency.path)
  unpack(dependency, folder)
  return folder
}

/** Paths below a package, without the packages inside it, which have entries of their own. */
function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter((path) => !path.startsWith('node_modules/'))
    .sort()
}

function addForeignFile(tree: Tree, source: string, target: string): void {
  if (target.endsWith('.node')) tree.write(target, strip(readFileSync(source)))
  else tree.copy(target, source)
}

function licenceText(folder: string, files: readonly string[]): string {
  const texts = files.filter((path) => LICENCE_FILE.test(path)).map((path) => readFileSync(join(folder, path), 'utf8'))
  return texts.length > 0 ? texts.join('\n') : existsSync(join(folder, 'README.md')) ? licenceOfReadme(folder) : ''
}

/** Some say it at the end of their README. */
function licenceOfReadme(folder: string): string {
  return /^#+\s*licen[cs]e\b[^\n]*\n([\s\S]*)/im.exec(readFileSync(join(folder, 'README.md'), 'utf8'))?.[1]?.trim() ?? ''
}
