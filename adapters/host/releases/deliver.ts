/** Artifacts that another program brings: copied into the root while they are hashed, and never read from where that program can write. */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { lstat, open, rename, rm } from 'node:fs/promises'
import { GatewayError } from '../../../daemon/errors.ts'
import type { Downloads } from '../../../daemon/patch/kinds.ts'
import { isWhole } from './build.ts'
import { found, makeFolder, sync } from './disk.ts'
import { sha256Of } from './manifest.ts'
import { incomingPath, pathsOf, rejected, type FilesPlan } from './plan.ts'
import { assertRoom } from './prepare.ts'

/** Nothing is fetched: what was not brought yet must be brought. */
export const broughtOnly: Downloads = {
  async fetch(artifact, path) {
    if (await isThere(artifact, path)) return
    throw new GatewayError('transient', `${artifact.sha256} is not there yet, or is damaged`)
  },
}

/** sha256 of those that must still be brought. */
export async function missing(plan: FilesPlan): Promise<readonly string[]> {
  if (await isWhole(plan)) return []
  const lacking: string[] = []
  for (const artifact of plan.artifacts) if (!(await isThere(artifact, incomingPath(plan, artifact)))) lacking.push(artifact.sha256)
  return [...new Set(lacking)]
}

/** Durable when it resolves, and exactly what the patch names; else nothing of it stays. */
export async function receive(
  plan: FilesPlan,
  sha256: string,
  bytes: AsyncIterable<Uint8Array>,
  reserveBytes: number,
  signal: AbortSignal,
): Promise<void> {
  const artifact = plan.artifacts.find((one) => one.sha256 === sha256)
  if (artifact === undefined) throw rejected(`the patch has no artifact ${sha256}`)
  await makeFolder(pathsOf(plan).incoming)
  await assertRoom(plan, reserveBytes)
  const path = incomingPath(plan, artifact)
  const part = `${path}.part`
  await rm(part, { force: true })
  try {
    const hash = await copy(bytes, part, artifact.bytes, signal)
    if (hash !== sha256) throw rejected(`what was brought for ${artifact.url} has the sha256 ${hash}, and the patch names ${sha256}`)
    await rename(part, path)
    await sync(pathsOf(plan).incoming)
  } catch (error) {
    await rm(part, { force: true })
    throw error
  }
}

async function copy(bytes: AsyncIterable<Uint8Array>, path: string, size: number, signal: AbortSignal): Promise<string> {
  const handle = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
  const hash = createHash('sha256')
  let taken = 0
  try {
    for await (const chunk of bytes) {
      signal.throwIfAborted()
      taken += chunk.length
      if (taken > size) throw rejected(`more than the ${size} bytes were brought that the patch names`)
      hash.update(chunk)
      await handle.writeFile(chunk)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  if (taken !== size) throw new GatewayError('transient', `${taken} of ${size} bytes were brought`)
  return hash.digest('hex')
}

async function isThere({ sha256, bytes }: { readonly sha256: string; readonly bytes: number }, path: string): Promise<boolean> {
  const stat = await found(lstat(path))
  return stat?.isFile() === true && stat.size === bytes && (await sha256Of(path)) === sha256
}
