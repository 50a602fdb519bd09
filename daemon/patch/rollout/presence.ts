/** What only time can tell, by boot time: it never jumps, and whoever takes over begins to count anew. */
import type { Clock } from '../../clock.ts'
import type { KeyValue } from '../ports.ts'
import { ALIVE_WITHIN_MS } from '../records.ts'
import { readAliveAt } from './values.ts'

interface Seen {
  readonly mod: number
  /** Boot ms; undefined: it has not moved yet, and what it says is too old or not to be believed. */
  readonly movedMs: number | undefined
}

/** Which boxes are there. */
export class Presence {
  readonly #clock: Clock
  readonly #seen = new Map<string, Seen>()
  #isFirst = true

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** `alive` keys by gateway. At the first look their own word must do; later what counts is that they change. */
  look(alive: ReadonlyMap<string, KeyValue>): void {
    for (const [gateway, entry] of alive) {
      if (this.#seen.get(gateway)?.mod === entry.modRevision) continue
      this.#seen.set(gateway, { mod: entry.modRevision, movedMs: this.#isFirst ? this.#claimed(entry) : this.#clock.bootMs() })
    }
    for (const gateway of this.#seen.keys()) if (!alive.has(gateway)) this.#seen.delete(gateway)
    this.#isFirst = false
  }

  isOnline(gateway: string): boolean {
    const movedMs = this.#seen.get(gateway)?.movedMs
    return movedMs !== undefined && this.#clock.bootMs() - movedMs < ALIVE_WITHIN_MS
  }

  #claimed(entry: KeyValue): number | undefined {
    const atMs = readAliveAt(entry)
    const agoMs = atMs === undefined ? Infinity : this.#clock.wallMs() - atMs
    return Math.abs(agoMs) < ALIVE_WITHIN_MS ? this.#clock.bootMs() - Math.max(0, agoMs) : undefined
  }
}

/** Since when each of some things holds without a break. */
export class Since {
  readonly #clock: Clock
  readonly #from = new Map<string, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** How long it has held; undefined when it does not. Asked at each look. */
  note(name: string, holds: boolean): number | undefined {
    if (!holds) return void this.#from.delete(name)
    const fromMs = this.#from.get(name) ?? this.#clock.bootMs()
    this.#from.set(name, fromMs)
    return this.#clock.bootMs() - fromMs
  }
}
