import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { kindOf } from '../../daemon/errors.ts'
import { entryKey, listLocks, scopePrefix, spansOf } from '../../daemon/patch/lock-entries.ts'
import { withLease } from '../../daemon/patch/lock.ts'
import type { FencingToken, Work } from '../../daemon/patch/lock.ts'
import { FakeClock, FakeRandom } from '../fakes/clock.ts'
import { FakeEtcd } from '../fakes/etcd.ts'
import type { FakeVerdict } from '../fakes/etcd.ts'
import { judge, registerKey } from '../fakes/lock-judge.ts'
import type { LockEvent } from '../fakes/lock-judge.ts'

const SCOPE = 'plant-7'
const TTL_MS = 15_000

class Bench {
  readonly clock = new FakeClock()
  readonly etcd = new FakeEtcd(this.clock)
  readonly random: FakeRandom
  readonly ended: string[] = []
  running = 0
  readonly #slots: number

  constructor(seed: number, slots: number) {
    this.random = new FakeRandom(seed)
    this.#slots = slots
  }

  contend(index: number, work: Work<unknown>, stop: AbortSignal = new AbortController().signal): void {
    const slots = { count: this.#slots, onChange: () => () => undefined }
    const request = { scope: SCOPE, slots, owner: { gateway: `gw-${index}`, life: '1' }, ttlMs: TTL_MS }
    this.running += 1
    withLease(this, request, stop, work)
      .then(
        () => this.ended.push(`${index} done`),
        (error: unknown) => this.ended.push(`${index} ${kindOf(error) ?? String(error)}`),
      )
      .finally(() => (this.running -= 1))
  }

  async pass(ms: number, stepMs = 250): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.clock.advance(stepMs)
      await turn()
    }
  }

  wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.after(ms, resolve))
  }

  /** Until all have ended; a contender that never ends is a failure of the test. */
  async finish(): Promise<void> {
    for (let round = 0; this.running > 0; round++) {
      assert.ok(round < 2_000, `${this.running} never ended`)
      await this.pass(1_000)
    }
  }
}

async function writeOnce(bench: Bench, token: FencingToken): Promise<boolean> {
  const value = Buffer.from(String(token.revision))
  const { succeeded } = await bench.etcd.transact({ compare: [token.compare], then: [{ put: registerKey(SCOPE), value }] })
  return succeeded
}

