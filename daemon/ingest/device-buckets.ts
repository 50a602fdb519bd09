/**
 * One token bucket per device, for any number of device names, in bounded memory.
 *
 * A bucket that is full again is the same as none at all. So nothing is ever evicted by age: a slot is free for
 * another device exactly when its bucket is full, and a device whose bucket was dropped finds a full one, which is
 * what it had. When every slot holds a bucket that is not full, new devices share overflow buckets, many to one: they
 * get less than their due, and no device gets more. A device that leaves the overflow takes the level along.
 *
 * Open addressing over typed arrays, keyed by a seeded 64-bit hash: 34 bytes a slot, a quarter to three quarters of
 * the slots in use, so 45 to 136 bytes a device that was active within its burst, and none for an idle one.
 */
import type { Limit, Tariff } from './token-bucket.ts'
import { fits, refilled, tariffOf } from './token-bucket.ts'

/** Limits, and which of them holds for a device. */
export interface Classes {
  readonly limits: readonly Limit[]
  classOf(device: string): number
}

const SLOTS_AT_LEAST = 1024
/** 196,608 devices within their burst at once; 9 MB. */
const SLOTS_AT_MOST = 262_144
const OVERFLOW_SLOTS = 1024
const TIDY_EVERY_MS = 60_000
/** At the largest size a sweep costs some ms, and gains little if the last one has just run. */
const TIDY_FULL_TABLE_EVERY_MS = 1000

/** `#class` of a slot: never used; used, but its class must be asked for; else 1 + class. */
const NEVER = 0
const UNKNOWN = 0xffff

export const CLASSES_AT_MOST = UNKNOWN - 1

interface Table {
  /** Slots for devices; the overflow slots stand behind them. A power of two. */
  readonly slots: number
  readonly keyHigh: Uint32Array
  readonly keyLow: Uint32Array
  readonly klass: Uint16Array
  readonly usedMessages: Float64Array
  readonly usedBytes: Float64Array
  readonly atMs: Float64Array
}

export class DeviceBuckets {
  readonly #seed: readonly [number, number]
  readonly #slotsAtMost: number
  #classes: Classes
  #tariffs: readonly Tariff[]
  /** The longest time that any class takes from empty to full: refills a bucket whose class is not known. */
  #slowestMs: number
  #table: Table
  /** Device slots that are not `NEVER`. */
  #occupied = 0
  #tidiedMs = -Infinity
  #overflowed = 0
  // The bucket that `open` found.
  #slot = 0
  #messageCost = 0
  #bytesCost = 0
  #high = 0
  #low = 0

  /** `seed`: two random 32-bit numbers, so that nobody can choose names that fall together. `slotsAtMost`: a power of two. */
  constructor(classes: Classes, seed: readonly [number, number], slotsAtMost: number = SLOTS_AT_MOST) {
    this.#seed = seed
    this.#slotsAtMost = slotsAtMost
    this.#classes = classes
    this.#tariffs = classes.limits.map(tariffOf)
    this.#slowestMs = slowest(this.#tariffs)
    this.#table = emptyTable(Math.min(SLOTS_AT_LEAST, slotsAtMost))
  }

  /** New limits from `nowMs` on; each bucket keeps its used share. */
  configure(classes: Classes, nowMs: number): void {
    const { slots, klass } = this.#table
    for (let slot = 0; slot < slots + OVERFLOW_SLOTS; slot++) {
      if (klass[slot] === NEVER) continue
      this.#refill(slot, nowMs)
      klass[slot] = UNKNOWN
    }
    this.#classes = classes
    this.#tariffs = classes.limits.map(tariffOf)
    this.#slowestMs = slowest(this.#tariffs)
  }

