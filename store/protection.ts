/**
 * Rows that may be in an undecided Kafka transaction, and so must be neither evicted nor expired: their
 * transaction may prove committed, and they would be counted twice.
 *
 * These are the rows handed out to the relay since its last `unprotect`, and, until the relay's first word
 * after a start, what the last transaction of the life before can have held: positions are sent in order, so
 * at most this much behind each watermark.
 *
 * And rows that an export reads: they would be counted as shed, and travel all the same.
 */
import { LANES } from '../daemon/ports.ts'
import type { Lane } from '../daemon/ports.ts'
import { lastOf } from './lane-table.ts'
import type { LaneTable } from './lane-table.ts'

/** The relay never puts more than this into one transaction. */
export const TRANSACTION_MAX_MESSAGES = 10_000
export const TRANSACTION_MAX_BYTES = 4 << 20

export class Protection {
  readonly #ends = LANES.map(() => 0)
  #guards = LANES.map(() => 0)
  #kept = LANES.map(() => 0)

  /** Rows that are there at a start, before anything is appended or read. */
  guard(lanes: readonly LaneTable[]): void {
    this.#guards = lanes.map(guardEnd)
  }

  /** `position` of `lane` is now in the relay's hands. */
  handOut(lane: Lane, position: number): void {
    const index = LANES.indexOf(lane)
    this.#ends[index] = Math.max(this.#ends[index] ?? 0, position)
  }

  /** An export reads up to here; replaces what was kept before. */
  keep(ends: readonly { readonly lane: Lane; readonly position: number }[]): void {
    this.#kept = LANES.map((lane) => Math.max(0, ...ends.filter((end) => end.lane === lane).map(({ position }) => position)))
  }

  /** The relay knows where Kafka stands. */
  endGuard(): void {
    this.#guards.fill(0)
  }

  /** The relay holds nothing any more that may still commit. */
  release(): void {
    this.#ends.fill(0)
    this.endGuard()
  }

  /** Rows that begin up to here are not touched. */
  endOf(lane: LaneTable): number {
    return Math.max(this.#ends[lane.index] ?? 0, this.#guards[lane.index] ?? 0, this.#kept[lane.index] ?? 0)
  }
}

function guardEnd(lane: LaneTable): number {
  let messages = 0
  let bytes = 0
  let end = 0
  let row = lane.above(lane.watermark)
  while (row !== undefined && messages < TRANSACTION_MAX_MESSAGES && bytes < TRANSACTION_MAX_BYTES) {
    end = lastOf(row)
    messages += row.count
    bytes += row.bytes
    row = lane.above(end)
  }
  return end
}
