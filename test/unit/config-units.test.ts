import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  formatDuration,
  formatPercent,
  formatSize,
  parseByteRate,
  parseDuration,
  parsePercent,
  parseSize,
  Wrong,
} from '../../config/units.ts'

const ANY = { min: 0, max: Number.MAX_SAFE_INTEGER }

test('a duration that is written and read back is the same', () => {
  fc.assert(fc.property(fc.nat({ max: 10 ** 12 }), (ms) => parseDuration(formatDuration(ms), ANY) === ms))
})

test('a size that is written and read back is the same', () => {
  fc.assert(fc.property(fc.nat({ max: 2 ** 50 }), (bytes) => parseSize(formatSize(bytes), ANY) === bytes))
})

test('a percentage that is written and read back is the same', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 10_000 }), (hundredths) => {
      const fraction = parsePercent(`${hundredths / 100}%`, { min: 0, max: 1 })
      assert.equal(typeof fraction, 'number')
      return parsePercent(formatPercent(fraction as number), { min: 0, max: 1 }) === fraction
    }),
  )
})

test('each unit means what it says', () => {
  const durations: readonly [string, number][] = [
    ['250ms', 250],
    ['5s', 5_000],
    ['10m', 600_000],
    ['4h', 14_400_000],
    ['30d', 2_592_000_000],
    ['1.5s', 1_500],
    ['4.35s', 4_350],
    ['0s', 0],
  ]
  for (const [text, ms] of durations) assert.equal(parseDuration(text, ANY), ms, text)
  const sizes: readonly [string | number, number][] = [
    ['1B', 1],
    ['1kB', 1_000],
    ['1MB', 1_000_000],
    ['1GB', 1e9],
    ['1TB', 1e12],
    ['256KiB', 262_144],
    ['64MiB', 67_108_864],
    ['2GiB', 2_147_483_648],
    ['1TiB', 2 ** 40],
    ['1.5KiB', 1_536],
    [4096, 4096],
  ]
  for (const [text, bytes] of sizes) assert.equal(parseSize(text, ANY), bytes, String(text))
  assert.equal(parseByteRate('8KiB/s', ANY), 8_192)
  assert.equal(parseByteRate('8KiB', ANY), 8_192)
  assert.equal(parsePercent('20%', { min: 0, max: 1 }), 0.2)
})

test('whatever is written, the answer is a number within the bounds or words', () => {
  const bounds = { min: 10, max: 100_000 }
  const soup = fc.oneof(
    fc.string(),
    fc.stringMatching(/^-?\d{0,6}\.?\d{0,3} ?[A-Za-z%/]{0,4}$/),
    fc.double(),
    fc.constantFrom(null, true, [], {}, undefined, NaN, -1),
  )
  for (const parse of [parseDuration, parseSize, parseByteRate, parsePercent]) {
    fc.assert(
      fc.property(soup, (value) => {
        const result = parse(value, bounds)
        return result instanceof Wrong ? result.message.length > 0 : Number.isFinite(result) && result >= bounds.min && result <= bounds.max
      }),
    )
  }
})

test('a bad value is answered with what to write', () => {
  const words = (result: unknown): string => (result instanceof Wrong ? result.message : `accepted: ${String(result)}`)
  const bounds = { min: 1_000, max: 60_000 }
  assert.equal(words(parseDuration(5, bounds)), '5 has no unit; write for example 5s or 5ms')
  assert.equal(words(parseDuration('5', bounds)), '5 has no unit; write a duration such as 250ms, 5s, 10m, 4h or 30d')
  assert.equal(words(parseDuration('5 s', bounds)), 'cannot read "5 s"; write 5s')
  assert.equal(words(parseDuration('5min', bounds)), 'cannot read "5min"; write 5m')
  assert.equal(words(parseDuration('5weeks', bounds)), '"weeks" is no known unit; write a duration such as 250ms, 5s, 10m, 4h or 30d')
  assert.equal(words(parseDuration('0.0001s', ANY)), '0.0001s is finer than a millisecond; write whole milliseconds')
  assert.equal(words(parseDuration('1ms', bounds)), '1ms is too small; at least 1s')
  assert.equal(words(parseDuration('2h', bounds)), '2h is too big; at most 1m')
  assert.equal(
    words(parseDuration(null, bounds)),
    'expected a duration, got nothing (null); write a duration such as 250ms, 5s, 10m, 4h or 30d',
  )
  assert.equal(words(parseSize('64mb', ANY)), 'cannot read "64mb"; write 64MB')
  assert.equal(words(parseSize('64M', ANY)), 'cannot read "64M"; write 64MiB')
  assert.equal(words(parseSize('1KB', ANY)), 'cannot read "1KB"; write 1kB')
  assert.equal(words(parseSize(-1, ANY)), '-1 is no whole number of bytes; write a size such as 256KiB, 64MiB, 2GiB or 10MB')
  assert.equal(words(parseSize('1.1B', ANY)), '1.1B is no whole number of bytes; write a size such as 256KiB, 64MiB, 2GiB or 10MB')
  assert.equal(words(parsePercent(0.2, { min: 0, max: 1 })), '0.2 is no percentage; write for example 20%')
  assert.equal(words(parsePercent('101%', { min: 0, max: 1 })), '101% is too big; at most 100%')
})