describe('the lock', () => {
  it('patch path 2, 3, 4: over lost requests and answers, expiries and compactions, only holders write, in order, and nothing is left', async () => {
    const fault = fc.constantFrom<FakeVerdict>('lost-request', 'lost-response')
    const scenario = fc.record({
      seed: fc.integer(),
      slots: fc.integer({ min: 1, max: 3 }),
      contenders: fc.integer({ min: 2, max: 7 }),
      faultShare: fc.double({ min: 0, max: 0.6, noNaN: true }),
      fault,
      areHintsLost: fc.boolean(),
      troubles: fc.array(fc.constantFrom('compact', 'expire', 'sleep', 'end watches', 'give up'), { maxLength: 8 }),
    })
    await fc.assert(
      fc.asyncProperty(scenario, async ({ seed, slots, contenders, faultShare, fault: kind, areHintsLost, troubles }) => {
        const bench = new Bench(seed, slots)
        const { etcd } = bench
        etcd.areHintsLost = areHintsLost
        etcd.verdict = () => (bench.random.unit() < faultShare ? kind : 'pass')
        const stops = Array.from({ length: contenders }, () => new AbortController())
        const work: Work<unknown> = async (token, signal) => {
          for (let writes = 0; writes < 3 && !signal.aborted; writes++) {
            await writeOnce(bench, token).catch(() => false)
            await new Promise<void>((resolve) => bench.clock.after(700, resolve))
          }
          return { value: 1, results: [{ put: registerKey(SCOPE), value: Buffer.from(String(token.revision)) }] }
        }
        for (const [index, stop] of stops.entries()) bench.contend(index, work, stop.signal)
        for (const trouble of troubles) {
          await bench.pass(bench.random.unit() * 4_000)
          if (trouble === 'compact') etcd.compact()
          if (trouble === 'expire') etcd.expire(String(1 + Math.floor(bench.random.unit() * contenders)))
          if (trouble === 'sleep') {
            bench.clock.suspend(TTL_MS)
            etcd.expireAll() // the fake's timers slept with us; a server's do not
          }
          if (trouble === 'end watches') etcd.endWatches()
          if (trouble === 'give up') stops[Math.floor(bench.random.unit() * contenders)]?.abort(new Error('given up'))
        }
        etcd.verdict = () => 'pass'
        await bench.finish()
        await bench.pass(3 * TTL_MS) // what could not be revoked expires
        const verdict = judge(etcd.events, SCOPE, slots)
        assert.deepEqual(verdict.violations, [])
        assert.deepEqual(verdict.left, [])
        assert.equal(bench.ended.length, contenders)
      }),
      { numRuns: 150 },
    )
  })

  it('lets everyone have a turn when nothing goes wrong, in the order of the entries', async () => {
    const bench = new Bench(7, 1)
    for (let index = 0; index < 12; index++) bench.contend(index, async (token) => ({ value: await writeOnce(bench, token) }))
    await bench.finish()
    const verdict = judge(bench.etcd.events, SCOPE, 1)
    assert.deepEqual(verdict.violations, [])
    assert.equal(verdict.writers.length, 12)
    assert.deepEqual(verdict.writers, verdict.entered)
    assert.deepEqual(
      bench.ended.filter((line) => !line.endsWith('done')),
      [],
    )
  })

  for (const slots of [1, 5, 50]) {
    it(`asks etcd as often for each box, however many wait, with ${slots} slots`, async () => {
      const bench = new Bench(11, slots)
      let calls = 0
      bench.etcd.verdict = (call) => {
        if (call === 'transact' || call === 'list') calls += 1
        return 'pass'
      }
      const boxes = 200
      for (let index = 0; index < boxes; index++) {
        // So that many releases come one by one, and in another order than the entries.
        bench.contend(index, async () => {
          await bench.wait(200 + ((index * 7) % 13) * 300)
          return { value: undefined }
        })
      }
      await bench.finish()
      assert.deepEqual(judge(bench.etcd.events, SCOPE, slots).violations, [])
      // A sweep, an entry, the looks of a waiter and of a holder, and a release.
      assert.ok(calls / boxes < 12, `${calls / boxes} calls for each box`)
    })
  }

  it('patch path 8: a failed work leaves the queue to the next, and says what failed', async () => {
    const bench = new Bench(1, 1)
    bench.contend(0, () => Promise.reject(new Error('the patch is bad')))
    bench.contend(1, async (token) => ({ value: await writeOnce(bench, token) }))
    await bench.finish()
    assert.deepEqual(bench.ended.sort(), ['0 Error: the patch is bad', '1 done'])
    assert.deepEqual(await listLocks(bench, SCOPE), [])
  })

  it('lets a waiter in whose slots were added while it asked etcd, and nobody could wake it', async () => {
    const bench = new Bench(3, 1)
    const held = Promise.withResolvers<void>()
    bench.contend(0, async () => (await held.promise, { value: undefined }))
    await bench.pass(1_000)
    let reads = 0
    const slots = {
      get count() {
        reads += 1
        return reads === 1 ? 1 : 2
      },
      onChange: () => () => undefined,
    }
    const request = { scope: SCOPE, slots, owner: { gateway: 'gw-1', life: '1' }, ttlMs: TTL_MS }
    let isIn = false
    const done = withLease(bench, request, new AbortController().signal, async () => ((isIn = true), { value: undefined }))
    await bench.pass(5_000)
    assert.ok(isIn, 'it still waits')
    held.resolve()
    await bench.finish()
    await done
  })

  it('says that the fate of a result is unknown when etcd never answers the release', async () => {
    const bench = new Bench(1, 1)
    const failed = Promise.withResolvers<unknown>()
    const slots = { count: 1, onChange: () => () => undefined }
    const request = { scope: SCOPE, slots, owner: { gateway: 'gw', life: '1' }, ttlMs: TTL_MS }
    withLease(bench, request, new AbortController().signal, async () => {
      bench.etcd.verdict = () => 'lost-request'
      return { value: 1, results: [{ put: 'r', value: Buffer.from('1') }] }
    }).catch(failed.resolve)
    await bench.pass(2 * TTL_MS)
    assert.match(String(await failed.promise), /whether the result was written is not known/)
  })

  it('goes on when etcd refuses its reads for a while, and ends with the reason when it is never let in', async () => {
    const bench = new Bench(1, 1)
    bench.etcd.verdict = () => 'denied'
    bench.contend(0, async () => ({ value: 1 }))
    await bench.finish()
    assert.deepEqual(bench.ended, ['0 transient'])
  })
})

