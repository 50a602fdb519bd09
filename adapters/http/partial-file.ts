import { createHash } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { open, readFile, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Kept beside a partial download, durable: what a later life needs to go on. */
export interface Sidecar {
  readonly url: string
  /** Strong ETag or Last-Modified of the answer that the bytes came from. */
  readonly validator?: string
  /** So many bytes of the file are on the disk for sure; what lies behind them may be anything after a power cut. */
  readonly length: number
  /** Attempts in a row that brought nothing to speak of. */
  readonly attempts: number
  /** How often the whole file had the wrong bytes. */
  readonly mismatches: number
}

/** A download that is under way: `path`, and `path`.json beside it. */
export class PartialFile {
  readonly path: string
  #handle: FileHandle | undefined
  #sidecar: Sidecar

  private constructor(path: string, sidecar: Sidecar) {
    this.path = path
    this.#sidecar = sidecar
  }

  static async open(path: string, url: string): Promise<PartialFile> {
    const found = await readSidecar(`${path}.json`)
    const kept = found?.url === url ? found : { url, length: 0, attempts: 0, mismatches: 0 }
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600)
    const file = new PartialFile(path, kept)
    file.#handle = handle
    try {
      await file.#cutBack()
      return file
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** What lies behind the bytes that the sidecar vouches for is of no use. */
  async #cutBack(): Promise<void> {
    const { size } = await this.#open.stat()
    const length = Math.min(size, this.#sidecar.length)
    if (length !== size) await this.#open.truncate(length)
    this.#sidecar = { ...this.#sidecar, length }
  }

  get sidecar(): Sidecar {
    return this.#sidecar
  }

  async write(bytes: Uint8Array, at: number): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      done += (await this.#open.write(bytes, done, bytes.length - done, at + done)).bytesWritten
    }
  }

  /** The bytes first, then the sidecar that vouches for them. */
  async keep(changes: Partial<Sidecar>): Promise<void> {
    this.#sidecar = { ...this.#sidecar, ...changes }
    await this.#open.truncate(this.#sidecar.length)
    await this.#open.sync()
    await writeSidecar(`${this.path}.json`, this.#sidecar)
  }

  /** From zero: the old bytes are of no use. */
  async restart(changes: Partial<Sidecar> = {}): Promise<void> {
    const { url, attempts, mismatches } = { ...this.#sidecar, ...changes }
    this.#sidecar = { url, attempts, mismatches, length: 0 }
    await this.keep({})
  }

  /** As the disk gives it back. */
  async sha256(signal: AbortSignal): Promise<string> {
    const hash = createHash('sha256')
    for await (const chunk of createReadStream(this.path, { signal })) hash.update(chunk as Buffer)
    return hash.digest('hex')
  }

  async close(): Promise<void> {
    await this.#handle?.close()
    this.#handle = undefined
  }

  async remove(): Promise<void> {
    await this.close()
    for (const path of [this.path, `${this.path}.json`, `${this.path}.json.new`]) await rm(path, { force: true })
  }

  get #open(): FileHandle {
    if (this.#handle === undefined) throw new Error(`${this.path} is closed`)
    return this.#handle
  }
}

/** Undefined when there is none, or when it can't be trusted. */
async function readSidecar(path: string): Promise<Sidecar | undefined> {
  try {
    const found = JSON.parse(await readFile(path, 'utf8')) as Partial<Sidecar> | null
    const numbers = [found?.length, found?.attempts, found?.mismatches]
    const sound = typeof found?.url === 'string' && numbers.every((value) => Number.isSafeInteger(value) && Number(value) >= 0)
    return sound ? (found as Sidecar) : undefined
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

async function writeSidecar(path: string, sidecar: Sidecar): Promise<void> {
  const handle = await open(`${path}.new`, 'w')
  try {
    await handle.writeFile(JSON.stringify(sidecar))
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(`${path}.new`, path)
  const folder = await open(dirname(path), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
