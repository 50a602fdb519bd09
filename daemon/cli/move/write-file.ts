/**
 * Writes an export in parts. Under another name until all of it is on the medium and was read back: nobody takes a half
 * file for a whole one, also on a stick that was pulled out.
 */
import { execFile } from 'node:child_process'
import { createHash, type Hash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { open, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { GatewayError, messageOf } from '../../errors.ts'
import { counted, type ExportBlock, type ExportHead, type ExportSum, type ExportTail, type LaneCount } from '../../move/file.ts'
import { factsOf, sealed } from '../../move/lines.ts'
import type { Lane } from '../../ports.ts'
import { size } from '../text.ts'
import { partName } from './read-file.ts'

const PARTIAL = '.partial'

interface Part {
  readonly handle: FileHandle
  readonly path: string
  readonly hash: Hash
  bytes: number
  lines: number
  blocks: number
}

export class ExportWriter {
  readonly #head: ExportHead
  readonly #nameOf: (part: number) => string
  readonly #partBytes: number
  readonly #lanes: Partial<Record<Lane, LaneCount>> = {}
  readonly #paths: string[] = []
  #messages = 0
  #payloadBytes = 0
  #before = ''
  #part: Part | undefined

  /** `partBytes`: no part gets much longer; FAT takes 4 GiB. */
  constructor(head: ExportHead, path: string, partBytes: number) {
    this.#head = head
    this.#nameOf = partName(path)
    this.#partBytes = partBytes
  }

  get sum(): ExportSum {
    return { messages: this.#messages, bytes: this.#payloadBytes, lanes: this.#lanes }
  }

  /** Path of part n while it is not complete. */
  readonly partialName = (part: number): string => this.#nameOf(part) + PARTIAL

  /** Whole lines, as the store gives them. */
  async add(text: string): Promise<void> {
    const part = await this.#open()
    for (const line of text.split('\n')) if (line !== '') this.#count(line)
    await this.#write(part, text)
    part.blocks += 1
    const block: ExportBlock = { block: part.blocks, sha256: part.hash.copy().digest('hex') }
    await this.#write(part, `${sealed(block)}\n`)
    if (part.bytes >= this.#partBytes) await this.#close(false)
  }

  /** All is written, and on the medium; what is cached of it is dropped, so that reading it back reads the medium. */
  async finish(): Promise<void> {
    await this.#open()
    await this.#close(true)
    await syncPath(dirname(this.#nameOf(1)))
    for (const path of this.#paths) await dropCache(path)
  }

  /** The files get their names. Returns them. */
  async publish(): Promise<readonly string[]> {
    const names = this.#paths.map((_, index) => this.#nameOf(index + 1))
    for (const [index, path] of this.#paths.entries()) await rename(path, names[index] ?? path)
    await syncPath(dirname(this.#nameOf(1)))
    return names
  }

  /** Removes what was written under the other name. */
  async discard(): Promise<void> {
    await this.#part?.handle.close().catch(() => undefined)
    for (const path of this.#paths) await rm(path, { force: true })
  }

  #count(line: string): void {
    const { lane, position, bytes } = factsOf(line)
    this.#lanes[lane] = counted(this.#lanes, lane, position)
    this.#messages += 1
    this.#payloadBytes += bytes
  }

  async #open(): Promise<Part> {
    if (this.#part !== undefined) return this.#part
    const number = this.#paths.length + 1
    const path = this.partialName(number)
    if (existsSync(this.#nameOf(number)))
      throw new GatewayError('rejected', `${this.#nameOf(number)} is there already`, { remedy: 'choose another name with --out' })
    const handle = await open(path, 'w', 0o640).catch((error: unknown) => {
      throw this.#mediumFails(error)
    })
    this.#paths.push(path)
    this.#part = { handle, path, hash: createHash('sha256'), bytes: 0, lines: 0, blocks: 0 }
    await this.#write(this.#part, `${sealed({ ...this.#head, part: number, before: this.#before })}\n`)
    return this.#part
  }

  async #write(part: Part, text: string): Promise<void> {
    const bytes = Buffer.from(text)
    part.hash.update(bytes)
    for (let at = 0; at < bytes.length;) {
      const { bytesWritten } = await part.handle.write(bytes, at).catch((error: unknown) => {
        throw this.#mediumFails(error)
      })
      at += bytesWritten
    }
    part.bytes += bytes.length
  }

  async #close(last: boolean): Promise<void> {
    const part = this.#part
    if (part === undefined) return
    const { messages, bytes, lanes } = this.sum
    this.#before = part.hash.copy().digest('hex')
    const tail: ExportTail = { end: this.#paths.length, last, messages, bytes, lanes, sha256: this.#before }
    await this.#write(part, `${sealed(tail)}\n`)
    this.#part = undefined
    try {
      await part.handle.sync()
    } catch (error) {
      throw this.#mediumFails(error)
    } finally {
      await part.handle.close()
    }
  }

  #mediumFails(error: unknown): GatewayError {
    const full = (error as NodeJS.ErrnoException).code === 'ENOSPC' || (error as NodeJS.ErrnoException).code === 'EFBIG'
    const folder = dirname(this.#nameOf(1))
    const message = full
      ? `${folder} is full: ${size(this.#payloadBytes)} of payload found room`
      : `${folder} can't be written: ${messageOf(error)}`
    const remedy = full
      ? 'nothing left the buffer; use a larger stick, or export one lane or epoch at a time (edgectl buffer shows them)'
      : 'nothing left the buffer; use another stick'
    return new GatewayError('rejected', message, { remedy, cause: error })
  }
}

export async function syncPath(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } catch (error) {
    // Some file systems of sticks have no such call for folders.
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error
  } finally {
    await folder.close()
  }
}

/** POSIX_FADV_DONTNEED for the whole file, which Node does not offer (coreutils, `dd`: nocache). */
function dropCache(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none'], (error) => {
      if (error === null) resolve()
      else
        reject(
          new GatewayError('rejected', `${path} can't be read back: ${error.message}`, {
            remedy: 'nothing left the buffer; use another stick',
          }),
        )
    })
  })
}
