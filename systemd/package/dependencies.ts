import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Architecture } from './architecture.ts'

/** One package that runs on the box. */
export interface Dependency {
  readonly name: string
  readonly version: string
  readonly integrity: string
  /** SPDX. */
  readonly license: string
  /** Below the project, and below the program on the box: `node_modules/…`. */
  readonly path: string
}

interface Locked {
  readonly version: string
  readonly integrity: string
  readonly license?: string
  readonly dev?: boolean
  readonly devOptional?: boolean
  readonly os?: readonly string[]
  readonly cpu?: readonly string[]
}

/** Declarations for a compiler, and headers for one: nothing runs. */
const NOTHING_RUNS = /^(@types\/|undici-types$|node-addon-api$)/

/** Of package-lock.json, what a box of this architecture needs, by path. */
export function productionDependencies(root: string, { node }: Architecture): Dependency[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, Locked> }
  const wanted = Object.entries(lock.packages).filter(
    ([path, { dev, devOptional, os, cpu }]) =>
      path !== '' && dev !== true && devOptional !== true && (os?.includes('linux') ?? true) && (cpu?.includes(node) ?? true),
  )
  return wanted
    .map(([path, { version, integrity, license = 'unknown' }]) => ({ path, name: nameOf(path), version, integrity, license }))
    .filter(({ name }) => !NOTHING_RUNS.test(name))
    .sort((a, b) => (a.path < b.path ? -1 : 1))
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
}

/** Throws unless what is installed is what package-lock.json names; undefined when it is not installed at all. */
export function installedFolder(root: string, { path, name, version }: Dependency): string | undefined {
  const folder = join(root, path)
  if (!existsSync(folder)) return undefined
  const found = (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string }).version
  if (found !== version) throw new Error(`${name} ${found} is installed, and package-lock.json names ${version}: run npm ci`)
  return folder
}
