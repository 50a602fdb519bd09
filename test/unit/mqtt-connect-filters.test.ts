import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { filterFault, grantable, matches, withoutOverlaps } from '../../adapters/mqtt/connect-filters.ts'
import type { ConnectFilter } from '../../adapters/mqtt/connect-filters.ts'

const level = fc.constantFrom('a', 'b', '', '$SYS')
const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join('/'))
const filter = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('+')), { minLength: 0, maxLength: 4 }), fc.boolean())
  .map(([levels, isOpen]) => [...levels, ...(isOpen || levels.length === 0 ? ['#'] : [])].join('/'))
const subscription = fc.record({ filter, qos: fc.constantFrom(0 as const, 1 as const, 2 as const) })

/** Section 4.7, read as regular expressions: an implementation of its own. */
function matchesByPattern(one: string, name: string): boolean {
  if (name.startsWith('$') && !one.startsWith('$')) return false
  const pattern = one
    .replaceAll('$', String.raw`\$`)
    .replace(/^#$/, '.*')
    .replace(/\/#$/, '(/.*)?')
    .replaceAll('+', '[^/]*')
  return new RegExp(`^${pattern}$`).test(name)
}

test('a filter matches as the specification says', () => {
  fc.assert(
    fc.property(filter, topic, (one, name) => {
      assert.equal(matches(one, name), matchesByPattern(one, name))
    }),
    { numRuns: 2_000 },
  )
})

test('without overlaps no topic matches twice, and none is missed or granted less', () => {
  fc.assert(
    fc.property(fc.array(subscription, { maxLength: 5 }), fc.array(topic, { maxLength: 20 }), (filters, topics) => {
      const reduced = withoutOverlaps(filters)
      if (reduced.clash !== undefined) return
      const best = (list: readonly ConnectFilter[], name: string): number =>
        Math.max(-1, ...list.filter((one) => matches(one.filter, name)).map(({ qos }) => qos))
      for (const name of topics) {
        assert.ok(reduced.filters.filter((one) => matches(one.filter, name)).length <= 1, `${name} matches two`)
        assert.ok(best(reduced.filters, name) >= best(filters, name), `${name} is granted less`)
      }
    }),
    { numRuns: 2_000 },
  )
})

test('a clash is two filters that a topic matches, though none covers the other', () => {
  assert.deepEqual(
    withoutOverlaps([
      { filter: 'a/+', qos: 1 },
      { filter: '+/b', qos: 1 },
    ]).clash,
    ['a/+', '+/b'],
  )
  assert.equal(
    withoutOverlaps([
      { filter: 'a/+', qos: 1 },
      { filter: 'a/b', qos: 1 },
    ]).clash,
    undefined,
  )
  assert.equal(
    withoutOverlaps([
      { filter: '#', qos: 1 },
      { filter: '$SYS/#', qos: 1 },
    ]).clash,
    undefined,
  )
  assert.deepEqual(
    withoutOverlaps([
      { filter: 'a/b', qos: 2 },
      { filter: 'a/c', qos: 1 },
      { filter: 'a/#', qos: 0 },
    ]).filters,
    [{ filter: 'a/#', qos: 2 }],
  )
})

test('log path 26: a shared subscription is refused with the reason', () => {
  for (const shared of ['$share/group/devices/#', '$share', '$queue/devices/#']) {
    const fault = filterFault(shared)
    assert.match(fault?.reason ?? '', /spreads one device over several gateways, so order is void/)
    assert.match(fault?.remedy ?? '', /Subscribe without \$share/)
  }
  assert.equal(filterFault('$shared/x'), undefined)
})

test('filters that are none are refused', () => {
  for (const wrong of ['', 'a/#/b', 'a#', 'a/b+', '+a/b', 'a\0', 'x'.repeat(65_536)]) assert.notEqual(filterFault(wrong), undefined, wrong)
  for (const right of ['#', '+', '/', 'a/+/#', '+/+', '$SYS/#', 'ü/+']) assert.equal(filterFault(right), undefined, right)
})

test('nothing is subscribed with QoS 2', () => {
  assert.deepEqual(
    ([0, 1, 2] as const).map((qos) => grantable({ filter: 'a', qos })),
    [0, 1, 1],
  )
})
