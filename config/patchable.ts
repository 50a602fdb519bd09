import { type Json, isObject, valueAt } from './merge.ts'
import { formatPath, type Path } from './problem.ts'

/** Keys that only the files on the box set, and why. What stands below them counts too. */
const FIXED: readonly (readonly [path: Path, why: string])[] = [
  [['gateway', 'id'], 'positions, keys and signatures belong to the id'],
  [['gateway', 'dataDir'], 'what is buffered lies there'],
  [['control'], 'edgectl finds the daemon by it before it can ask for patches'],
  [['etcd'], 'a mistake would cut the box off from every later patch'],
  [['patches'], 'a patch must not widen what patches may do'],
  [['kafka', 'prefix'], 'positions of what is on its way lie under it'],
]

/** What a patch or an override may not set: a sentence for each key; empty when it may. A parent's null counts as well. */
export function fixedKeys(patch: Json): readonly string[] {
  return FIXED.flatMap(([path, why]) => (touches(patch, path) ? [`${formatPath(path)} is set only in the files of the box: ${why}`] : []))
}

/** Also true when a parent is removed or replaced by what is no map. */
function touches(patch: Json, path: Path): boolean {
  if (valueAt(patch, path) !== undefined) return true
  return path.some((_, length) => {
    const parent = valueAt(patch, path.slice(0, length))
    return parent !== undefined && !isObject(parent)
  })
}
