import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { filterCovers, filtersOverlap, readTopicPattern, templateParts } from '../../config/schema/topic.ts'
import { wrongPattern } from '../../config/schema/regex.ts'
import { readPointer } from '../../config/schema/pointer.ts'
import { nearest, suggestKey } from '../../config/suggest.ts'
import { Wrong } from '../../config/units.ts'

/** MQTT 5 section 4.7, written as plainly as it can be. */
function matches(filter: string, topic: string): boolean {
  const pattern = filter
    .split('/')
    .map((level) => (level === '+' ? '[^/]*' : level.replace('$', '\\$')))
    .join('/')
  const whole = pattern.replace(/\/#$/, '(/.*)?').replace(/^#$/, '.*')
  return !(topic.startsWith('$') && /^[+#]/.test(filter)) && new RegExp(`^${whole}$`).test(topic)
}

const level = fc.constantFrom('a', 'b', '', '+', '$s')
const filter = fc
  .tuple(fc.array(level, { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([levels, more]) => [...levels, ...(more ? ['#'] : [])].join('/'))
/** Every topic of up to 5 levels that tells two such filters apart. */
const TOPICS = [1, 2, 3, 4, 5].flatMap((length) => combinations(['a', 'b', '', '$s', 'z'], length))

function combinations(levels: readonly string[], length: number): readonly string[] {
  if (length === 1) return levels
  return combinations(levels, length - 1).flatMap((rest) => levels.map((one) => `${rest}/${one}`))
}

test('two filters overlap exactly if some topic matches both', () => {
  fc.assert(
    fc.property(filter, filter, (a, b) => {
      assert.equal(
        filtersOverlap(a, b),
        TOPICS.some((topic) => matches(a, topic) && matches(b, topic)),
        `${a} and ${b}`,
      )
    }),
    { numRuns: 300 },
  )
})

test('a filter that covers another matches all that it matches', () => {
  fc.assert(
    fc.property(filter, filter, (wide, narrow) => {
      if (!filterCovers(wide, narrow)) return
      assert.ok(
        TOPICS.every((topic) => !matches(narrow, topic) || matches(wide, topic)),
        `${wide} over ${narrow}`,
      )
    }),
    { numRuns: 300 },
  )
  assert.ok(filterCovers('a/#', 'a/+/b'))
  assert.ok(filterCovers('a/+', 'a/b'))
  assert.ok(!filterCovers('a/b', 'a/+'))
  assert.ok(!filterCovers('#', '$SYS/a'))
})

test('patterns become filters', () => {
  const cases: readonly [string, string, readonly string[]][] = [
    ['devices/{device}/logs/{stream}', 'devices/+/logs/+', ['device', 'stream']],
    ['{device}', '+', ['device']],
    ['a/+/{device}/#', 'a/+/+/#', ['device']],
    ['{device}/{rest...}', '+/#', ['device', 'rest']],
    ['/{device}/', '/+/', ['device']],
    ['$aws/things/{device}/ü', '$aws/things/+/ü', ['device']],
  ]
  for (const [pattern, expected, parts] of cases) assert.deepEqual(readTopicPattern(pattern), { pattern, filter: expected, parts })
})

test('whatever is written as a pattern, the answer is a valid filter or words', () => {
  const soup = fc
    .array(fc.constantFrom('a', '{device}', '{x}', '{x...}', '+', '#', '{', '', 'a+', '$share', '\0', '{device...}'), { maxLength: 6 })
    .map((levels) => levels.join('/'))
  fc.assert(
    fc.property(soup, (text) => {
      const result = readTopicPattern(text)
      if (result instanceof Wrong) return result.message.length > 0
      const levels = result.filter.split('/')
      return (
        levels.every(
          (one, index) => !/[{}]/.test(one) && (!/[+#]/.test(one) || one === '+' || (one === '#' && index === levels.length - 1)),
        ) &&
        result.parts.filter((part) => part === 'device').length === 1 &&
        !result.filter.startsWith('$share')
      )
    }),
  )
})

test('the parts of a template', () => {
  assert.deepEqual(templateParts('logs.{stream}-{line}'), ['stream', 'line'])
  assert.deepEqual(templateParts('logs'), [])
})

test('patterns that the payload search knows are accepted, others not', () => {
  for (const good of ['ERROR|FATAL', '(?i)\\berror\\b', '^<[0-7]>', '[^\\]]+\\d{2,4}', '(?:a|b)+?', '\\x1b\\[31m', 'ä', '(?<level>E)'])
    assert.equal(wrongPattern(good), undefined, good)
  for (const bad of [
    '',
    '(',
    'a**',
    '[a',
    '(?=a)',
    '(?!a)',
    '(?<!a)',
    '(?i:a)',
    '\\1',
    '\\k<x>',
    '\\p{L}',
    '\\u0041',
    '\\A',
    '[ä]',
    'x'.repeat(1_001),
  ])
    assert.notEqual(wrongPattern(bad), undefined, bad)
})

test('JSON pointers are decoded as RFC 6901 says', () => {
  assert.deepEqual(readPointer('/a~1b/m~0n/0'), ['a/b', 'm~n', '0'])
  assert.deepEqual(readPointer('/~01'), ['~1'])
  for (const bad of ['', 'a', '/', '/a//b', '/a~', '/a~2']) assert.ok(readPointer(bad) instanceof Wrong, bad)
})

test('a slip is recognised, another word is not', () => {
  const known = ['maxConnections', 'passwordFile', 'url', 'tls', 'receiveMaximum']
  const slips: readonly [string, string | undefined][] = [
    ['maxConection', 'maxConnections'],
    ['max_connections', 'maxConnections'],
    ['MAXCONNECTIONS', 'maxConnections'],
    ['ulr', 'url'],
    ['uri', 'url'],
    ['recieveMaximum', 'receiveMaximum'],
    ['passwordfiles', 'passwordFile'],
    ['receive', 'receiveMaximum'],
    ['certificate', undefined],
    ['x'.repeat(1000), undefined],
  ]
  for (const [word, meant] of slips) assert.equal(nearest(word, known), meant, word)
  assert.equal(suggestKey('hasOwnProperty', [], []), 'remove it')
})
