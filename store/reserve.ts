/**
 * A file that only takes up room. On a full disk a delete needs space of its own (the WAL grows before anything
 * is freed), so the file is given up, and made again when there is room.
 */
import { closeSync, existsSync, fsyncSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { isDiskFull } from './damage.ts'

export const RESERVE_BYTES = 4 << 20
const RESERVE_FILE = 'reserve'
const BLOCK = Buffer.alloc(1 << 16, 0x5a)

export class Reserve {
  readonly #path: string

  constructor(directory: string) {
    this.#path = join(directory, RESERVE_FILE)
  }

  get held(): boolean {
    return existsSync(this.#path) && statSync(this.#path).size >= RESERVE_BYTES
  }

  giveUp(): void {
    rmSync(this.#path, { force: true })
  }

  /** False when there is no room for it. The bytes are really written: a sparse file reserves nothing. */
  take(): boolean {
    if (this.held) return true
    try {
      this.#write()
      return true
    } catch (error) {
      this.giveUp()
      if (isDiskFull(error)) return false
      throw error
    }
  }

  #write(): void {
    const fd = openSync(this.#path, 'w', 0o640)
    try {
      for (let written = 0; written < RESERVE_BYTES;) written += writeSync(fd, BLOCK)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
  }
}