  /** Turns to the device's bucket, refilled up to `nowMs` (monotonic), for a message of `bytes`. */
  open(device: string, bytes: number, nowMs: number): void {
    this.#hash(device)
    const slot = this.#slotFor(nowMs)
    const { klass } = this.#table
    let index = (klass[slot] ?? UNKNOWN) - 1
    if (klass[slot] === UNKNOWN) {
      index = this.#classes.classOf(device)
      if (slot < this.#table.slots) klass[slot] = index + 1
    }
    const tariff = this.#tariffs[index]
    this.#slot = slot
    this.#messageCost = tariff?.perMessage ?? 0
    this.#bytesCost = bytes * (tariff?.perByte ?? 0)
  }

  /** Whether the opened bucket lets the message through when only `ceiling` of the burst may be used. */
  fits(ceiling: number): boolean {
    const { usedMessages, usedBytes } = this.#table
    return fits(usedMessages[this.#slot] ?? 0, this.#messageCost, ceiling) && fits(usedBytes[this.#slot] ?? 0, this.#bytesCost, ceiling)
  }

  take(): void {
    const { usedMessages, usedBytes } = this.#table
    usedMessages[this.#slot] = (usedMessages[this.#slot] ?? 0) + this.#messageCost
    usedBytes[this.#slot] = (usedBytes[this.#slot] ?? 0) + this.#bytesCost
    if (this.#slot >= this.#table.slots) this.#overflowed++
  }

  /** Share of the device's burst that is left, the scarcer of messages and bytes; 1 when it has no bucket. Takes no slot. */
  levelOf(device: string, nowMs: number): number {
    this.#hash(device)
    const { slots, keyHigh, keyLow, klass, usedMessages, usedBytes } = this.#table
    let slot = this.#low & (slots - 1)
    for (let step = 0; step < slots && klass[slot] !== NEVER; step++) {
      if (keyLow[slot] === this.#low && keyHigh[slot] === this.#high) {
        this.#refill(slot, nowMs)
        return Math.max(0, 1 - Math.max(usedMessages[slot] ?? 0, usedBytes[slot] ?? 0))
      }
      slot = (slot + 1) & (slots - 1)
    }
    return 1
  }

  /** `overflowed`: messages taken from a shared bucket since the start. */
  state(): { readonly slots: number; readonly occupied: number; readonly bytes: number; readonly overflowed: number } {
    const { slots } = this.#table
    return { slots, occupied: this.#occupied, bytes: (slots + OVERFLOW_SLOTS) * 34, overflowed: this.#overflowed }
  }

  /** The slot of the hashed device, refilled; a new one, or an overflow slot, when it has none. */
  #slotFor(nowMs: number): number {
    if (nowMs - this.#tidiedMs >= TIDY_EVERY_MS) this.#tidy(nowMs)
    let slot = this.#find(nowMs)
    if (slot < 0 && this.#mayTidy(nowMs)) {
      this.#tidy(nowMs)
      slot = this.#find(nowMs)
    }
    if (slot >= 0) return slot
    const shared = this.#overflowSlot()
    if (this.#table.klass[shared] === NEVER) this.#occupy(shared, 0, 0, nowMs)
    else this.#refill(shared, nowMs)
    return shared
  }

  /** -1 when the device has no slot and none is free. */
  #find(nowMs: number): number {
    const { slots, keyHigh, keyLow, klass } = this.#table
    let free = -1
    let slot = this.#low & (slots - 1)
    for (let step = 0; step < slots && klass[slot] !== NEVER; step++) {
      this.#refill(slot, nowMs)
      if (keyLow[slot] === this.#low && keyHigh[slot] === this.#high) return slot
      if (free < 0 && this.#isFull(slot)) free = slot
      slot = (slot + 1) & (slots - 1)
    }
    if (free < 0 && klass[slot] === NEVER && this.#occupied < slots * 0.75) {
      free = slot
      this.#occupied++
    }
    if (free >= 0) this.#claim(free, nowMs)
    return free
  }

  /** A new bucket starts with the level of the overflow bucket that its device may have used until now. */
  #claim(slot: number, nowMs: number): void {
    const { klass, usedMessages, usedBytes } = this.#table
    const shared = this.#overflowSlot()
    if (klass[shared] === NEVER) return this.#occupy(slot, 0, 0, nowMs)
    this.#refill(shared, nowMs)
    this.#occupy(slot, usedMessages[shared] ?? 0, usedBytes[shared] ?? 0, nowMs)
  }

  #occupy(slot: number, usedMessages: number, usedBytes: number, nowMs: number): void {
    const table = this.#table
    table.keyHigh[slot] = this.#high
    table.keyLow[slot] = this.#low
    table.klass[slot] = UNKNOWN
    table.usedMessages[slot] = usedMessages
    table.usedBytes[slot] = usedBytes
    table.atMs[slot] = nowMs
  }

  #overflowSlot(): number {
    return this.#table.slots + (this.#high & (OVERFLOW_SLOTS - 1))
  }

  #refill(slot: number, nowMs: number): void {
    const { klass, usedMessages, usedBytes, atMs } = this.#table
    const elapsedMs = nowMs - (atMs[slot] ?? 0)
    if (!(elapsedMs > 0)) return
    const known = klass[slot] === UNKNOWN ? undefined : this.#tariffs[(klass[slot] ?? 0) - 1]
    const burstMs = known?.burstMs ?? this.#slowestMs
    usedMessages[slot] = refilled(usedMessages[slot] ?? 0, elapsedMs, burstMs)
    usedBytes[slot] = refilled(usedBytes[slot] ?? 0, elapsedMs, burstMs)
    atMs[slot] = nowMs
  }

  #isFull(slot: number): boolean {
    return this.#table.usedMessages[slot] === 0 && this.#table.usedBytes[slot] === 0
  }

  #mayTidy(nowMs: number): boolean {
    return this.#table.slots < this.#slotsAtMost || nowMs - this.#tidiedMs >= TIDY_FULL_TABLE_EVERY_MS
  }

  /** Leaves out the full buckets, in a table of the size that the others need. */
  #tidy(nowMs: number): void {
    this.#tidiedMs = nowMs
    const old = this.#table
    let live = 0
    for (let slot = 0; slot < old.slots; slot++) {
      if (old.klass[slot] === NEVER) continue
      this.#refill(slot, nowMs)
      if (!this.#isFull(slot)) live++
    }
    let slots = Math.min(SLOTS_AT_LEAST, this.#slotsAtMost)
    while (slots < this.#slotsAtMost && live > slots / 2) slots *= 2
    this.#table = emptyTable(slots)
    this.#occupied = live
    for (let slot = 0; slot < old.slots; slot++) {
      if (old.usedMessages[slot] !== 0 || old.usedBytes[slot] !== 0)
        copySlot(old, slot, this.#table, freeSlot(this.#table, old.keyLow[slot] ?? 0))
    }
    for (let slot = 0; slot < OVERFLOW_SLOTS; slot++) {
      if (old.klass[old.slots + slot] !== NEVER) copySlot(old, old.slots + slot, this.#table, slots + slot)
    }
  }

  /** Two 32-bit lanes, each multiplied and rotated, then mixed (as in murmur3's finaliser). */
  #hash(device: string): void {
    let high = this.#seed[0]
    let low = this.#seed[1]
    for (let index = 0; index < device.length; index++) {
      const unit = device.charCodeAt(index)
      high = Math.imul(high ^ unit, 0x9e3779b1)
      high = (high << 13) | (high >>> 19)
      low = Math.imul(low ^ unit, 0x5f356495)
      low = (low << 17) | (low >>> 15)
    }
    this.#high = mixed(high ^ low, device.length)
    this.#low = mixed(low, this.#high)
  }
}

function mixed(value: number, salt: number): number {
  let h = value ^ salt
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

function slowest(tariffs: readonly Tariff[]): number {
  return Math.max(...tariffs.map((tariff) => tariff.burstMs))
}

function emptyTable(slots: number): Table {
  const length = slots + OVERFLOW_SLOTS
  return {
    slots,
    keyHigh: new Uint32Array(length),
    keyLow: new Uint32Array(length),
    klass: new Uint16Array(length),
    usedMessages: new Float64Array(length),
    usedBytes: new Float64Array(length),
    atMs: new Float64Array(length),
  }
}

function freeSlot(table: Table, keyLow: number): number {
  let slot = keyLow & (table.slots - 1)
  while (table.klass[slot] !== NEVER) slot = (slot + 1) & (table.slots - 1)
  return slot
}

function copySlot(from: Table, source: number, to: Table, target: number): void {
  to.keyHigh[target] = from.keyHigh[source] ?? 0
  to.keyLow[target] = from.keyLow[source] ?? 0
  to.klass[target] = from.klass[source] ?? NEVER
  to.usedMessages[target] = from.usedMessages[source] ?? 0
  to.usedBytes[target] = from.usedBytes[source] ?? 0
  to.atMs[target] = from.atMs[source] ?? 0
}
