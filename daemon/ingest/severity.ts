/**
 * Is a message urgent? From its payload, since MQTT carries no severity.
 *
 * - `json:/level`: a JSON pointer to a name (`error`) or a number: 0 to 7 as in syslog, from 10 as in pino and bunyan.
 * - `syslog`: the priority at the start, `<11>` (RFC 5424 section 6.2.1, RFC 3164 section 4.1.1).
 * - `pattern:REGEX`: a match is urgent (`line-pattern.ts`; the first KiB is looked at); `urgent` has no meaning then.
 * - `none`.
 *
 * A payload that says nothing is not urgent.
 */
import { GatewayError } from '../errors.ts'
import { LineSearch } from './line-search.ts'
import type { JsonPayload, JsonPointer } from './payload-json.ts'
import { parsePointer, skipSpace } from './payload-json.ts'

export interface SeveritySettings {
  /** `none`, `json:/pointer`, `syslog` or `pattern:REGEX`. */
  readonly from: string
  /** Names that are urgent, in any case. `fatal` includes syslog's emerg, alert and crit. */
  readonly urgent: readonly string[]
  /** Share of each bucket, 0 to 0.95, that only urgent messages may use. */
  readonly reserveShare: number
}

export type UrgencyTest = (payload: JsonPayload) => boolean

/** Above this a payload is not parsed to learn its severity; it is not urgent then. */
export const SEVERITY_JSON_BYTES_AT_MOST = 65_536
const NAME_LENGTH_AT_MOST = 64

const SYSLOG = ['emerg', 'alert', 'crit', 'error', 'warn', 'notice', 'info', 'debug']
const SYNONYMS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    emergency: 'emerg',
    panic: 'emerg',
    critical: 'crit',
    err: 'error',
    severe: 'error',
    warning: 'warn',
    information: 'info',
    informational: 'info',
    verbose: 'trace',
    c: 'crit',
    d: 'debug',
    e: 'error',
    f: 'fatal',
    i: 'info',
    n: 'notice',
    v: 'trace',
    w: 'warn',
  }),
)

/** Undefined for `none`. Throws a `rejected` GatewayError that says what to write instead. */
export function urgencyTest({ from, urgent }: SeveritySettings): UrgencyTest | undefined {
  const names = urgentNames(urgent)
  if (from === 'none') return undefined
  if (from === 'syslog') return ({ bytes }) => names.has(syslogName(bytes) ?? '')
  if (from.startsWith('json:')) return jsonTest(parsePointer(from.slice(5), 'limits.severity.from'), names)
  if (from.startsWith('pattern:')) {
    const search = new LineSearch(from.slice(8))
    return ({ bytes }) => search.matches(bytes)
  }
  throw new GatewayError('rejected', `limits.severity.from: "${from}" is not known.`, {
    remedy: 'Write none, json:/level, syslog or pattern:REGEX.',
  })
}

function urgentNames(urgent: readonly string[]): ReadonlySet<string> {
  const names = new Set(urgent.map(canonical))
  if (names.has('fatal')) for (const name of ['emerg', 'alert', 'crit']) names.add(name)
  return names
}

function jsonTest(pointer: JsonPointer, names: ReadonlySet<string>): UrgencyTest {
  const last = pointer.tokens.at(-1) ?? ''
  // A number may be an index, and an escaped key can be written in many ways: then only parsing tells.
  const key = /^(?!\d+$)[\w .:@-]+$/.test(last) ? Buffer.from(`"${last}"`) : undefined
  return (payload) => {
    if (payload.bytes.length > SEVERITY_JSON_BYTES_AT_MOST) return false
    if (key !== undefined && !mayBeUrgent(payload.bytes, key, names)) return false
    return isUrgent(payload.at(pointer), names)
  }
}

/**
 * Whether any member of that name has an urgent value. Saves parsing what is not urgent, which is nearly all. (Misses a
 * key that is written with \u escapes; no logger does.)
 */
function mayBeUrgent(bytes: Buffer, key: Buffer, names: ReadonlySet<string>): boolean {
  for (let found = bytes.indexOf(key); found !== -1; found = bytes.indexOf(key, found + 1)) {
    const colon = skipSpace(bytes, found + key.length)
    if (bytes[colon] === 0x3a && valueMayBeUrgent(bytes, skipSpace(bytes, colon + 1), names)) return true
  }
  return false
}

function valueMayBeUrgent(bytes: Buffer, at: number, names: ReadonlySet<string>): boolean {
  if (bytes[at] === 0x22) {
    const end = bytes.indexOf(0x22, at + 1)
    if (end === -1 || end - at > NAME_LENGTH_AT_MOST) return false
    // What holds an escape or is not ASCII must be parsed to be known.
    for (let index = at + 1; index < end; index++) if (bytes[index] === 0x5c || (bytes[index] ?? 0) > 127) return true
    return isUrgent(bytes.toString('latin1', at + 1, end), names)
  }
  const number = /^\d[\d.eE+-]*/.exec(bytes.toString('latin1', at, at + 24))
  return number !== null && isUrgent(Number(number[0]), names)
}

function isUrgent(value: unknown, names: ReadonlySet<string>): boolean {
  if (typeof value === 'string') return names.has(canonical(value)) || (/^\d{1,3}$/.test(value) && isUrgent(Number(value), names))
  if (typeof value !== 'number') return false
  return names.has(String(value)) || names.has(nameOfNumber(value) ?? '')
}

function nameOfNumber(value: number): string | undefined {
  if (value < 8) return SYSLOG[value]
  if (value < 10) return undefined
  return ['trace', 'debug', 'info', 'warn', 'error', 'fatal'][Math.min(6, Math.floor(value / 10)) - 1]
}

function syslogName(bytes: Uint8Array): string | undefined {
  if (bytes[0] !== 0x3c) return undefined
  let priority = 0
  for (let index = 1; index <= 4; index++) {
    const digit = (bytes[index] ?? 0) - 48
    if (digit === 14) return index > 1 && priority <= 191 ? SYSLOG[priority & 7] : undefined
    if (digit < 0 || digit > 9) return undefined
    priority = priority * 10 + digit
  }
  return undefined
}

function canonical(name: string): string {
  const lower = name.trim().toLowerCase()
  return SYNONYMS.get(lower) ?? lower
}
