/** The box's memory in a map, with the semantics of `state.db`: JSON in, JSON out, all of a write or nothing. */
import type { Json, Memory, MemoryChanges } from '../../daemon/patch/memory.ts'

export class FakeMemory implements Memory {
  /** Key to JSON text: nobody shares an object with what is stored. */
  readonly stored = new Map<string, string>()
  /** Throws what the next writes reject with. Nothing is changed then. */
  fault: ((changes: MemoryChanges) => void) | undefined

  constructor(entries: Readonly<Record<string, Json>> = {}) {
    this.#apply(entries)
  }

  async read(prefix: string): Promise<ReadonlyMap<string, Json>> {
    return Promise.resolve(this.below(prefix))
  }

  async write(changes: MemoryChanges): Promise<void> {
    await Promise.resolve()
    this.fault?.(changes)
    this.#apply(changes)
  }

  /** What stands there now, for a test to look at. */
  below(prefix: string): Map<string, Json> {
    const found = [...this.stored].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1))
    return new Map(found.map(([key, text]) => [key, JSON.parse(text) as Json]))
  }

  get(key: string): Json | undefined {
    const text = this.stored.get(key)
    return text === undefined ? undefined : (JSON.parse(text) as Json)
  }

  #apply(changes: MemoryChanges): void {
    for (const [key, value] of Object.entries(changes)) {
      if (value === undefined) this.stored.delete(key)
      else this.stored.set(key, JSON.stringify(value))
    }
  }
}
