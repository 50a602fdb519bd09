import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Gap, Lane } from '../../daemon/ports.ts'
import { isProven, Judge, type Question } from '../../daemon/verify/judge.ts'
import { PositionSet, without } from '../../daemon/verify/positions.ts'

const EPOCH = '0123456789abcdef'
const NEXT = 'fedcba9876543210'

function judged(positions: readonly number[], partitionOf: (position: number) => number = () => 0): Judge {
  const judge = new Judge()
  for (const position of positions)
    judge.add({ topic: 'logs', partition: partitionOf(position), epoch: EPOCH, lane: 'normal', position, device: `d${position % 3}` })
  return judge
}

function ask(more: Partial<Question> = {}): Question {
  return { gaps: [], committed: new Map(), cut: new Set(), epoch: undefined, ...more }
}

function committed(next: number): Question['committed'] {
  return new Map([[EPOCH, new Map<Lane, number>([['normal', next]])]])
}

const gap = (first: number, last: number, reason: string, epoch = EPOCH): Gap => ({ lane: 'normal', epoch, first, last, reason })

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index)
}

test('missing ranges are those of a plain set', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 300 })), fc.integer({ min: 1, max: 310 }), (seen, last) => {
      const set = new PositionSet()
      for (const position of seen) assert.ok(set.add(position))
      for (const position of seen) assert.ok(!set.add(position))
      const there = new Set(seen)
      const expected = range(1, last).filter((position) => !there.has(position))
      assert.deepEqual(
        [...set.missing(1, last)].flatMap((one) => range(one.first, one.last)),
        expected,
      )
      assert.equal(set.size, there.size)
    }),
  )
})

test('a set spans pages', () => {
  const set = new PositionSet()
  for (const position of [65_535, 65_536, 200_000]) set.add(position)
  assert.deepEqual(
    [...set.missing(65_534, 200_001)],
    [
      { first: 65_534, last: 65_534 },
      { first: 65_537, last: 199_999 },
      { first: 200_001, last: 200_001 },
    ],
  )
})

test('ranges without others', () => {
  assert.deepEqual(
    without({ first: 1, last: 10 }, [
      { first: 3, last: 4 },
      { first: 9, last: 20 },
    ]),
    [
      { first: 1, last: 2 },
      { first: 5, last: 8 },
    ],
  )
  assert.deepEqual(without({ first: 5, last: 6 }, [{ first: 1, last: 9 }]), [])
})

test('a committed end that no record reaches is a gap; one that the box explains is none', () => {
  const open = judged(range(1, 90)).verdicts(ask({ committed: committed(101) }))
  assert.deepEqual(open[0]?.missing, [{ first: 91, last: 100 }])
  assert.equal(isProven(open), false)
  const known = judged(range(1, 90)).verdicts(ask({ committed: committed(101), gaps: [gap(91, 100, 'evicted')] }))
  assert.deepEqual([known[0]?.missingCount, known[0]?.explained, isProven(known)], [0, { evicted: 10 }, true])
})

test('an epoch of which nothing arrived at all is missing as far as it is committed', () => {
  const verdicts = new Judge().verdicts(ask({ committed: committed(6), gaps: [gap(1, 2, 'expired')] }))
  assert.deepEqual([verdicts[0]?.first, verdicts[0]?.missing], [1, [{ first: 3, last: 5 }]])
})

test('duplicates are named with their device, the first hundred', () => {
  const judge = judged([...range(1, 300), ...range(1, 150)])
  const [verdict] = judge.verdicts(ask())
  assert.deepEqual([verdict?.duplicateCount, verdict?.duplicates.length, verdict?.duplicates[0]], [150, 100, { position: 1, device: 'd1' }])
})

test('what may have stood in a part that was not read is not called missing', () => {
  const judge = judged(
    range(1, 100).filter((position) => position > 40 || position % 2 === 0),
    (position) => position % 2,
  )
  const [cut] = judge.verdicts(ask({ cut: new Set(['logs/1']) }))
  assert.deepEqual([cut?.missingCount, cut?.unproven], [0, 19])
  const [whole] = judge.verdicts(ask())
  assert.equal(whole?.missingCount, 19)
  const [late] = judge.verdicts(ask({ committed: committed(111), cut: new Set(['logs/1']) }))
  assert.deepEqual(late?.missing, [{ first: 101, last: 110 }])
  const [nothing] = judge.verdicts(ask({ committed: committed(111), cut: new Set(['logs/2']) }))
  assert.deepEqual([nothing?.missingCount, nothing?.unproven], [0, 29])
})

test('positions between two epochs can not be proven, unless they left in another way', () => {
  const judge = judged(range(1, 10))
  judge.add({ topic: 'logs', partition: 0, epoch: NEXT, lane: 'normal', position: 16, device: 'd' })
  assert.deepEqual(
    judge.verdicts(ask()).map(({ unproven }) => unproven),
    [0, 5],
  )
  const exported = judge.verdicts(ask({ gaps: [gap(11, 14, 'exported')] }))
  assert.deepEqual(
    exported.map(({ unproven, explained }) => [unproven, explained]),
    [
      [0, { exported: 4 }],
      [1, {}],
    ],
  )
})

test("the gateway's own records are not looked at", () => {
  const judge = new Judge()
  judge.add({ topic: 'edge.events', partition: 0, epoch: EPOCH, lane: 'internal', position: 7, device: 'gw' })
  assert.deepEqual([judge.records, judge.verdicts(ask())], [0, []])
})
