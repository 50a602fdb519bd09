import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { kindOf } from '../../daemon/errors.ts'
import { openSession } from '../../daemon/patch/session.ts'
import { FakeClock } from '../fakes/clock.ts'
import { FakeEtcd } from '../fakes/etcd.ts'

const TTL_MS = 15_000
const MARGIN_MS = 1_500

async function pass(clock: FakeClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 500) {
    clock.advance(Math.min(500, left))
    await turn()
  }
}

describe('a session', () => {
  it('counts from before the request was sent, and takes a margin off', async () => {
    const clock = new FakeClock()
    const etcd = new FakeEtcd(clock)
    const grant = etcd.grantLease.bind(etcd)
    etcd.grantLease = async (ttlMs) => {
      const lease = await grant(ttlMs)
      clock.advance(4_000)
      return lease
    }
    const session = await openSession(etcd, clock, { ttlMs: TTL_MS })
    assert.equal(session.remainingMs(), TTL_MS - 4_000 - MARGIN_MS)
    await session.close()
  })

  it('lives as long as renewals are answered', async () => {
    const clock = new FakeClock()
    const session = await openSession(new FakeEtcd(clock), clock, { ttlMs: TTL_MS })
    await pass(clock, 20 * TTL_MS)
    assert.equal(session.ended.aborted, false)
    assert.ok(session.remainingMs() > TTL_MS / 2)
    await session.close()
    assert.equal(clock.pendingTimers, 0)
  })

  it('lets an effect begin only if its time limit ends before the deadline', async () => {
    const clock = new FakeClock()
    const session = await openSession(new FakeEtcd(clock), clock, { ttlMs: TTL_MS })
    session.assertFits(TTL_MS - MARGIN_MS - 1)
    assert.throws(
      () => session.assertFits(TTL_MS - MARGIN_MS),
      (error) => kindOf(error) === 'fenced',
    )
    assert.equal(session.ended.aborted, false)
    await session.close()
    assert.throws(
      () => session.assertFits(0),
      (error) => kindOf(error) === 'fenced',
    )
  })

  it('patch path 6: ends at its deadline when no renewal is answered, long before 2 × TTL', async () => {
    const clock = new FakeClock()
    const etcd = new FakeEtcd(clock)
    const session = await openSession(etcd, clock, { ttlMs: TTL_MS })
    etcd.verdict = () => 'lost-request'
    await pass(clock, TTL_MS - MARGIN_MS - 500)
    assert.equal(session.ended.aborted, false)
    await pass(clock, 500)
    assert.equal(session.ended.aborted, true)
    assert.equal(kindOf(session.ended.reason), 'fenced')
    etcd.verdict = () => 'pass'
    await pass(clock, TTL_MS)
    assert.equal(session.remainingMs(), 0, 'nothing revives it')
  })

  it('has ended when the machine slept beyond the deadline, before any timer ran', async () => {
    const clock = new FakeClock()
    const session = await openSession(new FakeEtcd(clock), clock, { ttlMs: TTL_MS })
    clock.suspend(TTL_MS)
    assert.throws(
      () => session.assertFits(0),
      (error) => kindOf(error) === 'fenced',
    )
    assert.equal(session.ended.aborted, true)
  })

  it('is not revived by an answer that comes after the deadline', async () => {
    const clock = new FakeClock()
    const etcd = new FakeEtcd(clock)
    const late = Promise.withResolvers<number>()
    etcd.renewLease = () => late.promise
    const session = await openSession(etcd, clock, { ttlMs: TTL_MS })
    await pass(clock, 6_000)
    clock.suspend(TTL_MS)
    late.resolve(600_000)
    await turn()
    assert.equal(session.remainingMs(), 0)
    assert.equal(session.ended.aborted, true)
  })

  it('ends when etcd says that the lease is gone', async () => {
    const clock = new FakeClock()
    const etcd = new FakeEtcd(clock)
    const session = await openSession(etcd, clock, { ttlMs: TTL_MS })
    etcd.expire(session.lease)
    await pass(clock, TTL_MS / 3 + 500)
    assert.equal(session.ended.aborted, true)
    assert.match(String(session.ended.reason), /no longer knows it/)
  })

  it('never believes longer in its lease than etcd does, whatever is lost, and however clocks and sleep go', async () => {
    const step = fc.record({
      ms: fc.integer({ min: 1, max: 8_000 }),
      sleeps: fc.boolean(),
      wallMs: fc.integer(),
      verdict: fc.constantFrom('pass', 'lost-request', 'lost-response'),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const clock = new FakeClock()
        const etcd = new FakeEtcd(clock)
        let expiresMs = 0
        const renew = etcd.renewLease.bind(etcd)
        etcd.renewLease = async (id) => {
          if (clock.bootMs() >= expiresMs) etcd.expire(id) // the fake's timer slept with us; a server does not
          const ttlMs = await renew(id)
          expiresMs = ttlMs === undefined ? 0 : clock.bootMs() + ttlMs
          return ttlMs
        }
        const session = await openSession(etcd, clock, { ttlMs: TTL_MS })
        expiresMs = clock.bootMs() + TTL_MS
        for (const { ms, sleeps, wallMs, verdict } of steps) {
          etcd.verdict = (call) => (call === 'revokeLease' ? 'pass' : verdict)
          clock.setWall(wallMs)
          if (sleeps) clock.suspend(ms)
          else await pass(clock, ms)
          const leftMs = session.remainingMs()
          assert.ok(leftMs === 0 || clock.bootMs() + leftMs < expiresMs, `believes ${leftMs} ms, etcd ${expiresMs - clock.bootMs()} ms`)
        }
        await session.close()
        assert.equal(clock.pendingTimers, 0)
      }),
      { numRuns: 100 },
    )
  })
})
