/** A technician's hold on patches: set for a time through the control socket, kept over restarts, ended by the clock. */
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { GatewayError } from '../errors.ts'
import { anchoredHold, HOLD, holdIn, newHold, storedHold, type Hold } from '../patch/agent/hold.ts'
import type { Json, Memory } from '../patch/memory.ts'
import type { Log } from '../ports.ts'

/** Who needs longer pauses the patches themselves, where others see it. */
export const HOLD_MAX_MS = 30 * 86_400_000
const WORDS_MAX = 200

export interface HoldsParts {
  readonly memory: Memory
  readonly clock: Clock
  readonly log: Log
  /** Another hold is in force, or none. */
  readonly onChange: () => void
  /** Tells the events topic. */
  readonly report: (type: 'hold', document: object) => void
}

export interface HoldRequest {
  readonly forMs: number
  readonly by: string
  readonly reason: string
}

export class Holds implements Component {
  readonly name = 'hold'
  readonly #parts: HoldsParts
  #stored: Json | undefined

  constructor(parts: HoldsParts) {
    this.#parts = parts
  }

  /** Binds one of an earlier boot to this one. */
  async start(): Promise<void> {
    const { memory, clock } = this.#parts
    const before = storedHold((await memory.read(HOLD)).get(HOLD))
    const now = before && anchoredHold(before, clock)
    if (before !== now) await memory.write({ [HOLD]: now && { ...now } })
    this.#stored = now && { ...now }
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }

  current(): Hold | undefined {
    return this.#stored === undefined ? undefined : holdIn(new Map([[HOLD, this.#stored]]), this.#parts.clock)
  }

  /** Replaces the one that stands. What runs already goes on. Rejects when it can't be kept. */
  async set({ forMs, by, reason }: HoldRequest): Promise<void> {
    const { memory, clock } = this.#parts
    if (!(forMs > 0 && forMs <= HOLD_MAX_MS)) throw new GatewayError('rejected', '--for takes a time from 1s to 30d, such as 2h')
    const hold = newHold({ forMs, by: by.slice(0, WORDS_MAX), reason: reason.slice(0, WORDS_MAX) }, clock)
    await memory.write({ [HOLD]: { ...hold } })
    this.#stored = { ...hold }
    this.#said('all patches of this box are held', { by, reason, until: new Date(hold.untilMs).toISOString() })
  }

  /** False: there was none. */
  async clear(by: string): Promise<boolean> {
    if (this.current() === undefined) return false
    await this.#parts.memory.write({ [HOLD]: undefined })
    this.#stored = undefined
    this.#said('patches are held no more', { by })
    return true
  }

  #said(words: string, fields: object): void {
    const { clock, log, report, onChange } = this.#parts
    log.info(fields, words)
    report('hold', { schema: 1, type: 'hold', at: new Date(clock.wallMs()).toISOString(), said: words, ...fields })
    onChange()
  }
}
