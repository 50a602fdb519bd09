/** Rows that leave: delivered, evicted or expired; counted per device in the transaction that deletes them. */
import type { ShedReason } from '../daemon/ports.ts'
import { decodeGroup, GroupEncoder } from './frames.ts'
import { packFrames } from './group.ts'
import { DELIVERED, SHED_CODES } from './ledger-codec.ts'
import type { LedgerDelta } from './ledger-book.ts'
import { lastOf } from './lane-table.ts'
import type { GroupRow, LaneTable } from './lane-table.ts'
import { Shares } from './shares.ts'
import type { Transaction } from './transaction.ts'

/** Where a removal counts. */
export interface Books {
  readonly delta: LedgerDelta
  readonly transaction: Transaction
}

/**
 * Counts the messages `from` to `to` (positions, inclusive) of a row under `code`: not those at or below the
 * watermark (counted before), not dead letters (counted when they were set aside).
 */
export function countOut(lane: LaneTable, row: GroupRow, from: number, to: number, code: number, { delta }: Books): void {
  const whole = from === row.first && to === lastOf(row) && lane.watermark < row.first && lane.holes.size === 0
  const out = (device: string, stream: string, messages: number, bytes: number): void =>
    delta.outcome(device, stream, code, messages, bytes)
  if (whole && lane.known.visit(row.first, out)) return delta.lane(lane.index, -row.count, -row.bytes)
  const shares = new Shares()
  const low = Math.max(from, lane.watermark + 1) - row.first
  shares.count(lane.open(row), low, to - row.first, (index) => lane.holes.has(row.first + index))
  shares.each(out)
  delta.lane(lane.index, -shares.messages, -shares.bytes)
}

/** Deletes a whole row and counts what of it was still open. The watermark follows if nothing lies below. */
export function removeRow(lane: LaneTable, row: GroupRow, code: number, books: Books): void {
  countOut(lane, row, row.first, lastOf(row), code, books)
  if (code !== DELIVERED) lane.noteGap(row.epoch, Math.max(row.first, lane.watermark + 1), lastOf(row), code, books.transaction)
  lane.dropHoles(row.first, lastOf(row), books.transaction)
  lane.remove(row)
  const next = lane.above(lane.watermark)
  lane.note(next === undefined ? lane.highest : Math.max(lane.watermark, next.first - 1), books.transaction)
}

/**
 * Delivered up to `position`, in the middle of `row`. Normally the watermark alone says so. Where older rows
 * are still open it can't, and the row is written anew without its head.
 */
export function deliverHead(lane: LaneTable, row: GroupRow, position: number, code: number, books: Books): void {
  countOut(lane, row, row.first, position, code, books)
  const below = lane.above(lane.watermark)
  if (below !== undefined && below.first < row.first) cutHead(lane, row, position)
  else lane.note(position, books.transaction)
  lane.dropHoles(row.first, position, books.transaction)
}

function cutHead(lane: LaneTable, row: GroupRow, position: number): void {
  const encoder = new GroupEncoder()
  for (const message of decodeGroup(lane.open(row), position + 1 - row.first, row.count)) {
    if ('envelope' in message) encoder.add(message.envelope)
    else encoder.addInternal(message.internal)
  }
  lane.remove(row)
  const { facts } = encoder
  lane.put(
    {
      first: position + 1,
      count: facts.count,
      epoch: row.epoch,
      bytes: facts.bytes,
      oldest_ms: facts.oldestMs,
      newest_ms: facts.newestMs,
      trusted: row.trusted,
    },
    packFrames(encoder.finish()),
  )
}

/** Removes the lane's oldest row that begins above `protectedEnd`; false when there is none. */
export function shedOldest(lane: LaneTable, protectedEnd: number, reason: ShedReason, books: Books): boolean {
  const row = lane.above(Math.max(protectedEnd, lane.watermark))
  if (row === undefined || row.first <= protectedEnd) return false
  removeRow(lane, row, SHED_CODES[reason], books)
  return true
}
