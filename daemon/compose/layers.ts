/** Effective settings: the files, then the layers of patches in the order of their sequences, then overrides. */
import type { Host } from '../../config/host.ts'
import { loadConfig, type Layer, type LoadedConfig } from '../../config/load.ts'
import { objectOf } from '../../config/merge.ts'
import { fixedKeys } from '../../config/patchable.ts'
import { ConfigError } from '../../config/problem.ts'
import type { Clock } from '../clock.ts'
import { layerKey, layersIn, OVERRIDES, overridesIn, remainingMs, type ConfigLayer, type Override } from '../patch/config-layers.ts'
import type { Json } from '../patch/memory.ts'

export interface ConfigFiles {
  readonly path: string
  readonly host: Host
}

/** One thing above the files. */
export interface Above {
  /** Its key in the memory. */
  readonly key: string
  readonly layer: Layer
}

/** What is remembered but not in force, and why. */
export interface LeftOut {
  readonly key: string
  readonly label: string
  readonly reason: string
}

export interface Layered {
  readonly loaded: LoadedConfig
  readonly leftOut: readonly LeftOut[]
}

export function aboveFiles(memory: ReadonlyMap<string, Json>, clock: Pick<Clock, 'bootId' | 'bootMs' | 'wallMs' | 'wallTrusted'>): Above[] {
  const valid = overridesIn(memory).filter((override) => remainingMs(override, clock) > 0)
  return [...layersIn(memory).map(aboveOf), ...valid.map(aboveOfOverride)]
}

export function aboveOf(layer: ConfigLayer): Above {
  return { key: layerKey(layer), layer: { label: `patch ${layer.patch}`, patch: layer.merge } }
}

export function aboveOfOverride({ key, path, value, by }: Override): Above {
  const patch = path.reduceRight<Json>((inner, step) => objectOf([[step, inner]]), value)
  return { key: `${OVERRIDES}${key}`, layer: { label: `override by ${by}`, patch: patch as Layer['patch'] } }
}

/**
 * Loads the whole. A layer that this version or this file can't take is left out, and named: no patch, however old,
 * keeps the box from starting. Each is tried in its order on top of what stands so far; those that did not fit are
 * tried again once more is in, since a layer may need what a later one brings. `barred` ones are not even tried.
 *
 * Throws a ConfigError only when the files themselves are not valid.
 */
export function loadLayered(files: ConfigFiles, above: readonly Above[], barred: readonly LeftOut[] = []): Layered {
  const allowed = above.filter(({ key }) => !barred.some((out) => out.key === key))
  const fixed = allowed.flatMap(({ key, layer }) => leftOutFor(key, layer, fixedKeys(layer.patch)))
  const open = allowed.filter(({ key }) => !fixed.some((out) => out.key === key))
  const present = barred.filter(({ key }) => above.some((one) => one.key === key))
  const whole = tried(files, open)
  if ('loaded' in whole) return { loaded: whole.loaded, leftOut: [...present, ...fixed] }
  const { kept, reasons } = fitting(files, open)
  return { loaded: load(files, kept), leftOut: [...present, ...fixed, ...reasons] }
}

function leftOutFor(key: string, layer: Layer, reasons: readonly string[]): readonly LeftOut[] {
  return reasons.length === 0 ? [] : [{ key, label: layer.label, reason: reasons.join('; ') }]
}

function fitting(files: ConfigFiles, above: readonly Above[]): { kept: readonly Above[]; reasons: readonly LeftOut[] } {
  load(files, []) // if the files themselves are wrong, that is what to say
  let kept: readonly Above[] = []
  for (;;) {
    const before = kept.length
    const reasons: LeftOut[] = []
    for (const one of above.filter((other) => !kept.includes(other))) {
      const next = above.filter((other) => kept.includes(other) || other === one)
      const outcome = tried(files, next)
      if ('loaded' in outcome) kept = next
      else reasons.push({ key: one.key, label: one.layer.label, reason: outcome.error.message })
    }
    if (kept.length === before) return { kept, reasons }
  }
}

function tried(files: ConfigFiles, above: readonly Above[]): { readonly loaded: LoadedConfig } | { readonly error: ConfigError } {
  try {
    return { loaded: load(files, above) }
  } catch (error) {
    if (error instanceof ConfigError) return { error }
    throw error
  }
}

function load({ path, host }: ConfigFiles, above: readonly Above[]): LoadedConfig {
  return loadConfig(
    path,
    above.map(({ layer }) => layer),
    host,
  )
}
