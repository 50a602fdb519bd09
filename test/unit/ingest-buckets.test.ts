import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { DeviceBuckets } from '../../daemon/ingest/device-buckets.ts'
import { LimitClasses, globMatches } from '../../daemon/ingest/limit-classes.ts'
import type { Limit } from '../../daemon/ingest/token-bucket.ts'
import { TokenBucket } from '../../daemon/ingest/token-bucket.ts'

interface Taken {
  readonly atMs: number
  readonly bytes: number
}

const limit = fc.record({
  messagesPerSecond: fc.constantFrom(0.5, 1, 7, 100, 1000),
  bytesPerSecond: fc.constantFrom(10, 999, 50_000, Infinity),
  burstMs: fc.constantFrom(100, 1000, 5000),
})
const attempt = fc.record({
  waitMs: fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom(0, 0, 1, 3.3, 40) },
    fc.integer({ min: 0, max: 3000 }),
    fc.constantFrom(86_400_000),
  ),
  bytes: fc.oneof(fc.integer({ min: 0, max: 400 }), fc.constantFrom(0, 1, 5000, 1_000_000)),
  device: fc.integer({ min: 0, max: 11 }),
})
type Attempt = typeof attempt extends fc.Arbitrary<infer T> ? T : never

/** Limits that held from `fromMs` on. */
interface Period {
  readonly fromMs: number
  readonly limit: Limit
}

/**
 * In every window: admitted ≤ max(burst, largest cost) + the integral of the rate. A change may add one cost that is larger
 * than a burst: its debt is a share, and so is worth less when the burst becomes smaller.
 */
function assertBound(taken: readonly Taken[], periods: readonly Period[]): void {
  for (let first = 0; first < taken.length; first++) {
    let messages = 0
    let bytes = 0
    let largest = 0
    for (let last = first; last < taken.length; last++) {
      const one = taken[last] as Taken
      messages++
      bytes += one.bytes
      largest = Math.max(largest, one.bytes)
      const from = (taken[first] as Taken).atMs
      assertWithin(messages, allowed(periods, from, one.atMs, 'messagesPerSecond', 1))
      assertWithin(bytes, allowed(periods, from, one.atMs, 'bytesPerSecond', largest))
    }
  }
}

function assertWithin(admitted: number, most: number): void {
  assert.ok(admitted <= most * (1 + 1e-6) + 1e-6, `${admitted} admitted where at most ${most} may be`)
}

function allowed(
  periods: readonly Period[],
  fromMs: number,
  toMs: number,
  rate: 'messagesPerSecond' | 'bytesPerSecond',
  largest: number,
): number {
  const bursts: number[] = []
  let refill = 0
  periods.forEach((period, index) => {
    const begin = Math.max(fromMs, period.fromMs)
    const end = Math.min(toMs, periods[index + 1]?.fromMs ?? Infinity)
    if (end < begin) return
    bursts.push((period.limit[rate] * period.limit.burstMs) / 1000)
    if (end > begin) refill += (period.limit[rate] * (end - begin)) / 1000
  })
  const debts = largest > Math.min(...bursts) ? largest * (bursts.length - 1) : 0
  return Math.max(...bursts, largest) + debts + refill
}

