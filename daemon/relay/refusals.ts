/**
 * Finds the one record for which Kafka refuses a partition's batch: the answer names the partition, not the
 * record. After a refusal fewer records may go into that partition, half of what was refused, and half again,
 * until one record is alone; whatever commits is innocent. Then it grows again, so that more poison close behind
 * costs little. Other partitions are not concerned. Pure.
 */
export interface RefusedPartition {
  readonly topic: string
  readonly partition: number
}

interface Search {
  /** Most records of the partition in the next transaction. */
  readonly limit: number
  /** So many of the next records hold at least one that is bad; 0 when nothing is known. */
  readonly bad: number
  /** Size of the batch that began it; at this limit the search is over. */
  readonly whole: number
  readonly hasFound: boolean
}

/** Least part of a topic's batch limit that batches are kept to, after some without a bad record were refused. */
const ROOM_MIN = 1 / 8

export class Refusals {
  readonly #searches = new Map<string, Search>()
  readonly #room = new Map<string, number>()

  /**
   * A batch of `count` records was refused; without `where`, the whole transaction. True if it was one record:
   * then it is to blame.
   */
  refused(where: RefusedPartition | undefined, count: number): boolean {
    const key = keyOf(where)
    const known = this.#searches.get(key)
    const whole = Math.max(known?.whole ?? 0, count)
    const found = count === 1
    const hasFound = found || known?.hasFound === true
    this.#searches.set(key, { whole, hasFound, limit: Math.max(1, Math.floor(count / 2)), bad: found ? 0 : count })
    return found
  }

  /** `count` records went into the partition (without one: in all). */
  committed(where: RefusedPartition | undefined, count: number): void {
    const key = keyOf(where)
    const search = this.#searches.get(key)
    if (search === undefined || count === 0) return
    const bad = Math.max(0, search.bad - count)
    const limit = bad > 0 ? Math.ceil(bad / 2) : 2 * search.limit
    if (limit < search.whole) this.#searches.set(key, { ...search, bad, limit })
    else this.#end(key, where, search)
  }

  /** How many records may go into a partition, or, without one, into the transaction. */
  limit(where: RefusedPartition | undefined): number {
    if (this.#searches.size === 0) return Infinity
    return this.#searches.get(keyOf(where))?.limit ?? Infinity
  }

  /** The part of the topic's batch limit that is safe, 1 at first. */
  room(topic: string): number {
    return this.#room.get(topic) ?? 1
  }

  get searching(): boolean {
    return this.#searches.size > 0
  }

  #end(key: string, where: RefusedPartition | undefined, { hasFound }: Search): void {
    this.#searches.delete(key)
    // All went through in smaller batches: the batch was too large, so sizes were estimated too low.
    if (!hasFound && where !== undefined) this.#room.set(where.topic, Math.max(ROOM_MIN, this.room(where.topic) / 2))
  }
}

function keyOf(where: RefusedPartition | undefined): string {
  return where === undefined ? '*' : `${where.topic}/${where.partition}`
}
