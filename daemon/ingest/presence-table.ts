/**
 * What is known of each device's presence: one slot a device, a column a fact, so that a message costs no allocation.
 *
 * Each slot is in one list at most: the wheel's second in which it must be looked at, or the list of the silent ones in
 * the order in which they fell silent. The lists are links between slots, so that moving one is a few stores.
 */

export const State = { ONLINE: 0, OFFLINE: 1, SILENT: 2, UNKNOWN: 3 } as const
export const STATES = ['online', 'offline', 'silent', 'unknown'] as const
export type PresenceState = (typeof STATES)[number]

/** How the last connection of a device ended. */
export const Ending = { NONE: 0, GOODBYE: 1, LOST: 2, GATEWAY: 3 } as const
export const ENDINGS = ['none', 'goodbye', 'lost', 'gateway'] as const

/** Seconds that the wheel reaches; who is due later is looked at then, and placed again. */
export const WHEEL_SECONDS = 4_096
/** The list of the silent devices stands behind those of the wheel. */
export const SILENT_LIST = 4_096
const NO_LIST = 4_097
const SLOTS_AT_LEAST = 256
/** Of all columns together. */
const COLUMN_BYTES = 7 * 8 + 2 * 4 + 4 * 2 + 4 * 1 + 2 * 4

export const NONE = -1

export class PresenceTable {
  /** By slot. */
  readonly ids: string[] = []
  readonly #slots = new Map<string, number>()
  #capacity = SLOTS_AT_LEAST
  // Times are monotonic ms of this process; what was seen before it is below its start, `-Infinity` at an unknown time.
  heardMs = new Float64Array(SLOTS_AT_LEAST)
  /** Of the last connect, or of the last connection's end. */
  linkMs = new Float64Array(SLOTS_AT_LEAST)
  /** When the rates were true. */
  ratedMs = new Float64Array(SLOTS_AT_LEAST)
  messages = new Float64Array(SLOTS_AT_LEAST)
  bytes = new Float64Array(SLOTS_AT_LEAST)
  shed = new Float64Array(SLOTS_AT_LEAST)
  deferred = new Float64Array(SLOTS_AT_LEAST)
  rate = new Float32Array(SLOTS_AT_LEAST)
  byteRate = new Float32Array(SLOTS_AT_LEAST)
  connections = new Uint16Array(SLOTS_AT_LEAST)
  source = new Uint16Array(SLOTS_AT_LEAST)
  group = new Uint16Array(SLOTS_AT_LEAST)
  state = new Uint8Array(SLOTS_AT_LEAST)
  ending = new Uint8Array(SLOTS_AT_LEAST)
  /** 0: none yet; else 1 + index into the verdicts. */
  verdict = new Uint8Array(SLOTS_AT_LEAST)
  /** 0: neither; 1: the device's bucket; 2: the global one. */
  limitedBy = new Uint8Array(SLOTS_AT_LEAST)
  #next = new Int32Array(SLOTS_AT_LEAST)
  #previous = new Int32Array(SLOTS_AT_LEAST)
  #list = new Uint16Array(SLOTS_AT_LEAST)
  readonly #heads = new Int32Array(NO_LIST).fill(NONE)
  /** Only of the silent ones: there the order counts. */
  #silentTail = NONE

  get size(): number {
    return this.ids.length
  }

  /** Without the ids and their index. */
  get columnBytes(): number {
    return this.#capacity * COLUMN_BYTES + NO_LIST * 4
  }

  /** `NONE` when the device has no slot. */
  find(device: string): number {
    return this.#slots.get(device) ?? NONE
  }

  /** A new slot, all zero and in no list. */
  add(device: string): number {
    const slot = this.ids.length
    if (slot === this.#capacity) this.#grow()
    this.#name(slot, device)
    return slot
  }

  /** Gives a slot to another device; the one that had it is forgotten. */
  reuse(slot: number, device: string): void {
    this.unlink(slot)
    this.#slots.delete(this.ids[slot] ?? '')
    this.#name(slot, device)
  }

  /** Puts the slot at the end of a list, after taking it out of its own. */
  link(slot: number, list: number): void {
    this.unlink(slot)
    this.#list[slot] = list
    if (list === SILENT_LIST && this.#silentTail !== NONE) {
      this.#next[slot] = NONE
      this.#previous[slot] = this.#silentTail
      this.#next[this.#silentTail] = slot
      this.#silentTail = slot
      return
    }
    const head = this.#heads[list] ?? NONE
    this.#next[slot] = head
    this.#previous[slot] = NONE
    if (head !== NONE) this.#previous[head] = slot
    this.#heads[list] = slot
    if (list === SILENT_LIST) this.#silentTail = slot
  }

  unlink(slot: number): void {
    const list = this.#list[slot] ?? NO_LIST
    if (list === NO_LIST) return
    const next = this.#next[slot] ?? NONE
    const previous = this.#previous[slot] ?? NONE
    if (previous === NONE) this.#heads[list] = next
    else this.#next[previous] = next
    if (next !== NONE) this.#previous[next] = previous
    else if (list === SILENT_LIST) this.#silentTail = previous
    this.#list[slot] = NO_LIST
  }

  /** The slot that was put first into the list of the silent, or any slot of another list; `NONE` when it is empty. */
  first(list: number): number {
    return this.#heads[list] ?? NONE
  }

  /** The one that stands behind this one in its list. */
  after(slot: number): number {
    return this.#next[slot] ?? NONE
  }

  #name(slot: number, device: string): void {
    // A part of a topic keeps the whole topic alive; the copy is flat.
    const id = Buffer.from(device).toString()
    this.ids[slot] = id
    this.#slots.set(id, slot)
    this.#list[slot] = NO_LIST
    for (const name of FACTS) this[name][slot] = 0
  }

  #grow(): void {
    this.#capacity *= 2
    const wider = <Column extends { set(from: Column): void; readonly length: number }>(column: Column): Column => {
      const next = new (column.constructor as new (length: number) => Column)(this.#capacity)
      next.set(column)
      return next
    }
    for (const name of FACTS) (this as Record<string, unknown>)[name] = wider(this[name])
    this.#next = wider(this.#next)
    this.#previous = wider(this.#previous)
    this.#list = wider(this.#list)
  }
}

const FACTS = [
  'heardMs',
  'linkMs',
  'ratedMs',
  'messages',
  'bytes',
  'shed',
  'deferred',
  'rate',
  'byteRate',
  'connections',
  'source',
  'group',
  'state',
  'ending',
  'verdict',
  'limitedBy',
] as const
