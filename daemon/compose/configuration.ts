/**
 * The configuration of a running daemon: computed whole from the files and from what is remembered above them, each
 * time anew, and taken over all or nothing. One change at a time: a SIGHUP during a patch waits.
 */
import { ConfigError } from '../../config/problem.ts'
import type { LoadedConfig } from '../../config/load.ts'
import type { Settings } from '../../config/settings.ts'
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { GatewayError, kindOf, messageOf } from '../errors.ts'
import { layerKey, layersIn, LAYERS, OVERRIDES, withLayer, type ConfigLayer, type Override } from '../patch/config-layers.ts'
import type { Configuration } from '../patch/kinds/config.ts'
import type { Json, Memory } from '../patch/memory.ts'
import type { Log } from '../ports.ts'
import { aboveFiles, aboveOf, aboveOfOverride, loadLayered, type Above, type ConfigFiles, type Layered, type LeftOut } from './layers.ts'
import type { Reloaded } from './reload.ts'
import { Astray } from './steps.ts'
import type { TrialMark } from './trial.ts'

/** Who or what changed the configuration. */
export type Cause = 'reload' | 'patch' | 'override'

export interface ConfigurationParts {
  readonly files: ConfigFiles
  readonly memory: Memory
  readonly mark: TrialMark
  readonly clock: Clock
  readonly log: Log
  /** All or nothing. */
  readonly takeOver: (inForce: Settings, wanted: Settings) => Promise<Reloaded>
  /** Tells the events topic. */
  readonly report: (type: 'config', document: object) => void
}

export class LiveConfiguration implements Configuration, Component {
  readonly name = 'configuration'
  readonly #parts: ConfigurationParts
  #layered: Layered
  #inForce: Settings
  #pending: readonly string[] = []
  #refused: { readonly reason: string; readonly atMs: number } | undefined
  #turn: Promise<unknown> = Promise.resolve()
  readonly #listeners = new Set<(settings: Settings) => void>()
  #stopping = false
  #astray: (error: Error) => void = () => undefined
  /** Rejects when no part knows any more what is in force: the daemon must start anew. */
  readonly ended: Promise<never>

