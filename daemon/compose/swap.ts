/** A part of the daemon that a reload may put in, take out or replace: an endpoint, the list of known devices. */
import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { GatewayError, messageOf } from '../errors.ts'
import { back, type Taken } from './steps.ts'
import { isPortTaken, withOwner } from './taken-port.ts'

export interface SwapParts<Wanted, Part extends Component> {
  readonly make: (wanted: Wanted) => Part
  /** The new one can't start while the old one runs. */
  readonly excludes: (one: Wanted, other: Wanted) => boolean
  readonly clock: Clock
  /** Messages flow without it: where its port is taken, the daemon starts, and the part comes when the port is free. */
  readonly onWaiting?: (waiting: Waiting) => void
}

/** Why a part is not there yet. */
export interface Waiting {
  readonly name: string
  readonly reason: string
  readonly remedy: string | undefined
  /** Wall ms. */
  readonly sinceMs: number
}

const STOP_MS = 2_000
const AGAIN_MS = 5_000

export class Swap<Wanted, Part extends Component> implements Component {
  readonly name: string
  readonly #parts: SwapParts<Wanted, Part>
  #wanted: Wanted | undefined
  #part: Part | undefined
  #waiting: Waiting | undefined
  #cancel: (() => void) | undefined
  #trying: Promise<void> = Promise.resolve()

  /** `undefined`: nothing at first. */
  constructor(name: string, wanted: Wanted | undefined, parts: SwapParts<Wanted, Part>) {
    this.name = name
    this.#parts = parts
    this.#wanted = wanted
  }

  get part(): Part | undefined {
    return this.#part
  }

  /** Undefined: all that is wanted is there. */
  get waiting(): Waiting | undefined {
    return this.#waiting
  }

  async start(): Promise<void> {
    await this.#putOrWait(this.#wanted)
  }

  async stop(deadlineMs: number): Promise<void> {
    await this.#noMoreTries()
    await this.#part?.stop(deadlineMs)
  }

  /** Rejects when the new one can't start; the old one then serves on. */
  async become(wanted: Wanted | undefined): Promise<Taken> {
    const [before, old] = [this.#wanted, this.#part]
    if (isDeepStrictEqual(wanted, before)) return { undo: () => undefined }
    await this.#noMoreTries()
    const first = wanted !== undefined && before !== undefined && this.#parts.excludes(wanted, before)
    if (first) await this.#end(old)
    try {
      await this.#put(wanted)
    } catch (error) {
      if (first || old === undefined) await back(this.name, { undo: () => this.#putOrWait(before) }, error)
      throw withOwner(error, error instanceof GatewayError ? error.kind : 'fatal')
    }
    return { undo: () => this.#back(before, first ? undefined : old), finish: () => (first ? undefined : this.#end(old)) }
  }

  /** `old` still runs, or there is none and another one is made. */
  async #back(before: Wanted | undefined, old: Part | undefined): Promise<void> {
    const now = this.#part
    if (old === undefined) {
      await this.#end(now)
      return this.#putOrWait(before)
    }
    ;[this.#wanted, this.#part] = [before, old]
    await this.#end(now)
  }

  async #put(wanted: Wanted | undefined): Promise<void> {
    const part = wanted === undefined ? undefined : this.#parts.make(wanted)
    await part?.start(new AbortController().signal)
    ;[this.#wanted, this.#part, this.#waiting] = [wanted, part, undefined]
  }

  async #putOrWait(wanted: Wanted | undefined): Promise<void> {
    try {
      await this.#put(wanted)
    } catch (error) {
      const { onWaiting } = this.#parts
      if (onWaiting === undefined || !isPortTaken(error)) throw error
      ;[this.#wanted, this.#part] = [wanted, undefined]
      const known = this.#waiting
      this.#waiting = this.#why(error, known?.sinceMs)
      if (known?.reason !== this.#waiting.reason) onWaiting(this.#waiting)
      this.#cancel = this.#parts.clock.after(AGAIN_MS, () => void (this.#trying = this.#again()))
    }
  }

  async #again(): Promise<void> {
    try {
      await this.#putOrWait(this.#wanted)
    } catch (error) {
      // No port is taken any more, but something else is wrong: it stays so until a reload.
      this.#waiting = this.#why(error, this.#waiting?.sinceMs)
      this.#parts.onWaiting?.(this.#waiting)
    }
  }

  #why(thrown: unknown, sinceMs = this.#parts.clock.wallMs()): Waiting {
    const error = withOwner(thrown)
    return { name: this.name, reason: messageOf(error), remedy: error instanceof GatewayError ? error.remedy : undefined, sinceMs }
  }

  async #noMoreTries(): Promise<void> {
    this.#cancelTry()
    await this.#trying
    // A try that was under way may have asked for another one.
    this.#cancelTry()
  }

  #cancelTry(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }

  async #end(part: Part | undefined): Promise<void> {
    await part?.stop(this.#parts.clock.monotonicMs() + STOP_MS)
  }
}