describe('token bucket', () => {
  it('never admits more than burst + rate × time, whatever the schedule', () => {
    fc.assert(
      fc.property(limit, fc.array(attempt, { maxLength: 120 }), (one, attempts) => {
        const bucket = new TokenBucket(one)
        const taken = run(attempts, (bytes, nowMs) => tryTake(bucket, bytes, nowMs, 1))
        assertBound(taken, [{ fromMs: 0, limit: one }])
      }),
    )
  })

  it('never admits more across a live change, in either direction', () => {
    fc.assert(
      fc.property(
        limit,
        limit,
        fc.array(attempt, { maxLength: 60 }),
        fc.array(attempt, { maxLength: 60 }),
        (before, after, first, second) => {
          const bucket = new TokenBucket(before)
          const taken = run(first, (bytes, nowMs) => tryTake(bucket, bytes, nowMs, 1))
          const changeMs = first.reduce((sum, one) => sum + one.waitMs, 0)
          bucket.configure(after, changeMs)
          const rest = run(second, (bytes, nowMs) => tryTake(bucket, bytes, nowMs, 1), changeMs)
          assertBound(
            [...taken, ...rest],
            [
              { fromMs: 0, limit: before },
              { fromMs: changeMs, limit: after },
            ],
          )
        },
      ),
    )
  })

  it('admits all of a steady stream at exactly its rate', () => {
    const bucket = new TokenBucket({ messagesPerSecond: 10, bytesPerSecond: 1000, burstMs: 100 })
    for (let sent = 0; sent < 10_000; sent++) assert.ok(tryTake(bucket, 100, sent * 100, 1), `message ${sent}`)
  })

  it('takes messages and bytes both, or neither', () => {
    const bucket = new TokenBucket({ messagesPerSecond: 100, bytesPerSecond: 100, burstMs: 1000 })
    assert.ok(tryTake(bucket, 90, 0, 1))
    for (let tries = 0; tries < 200; tries++) assert.ok(!tryTake(bucket, 50, 0, 1))
    assert.ok(Math.abs(bucket.level() - 0.1) < 1e-9, 'the refused ones took no message tokens either')
    assert.ok(tryTake(bucket, 10, 0, 1))
  })

  it('admits a cost above the burst when it is full, and then collects the debt', () => {
    const bucket = new TokenBucket({ messagesPerSecond: 100, bytesPerSecond: 100, burstMs: 1000 })
    assert.ok(tryTake(bucket, 1000, 0, 1))
    assert.ok(!tryTake(bucket, 1, 9000, 1))
    assert.ok(tryTake(bucket, 1, 9100, 1))
    assert.ok(!tryTake(bucket, 1000, 9200, 1))
  })

  it('keeps the reserve from all but those who may use it', () => {
    const bucket = new TokenBucket({ messagesPerSecond: 10, bytesPerSecond: Infinity, burstMs: 1000 })
    assert.equal(
      count(20, () => tryTake(bucket, 1, 0, 0.8)),
      8,
    )
    assert.equal(
      count(20, () => tryTake(bucket, 1, 0, 1)),
      2,
    )
    assert.ok(!tryTake(bucket, 1, 200, 0.8), 'what refills goes to the reserve first')
    assert.equal(
      count(20, () => tryTake(bucket, 1, 200, 1)),
      2,
    )
  })

  it('log path 22: a clock that stands still or goes back refills nothing; one that leaps fills once', () => {
    const bucket = new TokenBucket({ messagesPerSecond: 10, bytesPerSecond: Infinity, burstMs: 1000 })
    assert.equal(
      count(100, () => tryTake(bucket, 1, 5000, 1)),
      10,
    )
    assert.equal(
      count(100, () => tryTake(bucket, 1, 5000, 1)),
      0,
    )
    assert.equal(
      count(100, () => tryTake(bucket, 1, 0, 1)),
      0,
    )
    assert.equal(
      count(100, () => tryTake(bucket, 1, 5000, 1)),
      0,
    )
    assert.equal(
      count(100, () => tryTake(bucket, 1, 1e15, 1)),
      10,
    )
  })

  it('a change gives no fresh burst and leaves no old debt', () => {
    const bucket = new TokenBucket({ messagesPerSecond: 1, bytesPerSecond: Infinity, burstMs: 60_000 })
    assert.equal(
      count(100, () => tryTake(bucket, 1, 0, 1)),
      60,
    )
    bucket.configure({ messagesPerSecond: 1000, bytesPerSecond: Infinity, burstMs: 1000 }, 0)
    assert.ok(!tryTake(bucket, 1, 0, 1), 'empty stays empty')
    assert.equal(
      count(1000, () => tryTake(bucket, 1, 500, 1)),
      500,
      'and fills at the new rate at once',
    )
  })

  it('knows no limit and no passage', () => {
    const open = new TokenBucket({ messagesPerSecond: Infinity, bytesPerSecond: Infinity, burstMs: 1000 })
    assert.equal(
      count(1000, () => tryTake(open, 1e9, 0, 1)),
      1000,
    )
    for (const closed of [
      { messagesPerSecond: 0, bytesPerSecond: Infinity },
      { messagesPerSecond: Infinity, bytesPerSecond: 0 },
    ]) {
      const bucket = new TokenBucket({ ...closed, burstMs: 1000 })
      assert.equal(
        count(10, () => tryTake(bucket, 1, 1e9, 1)),
        0,
      )
    }
  })
})

