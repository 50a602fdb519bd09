/** The settings of presence: what is read, and what a person is told. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorsOf, loadText, warningsOf } from './config-fixture.ts'

test('times of silence are read with their groups; off is for ever', () => {
  const { settings } = loadText('presence: { silentAfter: off, groups: { cameras: { devices: "cam-*", silentAfter: 1h } } }')
  assert.deepEqual(settings.presence, {
    silentAfterMs: Infinity,
    maxDevices: 50_000,
    groups: { cameras: { devices: 'cam-*', silentAfterMs: 3_600_000 } },
  })
})

test('a time that a living device can not keep is refused', () => {
  assert.match(errorsOf('presence: { silentAfter: 1s }').join(), /presence\.silentAfter: .*10 ?s/)
  assert.match(errorsOf('presence: { groups: { a: { devices: "a*" } } }').join(), /presence\.groups\.a.*silentAfter/)
})

test('a time that ends before a broken link is found is a warning, and so is a table smaller than the ledger', () => {
  const said = warningsOf(
    'mqtt: { connect: { a: { url: "mqtt://127.0.0.1:1", keepalive: 30s } } }\npresence: { silentAfter: 30s, maxDevices: 100 }',
  ).join()
  assert.match(said, /a broken link to a broker is found only after 1m/)
  assert.match(said, /fewer than the 20000 devices of ledger\.maxDevices/)
})
