import { readFile, stat } from 'node:fs/promises'
import type { Clock } from '../../daemon/clock.ts'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import type { Log } from '../../daemon/ports.ts'

/** Stat is polled: inotify misses renames over a file, bind mounts and network file systems. */
const POLL_MS = 1_000

export interface WatchedFilesOptions<T> {
  /** What the files hold, for log lines and errors: "the password file of listener lan". */
  readonly what: string
  readonly paths: readonly string[]
  /** Turns the contents (in the order of `paths`) into a value; throws with what is wrong and what to do. */
  readonly read: (contents: readonly Buffer[]) => T
  readonly clock: Clock
  readonly log: Log
}

/**
 * A value that lives in files (certificates, secrets) and is read again when they change.
 *
 * A change is taken up once it has been still for one interval, so that a certificate and its key, which nobody
 * can replace at one instant, are read together. A new content that can't be used is logged once, and the old
 * value stays.
 */
export class WatchedFiles<T> {
  readonly #options: WatchedFilesOptions<T>
  readonly #listeners = new Set<(value: T, before: T) => void>()
  #value: { readonly current: T } | undefined
  #taken = ''
  #fault: string | undefined
  #last = ''
  #cancel: (() => void) | undefined
  #closed = false

  constructor(options: WatchedFilesOptions<T>) {
    this.#options = options
  }

  /** The value in use. `load` must have resolved. */
  get value(): T {
    if (this.#value === undefined) throw new Error(`${this.#options.what}: used before it was loaded`)
    return this.#value.current
  }

  /** Reads the files and begins to watch them. Rejects with `fatal` when they can't be read or used. */
  async load(): Promise<T> {
    this.#taken = this.#last = await this.#fingerprint()
    const current = await this.#readAll()
    this.#value = { current }
    this.#arm()
    return current
  }

  /** Called after each change with the new and the old value. Returns the unsubscriber. */
  onChange(listener: (value: T, before: T) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * Looks now, for who has just replaced a file whole and can't wait. Resolves with why the content can't be used, or
   * with `undefined` when the value is that of the file.
   */
  async refresh(): Promise<string | undefined> {
    const seen = await this.#fingerprint()
    this.#last = seen
    if (seen !== this.#taken && !this.#closed) await this.#take(seen)
    return this.#fault
  }

  close(): void {
    this.#closed = true
    this.#cancel?.()
  }

  #arm(): void {
    if (this.#closed) return
    this.#cancel = this.#options.clock.after(POLL_MS, () => {
      void this.#poll().finally(() => this.#arm())
    })
  }

  async #poll(): Promise<void> {
    const seen = await this.#fingerprint()
    const still = seen === this.#last
    this.#last = seen
    if (still && seen !== this.#taken && !this.#closed) await this.#take(seen)
  }

  async #take(fingerprint: string): Promise<void> {
    // Also when it fails: what can't be used is not read again until it changes again.
    this.#taken = fingerprint
    const { what, log, paths } = this.#options
    const before = this.value
    try {
      this.#value = { current: await this.#readAll() }
      this.#fault = undefined
    } catch (error) {
      this.#fault = messageOf(error)
      log.error({ files: paths, reason: messageOf(error) }, `${what} changed but can't be used; the old one stays in force`)
      return
    }
    log.info({ files: paths }, `${what} changed and was read again`)
    for (const listener of this.#listeners) listener(this.value, before)
  }

  async #readAll(): Promise<T> {
    const { what, paths, read } = this.#options
    const contents = await Promise.all(paths.map((path) => readOne(what, path)))
    try {
      return read(contents)
    } catch (error) {
      if (error instanceof GatewayError) throw error
      throw new GatewayError('fatal', `${what} (${paths.join(', ')}) can't be used: ${messageOf(error)}`, { cause: error })
    }
  }

  async #fingerprint(): Promise<string> {
    const parts = await Promise.all(this.#options.paths.map(fingerprintOf))
    return parts.join('\n')
  }
}

async function readOne(what: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    const remedy = `Let the user that runs the gateway read ${path}, or name another file.`
    throw new GatewayError('fatal', `${what} can't be read: ${messageOf(error)}`, { cause: error, remedy })
  }
}

/** Content is not compared: a file that was touched is read again, which costs nothing. */
async function fingerprintOf(path: string): Promise<string> {
  try {
    const seen = await stat(path, { bigint: true })
    return `${seen.dev}:${seen.ino}:${seen.size}:${seen.mtimeNs}:${seen.ctimeNs}`
  } catch (error) {
    return messageOf(error)
  }
}

/** A secret in a file of its own; one line end after it is not part of it. Refuses an empty one. */
export function secretFile(what: string, path: string, clock: Clock, log: Log): WatchedFiles<Buffer> {
  return new WatchedFiles({ what, paths: [path], clock, log, read: ([content]) => secretOf(content ?? Buffer.alloc(0)) })
}

function secretOf(content: Buffer): Buffer {
  const text = content.toString('latin1')
  const secret = content.subarray(0, text.length - (/\r?\n$/.exec(text)?.[0].length ?? 0))
  if (secret.length === 0) throw new Error('it is empty')
  return secret
}
