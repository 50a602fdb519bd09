import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Cron } from 'croner'
import fc from 'fast-check'
import { CronWindows } from '../../adapters/host/windows.ts'
import { kindOf } from '../../daemon/errors.ts'

const HOUR = 3_600_000
const windows = new CronWindows(() => 'Europe/Berlin')
const at = (text: string): number => Date.parse(text)
const opens = (cron: string, from: string, timezone = 'site'): string | undefined => {
  const ms = windows.opensMs({ timezone, cron, durationMs: HOUR }, at(from))
  return ms === undefined ? undefined : new Date(ms).toISOString()
}
const remaining = (cron: string, from: string, durationMs = HOUR): number =>
  windows.remainingMs({ timezone: 'site', cron, durationMs }, at(from))

test('a window is open from its first instant to its last', () => {
  assert.equal(remaining('0 1 * * *', '2026-11-23T23:59:59.999Z'), 0)
  assert.equal(remaining('0 1 * * *', '2026-11-24T00:00:00.000Z'), HOUR)
  assert.equal(remaining('0 1 * * *', '2026-11-24T00:59:59.999Z'), 1)
  assert.equal(remaining('0 1 * * *', '2026-11-24T01:00:00.000Z'), 0)
  assert.equal(opens('0 1 * * *', '2026-11-24T00:00:00Z'), '2026-11-25T00:00:00.000Z')
})

test('windows cross midnight, the weekend and the end of the month', () => {
  assert.equal(remaining('0 23 * * 6', '2026-11-29T02:00:00Z', 5 * HOUR), HOUR)
  assert.equal(remaining('0 23 31 12 *', '2027-01-01T00:00:00Z', 4 * HOUR), 2 * HOUR)
  assert.equal(remaining('0 1 * * 6,0', '2026-11-27T00:30:00Z', 4 * HOUR), 0)
})

test('the zone of the patch counts, or that of the site', () => {
  assert.equal(opens('0 1 * * *', '2026-11-24T00:30:00Z', 'UTC'), '2026-11-24T01:00:00.000Z')
  assert.equal(opens('0 1 * * *', '2026-11-24T00:30:00Z', 'Asia/Tokyo'), '2026-11-24T16:00:00.000Z')
})

test('spring in Berlin: 02:30 does not exist, and the window opens when the hour is over', () => {
  assert.equal(opens('30 2 * * *', '2026-03-29T00:00:00Z'), '2026-03-29T01:00:00.000Z')
  assert.equal(remaining('30 2 * * *', '2026-03-29T00:59:59.999Z'), 0)
  assert.equal(remaining('30 2 * * *', '2026-03-29T01:00:00Z'), HOUR)
  assert.equal(remaining('0 1 * * *', '2026-03-29T01:30:00Z', 2 * HOUR), HOUR / 2)
})

test('autumn in Berlin: 02:30 comes twice, and the window opens once', () => {
  assert.equal(opens('30 2 * * *', '2026-10-24T23:00:00Z'), '2026-10-25T00:30:00.000Z')
  assert.equal(opens('30 2 * * *', '2026-10-25T00:30:00Z'), '2026-10-26T01:30:00.000Z')
  assert.equal(remaining('30 2 * * *', '2026-10-25T01:30:00Z'), 0)
  assert.equal(remaining('30 2 * * *', '2026-10-25T01:29:00Z'), 60_000)
})

test('a zone that the box does not know is told', () => {
  assert.throws(
    () => windows.opensMs({ timezone: 'No/Where', cron: '0 1 * * *', durationMs: 1 }, 0),
    (error: unknown) => kindOf(error) === 'rejected' && /"0 1 \* \* \*" in No\/Where can't be read/.test((error as Error).message),
  )
})

test('property: open is after an opening and within its length, counted from the openings one by one', () => {
  const cron = fc.constantFrom('0 1 * * *', '30 2 * * *', '15 23 * * 6,0', '0 2,3 * * *', '45 1-3 * * *', '0 0 1 * *')
  const near = fc.constantFrom(at('2026-03-29T01:00:00Z'), at('2026-10-25T01:00:00Z'), at('2026-12-31T23:00:00Z'))
  fc.assert(
    fc.property(
      cron,
      near,
      fc.integer({ min: -30 * HOUR, max: 30 * HOUR }),
      fc.integer({ min: 1, max: 30 }),
      (line, middle, shift, hours) => {
        const now = middle + shift
        const each = new Cron(line, { timezone: 'Europe/Berlin', mode: '5-part', paused: true, fixedTimeRule: 'no-wildcard' })
        let end = 0
        for (let run = each.nextRun(new Date(now - 40 * 24 * HOUR)); run !== null && run.getTime() <= now; run = each.nextRun(run))
          end = Math.max(end, run.getTime() + hours * HOUR)
        assert.equal(windows.remainingMs({ timezone: 'site', cron: line, durationMs: hours * HOUR }, now), Math.max(0, end - now))
      },
    ),
    { numRuns: 150 },
  )
})
