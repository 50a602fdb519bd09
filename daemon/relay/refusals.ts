/**
 * Finds the one record for which Kafka refuses a partition's batch: the answer names the partition, not the
 * record. The refused records are halved over the following transactions; whatever commits is innocent. While a
 * search goes on, nothing else may go into its partition, all other partitions go on. Pure.
 */
import type { Lane } from '../ports.ts'

export interface Suspect {
  readonly lane: Lane
  readonly position: number
}

export interface RefusedPartition {
  readonly topic: string
  readonly partition: number
}

interface Search {
  readonly where: RefusedPartition | undefined
  /** In the order of the transaction. */
  readonly suspects: readonly Suspect[]
  /** How many of them may go into the next transaction. */
  readonly share: number
}

/** Kafka named no partition: all records of the transaction are suspects. */
const ANYWHERE = '*'
/** Least part of a topic's batch limit that batches are kept to, after some without a bad record were refused. */
const ROOM_MIN = 1 / 8

export class Refusals {
  readonly #searches = new Map<string, Search>()
  readonly #allowed = new Set<string>()
  readonly #room = new Map<string, number>()

  /**
   * A transaction was refused. Returns the record that is to blame, once it was alone; it is no suspect any
   * more, and the caller must set it aside, or change it.
   */
  refused(where: RefusedPartition | undefined, sent: readonly Suspect[]): Suspect | undefined {
    const key = keyOf(where)
    const known = this.#searches.get(key)
    if (sent.length > 1) this.#searches.set(key, { where, suspects: known?.suspects ?? sent, share: Math.floor(sent.length / 2) })
    else this.#searches.delete(key)
    this.#allow()
    return sent.length === 1 ? sent[0] : undefined
  }

  /** Everything of `lane` up to `position` is decided: committed, set aside or evicted. */
  passed(lane: Lane, position: number): void {
    if (this.#searches.size === 0) return
    for (const [key, search] of this.#searches) {
      const left = search.suspects.filter((suspect) => suspect.lane !== lane || suspect.position > position)
      if (left.length === search.suspects.length) continue
      if (left.length > 0) this.#searches.set(key, { ...search, suspects: left, share: Math.ceil(left.length / 2) })
      else this.#acquit(key, search)
    }
    this.#allow()
  }

  /** May this record go into the next transaction? */
  admits(topic: string, partition: number, lane: Lane, position: number): boolean {
    if (this.#searches.size === 0) return true
    if (!this.#searches.has(ANYWHERE) && !this.#searches.has(keyOf({ topic, partition }))) return true
    return this.#allowed.has(`${lane}/${position}`)
  }

  /** The part of the topic's batch limit that is safe, 1 at first. */
  room(topic: string): number {
    return this.#room.get(topic) ?? 1
  }

  get searching(): boolean {
    return this.#searches.size > 0
  }

  /** All went through in smaller batches: the batch was too large, so sizes were estimated too low. */
  #acquit(key: string, { where }: Search): void {
    this.#searches.delete(key)
    if (where !== undefined) this.#room.set(where.topic, Math.max(ROOM_MIN, this.room(where.topic) / 2))
  }

  #allow(): void {
    this.#allowed.clear()
    for (const search of this.#searches.values()) {
      for (const suspect of search.suspects.slice(0, search.share)) this.#allowed.add(`${suspect.lane}/${suspect.position}`)
    }
  }
}

function keyOf(where: RefusedPartition | undefined): string {
  return where === undefined ? ANYWHERE : `${where.topic}/${where.partition}`
}
