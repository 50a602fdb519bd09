/** How much of the disk the buffer may take, and what is left of it. */
import { statfsSync, statSync } from 'node:fs'
import type { Database, Statement } from 'better-sqlite3'
import type { Lane } from '../daemon/ports.ts'
import { PAGE_BYTES } from './database.ts'
import type { OutboxSettings } from './settings.ts'

const AUTO_MAX_BYTES = 2 * 2 ** 30
const AUTO_SHARE = 0.25
/** What normal and deferred leave to urgent messages and to the gateway's own events. */
const RESERVED_SHARE = 0.05
/** A lane that was blocked starts again only when this much more than it needs is free. */
const RESUME_SHARE = 0.01
const RESUME_MAX_BYTES = 8 << 20

export class Room {
  readonly #directory: string
  readonly #path: string
  readonly #pages: Statement
  readonly #freePages: Statement
  maxBytes = 0
  minFreeBytes = 0
  freeDiskBytes = 0

  constructor(db: Database, directory: string, settings: OutboxSettings) {
    this.#directory = directory
    this.#path = db.name
    this.#pages = db.prepare('PRAGMA page_count').pluck()
    this.#freePages = db.prepare('PRAGMA freelist_count').pluck()
    this.configure(settings)
  }

  configure(settings: OutboxSettings): void {
    const disk = statfsSync(this.#directory)
    this.minFreeBytes = settings.minFreeBytes
    this.maxBytes =
      settings.maxBytes === 'auto' ? Math.min(AUTO_MAX_BYTES, Math.floor(disk.blocks * disk.bsize * AUTO_SHARE)) : settings.maxBytes
    this.freeDiskBytes = disk.bavail * disk.bsize
  }

  /** Returns the bytes that are free on the disk now. */
  refresh(): number {
    const disk = statfsSync(this.#directory)
    this.freeDiskBytes = disk.bavail * disk.bsize
    return this.freeDiskBytes
  }

  /** Bytes by which the main file must still grow: pages that are only in the log. */
  owedBytes(): number {
    return Math.max(0, (this.#pages.get() as number) * PAGE_BYTES - statSync(this.#path).size)
  }

  get usedBytes(): number {
    return ((this.#pages.get() as number) - (this.#freePages.get() as number)) * PAGE_BYTES
  }

  get reusableBytes(): number {
    return (this.#freePages.get() as number) * PAGE_BYTES
  }

  get resumeBytes(): number {
    return Math.min(RESUME_MAX_BYTES, this.maxBytes * RESUME_SHARE)
  }

  limitOf(lane: Lane): number {
    return lane === 'urgent' || lane === 'internal' ? this.maxBytes : this.maxBytes * (1 - RESERVED_SHARE)
  }

  /** Why `bytes` more don't fit for `lane`, in plain words; undefined when they do. */
  objection(lane: Lane, bytes: number): string | undefined {
    const used = this.usedBytes
    if (used + bytes > this.limitOf(lane)) return `the buffer is full: ${mib(used)} of ${mib(this.maxBytes)} used`
    const grows = bytes > this.reusableBytes
    if (grows && this.freeDiskBytes - bytes < this.minFreeBytes) {
      const rule = this.minFreeBytes === 0 ? 'more is needed' : `buffer.minFreeBytes is ${mib(this.minFreeBytes)}`
      return `only ${mib(this.freeDiskBytes)} are free on the disk, and ${rule}`
    }
    return undefined
  }
}

export function mib(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`
}
