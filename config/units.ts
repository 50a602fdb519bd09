/**
 * Units as people write them in the config file, and back. Durations are ms, sizes bytes, percents a fraction.
 *
 * A parse function returns a number, or `Wrong` with what is wrong and what to write instead. Nothing here
 * throws, and nothing knows of YAML or zod.
 */

/** What is wrong with a value, in the words that the user reads. */
export class Wrong {
  readonly message: string
  constructor(message: string) {
    this.message = message
  }
}

/** Inclusive bounds, in the unit of the result (ms or bytes). */
export interface Bounds {
  readonly min: number
  readonly max: number
}

const DURATION_UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const SIZE_UNITS = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
} as const

/** Spellings that are refused, since some of them mean different things to different people, and what is meant. */
const DURATION_ALIASES: Readonly<Record<string, string>> = {
  msec: 'ms',
  millis: 'ms',
  milliseconds: 'ms',
  sec: 's',
  secs: 's',
  second: 's',
  seconds: 's',
  min: 'm',
  mins: 'm',
  minute: 'm',
  minutes: 'm',
  hr: 'h',
  hrs: 'h',
  hour: 'h',
  hours: 'h',
  day: 'd',
  days: 'd',
}
const SIZE_ALIASES: Readonly<Record<string, string>> = {
  b: 'B',
  bytes: 'B',
  k: 'KiB',
  kb: 'kB',
  kib: 'KiB',
  m: 'MiB',
  mb: 'MB',
  mib: 'MiB',
  mi: 'MiB',
  ki: 'KiB',
  g: 'GiB',
  gb: 'GB',
  gib: 'GiB',
  gi: 'GiB',
  t: 'TiB',
  tb: 'TB',
  tib: 'TiB',
  ti: 'TiB',
}

const QUANTITY = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/

/** `250ms`, `5s`, `10m`, `4h`, `30d` → ms. A number without a unit is refused. */
export function parseDuration(value: unknown, bounds: Bounds): number | Wrong {
  if (typeof value === 'number') return new Wrong(`${value} has no unit; write for example ${value}s or ${value}ms`)
  const example = 'write a duration such as 250ms, 5s, 10m, 4h or 30d'
  if (typeof value !== 'string') return new Wrong(`expected a duration, got ${kindOf(value)}; ${example}`)
  const amount = quantity(value, DURATION_UNITS, DURATION_ALIASES, example)
  if (amount instanceof Wrong) return amount
  if (!Number.isInteger(amount)) return new Wrong(`${value} is finer than a millisecond; write whole milliseconds`)
  return within(amount, bounds, value, formatDuration)
}

/** `256KiB`, `64MiB`, `2GiB`, decimal `10MB`, or a plain number of bytes → bytes. */
export function parseSize(value: unknown, bounds: Bounds): number | Wrong {
  const example = 'write a size such as 256KiB, 64MiB, 2GiB or 10MB'
  const amount = typeof value === 'number' ? value : sizeOfText(value, example)
  if (amount instanceof Wrong) return amount
  if (!Number.isSafeInteger(amount) || amount < 0) return new Wrong(`${String(value)} is no whole number of bytes; ${example}`)
  return within(amount, bounds, String(value), formatSize)
}

/** A size, optionally with `/s` → bytes per second. */
export function parseByteRate(value: unknown, bounds: Bounds): number | Wrong {
  return parseSize(typeof value === 'string' ? value.replace(/\/s$/, '') : value, bounds)
}

/** `20%` → 0.2. A bare number is refused, since 20 and 0.2 could both be meant. */
export function parsePercent(value: unknown, bounds: Bounds): number | Wrong {
  const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)%$/.exec(value) : null
  if (match?.[1] === undefined) return new Wrong(`${shown(value)} is no percentage; write for example 20%`)
  return within(Number(match[1]) / 100, bounds, String(value), formatPercent)
}

/** The largest unit that divides the value evenly; `parseDuration` reads it back unchanged. */
export function formatDuration(ms: number): string {
  return formatIn(ms, ['d', 'h', 'm', 's', 'ms'], DURATION_UNITS)
}

/** The largest binary unit that divides the value evenly, else bytes; `parseSize` reads it back unchanged. */
export function formatSize(bytes: number): string {
  return formatIn(bytes, ['TiB', 'GiB', 'MiB', 'KiB', 'B'], SIZE_UNITS)
}

/** `parsePercent` reads it back unchanged as far as two decimals of a percent go. */
export function formatPercent(fraction: number): string {
  return `${Number((fraction * 100).toFixed(2))}%`
}

/** "the number 7", "a map": a value's kind in words. Never its content when that could be long. */
export function kindOf(value: unknown): string {
  if (value === null) return 'nothing (null)'
  if (value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a map'
  if (typeof value === 'string') return value === '' ? 'an empty text' : `the text ${shown(value)}`
  return `the ${typeof value === 'number' ? 'number' : 'value'} ${String(value)}`
}

/** A value as an error message shows it: one line, at most 40 characters. */
export function shown(value: unknown): string {
  if (typeof value !== 'string') return typeof value === 'object' ? kindOf(value) : String(value)
  const line = JSON.stringify(value.length > 40 ? `${value.slice(0, 37)}...` : value)
  return line
}

function sizeOfText(value: unknown, example: string): number | Wrong {
  if (typeof value !== 'string') return new Wrong(`expected a size, got ${kindOf(value)}; ${example}`)
  const amount = quantity(value, SIZE_UNITS, SIZE_ALIASES, example)
  // 99.6GiB is no whole number of bytes, and nobody minds.
  return typeof amount === 'number' && amount >= 1_000 ? Math.round(amount) : amount
}

function quantity(
  text: string,
  units: Readonly<Record<string, number>>,
  aliases: Readonly<Record<string, string>>,
  example: string,
): number | Wrong {
  const [, digits, unit] = QUANTITY.exec(text) ?? []
  if (digits === undefined || unit === undefined) return new Wrong(`cannot read ${shown(text)}; ${example}`)
  const factor = Object.hasOwn(units, unit) ? units[unit] : undefined
  if (factor !== undefined && !/\s/.test(text)) return scaled(digits, factor)
  if (unit === '') return new Wrong(`${text} has no unit; ${example}`)
  const meant = factor === undefined ? aliases[unit.toLowerCase()] : unit
  return new Wrong(
    meant === undefined ? `${shown(unit)} is no known unit; ${example}` : `cannot read ${shown(text)}; write ${digits}${meant}`,
  )
}

/** Rounds away the last bit of binary fractions: 4.35s is 4350 ms, not 4349.999…, and 0.0001s stays a fraction. */
function scaled(digits: string, factor: number): number {
  const exact = Number(digits) * factor
  const whole = Math.round(exact)
  return Math.abs(exact - whole) < 1e-6 * Math.max(1, Math.abs(whole) * 1e-6) ? whole : exact
}

function within(amount: number, bounds: Bounds, text: string, format: (amount: number) => string): number | Wrong {
  if (amount < bounds.min) return new Wrong(`${text} is too small; at least ${format(bounds.min)}`)
  if (amount > bounds.max) return new Wrong(`${text} is too big; at most ${format(bounds.max)}`)
  return amount
}

function formatIn(amount: number, names: readonly string[], units: Readonly<Record<string, number>>): string {
  const last = names[names.length - 1] ?? ''
  const name = names.find((candidate) => amount !== 0 && amount % (units[candidate] ?? 1) === 0) ?? last
  return `${amount / (units[name] ?? 1)}${name}`
}