describe('the names of locks', () => {
  it('are never prefixes of one another', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1, maxLength: 20, unit: 'grapheme' }),
        fc.string({ minLength: 1, maxLength: 20, unit: 'grapheme' }),
        (one, other) => {
          fc.pre(one !== other)
          assert.ok(!entryKey(one, '5').startsWith(scopePrefix(other)))
        },
      ),
    )
  })

  it('have a length and are text', () => {
    for (const name of ['', 'x'.repeat(256), '\ud800'])
      assert.throws(
        () => scopePrefix(name),
        (error) => kindOf(error) === 'rejected',
      )
  })

  it('span ranges that hold them all, one for each member that granted leases', () => {
    const names = ['70e2aaaaaaaaaa01', '70e2aaaaaaaaaa09', '3c11aaaaaaaaaa07', '70e2aaaaaaaaaa05'].map((hex) => `locks/a/${hex}`)
    assert.deepEqual(spansOf(names), [
      { from: 'locks/a/70e2aaaaaaaaaa01', to: 'locks/a/70e2aaaaaaaaaa09' },
      { from: 'locks/a/3c11aaaaaaaaaa07', to: 'locks/a/3c11aaaaaaaaaa07' },
    ])
    assert.deepEqual(spansOf([]), [])
  })

  it('hold the lease in hex, of which there are 64 bits', () => {
    assert.equal(entryKey('a', '10'), 'locks/a/000000000000000a')
    assert.equal(entryKey('a', '9223372036854775807'), 'locks/a/7fffffffffffffff')
  })
})

describe('the judge of locks', () => {
  const enter = (revision: number, name: string): LockEvent => ({
    revision,
    type: 'put',
    key: `${scopePrefix(SCOPE)}${name}`,
    value: Buffer.of(),
  })
  const leave = (revision: number, name: string): LockEvent => ({ ...enter(revision, name), type: 'delete' })
  const write = (revision: number, token: number): LockEvent => ({
    revision,
    type: 'put',
    key: registerKey(SCOPE),
    value: Buffer.from(String(token)),
  })

  it('condemns a write by a waiter, by one who left, and by a second holder', () => {
    assert.equal(judge([enter(2, 'a'), enter(3, 'b'), write(4, 3)], SCOPE, 1).violations.length, 1)
    assert.equal(judge([enter(2, 'a'), leave(3, 'a'), write(4, 2)], SCOPE, 1).violations.length, 1)
    assert.equal(judge([enter(2, 'a'), enter(3, 'b'), write(4, 2), write(5, 3)], SCOPE, 1).violations.length, 1)
  })

  it('has nothing against holders, nor against a result in the release', () => {
    assert.deepEqual(judge([enter(2, 'a'), enter(3, 'b'), write(4, 3), leave(5, 'a'), write(5, 2)], SCOPE, 2).violations, [])
  })
})
