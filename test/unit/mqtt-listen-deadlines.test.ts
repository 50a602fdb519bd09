import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { overdue, type Timed } from '../../adapters/mqtt/listen-deadlines.ts'

const connection = (over: Partial<Timed> = {}): Timed => ({
  ready: true,
  openedMs: 0,
  heardMs: 0,
  stuckSinceMs: undefined,
  unread: false,
  heldBackMs: undefined,
  owed: false,
  keepaliveSeconds: 10,
  ...over,
})

test('silence lasts at most one and a half keepalives, and at most one and a half of the longest allowed', () => {
  fc.assert(
    fc.property(fc.nat(7_200), fc.integer({ min: 1, max: 3_600 }), fc.nat(12_000_000), (keepaliveSeconds, maxSeconds, nowMs) => {
      const effective = keepaliveSeconds === 0 ? maxSeconds : Math.min(keepaliveSeconds, maxSeconds)
      const seen = overdue(connection({ keepaliveSeconds }), nowMs, maxSeconds, undefined)
      assert.equal(seen?.reason, nowMs > effective * 1_500 ? 'keepalive' : undefined)
    }),
  )
})

test('log path 10: nobody is closed for a silence that is ours, and nobody is held past half its keepalive or ten seconds', () => {
  fc.assert(
    fc.property(fc.nat(600), fc.nat(1_000_000), fc.nat(30_000), (keepaliveSeconds, nowMs, heldForMs) => {
      assert.equal(overdue(connection({ keepaliveSeconds, unread: true }), nowMs, 3_600, undefined), undefined)
      const held = { sinceMs: nowMs - 2 * heldForMs, reason: 'full' }
      const patienceMs = keepaliveSeconds === 0 ? 10_000 : Math.min(10_000, keepaliveSeconds * 500)
      const reason = (over: Partial<Timed>): string | undefined =>
        overdue(connection({ keepaliveSeconds, unread: true, ...over }), nowMs, 3_600, held)?.reason
      assert.equal(reason({ heldBackMs: nowMs - heldForMs }), heldForMs > patienceMs ? 'held' : undefined)
      assert.equal(reason({ owed: true }), 2 * heldForMs > patienceMs ? 'held' : undefined)
      assert.equal(reason({}), undefined)
    }),
  )
})

test('a connection without a CONNECT has ten seconds, a peer that does not read has sixty', () => {
  const reason = (over: Partial<Timed>, nowMs: number): string | undefined =>
    overdue(connection({ keepaliveSeconds: 0, ...over }), nowMs, 3_600, undefined)?.reason
  assert.deepEqual([reason({ ready: false }, 10_000), reason({ ready: false }, 10_001)], [undefined, 'connect-timeout'])
  assert.deepEqual([reason({ stuckSinceMs: 5 }, 60_005), reason({ stuckSinceMs: 5 }, 60_006)], [undefined, 'slow-reader'])
})
