/** What leaves the buffer on a medium, comes into one from it, or is copied: the store's part of export, import, backup. */
import type { Advance, EpochState, Stored } from './outbox.ts'
import type { EpochId, Lane } from './words.ts'

/** An epoch of the box that an export came from. */
export type ForeignEpoch = Pick<EpochState, 'epoch' | 'bootId' | 'createdMs' | 'touchedMs'>

/** Positions of one lane that are no longer in the buffer and were not delivered by it, and why. */
export interface Gap {
  readonly lane: Lane
  readonly epoch: EpochId
  readonly first: number
  readonly last: number
  /** A reason of shedding, or one of these. */
  readonly reason: string
}

export interface OutboxMoves {
  /** What is appended from now on has a new epoch. Returns the closed ones that still hold messages, oldest first. */
  closeEpoch(): Promise<readonly EpochState[]>
  /**
   * As `readAfter`, but nothing is handed out to the relay, and nothing behind `last` is read. Empty when there is no
   * more.
   */
  peek(lane: Lane, position: number, last: number, maxBytes: number): Promise<readonly Stored[]>
  /** Rows up to here are neither evicted nor expired, until the next call. */
  keep(ends: readonly { readonly lane: Lane; readonly position: number }[]): void
  /**
   * Removes rows of the named epochs up to the given positions and counts them as exported: one transaction, which may
   * not reach the end. True when nothing is left of them.
   */
  moveOut(ends: readonly Advance[]): Promise<boolean>
  /**
   * One transaction. Messages of another box, under its epochs and positions: into an outbox of their own that got
   * nothing else. Per lane in order of positions; epochs as the other box had them, oldest first. Counted as received.
   */
  bringIn(epochs: readonly ForeignEpoch[], lane: Lane, messages: readonly Stored[]): Promise<void>
  /** What is known of positions that the buffer gave up; bounded, the oldest are forgotten. */
  gaps(): Promise<readonly Gap[]>
  /**
   * Copies both databases into `directory`, which must be there and be writable for the daemon; commits go on meanwhile.
   * Resolves when the copies are fsynced.
   */
  copyTo(directory: string): Promise<void>
}
