import assert from 'node:assert/strict'
import { test } from 'node:test'
import BetterSqlite from 'better-sqlite3'
import { EXPORTED, SHED_CODES } from '../../store/ledger-codec.ts'
import { Gaps } from '../../store/gaps.ts'
import { migrate } from '../../store/schema.ts'
import { Transactions } from '../../store/transaction.ts'

const EPOCH = 'a'.repeat(16)
const ROWS_MAX = 10_000

test('neighbours are one row, also when the row of the first ones was forgotten meanwhile', () => {
  const db = new BetterSqlite(':memory:')
  migrate(db)
  const gaps = new Gaps(db)
  new Transactions(db).run((transaction) => {
    gaps.note(0, EPOCH, 1, 5, EXPORTED, transaction)
    gaps.note(0, EPOCH, 6, 9, EXPORTED, transaction)
    assert.deepEqual(
      gaps.list().map(({ first, last }) => [first, last]),
      [[1, 9]],
    )
    // Far apart, so that each is a row.
    for (let at = 1; at <= ROWS_MAX; at += 1) gaps.note(1, EPOCH, at * 3, at * 3, SHED_CODES.expired, transaction)
    gaps.note(0, EPOCH, 10, 12, EXPORTED, transaction)
  })
  const exported = gaps.list().filter(({ reason }) => reason === 'exported')
  assert.deepEqual(
    exported.map(({ first, last }) => [first, last]),
    [[10, 12]],
  )
  db.close()
})