  constructor(layered: Layered, parts: ConfigurationParts) {
    this.#parts = parts
    this.#layered = layered
    this.#inForce = layered.loaded.settings
    this.ended = new Promise((_, reject) => (this.#astray = reject))
    this.ended.catch(() => undefined)
  }

  get loaded(): LoadedConfig {
    return this.#layered.loaded
  }

  /** Behind `loaded` where a change waits for a restart. */
  get inForce(): Settings {
    return this.#inForce
  }

  /** Keys whose new values wait for a restart. */
  get pending(): readonly string[] {
    return this.#pending
  }

  /** Why the last reload was not taken, until one is. */
  get refused(): { readonly reason: string; readonly atMs: number } | undefined {
    return this.#refused
  }

  /** What is remembered but can't be in force. */
  get leftOut(): readonly LeftOut[] {
    return this.#layered.leftOut
  }

  /** `listener` gets the settings after each change. Returns what ends that. */
  onChange(listener: (settings: Settings) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** SIGHUP. Never rejects: what can't be taken is said, and changes nothing. */
  async reload(): Promise<void> {
    await this.change('reload', {}).catch(() => undefined)
  }

  async apply(): Promise<void> {
    await this.change('patch', {})
  }

  async check(layer: ConfigLayer, supersedes: readonly string[]): Promise<string | undefined> {
    const layers = layersIn(await this.#parts.memory.read(LAYERS)).filter(({ patch }) => !supersedes.includes(patch))
    return this.#wrong(layers.map(aboveOf), withLayer(layers, layer).map(aboveOf), layerKey(layer))
  }

  /** What would be wrong with this override on top of all that is in force now; undefined: nothing. */
  async checkOverride(override: Override): Promise<string | undefined> {
    const one = aboveOfOverride(override)
    const before = aboveFiles(await this.#remembered(), this.#parts.clock).filter(({ key }) => key !== one.key)
    return this.#wrong(before, [...before, one], one.key)
  }

  async inForceHere(key: string): Promise<string | undefined> {
    await this.#turn.catch(() => undefined)
    const out = this.leftOut.find((one) => one.key === key)
    if (out !== undefined) return out.reason
    const isThere = (await this.#parts.memory.read(key)).has(key)
    return isThere ? undefined : 'its layer is not remembered'
  }

  /**
   * Recomputes and takes over. Rejects with the reason when that can't be, with the old configuration in force. `origin`
   * says who, for the log and the events.
   */
  change(cause: Cause, origin: object): Promise<Reloaded> {
    const next = this.#turn.catch(() => undefined).then(() => this.#change(cause, origin))
    this.#turn = next
    return next
  }

  start(): Promise<void> {
    for (const out of this.leftOut) alarm(this.#parts.log, out)
    return Promise.resolve()
  }

  /** A change that is under way is finished first, if it does not take too long; no other begins. */
  async stop(deadlineMs: number): Promise<void> {
    const { clock } = this.#parts
    this.#stopping = true
    const { promise, resolve } = Promise.withResolvers<void>()
    const cancel = clock.after((deadlineMs - clock.monotonicMs()) / 2, resolve)
    await Promise.race([this.#turn.catch(() => undefined), promise])
    cancel()
  }

  async #change(cause: Cause, origin: object): Promise<Reloaded> {
    const { log, takeOver } = this.#parts
    if (this.#stopping) throw new GatewayError('transient', 'the daemon stops')
    try {
      const layered = await this.#compute()
      const reloaded = await takeOver(this.#inForce, layered.loaded.settings)
      this.#layered = layered
      this.#inForce = reloaded.settings
      this.#pending = reloaded.later
      // Whatever was asked for, the files were read anew and are in force.
      this.#refused = undefined
      this.#said(cause, origin, reloaded)
      return reloaded
    } catch (error) {
      if (error instanceof Astray) this.#astray(error)
      const what =
        error instanceof ConfigError
          ? 'the configuration is not valid; the daemon goes on with the old one'
          : 'the new configuration can not be applied; the old one stays in force'
      if (cause === 'reload') this.#refused = { reason: messageOf(error), atMs: this.#parts.clock.wallMs() }
      log.error({ cause, ...origin, err: messageOf(error), remedy: error instanceof GatewayError ? error.remedy : undefined }, what)
      throw refusalOf(error)
    }
  }

  async #compute(): Promise<Layered> {
    const { clock, files, mark } = this.#parts
    const remembered = await this.#remembered()
    const trials = trialsIn(remembered)
    mark.forgetOthers(trials)
    const layered = loadLayered(files, aboveFiles(remembered, clock), mark.barred(trials))
    for (const out of layered.leftOut) alarm(this.#parts.log, out)
    return layered
  }

  async #remembered(): Promise<ReadonlyMap<string, Json>> {
    const { memory } = this.#parts
    return new Map([...(await memory.read(LAYERS)), ...(await memory.read(OVERRIDES))])
  }

  /** The candidate does not fit, or pushes out what was there. */
  #wrong(before: readonly Above[], after: readonly Above[], candidate: string): string | undefined {
    const { files } = this.#parts
    try {
      const already = loadLayered(files, before).leftOut
      const { leftOut } = loadLayered(files, after)
      const own = leftOut.find(({ key }) => key === candidate)
      const pushed = leftOut.find(({ key }) => !already.some((one) => one.key === key))
      return own?.reason ?? (pushed && `${pushed.label} would not be valid any more: ${pushed.reason}`)
    } catch (error) {
      if (error instanceof ConfigError) throw new GatewayError('saturated', `the files of the box are not valid: ${error.message}`)
      throw error
    }
  }

  #said(cause: Cause, origin: object, { live, later, settings }: Reloaded): void {
    const { log, report, clock } = this.#parts
    const fields = { cause, ...origin, live, afterRestart: later }
    if (live.length + later.length === 0) return log.info({ cause, ...origin }, 'the configuration has not changed')
    log.info(
      fields,
      later.length === 0 ? 'the new configuration is in force' : 'the new configuration is in force, except what waits for a restart',
    )
    report('config', { schema: 1, type: 'config', at: new Date(clock.wallMs()).toISOString(), ...fields })
    for (const listener of this.#listeners) listener(settings)
  }
}

/** Layers on trial: their labels by key. */
export function trialsIn(memory: ReadonlyMap<string, Json>): ReadonlyMap<string, string> {
  return new Map(layersIn(memory).flatMap((layer) => (layer.trial ? [[layerKey(layer), `patch ${layer.patch}`] as const] : [])))
}

/** The alarm for what is remembered and can't be in force. */
export function alarm(to: Log, { label, reason }: LeftOut): void {
  to.error({ layer: label, reason }, 'a layer of the configuration is not valid here and is left out')
}

/** A part that can't take it now may take it later; settings that are wrong stay wrong. */
function refusalOf(error: unknown): Error {
  if (error instanceof Astray) return error
  if (error instanceof ConfigError) return new GatewayError('rejected', error.message, { cause: error })
  const kind = kindOf(error) === 'rejected' ? 'rejected' : 'transient'
  return kindOf(error) === undefined && error instanceof Error ? error : new GatewayError(kind, messageOf(error), { cause: error })
}
