/**
 * What stands below a prefix, kept up to date with few bytes: an unchanged prefix costs one small answer however
 * much it holds. All that is read here is read at one revision, so a mirror is a state that etcd once had.
 */
import type { Answer, Etcd, KeyValue, Place } from './ports.ts'

export interface View extends Place {
  readonly entries: ReadonlyMap<string, KeyValue>
}

/** Another cluster, a lower revision, or another history below the same revision. `undefined`: nothing of the kind. */
export function rewrittenSince(known: Place, seen: Place): string | undefined {
  if (known.clusterId !== seen.clusterId) return `another cluster answers: ${seen.clusterId} instead of ${known.clusterId}`
  if (seen.revision < known.revision) return `its revision went back from ${known.revision} to ${seen.revision}`
  return undefined
}

/** Everything, anew. */
export async function readAll(etcd: Etcd, prefix: string): Promise<View> {
  const { clusterId, revision, entries } = await etcd.list({ prefix })
  return { clusterId, revision, entries: byKey(entries) }
}

/** `rewritten` names how etcd's history was found to be another one; read everything anew then. */
export type Caught = { readonly view: View } | { readonly rewritten: string }

/**
 * Only what changed. `count` is of all keys below the prefix: when the mirror with the changes has as many, none was
 * deleted. Otherwise the keys alone are listed, at the same revision.
 */
export async function catchUp(etcd: Etcd, prefix: string, known: View): Promise<Caught> {
  const changed = await etcd.list({ prefix, minMod: known.revision + 1 })
  const rewritten = rewrittenSince(known, changed)
  if (rewritten !== undefined) return { rewritten }
  const merged = new Map([...known.entries, ...byKey(changed.entries)])
  const view = { clusterId: changed.clusterId, revision: changed.revision, entries: merged }
  if (merged.size === changed.count) return { view }
  return { view: { ...view, entries: retain(merged, await etcd.list({ prefix, keysOnly: true, revision: view.revision })) } }
}

/**
 * The same by comparing every key's revisions, for when the link was broken meanwhile: a backup that was restored and
 * has since overtaken our revision shows itself only here, by a key that differs although nothing changed it.
 */
export async function audit(etcd: Etcd, prefix: string, known: View): Promise<Caught> {
  const keys = await etcd.list({ prefix, keysOnly: true })
  const rewritten = rewrittenSince(known, keys) ?? otherHistory(known, keys)
  return rewritten === undefined ? catchUp(etcd, prefix, known) : { rewritten }
}

function otherHistory(known: View, { entries }: Answer): string | undefined {
  const differs = entries.find(
    ({ key, modRevision }) => modRevision <= known.revision && known.entries.get(key)?.modRevision !== modRevision,
  )
  return differs && `${differs.key} was changed in a past that we had seen otherwise`
}

function byKey(entries: readonly KeyValue[]): Map<string, KeyValue> {
  return new Map(entries.map((entry) => [entry.key, entry]))
}

function retain(entries: ReadonlyMap<string, KeyValue>, { entries: keys }: Answer): Map<string, KeyValue> {
  return new Map(keys.flatMap(({ key }) => entries.get(key) ?? []).map((entry) => [entry.key, entry]))
}

export function isSame(left: View, right: View): boolean {
  if (left.entries.size !== right.entries.size) return false
  return [...left.entries.values()].every(({ key, modRevision }) => right.entries.get(key)?.modRevision === modRevision)
}
