import { readFile, stat } from 'node:fs/promises'
import type { Clock } from '../../daemon/clock.ts'
import type { Component } from '../../daemon/component.ts'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import type { Log } from '../../daemon/ports.ts'

/** Stat is polled: inotify misses renames over a file, bind mounts and network file systems. */
const POLL_MS = 1_000

export interface KnownDevicesOptions {
  readonly path: string
  /** Throws with what is wrong with the content, and what to do. */
  readonly parse: (text: string) => (device: string) => boolean
  readonly clock: Clock
  readonly log: Log
}

/**
 * The file of `limits.knownDevices`, read again when it changes and has then been still for one interval. A new
 * content that can't be used is logged once, and the old list stays.
 */
export class KnownDevices implements Component {
  readonly name = 'known devices'
  readonly #options: KnownDevicesOptions
  #isKnown: (device: string) => boolean = () => false
  #taken = ''
  #last = ''
  #cancel: (() => void) | undefined
  #stopped = false

  constructor(options: KnownDevicesOptions) {
    this.#options = options
  }

  isKnown(device: string): boolean {
    return this.#isKnown(device)
  }

  /** Rejects with `fatal` when the file can't be read or used. */
  async start(): Promise<void> {
    this.#taken = this.#last = await fingerprintOf(this.#options.path)
    this.#isKnown = await this.#read()
    this.#watch()
  }

  stop(): Promise<void> {
    this.#stopped = true
    this.#cancel?.()
    return Promise.resolve()
  }

  #watch(): void {
    if (this.#stopped) return
    this.#cancel = this.#options.clock.after(POLL_MS, () => {
      void this.#look().finally(() => this.#watch())
    })
  }

  async #look(): Promise<void> {
    const seen = await fingerprintOf(this.#options.path)
    const still = seen === this.#last
    this.#last = seen
    if (!still || seen === this.#taken) return
    // Also when it fails: what can't be used is not read again until it changes again.
    this.#taken = seen
    const { log, path } = this.#options
    try {
      this.#isKnown = await this.#read()
      log.info({ path }, 'the list of known devices changed and was read again')
    } catch (error) {
      log.error({ path, reason: messageOf(error) }, "the list of known devices changed but can't be used; the old one stays in force")
    }
  }

  async #read(): Promise<(device: string) => boolean> {
    const { path, parse } = this.#options
    try {
      return parse(await readFile(path, 'utf8'))
    } catch (error) {
      const remedy = `Let the user that runs the gateway read ${path}, with one device id or pattern a line, or remove limits.knownDevices.`
      throw new GatewayError('fatal', `limits.knownDevices.file ${path} can't be used: ${messageOf(error)}`, { cause: error, remedy })
    }
  }
}

async function fingerprintOf(path: string): Promise<string> {
  try {
    const seen = await stat(path, { bigint: true })
    return `${seen.dev}:${seen.ino}:${seen.size}:${seen.mtimeNs}:${seen.ctimeNs}`
  } catch (error) {
    return messageOf(error)
  }
}
