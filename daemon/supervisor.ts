/**
 * Starts components in order, ends them in reverse, and ends everything when one dies by itself: crash-only.
 * A component that could restart alone would need its own recovery; the daemon has one, the start.
 */
import type { Clock } from './clock.ts'
import type { Component } from './component.ts'
import { messageOf } from './errors.ts'
import type { Log } from './ports.ts'

export class Supervisor {
  readonly #components: readonly Component[]
  readonly #clock: Clock
  readonly #log: Log
  readonly #started: Component[] = []
  #stopping: Promise<void> | undefined

  /** `components` in start order. */
  constructor(components: readonly Component[], clock: Clock, log: Log) {
    this.#components = components
    this.#clock = clock
    this.#log = log
  }

  /**
   * Rejects with the first error of a start, after what had started was stopped again. An abort of `signal` ends
   * the start between two components.
   */
  async start(signal: AbortSignal): Promise<void> {
    try {
      for (const component of this.#components) {
        signal.throwIfAborted()
        await component.start(signal)
        this.#started.push(component)
        this.#log.debug({ component: component.name }, 'component is ready')
      }
    } catch (error) {
      await this.stop(this.#clock.monotonicMs() + 5_000)
      throw error
    }
  }

  /** Rejects when a started component dies by itself; never resolves. */
  ended(): Promise<never> {
    const ends = this.#started.flatMap((component) => (component.ended === undefined ? [] : [component.ended]))
    return ends.length === 0 ? new Promise<never>(() => undefined) : Promise.race(ends)
  }

  /** Idempotent. Each component gets what is left until `deadlineMs` (monotonic). */
  stop(deadlineMs: number): Promise<void> {
    this.#stopping ??= this.#stopAll(deadlineMs)
    return this.#stopping
  }

  async #stopAll(deadlineMs: number): Promise<void> {
    for (const component of [...this.#started].reverse()) {
      try {
        await component.stop(deadlineMs)
      } catch (error) {
        this.#log.error({ component: component.name, err: messageOf(error) }, 'component did not stop cleanly')
      }
    }
  }
}
