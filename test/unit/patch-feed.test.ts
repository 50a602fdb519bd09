import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { Feed } from '../../daemon/patch/feed.ts'
import { catchUp, readAll } from '../../daemon/patch/mirror.ts'
import type { View } from '../../daemon/patch/mirror.ts'
import type { Place } from '../../daemon/patch/ports.ts'
import type { Log } from '../../daemon/ports.ts'
import { FakeClock, FakeRandom } from '../fakes/clock.ts'
import { FakeEtcd } from '../fakes/etcd.ts'

const silent: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const PREFIX = 'patches/'

function content(view: View): string {
  return [...view.entries.values()]
    .map(({ key, modRevision, value }) => `${key} ${modRevision} ${String(Buffer.from(value))}`)
    .sort()
    .join('\n')
}

type Step = {
  readonly kind: 'put' | 'delete' | 'other' | 'compact' | 'end watches' | 'lose hints' | 'faults' | 'wait'
  readonly key: number
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('put', 'put', 'delete', 'other', 'compact', 'end watches', 'lose hints', 'faults', 'wait'),
  key: fc.integer({ min: 0, max: 4 }),
})

async function change(etcd: FakeEtcd, { kind, key }: Step, serial: number): Promise<void> {
  const value = Buffer.from(String(serial))
  if (kind === 'put') await etcd.transact({ compare: [], then: [{ put: `${PREFIX}${key}`, value }] })
  if (kind === 'delete') await etcd.transact({ compare: [], then: [{ delete: `${PREFIX}${key}` }] })
  if (kind === 'other') await etcd.transact({ compare: [], then: [{ put: `patches-old/${key}`, value }] })
  if (kind === 'compact') etcd.compact()
  if (kind === 'end watches') etcd.endWatches()
}

describe('the mirror', () => {
  it('is what a full read gives, after any changes, and reads one small answer when there were none', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(step, { maxLength: 6 }), { maxLength: 8 }), async (batches) => {
        const etcd = new FakeEtcd(new FakeClock())
        let view = await readAll(etcd, PREFIX)
        let serial = 0
        for (const batch of batches) {
          for (const one of batch) await change(etcd, one, ++serial)
          const caught = await catchUp(etcd, PREFIX, view)
          assert.ok('view' in caught)
          view = caught.view
          assert.equal(content(view), content(await readAll(etcd, PREFIX)))
          let reads = 0
          etcd.verdict = () => (reads++, 'pass')
          await catchUp(etcd, PREFIX, view)
          assert.equal(reads, 1)
        }
      }),
    )
  })
})

class Bench {
  readonly clock = new FakeClock()
  readonly etcd = new FakeEtcd(this.clock)
  readonly random = new FakeRandom()
  readonly resets: string[] = []
  view: View | undefined
  stored: Place | undefined
  shallFail = false
  readonly feed: Feed

  constructor() {
    const consumer = {
      reconcile: async (view: View): Promise<void> => {
        await Promise.resolve()
        if (this.shallFail) throw new Error('no room')
        this.view = view
      },
      reset: async (why: string): Promise<void> => void this.resets.push(why),
    }
    const store = { read: async () => this.stored, write: async (place: Place) => void (this.stored = place) }
    this.feed = new Feed(this, { prefix: PREFIX, resyncMs: 600_000, retryMostMs: 60_000 }, consumer, store, silent)
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 10_000) {
      this.clock.advance(10_000)
      for (let turns = 0; turns < 3; turns++) await turn()
    }
  }
}

