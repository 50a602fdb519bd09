/** What the relay reads: slices of groups, one epoch, without a gap. */
import { skimGroup } from './frames.ts'
import type { Epochs } from './epochs.ts'
import { lastOf } from './lane-table.ts'
import type { GroupRow, LaneTable } from './lane-table.ts'
import { TRANSACTION_MAX_MESSAGES } from './protection.ts'
import type { ReadAnswer, WireSlice } from './protocol.ts'

/**
 * Messages after `position`, up to `maxBytes` of payload, at least one. An answer ends before a gap (rows that
 * were evicted, dead letters) and before another epoch; the next one goes on behind it.
 */
export function readAfter(lane: LaneTable, epochs: Epochs, position: number, maxBytes: number): ReadAnswer | undefined {
  const slices: WireSlice[] = []
  let at = firstOpen(lane, Math.max(position, lane.watermark))
  let epoch: number | undefined
  let budget = maxBytes
  let messages = TRANSACTION_MAX_MESSAGES
  while (messages > 0) {
    const row = lane.above(at)
    if (row === undefined || (epoch !== undefined && row.epoch !== epoch)) break
    const start = Math.max(at + 1, row.first)
    if (epoch !== undefined && (start !== at + 1 || lane.holes.has(start))) break
    const cut = cutRow(lane, row, start, slices.length === 0 ? Math.max(budget, 1) : budget, messages, slices.length === 0)
    if (cut.end < start) break
    epoch = row.epoch
    const rest = cut.end < lastOf(row)
    slices.push({
      first: row.first,
      from: start - row.first,
      to: cut.end + 1 - row.first,
      frames: rest ? lane.open(row) : lane.take(row),
      handedOver: !rest,
    })
    budget -= cut.bytes
    messages -= cut.end + 1 - start
    at = cut.end
    if (rest) break
  }
  return epoch === undefined ? undefined : { epoch: epochs.nameOf(epoch), slices }
}

/** The highest position from `at` on with only dead letters between. */
function firstOpen(lane: LaneTable, at: number): number {
  let position = at
  for (;;) {
    const row = lane.above(position)
    if (row === undefined) return position
    const next = Math.max(position + 1, row.first)
    if (!lane.holes.has(next)) return position
    position = next
  }
}

/** How far a row may be read from `start`: to the byte budget (but `atLeastOne`), to the next dead letter. */
function cutRow(
  lane: LaneTable,
  row: GroupRow,
  start: number,
  maxBytes: number,
  maxMessages: number,
  atLeastOne: boolean,
): { end: number; bytes: number } {
  const whole = start === row.first && row.bytes <= maxBytes && row.count <= maxMessages
  if (whole && lane.holes.size === 0) return { end: lastOf(row), bytes: row.bytes }
  let end = start - 1
  let bytes = 0
  skimGroup(lane.open(row), (index, size) => {
    const position = row.first + index
    if (position < start) return true
    const first = atLeastOne && position === start
    if (lane.holes.has(position) || (!first && bytes + size > maxBytes) || end + 1 - start >= maxMessages) return false
    bytes += size
    end = position
    return true
  })
  return { end, bytes }
}

/** The last position of an answer. */
export function endOf(answer: ReadAnswer): number {
  const last = answer.slices.at(-1)
  return last === undefined ? 0 : last.first + last.to - 1
}
