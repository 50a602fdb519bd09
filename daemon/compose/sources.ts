/** The sources of deliveries, each by its name: started, stopped and replaced one at a time while the others go on. */
import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { messageOf } from '../errors.ts'
import type { DevicePublisher, Intake, Log, PasswordsTaken, Source, SourceState } from '../ports.ts'
import { back, type Taken } from './steps.ts'

/** How one source is to be. */
export interface SourcePlan {
  readonly kind: 'listen' | 'connect'
  readonly name: string
  /** Two plans with deeply equal settings are the same source: it is left alone, with its connections. */
  readonly settings: object
  /** The TCP port that a listener takes; undefined for a connection. */
  readonly port: number | undefined
  make(): Source
}

interface Running {
  readonly plan: SourcePlan
  readonly source: Source
  readonly leave: () => void
}

export interface SourcesParts {
  readonly intake: Intake & { add(source: Source): () => void }
  readonly clock: Clock
  readonly log: Log
  /** What a source that is stopped alone may take to finish accepted work, ms. */
  readonly drainMs: () => number
  /** `publishers` are others now: before a source opens, and after one that could not. Never rejects. */
  readonly settle: () => Promise<void>
}

export class Sources implements Component {
  readonly name = 'sources'
  readonly #parts: SourcesParts
  readonly #first: readonly SourcePlan[]
  readonly #running = new Map<string, Running>()
  readonly #starting = new Set<Source>()
  readonly #signal = new AbortController()

  constructor(plans: readonly SourcePlan[], parts: SourcesParts) {
    this.#first = plans
    this.#parts = parts
  }

  /** Rejects with the first error, after those that had started were stopped again. */
  async start(signal: AbortSignal): Promise<void> {
    try {
      for (const plan of this.#first) await this.#begin(plan, signal)
    } catch (error) {
      await this.stop(this.#parts.clock.monotonicMs() + this.#parts.drainMs())
      throw error
    }
  }

  async stop(deadlineMs: number): Promise<void> {
    this.#signal.abort()
    await Promise.all([...this.#running.keys()].map((key) => this.#end(key, deadlineMs)))
  }

  /** Those that can carry settings to devices. */
  publishers(): readonly DevicePublisher[] {
    return [...[...this.#running.values()].map(({ source }) => source), ...this.#starting].flatMap(({ devices }) => devices ?? [])
  }

  /** Open connections of a device, to all listeners. */
  connectionsOf(device: string): number {
    let connections = 0
    for (const { source } of this.#running.values()) connections += source.connectionsOf?.(device) ?? 0
    for (const source of this.#starting) connections += source.connectionsOf?.(device) ?? 0
    return connections
  }

  /** `undefined`: no listener of this name runs, or it has no password file. */
  async rereadPasswords(listener: string): Promise<PasswordsTaken | undefined> {
    return this.#running.get(keyOf({ kind: 'listen', name: listener }))?.source.rereadPasswords?.()
  }

  state(): readonly SourceState[] {
    return [...this.#running.values()].map(({ source }) => source.state())
  }

  /**
   * Makes the sources those of `plans`. What is new comes first, while all others still serve; then what is replaced,
   * one after the other; then what goes away. Rejects with the reason after all is as it was before.
   */
  async become(plans: readonly SourcePlan[]): Promise<Taken> {
    const before = [...this.#running.values()].map(({ plan }) => plan)
    try {
      await this.#turnInto(plans)
    } catch (error) {
      await back(this.name, { undo: () => this.#turnInto(before) }, error)
      throw error
    }
    return { undo: () => this.#turnInto(before) }
  }

  async #turnInto(plans: readonly SourcePlan[]): Promise<void> {
    const wanted = new Map(plans.map((plan) => [keyOf(plan), plan]))
    const gone = [...this.#running.keys()].filter((key) => !wanted.has(key))
    const changed = [...wanted].filter(([key, plan]) => !isDeepStrictEqual(this.#running.get(key)?.plan.settings, plan.settings))
    const ports = new Set([...this.#running.values()].flatMap(({ plan }) => plan.port ?? []))
    // A port that is taken can only be had after its listener has gone; another one shows at once whether it is free.
    const isFree = ([key, plan]: readonly [string, SourcePlan]): boolean =>
      plan.kind === 'listen' ? plan.port === undefined || !ports.has(plan.port) : !this.#running.has(key)
    for (const [key, plan] of changed.filter(isFree)) await this.#replaceByNext(key, plan)
    const rest = changed.filter(([key, plan]) => !isDeepStrictEqual(this.#running.get(key)?.plan.settings, plan.settings))
    // Two listeners may trade their ports: both go before the first comes.
    await this.#endAll([...rest.map(([key]) => key), ...gone])
    for (const [, plan] of rest) await this.#begin(plan, this.#signal.signal)
  }

  /** The next one serves before the old one goes: a device that reconnects finds it. */
  async #replaceByNext(key: string, plan: SourcePlan): Promise<void> {
    const old = this.#running.get(key)
    await this.#begin(plan, this.#signal.signal)
    if (old !== undefined) await this.#close(old, this.#deadline())
  }

  async #begin(plan: SourcePlan, signal: AbortSignal): Promise<void> {
    const source = plan.make()
    const leave = this.#parts.intake.add(source)
    this.#starting.add(source)
    try {
      // A device that is faster than the settings must not find that there are none.
      await this.#parts.settle()
      await source.start(this.#parts.intake, signal)
      this.#starting.delete(source)
    } catch (error) {
      leave()
      this.#starting.delete(source)
      await this.#parts.settle()
      throw error
    }
    this.#running.set(keyOf(plan), { plan, source, leave })
  }

  async #endAll(keys: readonly string[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#end(key, this.#deadline())))
  }

  async #end(key: string, deadlineMs: number): Promise<void> {
    const running = this.#running.get(key)
    this.#running.delete(key)
    if (running !== undefined) await this.#close(running, deadlineMs)
  }

  async #close({ plan, source, leave }: Running, deadlineMs: number): Promise<void> {
    leave()
    await source.stop(deadlineMs).catch((error: unknown) => {
      this.#parts.log.error({ source: plan.name, err: messageOf(error) }, 'the source did not stop cleanly')
    })
  }

  #deadline(): number {
    return this.#parts.clock.monotonicMs() + this.#parts.drainMs()
  }
}

/** A listener and a connection may have the same name. */
function keyOf({ kind, name }: Pick<SourcePlan, 'kind' | 'name'>): string {
  return `${kind} ${name}`
}
