import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { readPointer } from '../../config/schema/pointer.ts'
import { wrongPattern } from '../../config/schema/regex.ts'
import { readTopicPattern } from '../../config/schema/topic.ts'
import { Wrong } from '../../config/units.ts'
import { compileLinePattern } from '../../daemon/ingest/line-pattern.ts'
import { parsePointer } from '../../daemon/ingest/payload-json.ts'
import { TopicPattern } from '../../daemon/ingest/topic-pattern.ts'

// The config checks where it can name line and column; what it lets through must not stop the daemon at its start.
describe('what the config accepts', () => {
  it('is a pattern that the search can compile', () => {
    const piece = fc.constantFrom(
      'a',
      'Z',
      '0',
      '_',
      '-',
      '.',
      '\\d',
      '\\W',
      '\\s',
      '\\b',
      '\\B',
      '\\x41',
      '\\.',
      '\\-',
      '\\/',
      '\\n',
      '\\0',
      '[',
      ']',
      '[^',
      '(',
      ')',
      '(?:',
      '(?<n>',
      '|',
      '*',
      '+',
      '?',
      '{2}',
      '{1,3}',
      '{2,}',
      '{',
      '}',
      ',',
      '^',
      '$',
      'é',
      '(?i)',
      '(?=',
      '\\1',
      '\\q',
      ' ',
      '"',
    )
    let accepted = 0
    fc.assert(
      fc.property(
        fc.array(piece, { minLength: 1, maxLength: 7 }).map((pieces) => pieces.join('')),
        (source) => {
          // Escapes that mean nothing within [ ] are only found by the search's own compiler.
          if (wrongPattern(source) !== undefined || /\[.*\\[B1q]/.test(source)) return
          accepted++
          compileLinePattern(source)
        },
      ),
      { numRuns: 5000 },
    )
    assert.ok(accepted > 200, `${accepted}`)
  })

  it('is a topic pattern with the same filter and the same parts', () => {
    const level = fc.constantFrom(
      'devices',
      '',
      '+',
      '#',
      '{device}',
      '{stream}',
      '{rest...}',
      '{device...}',
      'a{b}',
      '$SYS',
      '$share',
      'é',
      '{x1_Y}',
      'a+',
    )
    let accepted = 0
    fc.assert(
      fc.property(
        fc.array(level, { minLength: 1, maxLength: 5 }).map((levels) => levels.join('/')),
        (pattern) => {
          const read = readTopicPattern(pattern)
          if (read instanceof Wrong) return
          accepted++
          const compiled = new TopicPattern({ name: 'p', pattern })
          assert.deepEqual([compiled.toFilter(), compiled.parts], [read.filter, read.parts])
        },
      ),
      { numRuns: 3000 },
    )
    assert.ok(accepted > 100, `${accepted}`)
  })

  it('is a pointer with the same tokens', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('/', '~0', '~1', '~', 'a', '0', 'é', ' '), maxLength: 8 }), (text) => {
        const tokens = readPointer(text)
        if (tokens instanceof Wrong) assert.throws(() => parsePointer(text, 'x'))
        else assert.deepEqual(parsePointer(text, 'x').tokens, tokens)
      }),
    )
  })
})
