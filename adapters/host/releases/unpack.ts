import { constants } from 'node:fs'
import { chmod, lstat, mkdir, open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform, type Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import tar from 'tar-stream'
import { GatewayError } from '../../../daemon/errors.ts'
import { found } from './disk.ts'

export interface UnpackLimits {
  /** Of all files together; more is a bomb. */
  readonly maxBytes: number
  readonly maxEntries: number
  /** Bytes that may be written before the disk's reserve is touched. */
  readonly roomBytes: number
}

type Header = tar.Headers & { readonly pax?: Readonly<Record<string, string>> | null }

const GZIP = [0x1f, 0x8b]
const ZSTD = [0x28, 0xb5, 0x2f, 0xfd]
/** Headers of one entry; a longer one would be gathered in memory. */
const HEADERS_MAX_BYTES = 1024 * 1024

/**
 * Unpacks a tar file (plain, gzip or zstd) below `folder`. Files get 0644 or 0755, folders 0755. Rejects with `rejected`
 * for what can lead outside or is neither a file nor a folder, and for a bomb; with `saturated` when there is no room.
 */
export async function unpackTar(archive: string, folder: string, limits: UnpackLimits, signal: AbortSignal): Promise<void> {
  const handle = await open(archive, 'r')
  const extract = tar.extract()
  const unpacking = new Unpacking(folder, limits)
  extract.on('entry', (header: Header, body: Readable, next: (error?: unknown) => void) => {
    // A refusal destroys the body as well, which nobody reads then; the pipeline rejects with the same error.
    body.on('error', () => undefined)
    unpacking.take(header, body).then(() => next(), next)
  })
  try {
    const stages = [handle.createReadStream({ start: 0, autoClose: false }), ...(await decompression(handle)), unpacking.meter(), extract]
    await pipeline(stages, { signal })
  } catch (error) {
    if (error instanceof GatewayError || isOfDisk(error) || signal.aborted) throw error
    throw refused(`the archive can't be read: ${error instanceof Error ? error.message : String(error)}`)
  } finally {
    await handle.close()
  }
}

/** The parts of a name, or `rejected`. Empty for the folder itself. */
export function safeParts(name: string): readonly string[] {
  if (/[\u0000-\u001f\u007f\ufffd]/.test(name)) throw refused(`the name ${JSON.stringify(name)} holds control characters or is not UTF-8`)
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  if (name.startsWith('/') || parts.includes('..')) throw refused(`the name ${JSON.stringify(name)} leads outside of the release`)
  return parts
}

/** Makes `parts` below `folder`, which exists; refuses to go through anything but a folder. */
export async function makeFolders(folder: string, parts: readonly string[]): Promise<string> {
  let path = folder
  for (const part of parts) {
    path = join(path, part)
    const stat = await found(lstat(path))
    if (stat === undefined) {
      await mkdir(path)
      await chmod(path, 0o755)
    } else if (!stat.isDirectory()) throw refused(`${path.slice(folder.length + 1)} is there twice, as a file and as a folder`)
  }
  return path
}

/** Never over a file that is there, never through a link. */
export async function createFile(path: string, mode: number): Promise<FileHandle> {
  const handle = await openNew(path)
  try {
    await handle.chmod(mode)
    return handle
  } catch (error) {
    // A handle that nobody closes ends the program when Node collects it.
    await handle.close()
    throw error
  }
}

async function openNew(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw refused(`${path} is there twice`)
    throw error
  }
}

class Unpacking {
  readonly #folder: string
  readonly #limits: UnpackLimits
  #entries = 0
  #bytes = 0
  /** Bytes of the archive since the last entry or piece of one. */
  #silent = 0

  constructor(folder: string, limits: UnpackLimits) {
    this.#folder = folder
    this.#limits = limits
  }

  /** Ends an archive whose headers are endless, or that goes on long after its end. */
  meter(): Transform {
    return new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        this.#silent += chunk.length
        if (this.#silent > HEADERS_MAX_BYTES + chunk.length)
          done(refused(`the archive has more than ${HEADERS_MAX_BYTES} bytes of headers`))
        else done(null, chunk)
      },
    })
  }

  async take(header: Header, body: Readable): Promise<void> {
    this.#silent = 0
    this.#entries += 1
    if (this.#entries > this.#limits.maxEntries) throw refused(`the archive has more than ${this.#limits.maxEntries} entries`)
    const parts = safeParts(header.name)
    const isFolder = header.type === 'directory'
    if (!isFolder && header.type !== 'file' && header.type !== 'contiguous-file') {
      throw refused(`${header.name} is neither a file nor a folder (${header.type ?? 'unknown'}); links and special files are not unpacked`)
    }
    if (Object.keys(header.pax ?? {}).some((key) => key.startsWith('GNU.sparse'))) {
      throw refused(`${header.name} is a sparse file; make the archive without --sparse`)
    }
    if (((header.mode ?? 0) & 0o7000) !== 0)
      throw refused(`${header.name} has a set-uid, set-gid or sticky bit; make the archive without it`)
    if (isFolder) await makeFolders(this.#folder, parts)
    else await this.#file(header, parts, body)
    body.resume()
  }

  async #file(header: Header, parts: readonly string[], body: Readable): Promise<void> {
    const name = parts.at(-1)
    if (name === undefined || header.name.endsWith('/')) throw refused(`the file ${JSON.stringify(header.name)} has no name`)
    this.#admit(header.size ?? 0)
    const path = join(await makeFolders(this.#folder, parts.slice(0, -1)), name)
    const handle = await createFile(path, ((header.mode ?? 0) & 0o111) === 0 ? 0o644 : 0o755)
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        this.#silent = 0
        await handle.writeFile(chunk)
      }
    } finally {
      await handle.close()
    }
  }

  #admit(size: number): void {
    if (!Number.isSafeInteger(size) || size < 0) throw refused('the archive has a file of an impossible size')
    this.#bytes += size
    if (this.#bytes > this.#limits.maxBytes) throw refused(`the archive unpacks to more than ${this.#limits.maxBytes} bytes`)
    if (this.#bytes > this.#limits.roomBytes) {
      throw new GatewayError('saturated', `unpacked it takes more than the ${Math.max(0, this.#limits.roomBytes)} bytes of room`, {
        remedy: `Free some room; the patch then goes on by itself.`,
      })
    }
  }
}

async function decompression(handle: FileHandle): Promise<readonly Transform[]> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(4), 0, 4, 0)
  const begins = (magic: readonly number[]): boolean => bytesRead >= magic.length && magic.every((byte, at) => buffer[at] === byte)
  if (begins(GZIP)) return [createGunzip()]
  return begins(ZSTD) ? [createZstdDecompress()] : []
}

function isOfDisk(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'ENAMETOOLONG', 'EACCES', 'EPERM'].includes(String((error as NodeJS.ErrnoException).code))
}

function refused(reason: string): GatewayError {
  return new GatewayError('rejected', reason)
}
