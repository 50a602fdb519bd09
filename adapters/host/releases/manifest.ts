import { createHash } from 'node:crypto'
import { lstat, readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { chunksOf, found } from './disk.ts'

export interface ManifestEntry {
  /** Relative to the release folder. */
  readonly path: string
  readonly type: 'file' | 'folder'
  readonly mode: number
  readonly size: number
  readonly sha256: string
  /** When the box wrote it, by its own clock; only ever compared for being the same. */
  readonly changed: string
}

/** Beside each release: what is in it, so that a tree can be judged whole, and where it came from. */
export interface Manifest {
  readonly schema: 1
  readonly patch: string
  readonly version: string
  /** Grows with each release of the root: which is older does not depend on a clock. */
  readonly order: number
  /** What `current` said before; null: nothing. */
  readonly previous: string | null
  readonly entries: readonly ManifestEntry[]
}

/** Undefined when there is none that can be read: then nothing is known of the release. */
export async function readManifest(path: string): Promise<Manifest | undefined> {
  const text = await found(readFile(path, 'utf8'))
  try {
    const manifest = text === undefined ? undefined : (JSON.parse(text) as Partial<Manifest> | null)
    return manifest?.schema === 1 && Array.isArray(manifest.entries) ? (manifest as Manifest) : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/** All below `folder`, a folder before what is in it; links are not followed. */
export async function walk(folder: string): Promise<readonly string[]> {
  const names: string[] = []
  const visit = async (below: string): Promise<void> => {
    for (const entry of await readdir(join(folder, below), { withFileTypes: true })) {
      const path = below === '' ? entry.name : `${below}/${entry.name}`
      names.push(path)
      if (entry.isDirectory()) await visit(path)
    }
  }
  await visit('')
  return names
}

export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of chunksOf(path)) hash.update(chunk)
  return hash.digest('hex')
}

/** The entry of what lies at `path` now. `known`: its hash is taken from there while nothing says that it changed. */
export async function entryOf(folder: string, path: string, known?: ManifestEntry): Promise<ManifestEntry | undefined> {
  const stat = await lstat(join(folder, path), { bigint: true })
  if (!stat.isFile() && !stat.isDirectory()) return undefined
  const mode = Number(stat.mode & 0o7777n)
  if (stat.isDirectory()) return { path, type: 'folder', mode, size: 0, sha256: '', changed: '' }
  const size = Number(stat.size)
  const changed = `${stat.mtimeNs}/${stat.ctimeNs}`
  const same = known !== undefined && known.size === size && known.changed === changed
  return { path, type: 'file', mode, size, sha256: same ? known.sha256 : await sha256Of(join(folder, path)), changed }
}

/**
 * How the tree differs from its manifest, at most `limit` differences; empty: it is whole. Files whose times and size are
 * as they were are read only when `thorough`.
 */
export async function differences(folder: string, manifest: Manifest, thorough: boolean, limit = 20): Promise<readonly string[]> {
  const expected = new Map(manifest.entries.map((entry) => [entry.path, entry]))
  const seen: string[] = []
  for (const path of (await found(walk(folder))) ?? []) {
    const known = expected.get(path)
    expected.delete(path)
    if (known === undefined) seen.push(`${path} (added)`)
    else if (!same(known, await entryOf(folder, path, thorough ? undefined : known))) seen.push(`${path} (changed)`)
    if (seen.length >= limit) return seen
  }
  for (const path of expected.keys()) seen.push(`${path} (removed)`)
  return seen.slice(0, limit)
}

function same(known: ManifestEntry, now: ManifestEntry | undefined): boolean {
  return now !== undefined && now.type === known.type && now.mode === known.mode && now.size === known.size && now.sha256 === known.sha256
}