describe('device buckets', () => {
  it('never admit more per device than burst + rate × time, across eviction, overflow and live change', () => {
    const overrides = fc.array(fc.record({ devices: fc.constantFrom('d1*', 'd?', 'd3', '*'), limit }), { maxLength: 3 })
    const phase = fc.record({ perDevice: limit, overrides, attempts: fc.array(attempt, { maxLength: 80 }) })
    fc.assert(
      fc.property(fc.array(phase, { minLength: 1, maxLength: 3 }), fc.constantFrom(4, 8, 16), (phases, slots) => {
        let nowMs = 0
        let buckets: DeviceBuckets | undefined
        const taken = new Map<string, Taken[]>()
        const periods = new Map<string, Period[]>()
        for (const { perDevice, overrides, attempts } of phases) {
          const classes = new LimitClasses(
            perDevice,
            overrides.map(({ devices, limit }, index) => ({ name: `o${index}`, devices, ...limit })),
          )
          if (buckets === undefined) buckets = new DeviceBuckets(classes, [1, 2], slots)
          else buckets.configure(classes, nowMs)
          for (let device = 0; device < 12; device++)
            push(periods, `d${device}`, { fromMs: nowMs, limit: classes.limits[classes.classOf(`d${device}`)] as Limit })
          for (const { waitMs, bytes, device } of attempts) {
            nowMs += waitMs
            if (takeFrom(buckets, `d${device}`, bytes, nowMs)) push(taken, `d${device}`, { atMs: nowMs, bytes })
          }
        }
        for (const [device, list] of taken) assertBound(list, periods.get(device) ?? [])
      }),
      { numRuns: 300 },
    )
  })

  it('give each device exactly its burst while there is room, whoever else sends', () => {
    const buckets = new DeviceBuckets(new LimitClasses({ messagesPerSecond: 10, bytesPerSecond: Infinity, burstMs: 1000 }, []), [3, 4])
    for (let round = 0; round < 15; round++) {
      for (let device = 0; device < 5000; device++) {
        assert.equal(takeFrom(buckets, `device-${device}`, 1, 0), round < 10, `device ${device}, round ${round}`)
      }
    }
    assert.equal(buckets.state().overflowed, 0)
  })

  it('see 1,000,000 devices over time in bounded memory, and refill none early', () => {
    const buckets = new DeviceBuckets(new LimitClasses({ messagesPerSecond: 1, bytesPerSecond: Infinity, burstMs: 2000 }, []), [5, 6])
    let nowMs = 0
    let largest = 0
    assert.equal(
      count(5, () => takeFrom(buckets, 'old', 1, nowMs)),
      2,
    )
    for (let device = 0; device < 1_000_000; device++) {
      nowMs = device / 100
      if (device % 10_000 === 0) largest = Math.max(largest, buckets.state().bytes)
      assert.ok(takeFrom(buckets, `device-${device}`, 1, nowMs), `device ${device} has its burst`)
      if (device === 50_000)
        assert.equal(
          count(5, () => takeFrom(buckets, 'old', 1, nowMs)),
          0,
          'half a second is half a message',
        )
      if (device === 150_000)
        assert.equal(
          count(5, () => takeFrom(buckets, 'old', 1, nowMs)),
          1,
        )
    }
    assert.ok(largest < 10_000_000, `${largest} bytes`)
    nowMs += 120_000
    takeFrom(buckets, 'one', 1, nowMs)
    assert.ok(buckets.state().bytes < 100_000, 'idle buckets cost no memory')
    assert.equal(buckets.state().overflowed, 0)
  })

  it('share an overflow when every slot is in use: less for new devices, nothing more for old ones', () => {
    const rate = { messagesPerSecond: 1, bytesPerSecond: Infinity, burstMs: 100_000 }
    const buckets = new DeviceBuckets(new LimitClasses(rate, [{ name: 'mute', devices: 'mute-*', messagesPerSecond: 0 }]), [7, 8], 1024)
    const old = Array.from({ length: 768 }, (_, index) => `old-${index}`)
    for (const device of old)
      assert.equal(
        count(200, () => takeFrom(buckets, device, 1, 0)),
        100,
      )
    const late = Array.from({ length: 20_000 }, (_, index) => `late-${index}`)
    const admitted = late.map((device) => count(200, () => takeFrom(buckets, device, 1, 0)))
    assert.equal(Math.max(...admitted), 100)
    assert.equal(
      admitted.reduce((sum, one) => sum + one, 0),
      1024 * 100,
      'all shared buckets were found, and none twice',
    )
    assert.equal(buckets.state().overflowed, 1024 * 100)
    for (const device of old) assert.ok(!takeFrom(buckets, device, 1, 500), device)
    for (const device of late) assert.ok(!takeFrom(buckets, device, 1, 500), device)
    // Tables are swept in the next second; levels stay, and no device lends its class to those it shares with.
    for (let device = 0; device < 5000; device++) assert.ok(!takeFrom(buckets, `mute-${device}`, 1, 1500))
    for (const device of old)
      assert.equal(
        count(5, () => takeFrom(buckets, device, 1, 1500)),
        1,
        device,
      )
    assert.equal(
      late.reduce((sum, device) => sum + count(5, () => takeFrom(buckets, device, 1, 1500)), 0),
      1024,
    )
  })

  it('take the level of the overflow along when a slot comes free', () => {
    const buckets = new DeviceBuckets(new LimitClasses({ messagesPerSecond: 1, bytesPerSecond: Infinity, burstMs: 100_000 }, []), [7, 8], 8)
    for (let device = 0; device < 6; device++)
      assert.equal(
        count(10, () => takeFrom(buckets, `old-${device}`, 1, 0)),
        10,
      )
    assert.equal(
      count(200, () => takeFrom(buckets, 'late', 1, 0)),
      100,
    )
    assert.equal(buckets.state().overflowed, 100)
    assert.equal(
      count(200, () => takeFrom(buckets, 'late', 1, 20_000)),
      20,
      'the old buckets are full and gone; 20 s are 20 messages',
    )
    assert.equal(buckets.state().overflowed, 100)
  })

  it('follow a device into another class with its share, and at the new pace from the change on', () => {
    const slow = { messagesPerSecond: 1, bytesPerSecond: Infinity, burstMs: 10_000 }
    const buckets = new DeviceBuckets(new LimitClasses(slow, []), [9, 10])
    assert.equal(
      count(100, () => takeFrom(buckets, 'cam-1', 1, 0)),
      10,
    )
    buckets.configure(new LimitClasses(slow, [{ name: 'cameras', devices: 'cam-*', messagesPerSecond: 100 }]), 0)
    assert.equal(
      count(100, () => takeFrom(buckets, 'cam-1', 1, 0)),
      0,
    )
    assert.equal(
      count(1000, () => takeFrom(buckets, 'cam-1', 1, 1000)),
      100,
    )
    assert.equal(
      count(100, () => takeFrom(buckets, 'dam-1', 1, 1000)),
      10,
    )
  })
})

