import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { GatewayError } from '../../daemon/errors.ts'
import { STEPS_AT_MOST, compileLinePattern } from '../../daemon/ingest/line-pattern.ts'
import { LINE_BYTES_AT_MOST, LineSearch } from '../../daemon/ingest/line-search.ts'

function matches(pattern: string, line: string | Uint8Array): boolean {
  return new LineSearch(pattern).matches(Buffer.from(line as string))
}

const atom = fc.constantFrom(
  'a',
  'b',
  'B',
  '_',
  '\\.',
  '.',
  '\\d',
  '\\w',
  '\\W',
  '\\s',
  '[ab]',
  '[^a]',
  '[a-c_]',
  '[^\\w-]',
  '[\\d-b]',
  '[a-\\d]',
  '[\\d.]',
)
const expression = fc.letrec<{ any: string; sequence: string; group: string; piece: string }>((tie) => ({
  any: fc.array(tie('sequence'), { minLength: 1, maxLength: 3 }).map((items) => items.join('|')),
  sequence: fc.array(tie('piece'), { maxLength: 4 }).map((items) => items.join('')),
  group: tie('any').map((inner) => `(${inner})`),
  piece: fc.oneof(
    { maxDepth: 2 },
    fc.tuple(atom, fc.constantFrom('', '', '*', '+', '?', '{2}', '{1,2}', '{1,}', '*?')).map((pair) => pair.join('')),
    fc.constantFrom('^', '$', '\\b', '\\B'),
    fc.tuple(tie('group'), fc.constantFrom('', '*', '+', '?', '{0,2}')).map((pair) => pair.join('')),
  ),
})).any

const line = fc.string({ unit: fc.constantFrom('a', 'b', 'A', 'B', 'c', '_', '.', '-', ' ', '1'), maxLength: 12 })

describe('line pattern', () => {
  it('finds what JavaScript would find', () => {
    fc.assert(
      fc.property(
        expression.filter((source) => source.length < 60),
        fc.boolean(),
        line,
        (source, ignoreCase, subject) => {
          const search = new LineSearch((ignoreCase ? '(?i)' : '') + source)
          const expected = new RegExp(source, ignoreCase ? 'i' : '').test(subject)
          assert.equal(search.matches(Buffer.from(subject)), expected)
          assert.equal(search.matches(Buffer.from(subject)), expected, 'the same from the cache')
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('looks at lines as logs have them', () => {
    assert.ok(matches('\\b(ERROR|FATAL)\\b', '2026-11-24 12:00:00 ERROR disk'))
    assert.ok(!matches('\\bERROR\\b', 'TERRORS'))
    assert.ok(matches('^\\d+-\\d+ [\\d:.]+ +\\d+ +\\d+ [EF] ', '03-17 16:13:38.811  1702  2395 E WindowManager: x'))
    assert.ok(!matches('^\\d+-\\d+ [\\d:.]+ +\\d+ +\\d+ [EF] ', '03-17 16:13:38.811  1702  2395 D WindowManager: E x'))
    assert.ok(matches('end$', 'the end\r\n'), 'a line end is no part of the line')
    assert.ok(matches('(ä|数)!', 'xä!') && matches('数', '数'))
    assert.ok(matches('a.b', Uint8Array.from([97, 0xff, 98])), 'bytes that are no UTF-8')
  })

  it('looks at the first KiB only, and $ is not where that ends', () => {
    const long = 'x'.repeat(LINE_BYTES_AT_MOST - 5)
    assert.ok(matches('ERROR', `${long}ERROR and more`))
    assert.ok(!matches('ERROR', `${long}xERROR and more`))
    assert.ok(!matches('ERROR$', `${long}ERROR and more`))
    assert.ok(matches('ERROR$', `${long}ERROR`))
  })

  it('is not stalled by a pattern and a line that would stall a backtracking search', () => {
    const line = Buffer.from('a'.repeat(LINE_BYTES_AT_MOST))
    for (const pattern of [
      '(a+)+$x',
      '(a|a)*b',
      '(a*)*b',
      '(a|aa)+b',
      'a*a*a*a*a*a*a*a*b',
      '(.*)(.*)(.*)(.*)(.*)(.*)b',
      '(a?){60}a{60}b',
    ]) {
      assert.equal(new LineSearch(pattern).matches(line), false, pattern)
    }
  })

  it('stays correct when a line needs more states than the cache holds', () => {
    const search = new LineSearch('[ab]*a[ab]{14}c')
    const js = /[ab]*a[ab]{14}c/
    let state = 1
    for (let run = 0; run < 60; run++) {
      let text = ''
      for (let at = 0; at < 300; at++) text += (state = (state * 48271) % 2147483647) % 2 === 0 ? 'a' : 'b'
      text += 'c'
      assert.equal(search.matches(Buffer.from(text)), js.test(text))
      assert.ok(search.cachedStates <= 500)
    }
  })

  it('refuses what is wrong or would not be linear, and names the place', () => {
    for (const pattern of [
      '(',
      ')',
      'a(b',
      '[a',
      '*a',
      '+',
      'a{3,1}',
      '(?=a)',
      '(?!a)',
      '(?<=a)',
      '(a)\\1',
      '[z-a]',
      '[ä]',
      '\\q',
      '\\x1',
      '^*',
      '\\',
      'a(?i)b',
      '(a{90}){90}',
      'x'.repeat(1001),
    ]) {
      assert.throws(
        () => compileLinePattern(pattern),
        (error) => error instanceof GatewayError && error.kind === 'rejected' && /character \d+/.test(error.message),
        pattern,
      )
    }
    assert.ok(compileLinePattern('(a{9}){9}').steps.length < STEPS_AT_MOST)
  })
})
