/**
 * Kind `config`: a layer of settings above the box's files. FLIP writes it into the memory, in one transaction; the
 * effective settings are computed whole from all layers in the order of their sequences, so that undoing one leaves
 * the others as they are, and one that comes late finds its place.
 */
import { GatewayError } from '../../errors.ts'
import { layerKey, LAYERS, type ConfigLayer } from '../config-layers.ts'
import type { ConfigPatch } from '../document.ts'
import type { Accepted, Kind } from '../kinds.ts'
import type { Json, JsonObject, Memory } from '../memory.ts'

/** The configuration of the running daemon. */
export interface Configuration {
  /**
   * What would be wrong with it in its place among the other layers, without those of the patches that it supersedes; Rejects with
   * `saturated` when the box's own files are wrong.
   */
  check(layer: ConfigLayer, supersedes: readonly string[]): Promise<string | undefined>
  /** Recomputes from the memory and takes over live, all or nothing. Rejects with the reason; the old settings then serve on. */
  apply(): Promise<void>
  /** Why the layer of this key is not in force, or undefined. */
  inForceHere(key: string): Promise<string | undefined>
}

export interface ConfigPlan {
  readonly key: string
  readonly layer: JsonObject
  /** Patches whose layers it replaces. */
  readonly supersedes: readonly string[]
  /** What taking it over may take, ms. */
  readonly limitMs: number
  readonly [key: string]: Json
}

/** A change takes over beside a drain in a few seconds on a slow box; binding ports and reading files included. */
const TAKE_OVER_MS = 10_000
const WRITE_MS = 5_000

export class ConfigKind implements Kind<ConfigPatch, ConfigPlan> {
  readonly #configuration: Configuration
  readonly #memory: Memory
  readonly #drainMs: () => number

  /** `drainMs`: what a source that is replaced may take to finish accepted work. */
  constructor(configuration: Configuration, memory: Memory, drainMs: () => number) {
    this.#configuration = configuration
    this.#memory = memory
    this.#drainMs = drainMs
  }

  async prepare({ patch }: Accepted<ConfigPatch>): Promise<ConfigPlan> {
    const { id, channel, sequence, spec, supersedes } = patch
    const layer = { patch: id, channel, sequence, merge: spec, trial: true, replaced: {} }
    const problem = await this.#configuration.check(layer, supersedes)
    if (problem !== undefined) throw new GatewayError('rejected', `these settings are not valid on this box: ${problem}`)
    // Two drains: a replaced source, and the way back when a part refuses.
    return { key: layerKey(layer), layer, supersedes, limitMs: 2 * this.#drainMs() + TAKE_OVER_MS }
  }

  fetch(): Promise<void> {
    return Promise.resolve()
  }

  build(): Promise<void> {
    return Promise.resolve()
  }

  pre(): Promise<void> {
    return Promise.resolve()
  }

  async flip(plan: ConfigPlan): Promise<void> {
    const layers = await this.#memory.read(LAYERS)
    if (layers.has(plan.key)) return
    const replaced = new Map([...layers].filter(([, layer]) => plan.supersedes.includes(patchOf(layer))))
    const gone = Object.fromEntries([...replaced.keys()].map((key) => [key, undefined]))
    await this.#memory.write({ ...gone, [plan.key]: { ...plan.layer, replaced: Object.fromEntries(replaced) } })
  }

  async isFlipped(plan: ConfigPlan): Promise<boolean> {
    return (await this.#memory.read(plan.key)).has(plan.key)
  }

  async activate(plan: ConfigPlan): Promise<void> {
    await this.#configuration.apply()
    await this.verify(plan)
  }

  async verify(plan: ConfigPlan): Promise<void> {
    const reason = await this.#configuration.inForceHere(plan.key)
    if (reason !== undefined) throw new GatewayError('rejected', `the settings are not in force: ${reason}`)
  }

  async commit(plan: ConfigPlan): Promise<void> {
    const layer = (await this.#memory.read(plan.key)).get(plan.key)
    if (isMap(layer)) await this.#memory.write({ [plan.key]: { ...layer, trial: false } })
  }

  /** Takes just its own layer away; what it had superseded stands again, unless that was undone meanwhile. */
  async unflip(plan: ConfigPlan): Promise<void> {
    const layer = (await this.#memory.read(plan.key)).get(plan.key)
    if (!isMap(layer)) return
    const replaced = isMap(layer['replaced']) ? Object.entries(layer['replaced']) : []
    const undone = await this.#memory.read('undone/')
    const back = replaced.filter(([, old]) => !undone.has(`undone/${patchOf(old)}`))
    await this.#memory.write({ [plan.key]: undefined, ...Object.fromEntries(back) })
  }

  async reactivate(): Promise<void> {
    await this.#configuration.apply()
  }

  discard(): Promise<void> {
    return Promise.resolve()
  }

  limitMs(step: 'pre' | 'flip' | 'activate' | 'unflip' | 'reactivate', plan: ConfigPlan): number {
    if (step === 'pre') return 0
    return step === 'flip' || step === 'unflip' ? WRITE_MS : plan.limitMs
  }
}

function patchOf(layer: Json): string {
  return isMap(layer) ? String(layer['patch']) : ''
}

function isMap(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
