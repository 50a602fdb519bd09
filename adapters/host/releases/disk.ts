import { constants } from 'node:fs'
import { chmod, lchown, lstat, mkdir, open, readdir, readlink, rename, rm, rmdir, statfs, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { GatewayError, kindOf, messageOf } from '../../../daemon/errors.ts'

/** A file or folder with its own content; of a folder that is its names. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** What is in a file, piece by piece; when the reader ends, however it does, the file is closed. A stream closes it later. */
export async function* chunksOf(path: string, signal?: AbortSignal): AsyncGenerator<Buffer> {
  const handle = await open(path, 'r')
  try {
    const stream = handle.createReadStream({ start: 0, autoClose: false, ...(signal === undefined ? {} : { signal }) })
    for await (const chunk of stream as AsyncIterable<Buffer>) yield chunk
  } finally {
    await handle.close()
  }
}

/** Whole or not at all, also after a power cut. */
export async function writeDurable(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`
  const handle = await open(temporary, 'w', 0o644)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, path)
  await sync(dirname(path))
}

export async function makeFolder(path: string): Promise<void> {
  if ((await mkdir(path, { recursive: true, mode: 0o755 })) !== undefined) await sync(dirname(path))
}

/**
 * One after the other: `rm` of Node goes on in the other branches of the tree after it has rejected for one, and would
 * take away what the next try builds there.
 */
export async function removeAll(path: string): Promise<void> {
  const stat = await found(lstat(path))
  if (stat === undefined) return
  if (!stat.isDirectory()) return rm(path, { force: true })
  for (const name of await readdir(path)) await removeAll(join(path, name))
  await rmdir(path)
}

/**
 * Takes a tree from its owner, from the top down, before root removes it: a folder that its owner turns into a link
 * meanwhile would lead the removal elsewhere. In a folder that is ours already nothing can be exchanged.
 */
export async function seize(path: string): Promise<void> {
  if (process.geteuid?.() !== 0 || (await found(lstat(path)))?.isDirectory() !== true) return
  await lchown(path, 0, 0)
  await chmod(path, 0o700)
  for (const entry of await readdir(path, { withFileTypes: true })) if (entry.isDirectory()) await seize(join(path, entry.name))
}

export async function removeIfEmpty(path: string): Promise<void> {
  try {
    await rmdir(path)
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(String((error as NodeJS.ErrnoException).code))) throw error
  }
}

export async function exists(path: string): Promise<boolean> {
  return (await found(lstat(path))) !== undefined
}

/** What the link says; undefined when there is none. Rejects with `rejected` when something else bears the name. */
export async function linkTarget(path: string): Promise<string | undefined> {
  const stat = await found(lstat(path))
  if (stat === undefined) return undefined
  if (stat.isSymbolicLink()) return readlink(path)
  throw new GatewayError('rejected', `${path} is no link`, {
    remedy: `Move it to ${dirname(path)}/releases/ under a name of its own and make ${path} a link to it, or remove it.`,
  })
}

/** The flip: a reader of `path` sees the old link or the new one, and so does who looks after a power cut. */
export async function replaceLink(path: string, target: string): Promise<void> {
  const temporary = `${path}.new`
  await rm(temporary, { force: true })
  await symlink(target, temporary)
  await rename(temporary, path)
  await sync(dirname(path))
}

export async function removeLink(path: string): Promise<void> {
  await rm(path, { force: true })
  await sync(dirname(path))
}

/** Bytes that an ordinary user may still write there. */
export async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path)
  return bavail * bsize
}

export async function found<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(String((error as NodeJS.ErrnoException).code))) return undefined
    throw error
  }
}

/** Every error of the disk in plain words, with what to do. */
export async function told<T>(root: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw kindOf(error) === undefined ? inWords(root, error) : error
  }
}

function inWords(root: string, error: unknown): unknown {
  const code = String((error as NodeJS.ErrnoException).code)
  const details = { cause: error }
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new GatewayError('saturated', `there is no room below ${root}`, {
      ...details,
      remedy: 'Free some room; the patch then goes on by itself.',
    })
  }
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return new GatewayError('rejected', `the gateway may not change ${root}: ${messageOf(error)}`, {
      ...details,
      remedy: `Start edge-gateway-executor.socket, which may. Without it, let the gateway's user write there, and name ${root} under ReadWritePaths= of the unit.`,
    })
  }
  if (code === 'ENAMETOOLONG' || code === 'EISDIR' || code === 'ENOTDIR' || code === 'ELOOP') {
    return new GatewayError('rejected', `the release can't be laid out: ${messageOf(error)}`, details)
  }
  return new GatewayError('transient', `${root}: ${messageOf(error)}`, details)
}