describe('device buckets at a live change', () => {
  const fast = { messagesPerSecond: 10, bytesPerSecond: Infinity, burstMs: 1000 }
  const slow = { messagesPerSecond: 10, bytesPerSecond: Infinity, burstMs: 100_000 }

  it('give time before the change at the old pace, time after it at the new one', () => {
    const buckets = new DeviceBuckets(new LimitClasses(fast, []), [1, 2])
    assert.equal(
      count(100, () => takeFrom(buckets, 'd', 1, 0)),
      10,
    )
    buckets.configure(new LimitClasses(slow, []), 500)
    assert.equal(
      count(2000, () => takeFrom(buckets, 'd', 1, 500)),
      500,
      'half full stays half full',
    )
    buckets.configure(new LimitClasses(fast, []), 1500)
    assert.equal(
      count(2000, () => takeFrom(buckets, 'd', 1, 1500)),
      0,
      '1 s at the slow pace was a hundredth: a tenth of a message',
    )
    assert.equal(
      count(2000, () => takeFrom(buckets, 'd', 1, 2490)),
      10,
    )
  })

  it('give a device that was not heard since no more than its new class allows', () => {
    const buckets = new DeviceBuckets(new LimitClasses(fast, []), [1, 2])
    assert.equal(
      count(100, () => takeFrom(buckets, 'cam-1', 1, 0)),
      10,
    )
    buckets.configure(new LimitClasses(fast, [{ name: 'cameras', devices: 'cam-*', burstMs: 100_000 }]), 0)
    assert.equal(
      count(2000, () => takeFrom(buckets, 'cam-1', 1, 1000)),
      10,
      'not the 1,000 of a burst filled at the old pace',
    )
  })
})

