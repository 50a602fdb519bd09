import assert from 'node:assert/strict'
import { test } from 'node:test'
import BetterSqlite from 'better-sqlite3'
import fc from 'fast-check'
import { SHED_REASONS } from '../../daemon/ports.ts'
import { MalformedBytes } from '../../store/bytes.ts'
import { LedgerBook, LedgerDelta, OTHER_ID } from '../../store/ledger-book.ts'
import { DELIVERED, LedgerWriter, RECEIVED, replayLedger, SHED_CODES } from '../../store/ledger-codec.ts'
import { LedgerFile } from '../../store/ledger-file.ts'
import { decodeReceipts, Receipts } from '../../store/receipts.ts'
import { migrate } from '../../store/schema.ts'
import { totalsOf } from '../../store/totals.ts'
import { Transactions } from '../../store/transaction.ts'

interface Move {
  readonly device: number
  readonly messages: number
  readonly bytes: number
  readonly kind: 'receive' | 'deliver' | 'shed' | 'fold' | 'reload'
}

const move: fc.Arbitrary<Move> = fc.record({
  device: fc.nat(12),
  messages: fc.integer({ min: 1, max: 5 }),
  bytes: fc.nat(1_000),
  kind: fc.constantFrom('receive', 'receive', 'receive', 'deliver', 'deliver', 'shed', 'fold', 'reload'),
})

test('whatever is folded and reloaded: totals are exact, and no line shows more out than in', () => {
  fc.assert(
    fc.property(fc.array(move, { maxLength: 80, size: 'max' }), (moves) => {
      const db = new BetterSqlite(':memory:')
      migrate(db)
      const transactions = new Transactions(db)
      let file = new LedgerFile(db)
      const model = { received: 0, delivered: 0, shed: 0, bytes: 0 }
      const open = new Map<number, { messages: number; bytes: number }[]>()
      for (const { device, messages, bytes, kind } of moves) {
        const name = `dev-${device}`
        if (kind === 'fold') file.fold(transactions, 4)
        else if (kind === 'reload') {
          file = new LedgerFile(db)
          file.load()
        } else {
          transactions.run((transaction) => {
            const delta = new LedgerDelta(file.book)
            if (kind === 'receive') {
              delta.received(name, 's', messages, bytes)
              open.set(device, [...(open.get(device) ?? []), { messages, bytes }])
              model.received += messages
              model.bytes += bytes
            } else if (kind === 'shed') {
              delta.received(name, 's', messages, bytes)
              delta.shed(name, 's', SHED_CODES['over-limit'], messages, bytes)
              model.received += messages
              model.shed += messages
            } else {
              const first = open.get(device)?.shift()
              if (first === undefined) return
              delta.outcome(name, 's', DELIVERED, first.messages, first.bytes)
              model.delivered += first.messages
              model.bytes -= first.bytes
            }
            file.write(delta, transaction)
          })
        }
        const totals = totalsOf(file.book)
        assert.equal(totals.received.messages, model.received)
        assert.equal(totals.delivered.messages, model.delivered)
        assert.equal(totals.shed['over-limit']?.messages ?? 0, model.shed)
        assert.deepEqual(file.book.totals.balance, { messages: model.received - model.delivered - model.shed, bytes: model.bytes })
        let sum = 0
        for (const line of file.book.lines.values()) {
          sum += line.tally.get(RECEIVED).messages
          assert.ok(line.tally.balance.messages >= 0 && line.tally.balance.bytes >= 0, `${line.device} shows more out than in`)
        }
        assert.equal(sum, model.received)
      }
      file.fold(transactions, 4)
      assert.ok(file.book.lines.size <= 5)
      db.close()
    }),
    { numRuns: 60 },
  )
})

test('a rolled-back delta leaves no trace, and the line it named can be counted later', () => {
  const db = new BetterSqlite(':memory:')
  migrate(db)
  const transactions = new Transactions(db)
  const file = new LedgerFile(db)
  const count = (fail: boolean): void =>
    transactions.run((transaction) => {
      const delta = new LedgerDelta(file.book)
      delta.received('d', 's', 1, 10)
      file.write(delta, transaction)
      if (fail) throw new Error('no')
    })
  assert.throws(() => count(true), /no/)
  assert.equal(file.book.totals.get(RECEIVED).messages, 0)
  count(false)
  const again = new LedgerFile(db)
  again.load()
  assert.deepEqual(again.book.top(10), file.book.top(10))
  assert.equal(again.book.find('d', 's')?.tally.get(RECEIVED).bytes, 10)
})

