/**
 * The message ids of the dedupe window: a ring in order of arrival, and an open-addressed table of ring slots.
 *
 * 16 bytes of id, 4 of time and 8 of table an id: 28 MB for a million. It starts small and doubles.
 */
import type { StoredIds } from './protocol.ts'

export const ID_BYTES = 16
const ID_WORDS = 4
const FIRST_CAPACITY = 1024
/** Times are kept in tenths of a second since the first id, in 32 bits: 13 years. */
const TIME_UNIT_MS = 100
const EMPTY = 0

export interface IdLimits {
  readonly windowMs: number
  readonly maxIds: number
}

export class MessageIds {
  #limits: IdLimits
  #capacity = FIRST_CAPACITY
  #words = new Uint32Array(FIRST_CAPACITY * ID_WORDS)
  #times = new Uint32Array(FIRST_CAPACITY)
  /** Ring slot + 1, or EMPTY. Twice the ring, a power of two: linear probing stays short. */
  #table = new Uint32Array(FIRST_CAPACITY * 2)
  #head = 0
  #count = 0
  #startMs: number | undefined

  constructor(limits: IdLimits) {
    this.#limits = limits
  }

  configure(limits: IdLimits): void {
    this.#limits = limits
    while (this.#count > limits.maxIds) this.#dropOldest()
  }

  get size(): number {
    return this.#count
  }

  /** Ids come in the order of their times; `atMs` is any clock that never goes back. */
  add(id: Uint8Array, atMs: number): void {
    const words = wordsOf(id)
    this.#startMs ??= atMs
    if (this.#find(words) !== undefined) return
    if (this.#count >= this.#limits.maxIds) this.#dropOldest()
    if (this.#count === this.#capacity) this.#grow()
    const slot = (this.#head + this.#count) % this.#capacity
    this.#words.set(words, slot * ID_WORDS)
    this.#times[slot] = Math.max(0, (atMs - this.#startMs) / TIME_UNIT_MS)
    this.#count++
    this.#enter(slot)
  }

  has(id: Uint8Array, nowMs: number): boolean {
    this.#expire(nowMs)
    return this.#find(wordsOf(id)) !== undefined
  }

  #expire(nowMs: number): void {
    const oldest = (nowMs - this.#limits.windowMs - (this.#startMs ?? nowMs)) / TIME_UNIT_MS
    while (this.#count > 0 && (this.#times[this.#head] ?? 0) < oldest) this.#dropOldest()
  }

  #dropOldest(): void {
    this.#leave(this.#head)
    this.#head = (this.#head + 1) % this.#capacity
    this.#count--
  }

  #find(words: Uint32Array): number | undefined {
    const mask = this.#table.length - 1
    for (let at = (words[0] ?? 0) & mask; ; at = (at + 1) & mask) {
      const entry = this.#table[at] ?? EMPTY
      if (entry === EMPTY) return undefined
      if (this.#same(entry - 1, words)) return at
    }
  }

  #same(slot: number, words: Uint32Array): boolean {
    const from = slot * ID_WORDS
    for (let index = 0; index < ID_WORDS; index++) if (this.#words[from + index] !== words[index]) return false
    return true
  }

  #enter(slot: number): void {
    const mask = this.#table.length - 1
    let at = this.#home(slot, mask)
    while (this.#table[at] !== EMPTY) at = (at + 1) & mask
    this.#table[at] = slot + 1
  }

  /** Takes a slot out of the table and closes the gap (Knuth, algorithm R). */
  #leave(slot: number): void {
    const mask = this.#table.length - 1
    let gap = this.#home(slot, mask)
    while (this.#table[gap] !== slot + 1) gap = (gap + 1) & mask
    for (let at = (gap + 1) & mask; this.#table[at] !== EMPTY; at = (at + 1) & mask) {
      const home = this.#home((this.#table[at] ?? 0) - 1, mask)
      if (((at - home) & mask) < ((at - gap) & mask)) continue
      this.#table[gap] = this.#table[at] ?? EMPTY
      gap = at
    }
    this.#table[gap] = EMPTY
  }

  #home(slot: number, mask: number): number {
    return (this.#words[slot * ID_WORDS] ?? 0) & mask
  }

  #grow(): void {
    const capacity = this.#capacity * 2
    const words = new Uint32Array(capacity * ID_WORDS)
    const times = new Uint32Array(capacity)
    for (let index = 0; index < this.#count; index++) {
      const from = (this.#head + index) % this.#capacity
      words.set(this.#words.subarray(from * ID_WORDS, (from + 1) * ID_WORDS), index * ID_WORDS)
      times[index] = this.#times[from] ?? 0
    }
    this.#words = words
    this.#times = times
    this.#capacity = capacity
    this.#head = 0
    this.#table = new Uint32Array(capacity * 2)
    for (let slot = 0; slot < this.#count; slot++) this.#enter(slot)
  }
}

/** The id is a hash already, so its first word spreads well. */
function wordsOf(id: Uint8Array): Uint32Array {
  if (id.length !== ID_BYTES) throw new RangeError(`a message id has ${ID_BYTES} bytes, not ${id.length}`)
  if (id.byteOffset % ID_WORDS === 0) return new Uint32Array(id.buffer, id.byteOffset, ID_WORDS)
  return new Uint32Array(id.slice().buffer)
}

/** Undefined without a dedupe window. */
export function loadIds(limits: IdLimits | undefined, stored: readonly StoredIds[], nowMs: number): MessageIds | undefined {
  if (limits === undefined) return undefined
  const loaded = new MessageIds(limits)
  for (const { ageMs, ids } of stored) {
    for (let at = 0; at < ids.length; at += ID_BYTES) loaded.add(ids.subarray(at, at + ID_BYTES), nowMs - ageMs)
  }
  return loaded
}
