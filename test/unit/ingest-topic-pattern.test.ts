import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { GatewayError } from '../../daemon/errors.ts'
import { TopicPattern, TopicPatterns } from '../../daemon/ingest/topic-pattern.ts'

const LOGS = { name: 'device-logs', pattern: 'devices/{device}/logs/{stream}' }

function read(pattern: string, topic: string): unknown {
  return new TopicPatterns([{ name: 'p', pattern }]).read(topic)
}

describe('topic pattern', () => {
  it('names device, stream and further parts', () => {
    assert.deepEqual(new TopicPatterns([LOGS]).read('devices/cam-1/logs/app'), { device: 'cam-1', stream: 'app' })
    assert.deepEqual(read('{site}/+/{device}/{line}', 'berlin/x/d1/4'), { device: 'd1', stream: 'p', parts: { site: 'berlin', line: '4' } })
  })

  it('takes the first pattern that matches, in config order', () => {
    const patterns = new TopicPatterns([
      { name: 'alarms', pattern: 'devices/{device}/logs/alarm' },
      LOGS,
      { name: 'rest', pattern: 'devices/{device}/#' },
    ])
    assert.equal(patterns.read('devices/a/logs/alarm')?.stream, 'alarms')
    assert.equal(patterns.read('devices/a/logs/x')?.stream, 'x')
    assert.equal(patterns.read('devices/a/y/z')?.stream, 'rest')
    assert.deepEqual(patterns.toFilters(), ['devices/+/logs/alarm', 'devices/+/logs/+', 'devices/+/#'])
  })

  it('lets a tail match its parent too (MQTT 5, 4.7.1.2)', () => {
    assert.deepEqual(read('d/{device}/{rest...}', 'd/a/b/c'), { device: 'a', stream: 'p', parts: { rest: 'b/c' } })
    assert.deepEqual(read('d/{device}/{rest...}', 'd/a'), { device: 'a', stream: 'p', parts: { rest: '' } })
    assert.deepEqual(read('d/{device}/#', 'd/a'), { device: 'a', stream: 'p' })
  })

  it('never matches a $ topic with a leading wildcard (MQTT 5, 4.7.2)', () => {
    assert.equal(read('{device}/#', '$SYS/broker'), undefined)
    assert.equal(read('+/{device}', '$SYS/broker'), undefined)
    assert.deepEqual(read('$SYS/{device}', '$SYS/broker'), { device: 'broker', stream: 'p' })
  })

  it('keeps empty levels apart from missing ones', () => {
    assert.equal(read('a/{device}', 'a'), undefined)
    assert.equal(read('a/{device}', 'a/'), undefined, 'an empty device is malformed')
    assert.equal(read('a/{device}', 'a/d/'), undefined)
    assert.deepEqual(read('a/{device}/{stream}', 'a/d/'), { device: 'd', stream: 'p' }, 'an empty stream falls to the name')
    assert.deepEqual(read('/{device}', '/d'), { device: 'd', stream: 'p' })
  })

  it('calls a topic malformed that was no UTF-8, or holds NUL or a wildcard, or is too long', () => {
    const bytes = Buffer.from([0x64, 0x2f, 0xff, 0xfe]).toString('utf8')
    for (const topic of [bytes, 'd/a\0b', 'd/+', 'd/#', `d/${'x'.repeat(257)}`]) assert.equal(read('d/{device}', topic), undefined, topic)
    assert.equal(read('d/{device}/#', `d/a/${'x/'.repeat(600)}`), undefined)
    assert.deepEqual(read('d/{device}', `d/${'x'.repeat(256)}`), { device: 'x'.repeat(256), stream: 'p' })
  })

  it('keeps a device as received: no case folding, no normal form, no trimming', () => {
    for (const device of [' a ', 'Ä', 'A\u0308', '数', '__proto__', '$x']) {
      assert.deepEqual(read('d/{device}', `d/${device}`), { device, stream: 'p' })
    }
  })

  it('says what to write instead of a wrong pattern', () => {
    const wrong = [
      '',
      'devices/+/logs',
      'a/{device',
      'a/dev-{device}',
      'a/{device}/{device}',
      '#/{device}',
      '{rest...}/{device}',
      'a/{device...}',
      'a/{device}/b#',
      '$share/g/{device}',
      'a/{1}/{device}',
    ]
    for (const pattern of wrong) {
      assert.throws(
        () => new TopicPattern({ name: 'x', pattern }),
        (error) => {
          assert.ok(error instanceof GatewayError && error.kind === 'rejected' && (error.remedy ?? '').length > 10)
          assert.match(error.message, /^mqtt\.topics\.x\.pattern/)
          return true
        },
        pattern,
      )
    }
  })

  it('agrees with the definition, level by level', () => {
    const word = fc.constantFrom('a', 'b', '', '$c', 'é')
    const part = fc.constantFrom('a', 'b', '+', '{one}', '')
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 4 }),
        fc.constantFrom('', '#', '{rest...}'),
        fc.array(word, { minLength: 1, maxLength: 6 }),
        (head, tail, topicLevels) => {
          const levels = [
            '{device}',
            ...head.map((level, index) => (level === '{one}' ? `{n${index}}` : level)),
            ...(tail === '' ? [] : [tail]),
          ]
          const pattern = new TopicPattern({ name: 'p', pattern: levels.join('/') })
          assert.equal(pattern.match(topicLevels.join('/')) !== undefined, matchesByDefinition(pattern.toFilter().split('/'), topicLevels))
        },
      ),
    )
  })
})

/** MQTT 5 section 4.7, for filters. */
function matchesByDefinition(filter: readonly string[], topic: readonly string[]): boolean {
  if ((filter[0] === '+' || filter[0] === '#') && (topic[0] ?? '').startsWith('$')) return false
  return matchesLevels(filter, topic)
}

function matchesLevels(filter: readonly string[], topic: readonly string[]): boolean {
  if (filter[0] === '#') return true
  if (filter.length === 0 || topic.length === 0) return filter.length === topic.length
  return (filter[0] === '+' || filter[0] === topic[0]) && matchesLevels(filter.slice(1), topic.slice(1))
}
