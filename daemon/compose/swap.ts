/** A part of the daemon that a reload may put in, take out or replace: an endpoint, the list of known devices. */
import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { back, type Taken } from './steps.ts'

export interface SwapParts<Wanted, Part extends Component> {
  readonly make: (wanted: Wanted) => Part
  /** The new one can't start while the old one runs. */
  readonly excludes: (one: Wanted, other: Wanted) => boolean
  readonly clock: Clock
}

const STOP_MS = 2_000

export class Swap<Wanted, Part extends Component> implements Component {
  readonly name: string
  readonly #parts: SwapParts<Wanted, Part>
  #wanted: Wanted | undefined
  #part: Part | undefined

  /** `undefined`: nothing at first. */
  constructor(name: string, wanted: Wanted | undefined, parts: SwapParts<Wanted, Part>) {
    this.name = name
    this.#parts = parts
    this.#wanted = wanted
  }

  get part(): Part | undefined {
    return this.#part
  }

  async start(): Promise<void> {
    await this.#put(this.#wanted)
  }

  async stop(deadlineMs: number): Promise<void> {
    await this.#part?.stop(deadlineMs)
  }

  /** Rejects when the new one can't start; the old one then serves on. */
  async become(wanted: Wanted | undefined): Promise<Taken> {
    const [before, old] = [this.#wanted, this.#part]
    if (isDeepStrictEqual(wanted, before)) return { undo: () => undefined }
    const first = wanted !== undefined && before !== undefined && this.#parts.excludes(wanted, before)
    if (first) await this.#end(old)
    try {
      await this.#put(wanted)
    } catch (error) {
      if (first) await back(this.name, { undo: () => this.#put(before) }, error)
      throw error
    }
    return { undo: () => this.#back(before, first ? undefined : old), finish: () => (first ? undefined : this.#end(old)) }
  }

  /** `old` still runs, or there is none and another one is made. */
  async #back(before: Wanted | undefined, old: Part | undefined): Promise<void> {
    const now = this.#part
    if (old === undefined) {
      await this.#end(now)
      return this.#put(before)
    }
    ;[this.#wanted, this.#part] = [before, old]
    await this.#end(now)
  }

  async #put(wanted: Wanted | undefined): Promise<void> {
    const part = wanted === undefined ? undefined : this.#parts.make(wanted)
    await part?.start(new AbortController().signal)
    ;[this.#wanted, this.#part] = [wanted, part]
  }

  async #end(part: Part | undefined): Promise<void> {
    await part?.stop(this.#parts.clock.monotonicMs() + STOP_MS)
  }
}
