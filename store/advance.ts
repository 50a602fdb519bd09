/** The relay's word on what Kafka has: dead letters aside, delivered rows out, the watermark on. */
import { LANES } from '../daemon/ports.ts'
import type { Advance, DeadLetter, Lane } from '../daemon/ports.ts'
import type { Epochs } from './epochs.ts'
import { LedgerDelta } from './ledger-book.ts'
import { DELIVERED, EXPORTED } from './ledger-codec.ts'
import type { LedgerFile } from './ledger-file.ts'
import { lastOf } from './lane-table.ts'
import type { LaneTable } from './lane-table.ts'
import type { Letters } from './letters.ts'
import { deliverHead, removeRow } from './removal.ts'
import type { Books } from './removal.ts'
import type { Transactions } from './transaction.ts'

/** One transaction deletes at most this much: 800,000 rows at once made a WAL of 275 MB. */
const MAX_ROWS = 1_000
const MAX_MESSAGES = 20_000

export interface AdvanceParts {
  readonly transactions: Transactions
  readonly lanes: Readonly<Record<Lane, LaneTable>>
  readonly epochs: Epochs
  readonly ledger: LedgerFile
  readonly letters: Letters
}

interface Budget {
  rows: number
  messages: number
}

/**
 * The first transaction holds the dead letters, so that none is passed by a position that a later one notes.
 * `between` runs after each transaction.
 */
export function advanceTo(
  parts: AdvanceParts,
  advances: readonly Advance[],
  letters: readonly DeadLetter[],
  wallMs: number,
  between: () => void,
): void {
  let aside = letters
  let done = false
  while (!done) {
    done = parts.transactions.run((transaction) => {
      const books = { transaction, delta: new LedgerDelta(parts.ledger.book) }
      for (const letter of aside) parts.letters.setAside(letter, parts.lanes[letter.lane], parts.epochs, wallMs, books)
      const complete = deliver(parts, advances, { code: DELIVERED, wallMs }, books)
      parts.epochs.forgetBefore(
        LANES.map((lane) => parts.lanes[lane]),
        transaction,
      )
      parts.ledger.write(books.delta, transaction)
      return complete
    })
    aside = []
    between()
  }
}

/** Rows that left on a medium: one transaction, of the same bounds. True when nothing is left of them. */
export function moveOut(parts: AdvanceParts, ends: readonly Advance[]): boolean {
  return parts.transactions.run((transaction) => {
    const books = { transaction, delta: new LedgerDelta(parts.ledger.book) }
    const complete = deliver(parts, ends, { code: EXPORTED, wallMs: undefined }, books)
    parts.epochs.forgetBefore(
      LANES.map((lane) => parts.lanes[lane]),
      transaction,
    )
    parts.ledger.write(books.delta, transaction)
    return complete
  })
}

interface Outcome {
  readonly code: number
  /** When Kafka took it; undefined if it did not. */
  readonly wallMs: number | undefined
}

function deliver(parts: AdvanceParts, advances: readonly Advance[], { code, wallMs }: Outcome, books: Books): boolean {
  const budget = { rows: MAX_ROWS, messages: MAX_MESSAGES }
  for (const advance of advances) {
    const epoch = parts.epochs.idOf(advance.epoch)
    // An epoch without rows is forgotten: nothing of it is left to deliver.
    if (epoch === undefined) continue
    if (wallMs !== undefined) parts.epochs.touch(epoch, wallMs)
    if (!deliverLane(parts.lanes[advance.lane], { epoch, position: advance.position, code }, budget, books)) return false
  }
  return true
}

interface LaneEnd {
  /** `epochs.id`. */
  readonly epoch: number
  readonly position: number
  readonly code: number
}

/** Rows of `epoch` only: a restored backup's newer rows have other positions under the same numbers. */
function deliverLane(lane: LaneTable, { epoch, position, code }: LaneEnd, budget: Budget, books: Books): boolean {
  let row = lane.above(lane.watermark)
  while (row !== undefined && row.epoch <= epoch && row.first <= position) {
    if (budget.rows <= 0 || budget.messages <= 0) return false
    if (row.epoch === epoch) {
      budget.rows--
      budget.messages -= row.count
      if (lastOf(row) > position) {
        if (position > lane.watermark) deliverHead(lane, row, position, code, books)
        return true
      }
      removeRow(lane, row, code, books)
    }
    row = lane.above(Math.max(lastOf(row), lane.watermark))
  }
  return true
}
