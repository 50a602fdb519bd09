import { type Json, isObject, valueAt } from './merge.ts'
import { formatPath, type Path } from './problem.ts'

/** Keys that only the files on the box set, and why. What stands below them counts too. */
const FIXED: readonly (readonly [key: Path, why: string])[] = [
  [['gateway', 'id'], 'positions, keys and signatures belong to the id'],
  [['gateway', 'dataDir'], 'what is buffered lies there'],
  [['control'], 'edgectl finds the daemon by it before it can ask for patches'],
  [['etcd'], 'a mistake would cut the box off from every later patch'],
  [['patches'], 'a patch must not widen what patches may do'],
  [['kafka', 'prefix'], 'positions of what is on its way lie under it'],
]

export interface FixedKey {
  readonly key: string
  /** Where the merge patch touches it: the key, or a parent that it removes, or replaces by what is no map. */
  readonly at: Path
  readonly why: string
}

/** What a merge patch of a patch or an override would change of keys that neither may set; empty when nothing. */
export function fixedIn(patch: Json): readonly FixedKey[] {
  return FIXED.flatMap(([key, why]) => {
    const at = touchedAt(patch, key)
    return at === undefined ? [] : { key: formatPath(key), at, why }
  })
}

/** The same in sentences. */
export function fixedKeys(patch: Json): readonly string[] {
  return fixedIn(patch).map(({ key, why }) => `${key} is set only in the files of the box: ${why}`)
}

function touchedAt(patch: Json, key: Path): Path | undefined {
  const parent = key.findIndex((_, depth) => {
    const value = valueAt(patch, key.slice(0, depth))
    return value !== undefined && !isObject(value)
  })
  if (parent >= 0) return key.slice(0, parent)
  return valueAt(patch, key) === undefined ? undefined : key
}
