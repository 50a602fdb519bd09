import assert from 'node:assert/strict'
import { it } from 'node:test'
import { Account } from '../../daemon/account.ts'
import { ledgerDocument } from '../../daemon/cli/ledger-view.ts'
import type { Counted, LedgerTotals } from '../../daemon/ports.ts'

const some = (messages: number): Counted => ({ messages, bytes: messages * 10 })
const totals = (received: number, delivered: number): LedgerTotals => ({
  received: some(received),
  delivered: some(delivered),
  buffered: some(0),
  inFlight: some(0),
  deadLettered: some(0),
  shed: {},
  lost: some(0),
  exported: some(0),
})

it("the ledger's left side comes from the parsers: a message that the store never saw is missed", async () => {
  let stored = totals(100, 100)
  let parsed = 0
  const account = new Account({ totals: async () => stored, lines: async () => [] }, () => some(parsed))
  await account.start()
  parsed = 5
  stored = totals(105, 105)
  assert.deepEqual(ledgerDocument(await account.totals(), []).equation, { holds: true, difference: 0 })
  parsed = 6
  assert.deepEqual(ledgerDocument(await account.totals(), []).equation, { holds: false, difference: 1 })
})
