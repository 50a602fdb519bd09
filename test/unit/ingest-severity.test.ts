import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { GatewayError } from '../../daemon/errors.ts'
import { JsonPayload } from '../../daemon/ingest/payload-json.ts'
import { SEVERITY_JSON_BYTES_AT_MOST, urgencyTest } from '../../daemon/ingest/severity.ts'

function isUrgent(from: string, payload: string | Uint8Array, urgent: readonly string[] = ['error', 'fatal']): boolean {
  const read = new JsonPayload()
  read.turnTo(typeof payload === 'string' ? Buffer.from(payload) : payload)
  return urgencyTest({ from, urgent, reserveShare: 0.2 })?.(read) ?? false
}

describe('severity from JSON', () => {
  it('reads names in any case, with their synonyms', () => {
    for (const level of ['error', 'ERROR', 'Err', ' error ', 'severe', 'fatal', 'FATAL', 'crit', 'alert', 'emerg', 'panic', 'E', 'f']) {
      assert.ok(isUrgent('json:/level', JSON.stringify({ level })), level)
    }
    for (const level of ['info', 'warn', 'errors', '', 'debug', 'notice', null, true, ['error'], { error: 1 }, {}]) {
      assert.ok(!isUrgent('json:/level', JSON.stringify({ level })), JSON.stringify(level))
    }
    assert.ok(isUrgent('json:/level', '{"level":"URGENT!"}', ['urgent!']))
    assert.ok(isUrgent('json:/level', '{"level":"warning"}', ['warn']))
    assert.ok(!isUrgent('json:/level', '{"level":"fatal"}', ['error']), 'a name is only itself')
  })

  it('reads numbers as pino and syslog give them', () => {
    for (const level of [50, 55, 60, 100, 0, 1, 2, 3, '3', '50'])
      assert.ok(isUrgent('json:/level', JSON.stringify({ level })), String(level))
    for (const level of [40, 49, 10, 4, 7, 8, 9, -1, 2.5, 1e300, '40', '4', '0050', '']) {
      assert.equal(isUrgent('json:/level', JSON.stringify({ level })), level === 1e300, String(level))
    }
    assert.ok(isUrgent('json:/level', '{"level": 5e1}') && isUrgent('json:/level', '{"level":50.0}'))
    assert.ok(isUrgent('json:/level', '{"level":35}', ['35']))
  })

  it('follows the pointer, and is not fooled by the same words elsewhere', () => {
    assert.ok(isUrgent('json:/log/level', '{"level":"info","log":{"level":"error"}}'))
    assert.ok(!isUrgent('json:/level', '{"log":{"level":"error"},"level":"info"}'))
    assert.ok(!isUrgent('json:/level', '{"msg":"\\"level\\":\\"error\\""}'))
    assert.ok(!isUrgent('json:/level', '{"msg":"error"}'))
    assert.ok(isUrgent('json:/0/level', '[{"level":"error"}]'))
    assert.ok(isUrgent('json:/levels/1', '{"levels":["info","error"]}'))
    assert.ok(isUrgent('json:/a~1b~0c', '{"a/b~c":"error"}'))
    assert.ok(isUrgent('json:/level', '\r\n {\t"level" \n:\r "error" }'))
    assert.ok(isUrgent('json:/level', '{"level":"\\u0065rror"}'))
    assert.ok(isUrgent('json:/level', '{"level":"info","level":"error"}'), 'the last of two keys, as JSON.parse has it')
  })

  it('log path 11: what is no JSON is not urgent, and never a fault', () => {
    const odd = [
      '',
      '{',
      '"error"',
      'level=error',
      '{"level":"error"',
      '{"level":"error',
      'null',
      '[]',
      '{"level":"error"}}',
      '\uFEFF{"level":"error"}',
    ]
    for (const payload of odd) assert.ok(!isUrgent('json:/level', payload), payload)
    assert.ok(!isUrgent('json:/level', Uint8Array.from([0x7b, 0xff, 0xfe])))
    assert.ok(!isUrgent('json:/level', `{"level":"error","x":"${'x'.repeat(SEVERITY_JSON_BYTES_AT_MOST)}"}`), 'too long to be parsed')
    fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (payload) => assert.equal(typeof isUrgent('json:/level', payload), 'boolean')))
  })

  it('gives with its quick look what parsing alone would give', () => {
    const level = fc.oneof(
      fc.constantFrom('error', 'INFO', 'fatal', 'err\u006Fr', '\\', 'é', 'ERROR '),
      fc.integer({ min: -5, max: 70 }),
      fc.jsonValue({ maxDepth: 1 }),
    )
    const json = fc.record({ level, other: level, log: fc.record({ level }) }, { requiredKeys: [] })
    fc.assert(
      fc.property(json, fc.constantFrom(0, 2), (value, space) => {
        const text = JSON.stringify(value, null, space)
        // An array index is never looked for by its name: `/0/…` takes the way without the quick look.
        assert.equal(isUrgent('json:/level', text), isUrgent('json:/0', JSON.stringify([value.level], null, space)))
      }),
      { numRuns: 1000 },
    )
  })
})

describe('severity from a syslog priority', () => {
  it('reads what RFC 5424 and RFC 3164 put in front', () => {
    for (const line of ['<11>1 2026-11-24T12:00:00Z host app - - - x', '<34>Oct 11 22:14:15 mymachine su: x', '<0>x', '<187>x'])
      assert.ok(isUrgent('syslog', line), line)
    for (const line of ['<12>warn', '<191>debug', '<192>x', '<999>', '<>x', '<1', '<1234>x', '<-1>', ' <11>x', 'x<11>', '<1a>', ''])
      assert.ok(!isUrgent('syslog', line), line)
    assert.ok(isUrgent('syslog', '<12>x', ['warning']) && isUrgent('syslog', '<8>x', ['emerg']) && !isUrgent('syslog', '<9>x', ['emerg']))
  })
})

describe('severity settings', () => {
  it('take a pattern, where a match is urgent', () => {
    assert.ok(isUrgent('pattern:(?i)\\b(error|fatal)\\b', 'an Error here', []))
    assert.ok(!isUrgent('pattern:^E ', 'an E here'))
  })

  it('say what to write instead', () => {
    for (const from of ['json:', 'json:level', 'json:/', 'json:/a~2', 'xml:/level', '', 'pattern:(', 'JSON:/level']) {
      assert.throws(
        () => isUrgent(from, ''),
        (error) => error instanceof GatewayError && error.kind === 'rejected' && (error.remedy ?? '') !== '',
        from,
      )
    }
    assert.equal(urgencyTest({ from: 'none', urgent: ['error'], reserveShare: 0 }), undefined)
  })
})
