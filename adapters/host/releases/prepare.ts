import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { GatewayError } from '../../../daemon/errors.ts'
import type { FilesSpec } from '../../../daemon/patch/document.ts'
import type { Accepted } from '../../../daemon/patch/kinds.ts'
import type { FilesPatch } from '../../../daemon/patch/document.ts'
import { isRunning, type Units } from '../units.ts'
import { found, freeBytes, linkTarget } from './disk.ts'
import { differences, readManifest } from './manifest.ts'
import { incomingPath, manifestPath, planned, rejected, releaseName, type FilesPlan, type PlannedArtifact } from './plan.ts'
import { safeParts } from './unpack.ts'

export interface PrepareSources {
  readonly roots: Readonly<Record<string, string>>
  /** `patches.units`. */
  readonly allowedUnits: readonly string[]
  readonly units: Units
  readonly reserveBytes: number
}

/** A packed archive takes about so much more room when it is unpacked; the exact limit acts while it is unpacked. */
const UNPACKED_FACTOR = 3

/** Looks only. */
export async function prepare(accepted: Accepted<FilesPatch>, sources: PrepareSources, signal: AbortSignal): Promise<FilesPlan> {
  const { spec, id } = accepted.patch
  const root = await rootOf(spec, sources)
  const active = await activeOf(spec, sources, signal)
  const target = await linkTarget(`${root}/current`)
  const standing = await standingOf(root, target, accepted.digest)
  const plan: FilesPlan = {
    patch: id,
    version: spec.version,
    root,
    release: standing.release,
    previous: standing.previous,
    artifacts: spec.artifacts.map(plannedArtifact),
    owner: await ownerOf(spec),
    pre: planned(spec.hooks.pre),
    post: planned(spec.hooks.post),
    rollback: planned(spec.hooks.rollback),
    running: planned(spec.running),
    units: [...spec.units],
    active,
    keep: spec.keep,
  }
  if (target !== undefined && spec.localEdits === 'hold') await assertUntouched(root, target)
  await assertRoom(plan, sources.reserveBytes)
  return plan
}

/** `saturated` when the rest of the download, the release and the reserve don't fit. */
export async function assertRoom(plan: FilesPlan, reserveBytes: number): Promise<void> {
  let needed = 0
  for (const artifact of plan.artifacts) {
    const have = (await found(stat(incomingPath(plan, artifact))))?.size ?? 0
    needed += Math.max(0, artifact.bytes - have) + artifact.bytes * (artifact.unpack === 'tar' ? UNPACKED_FACTOR : 1)
  }
  const free = await freeBytes(plan.root)
  if (free - needed >= reserveBytes) return
  throw new GatewayError('saturated', `there is no room below ${plan.root}: about ${needed} bytes are needed, ${free} are free`, {
    remedy: `Free at least ${needed + reserveBytes - free} bytes (${reserveBytes} stay free as buffer.minFreeBytes says); the patch then goes on by itself.`,
  })
}

async function rootOf(spec: FilesSpec, { roots }: PrepareSources): Promise<string> {
  const root = Object.hasOwn(roots, spec.root) ? roots[spec.root] : undefined
  if (root === undefined) throw rejected(`this box has no root "${spec.root}"`, `Name its folder under patches.roots.${spec.root}.`)
  const seen = await found(stat(root))
  if (seen?.isDirectory() !== true) throw rejected(`${root} is no folder`, `Make the folder that patches.roots.${spec.root} names.`)
  return resolve(root)
}

async function activeOf(spec: FilesSpec, { allowedUnits, units }: PrepareSources, signal: AbortSignal): Promise<readonly string[]> {
  const running: string[] = []
  for (const unit of spec.units) {
    if (!allowedUnits.includes(unit)) throw rejected(`patches may not restart ${unit} here`, `Add it to patches.units of this box.`)
    const { load, active } = await units.state(unit, signal)
    if (load !== 'loaded') throw rejected(`systemd says that ${unit} is ${load === '' ? 'unknown' : load}`, `Install the unit first.`)
    if (isRunning(active)) running.push(unit)
  }
  return running
}

/** Under which name the release goes, and what it replaces. A release that is in force already is not made again. */
async function standingOf(root: string, target: string | undefined, digest: string): Promise<{ release: string; previous: string | null }> {
  const release = releaseName(digest)
  const again = `${release}-2`
  const ours = target === `releases/${release}` || target === `releases/${again}`
  if (target === undefined || !ours) return { release, previous: target ?? null }
  const manifest = await readManifest(manifestPath(root, target))
  const whole = manifest !== undefined && (await differences(`${root}/${target}`, manifest, false, 1)).length === 0
  if (whole) return { release: target.slice('releases/'.length), previous: manifest.previous }
  // It can't be mended in place, since it is what runs.
  return { release: target.endsWith('-2') ? release : again, previous: target }
}

function plannedArtifact(artifact: FilesSpec['artifacts'][number]): PlannedArtifact {
  const { url, sha256, bytes, unpack, path, mode } = artifact
  if (safeParts(path).length === 0 && unpack === 'none') throw rejected(`the path "${path}" of ${url} names no file`)
  if (((mode ?? 0) & ~0o777) !== 0) throw rejected(`the mode of ${path} has a set-uid, set-gid or sticky bit`)
  return { url, sha256, bytes, unpack, path, mode: mode ?? 0o644 }
}

async function assertUntouched(root: string, target: string): Promise<void> {
  const remedy = 'Undo that, or set localEdits: replace in a patch that may overwrite it.'
  const manifest = await readManifest(manifestPath(root, target))
  if (manifest === undefined) {
    throw new GatewayError('saturated', `${root}/current leads to ${target}, which no patch made`, { remedy })
  }
  const edits = await differences(`${root}/${target}`, manifest, false)
  if (edits.length > 0) throw new GatewayError('saturated', `${root}/${target} was changed by hand: ${edits.join(', ')}`, { remedy })
}

async function ownerOf({ owner }: FilesSpec): Promise<FilesPlan['owner']> {
  if (owner === undefined) return null
  const wanted = { uid: await idOf('/etc/passwd', owner.user), gid: await idOf('/etc/group', owner.group) }
  const self = process.geteuid?.() ?? 0
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])]
  if (self === 0 || (wanted.uid === self && groups.includes(wanted.gid))) return wanted
  throw rejected(
    `the gateway runs as user ${self} and may not give files to ${owner.user}:${owner.group}`,
    'Leave out owner, or run it with CAP_CHOWN.',
  )
}

/** The third field of the line; a number stands for itself. */
async function idOf(file: string, name: string): Promise<number> {
  if (/^\d{1,9}$/.test(name)) return Number(name)
  const line = (await readFile(file, 'utf8')).split('\n').find((text) => text.startsWith(`${name}:`))
  const id = Number(line?.split(':')[2] ?? Number.NaN)
  if (Number.isNaN(id)) throw rejected(`${file} has no "${name}"`, 'Make it on this box, or write its number.')
  return id
}
