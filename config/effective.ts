import type { MergedInput } from './input.ts'
import { type Json, isObject, valueAt } from './merge.ts'
import type { Origin, Path } from './problem.ts'
import { redact } from './redact.ts'
import { configSchema } from './schema.ts'
import { withDefaults } from './schema/walk.ts'

/** One value in force, under the key of the file and as one writes it there; secrets are hidden. */
export interface EffectiveValue {
  readonly path: Path
  /** A scalar or a list; an empty map stands for itself. */
  readonly value: Json
  /** The file with line and column, the label of the layer, or `default`. */
  readonly origin: Origin
}

/** Every value in force with where it was written, in the order of the schema. */
export function effectiveValues(input: MergedInput): readonly EffectiveValue[] {
  return leaves(withDefaults(configSchema, input.value) ?? {}, []).map(({ path, value }) => ({
    path,
    value: redact(value, String(path[path.length - 1])),
    origin: valueAt(input.value, path) === undefined ? { source: 'default' } : input.origin(path, 'value'),
  }))
}

function leaves(value: Json, path: Path): readonly Omit<EffectiveValue, 'origin'>[] {
  if (!isObject(value) || (Object.keys(value).length === 0 && path.length > 0)) return [{ path, value }]
  return Object.entries(value).flatMap(([key, item]) => leaves(item, [...path, key]))
}
