import { chmod, lchown, mkdir, readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { chunksOf, exists, freeBytes, seize, makeFolder, removeAll, sync, writeDurable } from './disk.ts'
import { differences, entryOf, readManifest, walk, type Manifest, type ManifestEntry } from './manifest.ts'
import { incomingPath, pathsOf, type FilesPlan } from './plan.ts'
import { createFile, makeFolders, safeParts, unpackTar } from './unpack.ts'

const ENTRIES_MAX = 100_000
/** An archive may unpack to so many times its size, and this: small files of one character pack better than that. */
const BOMB_FACTOR = 20
const BOMB_FLOOR_BYTES = 16 * 1024 * 1024

/** True when the release is there and each of its bytes is as it was made. */
export async function isWhole(plan: FilesPlan): Promise<boolean> {
  const paths = pathsOf(plan)
  const manifest = await readManifest(paths.manifest)
  if (manifest === undefined || !(await exists(paths.release))) return false
  return (await differences(paths.release, manifest, true, 1)).length === 0
}

/** Makes the release whole and durable under its name; what an earlier try left is taken away first. */
export async function build(plan: FilesPlan, reserveBytes: number, signal: AbortSignal): Promise<void> {
  const paths = pathsOf(plan)
  await makeFolder(paths.releases)
  await remove(plan)
  try {
    await mkdir(paths.unfinished)
    await chmod(paths.unfinished, 0o755)
    for (const artifact of plan.artifacts) {
      const room = (await freeBytes(plan.root)) - reserveBytes
      await place(plan, artifact, room, signal)
    }
    const entries = await seal(plan, signal)
    await writeDurable(paths.manifest, JSON.stringify(await manifestOf(plan, entries)))
    await rename(paths.unfinished, paths.release)
    await sync(paths.releases)
  } catch (error) {
    await removeAll(paths.unfinished)
    throw error
  }
}

/** Takes the release away, under a name that nobody takes for a whole one. Never the one that is in force. */
export async function remove(plan: Pick<FilesPlan, 'root' | 'release'>): Promise<void> {
  const paths = pathsOf(plan)
  await removeAll(paths.unfinished)
  if (await exists(paths.release)) await rename(paths.release, paths.unfinished)
  await seize(paths.unfinished)
  await removeAll(paths.unfinished)
  await removeAll(paths.manifest)
  await removeAll(`${paths.manifest}.new`)
  if (await exists(paths.releases)) await sync(paths.releases)
}

/** Keeps `keep` of the releases that no link needs, the newest; what a technician put there has no manifest and stays. */
export async function prune(plan: FilesPlan, needed: readonly string[]): Promise<void> {
  const { releases } = pathsOf(plan)
  const old: { readonly release: string; readonly order: number }[] = []
  for (const name of await readdir(releases)) {
    if (/^\..*\.new$/.test(name)) await removeAll(join(releases, name))
    if (!name.endsWith('.manifest')) continue
    const release = name.slice(0, -'.manifest'.length)
    if (!needed.includes(`releases/${release}`)) old.push({ release, order: (await readManifest(join(releases, name)))?.order ?? 0 })
  }
  old.sort((a, b) => b.order - a.order)
  const kept = Math.max(0, plan.keep - (needed.length - 1))
  for (const { release } of old.slice(kept)) await remove({ root: plan.root, release })
}

async function place(plan: FilesPlan, artifact: FilesPlan['artifacts'][number], roomBytes: number, signal: AbortSignal): Promise<void> {
  const { unfinished } = pathsOf(plan)
  const source = incomingPath(plan, artifact)
  const parts = safeParts(artifact.path)
  if (artifact.unpack === 'tar') {
    const maxBytes = artifact.bytes * BOMB_FACTOR + BOMB_FLOOR_BYTES
    const folder = await makeFolders(unfinished, parts)
    return unpackTar(source, folder, { maxBytes, maxEntries: ENTRIES_MAX, roomBytes }, signal)
  }
  const folder = await makeFolders(unfinished, parts.slice(0, -1))
  const handle = await createFile(join(folder, parts.at(-1) ?? ''), artifact.mode)
  try {
    for await (const chunk of chunksOf(source, signal)) await handle.writeFile(chunk)
  } finally {
    await handle.close()
  }
}

/** Each file, then each folder from the bottom up: only then may the tree bear its name. */
async function seal(plan: FilesPlan, signal: AbortSignal): Promise<readonly ManifestEntry[]> {
  const { unfinished } = pathsOf(plan)
  const entries: ManifestEntry[] = []
  const all = await walk(unfinished)
  for (const path of [...all].reverse()) {
    signal.throwIfAborted()
    const full = join(unfinished, path)
    if (plan.owner !== null) await lchown(full, plan.owner.uid, plan.owner.gid)
    await sync(full)
    const entry = await entryOf(unfinished, path)
    if (entry !== undefined) entries.unshift(entry)
  }
  if (plan.owner !== null) await lchown(unfinished, plan.owner.uid, plan.owner.gid)
  await sync(unfinished)
  return entries
}

async function manifestOf(plan: FilesPlan, entries: readonly ManifestEntry[]): Promise<Manifest> {
  const { releases } = pathsOf(plan)
  const names = (await readdir(releases)).filter((name) => name.endsWith('.manifest'))
  const orders = await Promise.all(names.map(async (name) => (await readManifest(join(releases, name)))?.order ?? 0))
  const { patch, version, previous } = plan
  return { schema: 1, patch, version, order: Math.max(0, ...orders) + 1, previous, entries }
}