describe('the feed', () => {
  it('patch path 5, 7: comes to the state of etcd after any changes, lost hints, ended watches, compactions, faults and failures', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (steps, shallFail) => {
        const bench = new Bench()
        const { etcd } = bench
        await bench.feed.start(new AbortController().signal)
        let serial = 0
        for (const one of steps) {
          if (one.kind === 'lose hints') etcd.areHintsLost = !etcd.areHintsLost
          if (one.kind === 'faults') {
            etcd.verdict = () => (bench.random.unit() < 0.5 ? 'lost-response' : 'pass')
            bench.shallFail = shallFail
          }
          if (one.kind === 'wait') await bench.pass(30_000)
          const { verdict } = etcd
          etcd.verdict = () => 'pass'
          await change(etcd, one, ++serial)
          etcd.verdict = verdict
        }
        etcd.verdict = () => 'pass'
        bench.shallFail = false
        await bench.pass(1_800_000)
        assert.ok(bench.view)
        assert.equal(content(bench.view), content(await readAll(etcd, PREFIX)))
        assert.equal(bench.feed.state().state, 'current')
        assert.deepEqual(bench.resets, [])
        assert.ok((bench.stored?.revision ?? 0) <= etcd.revision)
        await bench.feed.stop(0)
      }),
      { numRuns: 60 },
    )
  })

  it('patch path 27: resets once for each restored backup, and comes to its state', async () => {
    const bench = new Bench()
    await bench.etcd.transact({ compare: [], then: [{ put: `${PREFIX}a`, value: Buffer.from('1') }] })
    const restore = bench.etcd.snapshot()
    await bench.etcd.transact({ compare: [], then: [{ put: `${PREFIX}b`, value: Buffer.from('2') }] })
    await bench.feed.start(new AbortController().signal)
    await bench.pass(10_000)
    for (const times of [1, 2]) {
      restore()
      await bench.pass(120_000)
      assert.deepEqual([...(bench.view?.entries.keys() ?? [])], [`${PREFIX}a`])
      assert.equal(bench.resets.length, times)
      await bench.etcd.transact({ compare: [], then: [{ put: `${PREFIX}c`, value: Buffer.from('3') }] })
      await bench.pass(120_000)
      assert.equal(bench.view?.entries.size, 2)
    }
    await bench.feed.stop(0)
  })

  it('slows down when watches end as soon as they begin', async () => {
    const bench = new Bench()
    let reads = 0
    bench.etcd.verdict = () => (reads++, 'pass')
    bench.etcd.watch = (_targets, _revision, onHint) => {
      queueMicrotask(() => onHint('ended'))
      return () => undefined
    }
    await bench.feed.start(new AbortController().signal)
    await bench.pass(3_600_000)
    assert.ok(reads > 20 && reads < 400, `${reads} reads in an hour`)
    await bench.feed.stop(0)
  })

  it('is quick again after a calm time, however many watches ended before', async () => {
    const bench = new Bench()
    await bench.feed.start(new AbortController().signal)
    for (let round = 0; round < 12; round++) {
      bench.etcd.endWatches()
      await bench.pass(60_000)
    }
    await bench.pass(3_600_000)
    const waits: number[] = []
    const after = bench.clock.after.bind(bench.clock)
    bench.clock.after = (ms, fn) => {
      waits.push(ms)
      return after(ms, fn)
    }
    bench.etcd.endWatches()
    for (let turns = 0; turns < 5; turns++) await turn()
    assert.ok(waits.length > 0 && waits.every((ms) => ms <= 500), `waits ${waits.join(', ')} ms`)
    await bench.feed.stop(0)
  })

  it('stops while a reconcile is stuck, at the deadline', async () => {
    const bench = new Bench()
    let aborted: AbortSignal | undefined
    const consumer = {
      reconcile: (_view: View, signal: AbortSignal): Promise<void> => {
        aborted = signal
        return new Promise(() => undefined)
      },
      reset: async (): Promise<void> => undefined,
    }
    const store = { read: async (): Promise<undefined> => undefined, write: async (): Promise<void> => undefined }
    const feed = new Feed(bench, { prefix: PREFIX, resyncMs: 600_000, retryMostMs: 60_000 }, consumer, store, silent)
    await feed.start(new AbortController().signal)
    await bench.pass(10_000)
    const stopped = feed.stop(bench.clock.monotonicMs() + 5_000)
    assert.equal(aborted?.aborted, true)
    await bench.pass(10_000)
    await stopped
    assert.notEqual(feed.state().state, 'current')
  })
})