test('folding takes lines with nothing in the buffer first, those with the least traffic first', () => {
  const book = new LedgerBook()
  const both = (device: string, count: number, delivered: number): void => {
    for (const step of ['in', 'out']) {
      const delta = new LedgerDelta(book)
      if (step === 'in') delta.received(device, 's', count, count)
      else delta.outcome(device, 's', DELIVERED, delivered, delivered)
      delta.apply()
    }
  }
  both('busy-done', 100, 100)
  both('rare-done', 2, 2)
  both('rare-open', 1, 0)
  book.fold(2)
  assert.deepEqual([...book.lines.values()].map((line) => line.device).sort(), ['busy-done', 'other', 'rare-open'])
  book.fold(1)
  assert.deepEqual([...book.lines.values()].map((line) => line.device).sort(), ['other', 'rare-open'])
  assert.equal(book.other.tally.get(RECEIVED).messages, 102)
})

test('lines are sorted by what was shed, then received; very long names share a line', () => {
  const book = new LedgerBook()
  const delta = new LedgerDelta(book)
  delta.received('quiet', 's', 5, 5)
  delta.received('noisy', 's', 9, 9)
  delta.shed('noisy', 's', SHED_CODES['over-limit'], 4, 4)
  delta.received('loud', 's', 50, 50)
  delta.received('x'.repeat(60_000), 's', 1, 1)
  delta.apply()
  assert.deepEqual(
    book.top(10).map((line) => line.device),
    ['noisy', 'loud', 'quiet', 'other'],
  )
  assert.deepEqual(
    book.top(1).map((line) => line.shed),
    [{ 'over-limit': { messages: 4, bytes: 4 } }],
  )
})

test('every shed reason has a code of its own', () => {
  const codes = SHED_REASONS.map((reason) => SHED_CODES[reason])
  assert.equal(new Set(codes).size, SHED_REASONS.length)
  assert.ok(codes.every((code) => code >= 16 && code < 256))
})

test('a damaged record is refused before anything is counted', () => {
  const out = new LedgerWriter()
  out.define(1, 'd', 's')
  out.count(1, RECEIVED, 5, 50)
  out.lane(2, -3, -30)
  const blob = Buffer.from(out.finish())
  const played: unknown[] = []
  replayLedger(blob, { define: (...all) => played.push(all), count: (...all) => played.push(all), lane: (...all) => played.push(all) })
  assert.deepEqual(played, [
    [1, 'd', 's'],
    [1, RECEIVED, 5, 50],
    [2, -3, -30],
  ])
  for (let at = 0; at < blob.length; at++) {
    const torn = Buffer.from(blob)
    torn[at] = (torn[at] ?? 0) ^ 1
    const book = new LedgerBook()
    assert.throws(() => replayLedger(torn, book), MalformedBytes)
    assert.equal(book.totals.counts.size, 0)
  }
  const orphan = new LedgerWriter()
  orphan.count(7, RECEIVED, 1, 1)
  assert.throws(() => replayLedger(orphan.finish(), new LedgerBook()), /line 7, which it never defined/)
  assert.equal(OTHER_ID, 0)
})

test('receipts come back as they were added', () => {
  const receipts = new Receipts()
  receipts.add('a', 's', undefined, 10)
  receipts.add('a', 's', undefined, 5)
  receipts.add('a', 's', 'oversize', 700)
  receipts.add('b', 's', undefined, 1)
  const seen: unknown[] = []
  decodeReceipts(receipts.encode(), (...all) => seen.push(all))
  assert.deepEqual(seen, [
    ['a', 's', RECEIVED, 2, 15],
    ['a', 's', SHED_CODES.oversize, 1, 700],
    ['b', 's', RECEIVED, 1, 1],
  ])
})