describe('limit overrides', () => {
  it('match globs as a simple definition does', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?', '.', '-'), maxLength: 8 })
    fc.assert(
      fc.property(text, text, (glob, name) => {
        const source = glob.replace(/[.-]/g, '\\$&').replaceAll('*', '[^]*').replaceAll('?', '[^]')
        assert.equal(globMatches(glob, name), new RegExp(`^(?:${source})$`).test(name))
      }),
      { numRuns: 2000 },
    )
  })

  it('let the most specific one win, whatever their order is', () => {
    const base = { messagesPerSecond: 1, bytesPerSecond: 10, burstMs: 1000 }
    const overrides = [
      { name: 'all', devices: '*', messagesPerSecond: 2 },
      { name: 'cameras', devices: 'cam-*', messagesPerSecond: 3 },
      { name: 'door', devices: 'cam-door-*', messagesPerSecond: 4, burstMs: 5000 },
      { name: 'one', devices: 'cam-door-1', bytesPerSecond: 99 },
    ]
    for (const order of [overrides, [...overrides].reverse()]) {
      const classes = new LimitClasses(base, order)
      const of = (device: string): unknown => classes.limits[classes.classOf(device)]
      assert.deepEqual(of('x'), { ...base, messagesPerSecond: 2 })
      assert.deepEqual(of('cam-9'), { ...base, messagesPerSecond: 3 })
      assert.deepEqual(of('cam-door-12'), { ...base, messagesPerSecond: 4, burstMs: 5000 })
      assert.deepEqual(of('cam-door-1'), { ...base, bytesPerSecond: 99 })
    }
  })
})

function run(attempts: readonly Attempt[], take: (bytes: number, nowMs: number) => boolean, startMs = 0): Taken[] {
  let atMs = startMs
  return attempts.flatMap(({ waitMs, bytes }) => {
    atMs += waitMs
    return take(bytes, atMs) ? [{ atMs, bytes }] : []
  })
}

function tryTake(bucket: TokenBucket, bytes: number, nowMs: number, ceiling: number): boolean {
  bucket.refill(nowMs)
  if (!bucket.fits(bytes, ceiling)) return false
  bucket.take(bytes)
  return true
}

function takeFrom(buckets: DeviceBuckets, device: string, bytes: number, nowMs: number): boolean {
  buckets.open(device, bytes, nowMs)
  if (!buckets.fits(1)) return false
  buckets.take()
  return true
}

function count(times: number, attempt: () => boolean): number {
  let admitted = 0
  for (let index = 0; index < times; index++) if (attempt()) admitted++
  return admitted
}

function push<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [item])
  else list.push(item)
}
