import type { z } from 'zod'
import { type Json, isObject, objectOf } from '../merge.ts'

type Schema = z.core.$ZodType

/** The object, map, list or scalar inside of defaults and the like. A union of several kinds has several. */
function alternatives(schema: Schema): readonly Schema[] {
  const def = (schema as z.core.$ZodTypes)._zod.def
  switch (def.type) {
    case 'optional':
    case 'default':
    case 'prefault':
      return alternatives(def.innerType)
    case 'union':
      return def.options.flatMap(alternatives)
    default:
      return [schema]
  }
}

/** The schema's own default, as one writes it in the file; undefined when it has none. */
function defaultOf(schema: Schema): Json | undefined {
  const def = (schema as z.core.$ZodTypes)._zod.def
  return def.type === 'default' || def.type === 'prefault' ? (def.defaultValue as Json) : undefined
}

/** Keys of an object with their schemas; of a union, of all its objects. Empty for anything else. */
export function keysOf(schema: Schema): ReadonlyMap<string, Schema> {
  const keys = new Map<string, Schema>()
  for (const one of alternatives(schema)) {
    const def = (one as z.core.$ZodTypes)._zod.def
    if (def.type === 'object') for (const [key, value] of Object.entries(def.shape)) keys.set(key, value)
  }
  return keys
}

/** Schema of the entries of a map or a list. */
function entriesOf(schema: Schema): Schema | undefined {
  for (const one of alternatives(schema)) {
    const def = (one as z.core.$ZodTypes)._zod.def
    if (def.type === 'record') return def.valueType
    if (def.type === 'array') return def.element
  }
  return undefined
}

/** The schema at a path, through objects, maps and lists. */
export function schemaAt(root: Schema, path: readonly (string | number)[]): Schema | undefined {
  return path.reduce<Schema | undefined>((schema, step) => schema && (keysOf(schema).get(String(step)) ?? entriesOf(schema)), root)
}

/** Every key of the schema; an entry of a map or a list is `*`. */
export function allPaths(root: Schema, path: readonly string[] = []): readonly (readonly string[])[] {
  const entry = entriesOf(root)
  const below = entry === undefined ? [] : allPaths(entry, [...path, '*'])
  return [...below, ...[...keysOf(root)].flatMap(([key, schema]) => [[...path, key], ...allPaths(schema, [...path, key])])]
}

/** The input with the schema's defaults put in, still as one writes it in the file. */
export function withDefaults(schema: Schema, input: Json | undefined): Json | undefined {
  const value = input ?? defaultOf(schema)
  if (!isObject(value)) return value
  const keys = keysOf(schema)
  const entry = entriesOf(schema)
  const names = new Set([...keys.keys(), ...Object.keys(value)])
  return objectOf(
    [...names].flatMap((name) => {
      const below = keys.get(name) ?? entry
      const filled = below === undefined ? value[name] : withDefaults(below, value[name])
      return filled === undefined ? [] : [[name, filled] as const]
    }),
  )
}
