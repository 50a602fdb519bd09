/** What the patch path remembers on the box, in `state.db`: small JSON values under keys with `/`. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject
export type JsonObject = { readonly [key: string]: Json }

/** `undefined` deletes. */
export type MemoryChanges = Readonly<Record<string, Json | undefined>>

export interface Memory {
  /** All below a prefix, by full key, in the order of the keys. */
  read(prefix: string): Promise<ReadonlyMap<string, Json>>
  /** One transaction: all of it or nothing. Resolves when it would survive a power cut; rejects with a `fatal` error. */
  write(changes: MemoryChanges): Promise<void>
}
