import type { Clock } from '../../daemon/clock.ts'

/** A device that has said nothing for so long is taken to be away. */
const WITHIN_MS = 15 * 60_000
/** Two generations of names: memory for 2 x 50,000 devices at most. */
const DEVICES_MAX = 50_000

/**
 * Devices by what is heard of them. Two generations instead of a time for each: a device of the older one that speaks
 * moves to the younger one, so that a busy device costs one look in a set.
 */
export class HeardDevices {
  readonly #clock: Clock
  readonly #listeners = new Set<(device: string) => void>()
  #young = new Set<string>()
  #old: ReadonlySet<string> = new Set()
  #turnedMs: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#turnedMs = clock.monotonicMs()
  }

  hear(device: string): void {
    if (this.#young.has(device) && this.#clock.monotonicMs() - this.#turnedMs < WITHIN_MS) return
    this.#turn()
    if (this.#young.has(device) || this.#young.size >= DEVICES_MAX) return
    this.#young.add(device)
    if (!this.#old.has(device)) for (const listener of this.#listeners) listener(device)
  }

  /** Those heard within the last 15 to 30 min. */
  list(): readonly string[] {
    this.#turn()
    return [...new Set([...this.#old, ...this.#young])]
  }

  onOnline(listener: (device: string) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  #turn(): void {
    const nowMs = this.#clock.monotonicMs()
    const periods = Math.floor((nowMs - this.#turnedMs) / WITHIN_MS)
    if (periods === 0) return
    this.#old = periods === 1 ? this.#young : new Set()
    this.#young = new Set()
    this.#turnedMs = nowMs
  }
}
