import { type Fragment } from './fragment.ts'
import { type Host, hostDefaults } from './host.ts'
import { type Json, type JsonObject, isObject, mergePatch, objectOf, valueAt } from './merge.ts'
import type { Origin, Path } from './problem.ts'

/** All fragments merged, with the box's own defaults beneath: the second of three stages. */
export interface MergedInput {
  readonly value: JsonObject
  /** Where the value at a path was written; for a path that is absent, where its nearest parent was. */
  origin(path: Path, what: 'key' | 'value'): Origin
}

/** Fragments in the order of merging (RFC 7396); a later one wins, null removes. */
export function mergeFragments(fragments: readonly Fragment[], host: Host): MergedInput {
  const written = fragments.reduce<Json>((merged, fragment) => mergePatch(merged, fragment.value), objectOf([]))
  const defaults = hostDefaults(written, host)
  const merged = defaults.reduce<Json>((value, { path, value: added }) => mergePatch(value, nest(path, added)), written)
  const value = isObject(merged) ? merged : objectOf([])
  const first: Origin = { source: fragments[0]?.source ?? 'config' }
  return { value, origin: (path, what) => originOf(path, what) }

  function originOf(path: Path, what: 'key' | 'value'): Origin {
    if (path.length === 0) return first
    const found = valueAt(value, path) === undefined ? undefined : lastMention(path, what)
    return found ?? originOf(path.slice(0, -1), 'key')
  }

  /** What is in the merged value was put there by the last fragment that mentions it: later ones did not remove it. */
  function lastMention(path: Path, what: 'key' | 'value'): Origin | undefined {
    const fragment = fragments.findLast(({ value: own }) => valueAt(own, path) !== undefined)
    if (fragment !== undefined) return fragment.origin(path, what) ?? fragment.origin(path, 'value')
    const made = defaults.find((other) => other.path.every((step, index) => step === path[index]))
    return made && { source: made.source }
  }
}

function nest(path: Path, value: Json): Json {
  return path.reduceRight<Json>((inner, step) => objectOf([[String(step), inner]]), value)
}
