/** Messages of another box into an outbox of their own, under the epochs and positions that the other box gave them. */
import type { ForeignEpoch, Lane } from '../daemon/ports.ts'
import type { Epochs } from './epochs.ts'
import { packFrames } from './group.ts'
import { LedgerDelta } from './ledger-book.ts'
import type { LedgerFile } from './ledger-file.ts'
import type { LaneTable } from './lane-table.ts'
import type { ForeignGroup } from './protocol.ts'
import { Shares } from './shares.ts'
import type { Transactions } from './transaction.ts'

export interface BringInParts {
  readonly transactions: Transactions
  readonly lanes: Readonly<Record<Lane, LaneTable>>
  readonly epochs: Epochs
  readonly ledger: LedgerFile
}

/** One transaction. A group at or below what the lane has was brought before, and is left out. */
export function bringIn(
  { transactions, lanes, epochs, ledger }: BringInParts,
  foreign: readonly ForeignEpoch[],
  groups: readonly ForeignGroup[],
): void {
  transactions.run((transaction) => {
    const delta = new LedgerDelta(ledger.book)
    const ids = new Map(foreign.map((epoch) => [epoch.epoch, epochs.adopt(epoch, transaction)]))
    for (const group of groups) {
      const lane = lanes[group.lane]
      const epoch = ids.get(group.epoch)
      if (epoch === undefined || group.first <= lane.highest) continue
      lane.bring(group, packFrames(group.frames), epoch, transaction)
      const shares = new Shares()
      shares.count(group.frames, 0, Infinity, () => false)
      shares.each((device, stream, messages, bytes) => delta.received(device, stream, messages, bytes))
      delta.lane(lane.index, group.facts.count, group.facts.bytes)
    }
    ledger.write(delta, transaction)
  })
}
