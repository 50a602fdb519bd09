import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Attempts, DEFAULT_RETRY } from '../../adapters/mqtt/connect-attempts.ts'
import { FakeRandom } from '../fakes/clock.ts'

test('brokers in order, waits that grow with each round up to the bound, never in step', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), fc.integer(), fc.integer({ min: 1, max: 200 }), (brokers, seed, failures) => {
      const attempts = new Attempts(brokers, DEFAULT_RETRY, new FakeRandom(seed))
      assert.deepEqual(attempts.next(), { broker: 0, delayMs: 0 })
      for (let n = 1; n <= failures; n++) {
        attempts.ended(0)
        const { broker, delayMs } = attempts.next()
        assert.equal(broker, n % brokers)
        const bound = broker === 0 ? Math.min(30_000, 1_000 * 2 ** (n / brokers)) : 1_000
        assert.ok(delayMs >= bound / 10 && delayMs <= bound, `${delayMs} of ${bound}`)
      }
    }),
  )
})

test('a good connection starts the waits anew; a short one does not', () => {
  const attempts = new Attempts(2, DEFAULT_RETRY, new FakeRandom())
  for (let n = 0; n < 9; n++) attempts.ended(0)
  attempts.ended(DEFAULT_RETRY.stableMs - 1)
  assert.equal(attempts.failures, 10)
  attempts.ended(DEFAULT_RETRY.stableMs)
  assert.equal(attempts.failures, 0)
  assert.equal(attempts.next().broker, 0)
})

test('two clients that take one session from each other slow down: a good connection outlasts the longest wait', () => {
  assert.ok(DEFAULT_RETRY.stableMs > DEFAULT_RETRY.maxMs)
})

test('a thousand gateways that lost one broker come back over the whole wait', () => {
  const waits = Array.from({ length: 1_000 }, (_, seed) => {
    const attempts = new Attempts(1, DEFAULT_RETRY, new FakeRandom(seed))
    attempts.next()
    for (let n = 0; n < 6; n++) attempts.ended(0)
    return attempts.next().delayMs
  })
  for (let tenth = 1; tenth < 10; tenth++) {
    const share = waits.filter((wait) => Math.floor(wait / 3_000) === tenth).length
    assert.ok(share > 50, `${share} of 1000 in the ${tenth}. tenth`)
  }
})

test('after a reset the first broker is tried at once', () => {
  const attempts = new Attempts(3, DEFAULT_RETRY, new FakeRandom())
  attempts.next()
  attempts.ended(0)
  attempts.reset()
  assert.deepEqual(attempts.next(), { broker: 0, delayMs: 0 })
})
