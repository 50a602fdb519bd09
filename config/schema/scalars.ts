import { isIP } from 'node:net'
import { z } from 'zod'
import { type Bounds, kindOf, parseByteRate, parseDuration, parsePercent, parseSize, shown, Wrong } from '../units.ts'

/** A zod type for one scalar that people write with a unit or in a grammar of its own. */
type ScalarOf<T> = z.ZodPipe<z.ZodUnknown, z.ZodTransform<T, unknown>>

/**
 * `read` turns what was written into a value, or says what is wrong. `json` is the same rule for editors
 * (JSON Schema), as near as a pattern comes to it.
 */
export function scalar<T>(read: (value: unknown) => T | Wrong, json: object): ScalarOf<T> {
  const type = z.unknown().transform((value, context): T => {
    const result = read(value)
    if (!(result instanceof Wrong)) return result
    context.addIssue({ code: 'custom', message: result.message, input: value })
    return z.NEVER
  })
  return type.meta({ ...json })
}

const DURATION_PATTERN = '\\d+(\\.\\d+)?(ms|s|m|h|d)'
const SIZE_PATTERN = '\\d+(\\.\\d+)?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)'
export const SECOND = 1_000
export const MINUTE = 60 * SECOND
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR
export const KIB = 1024
export const MIB = 1024 * KIB
export const GIB = 1024 * MIB
export const TIB = 1024 * GIB

/** ms. */
export function duration(min: number, max: number): ScalarOf<number> {
  return scalar((value) => parseDuration(value, { min, max }), { type: 'string', pattern: `^${DURATION_PATTERN}$` })
}

/** ms, or what a word stands for, such as `unlimited` → Infinity. */
export function durationOr<W extends string, T>(words: Record<W, T>, min: number, max: number): ScalarOf<number | T> {
  return wordsOr(words, (value) => parseDuration(value, { min, max }), `^(${DURATION_PATTERN}|${Object.keys(words).join('|')})$`, [])
}

/** Bytes. */
export function size(min: number, max: number): ScalarOf<number> {
  return scalar((value) => parseSize(value, { min, max }), {
    anyOf: [
      { type: 'string', pattern: `^${SIZE_PATTERN}$` },
      { type: 'integer', minimum: min, maximum: max },
    ],
  })
}

/** Bytes, or what a word stands for. */
export function sizeOr<W extends string, T>(words: Record<W, T>, min: number, max: number): ScalarOf<number | T> {
  return wordsOr(words, (value) => parseSize(value, { min, max }), `^(${SIZE_PATTERN}|${Object.keys(words).join('|')})$`, [
    { type: 'integer', minimum: min, maximum: max },
  ])
}

/** Bytes per second; `unlimited` → Infinity. */
export function byteRate(bounds: Bounds): ScalarOf<number> {
  return wordsOr({ unlimited: Infinity }, (value) => parseByteRate(value, bounds), `^(${SIZE_PATTERN}(/s)?|unlimited)$`, [
    { type: 'integer', minimum: bounds.min, maximum: bounds.max },
  ])
}

/** Messages per second, fractions too; `unlimited` → Infinity. */
export function messageRate(): ScalarOf<number> {
  const min = 0.001
  const max = 10_000_000
  const read = (value: unknown): number | Wrong => {
    if (typeof value !== 'number')
      return new Wrong(`expected a number of messages per second or unlimited, got ${kindOf(value)}; write for example 200`)
    if (value < min) return new Wrong(`${value} is too small; at least ${min} (one message in 1000 s)`)
    return value > max ? new Wrong(`${value} is too big; at most ${max}, or unlimited`) : value
  }
  return wordsOr({ unlimited: Infinity }, read, '^unlimited$', [{ type: 'number', minimum: min, maximum: max }])
}

/** A fraction. */
export function percent(min: number, max: number): ScalarOf<number> {
  return scalar((value) => parsePercent(value, { min: min / 100, max: max / 100 }), { type: 'string', pattern: '^\\d+(\\.\\d+)?%$' })
}

function wordsOr<W extends string, T, U>(
  words: Record<W, T>,
  read: (value: unknown) => U | Wrong,
  pattern: string,
  others: readonly object[],
): ScalarOf<T | U> {
  const known = new Map<unknown, T>(Object.entries<T>(words))
  const listed = [...known.keys()].join(' or ')
  return scalar(
    (value) => {
      const word = known.get(value)
      if (word !== undefined) return word
      const result = read(value)
      return result instanceof Wrong && !result.message.includes(listed) ? new Wrong(`${result.message}, or ${listed}`) : result
    },
    { anyOf: [{ type: 'string', pattern }, ...others] },
  )
}

/** Text that must match; `rule` says what is wanted, in words. */
export function text(pattern: RegExp, rule: string): ScalarOf<string> {
  return scalar(
    (value) => {
      if (typeof value === 'number' || typeof value === 'boolean') return new Wrong(`expected text, got ${kindOf(value)}; put it in quotes`)
      if (typeof value !== 'string') return new Wrong(`expected text, got ${kindOf(value)}`)
      return pattern.test(value) ? value : new Wrong(`${shown(value)} is not allowed here; ${rule}`)
    },
    { type: 'string', pattern: pattern.source },
  )
}

/** Any text without control characters. */
export function plainText(maxLength: number): ScalarOf<string> {
  return text(
    new RegExp(`^[^\\u0000-\\u001f\\u007f]{1,${maxLength}}$`),
    `write 1 to ${maxLength} characters, none of them a control character`,
  )
}

/** An absolute path. The value is not repeated in errors: a secret may stand there by mistake. */
export function absolutePath(what: 'file' | 'folder' | 'socket'): ScalarOf<string> {
  return scalar(
    (value) => {
      if (typeof value !== 'string' || value === '') return new Wrong(`expected the path of a ${what}`)

      if (/[\u0000-\u001f]/.test(value)) return new Wrong(`a path has no control characters; write the path of a ${what}`)
      return value.startsWith('/') ? value : new Wrong(`write the absolute path of a ${what}, beginning with /`)
    },
    { type: 'string', pattern: '^/' },
  )
}

/** A host and a port as they stand in the file. */
export interface HostPort {
  /** Without the brackets of IPv6. */
  readonly host: string
  /** 0 asks for any free port (listeners only). */
  readonly port: number
}

/** `127.0.0.1:9464`, `[::1]:9464`, `kafka-1:9092`. */
function readHostPort(value: unknown, minPort: 0 | 1): HostPort | Wrong {
  const example = 'write host:port, for example 127.0.0.1:9092 or [::1]:9092'
  if (typeof value !== 'string') return new Wrong(`expected host:port, got ${kindOf(value)}; ${example}`)
  if (value.includes('://')) return new Wrong(`${shown(value)} is a URL; ${example}`)
  const match = /^(?:\[([^\]]+)\]|([^:\s/@]+)):(\d{1,5})$/.exec(value)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined) return new Wrong(`cannot read ${shown(value)}; ${example}`)
  if (!isHost(host, match?.[1] !== undefined)) return new Wrong(`${shown(host)} is no host name or address; ${example}`)
  return port >= minPort && port <= 65_535
    ? { host: normalHost(host), port }
    : new Wrong(`port ${port} does not exist; write ${minPort} to 65535`)
}

/** The short spelling of an IPv6 address, so that two spellings of one address compare as equal. */
function normalHost(host: string): string {
  if (isIP(host) !== 6 || !URL.canParse(`http://[${host}]/`)) return host
  return new URL(`http://[${host}]/`).hostname.slice(1, -1)
}

function isHost(host: string, bracketed: boolean): boolean {
  if (bracketed) return isIP(host) === 6
  if (/^[\d.]+$/.test(host)) return isIP(host) === 4
  return /^(?!-)[A-Za-z0-9_.-]{1,253}$/.test(host)
}

/** A zod type for host:port. */
export function hostPort(): ScalarOf<HostPort> {
  return scalar((value) => readHostPort(value, 1), { type: 'string', pattern: ':\\d{1,5}$' })
}

/** Where something local listens: host:port, or `off` → undefined. */
export function listenOrOff(): ScalarOf<HostPort | undefined> {
  return scalar(
    (value) => {
      if (value === 'off') return undefined
      const result = readHostPort(value, 0)
      return result instanceof Wrong ? new Wrong(`${result.message}, or off`) : result
    },
    { type: 'string', pattern: '^(off|.*:\\d{1,5})$' },
  )
}

/** A URL as it stands in the file; only these parts are allowed. */
export interface Endpoint extends HostPort {
  readonly href: string
  /** True for mqtts and https. */
  readonly secure: boolean
}

/** URLs without user, password, path or query. The value is not repeated: it may hold a password. */
export function endpoint(
  schemes: { plain: string; secure: string; plainPort: number; securePort: number },
  minPort: 0 | 1,
): ScalarOf<Endpoint> {
  return scalar((value) => readEndpoint(value, schemes, minPort), { type: 'string', pattern: `^(${schemes.plain}|${schemes.secure})://` })
}

function readEndpoint(value: unknown, schemes: Parameters<typeof endpoint>[0], minPort: 0 | 1): Endpoint | Wrong {
  const example = `write ${schemes.plain}://host:port or ${schemes.secure}://host:port`
  if (typeof value !== 'string') return new Wrong(`expected a URL, got ${kindOf(value)}; ${example}`)
  const match = /^([a-z]+):\/\/([^/?#]*)(.*)$/s.exec(value)
  const [, scheme = '', authority = '', rest = ''] = match ?? []
  if (match === null) return new Wrong(`this is no URL; ${example}`)
  if (scheme !== schemes.plain && scheme !== schemes.secure) return new Wrong(`${shown(scheme)} is not spoken here; ${example}`)
  if (authority.includes('@')) return new Wrong('a user name or password in a URL would reach logs; write username and passwordFile')
  if (rest !== '' && rest !== '/') return new Wrong(`a path or query is not used; ${example}`)
  const secure = scheme === schemes.secure
  const withPort = /:\d+$/.test(authority) ? authority : `${authority}:${secure ? schemes.securePort : schemes.plainPort}`
  const at = readHostPort(withPort, minPort)
  return at instanceof Wrong ? new Wrong(`cannot read the host or port; ${example}`) : { ...at, secure, href: `${scheme}://${withPort}` }
}

/** Loopback addresses and `localhost`. Another host name may mean any address: not loopback. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.')) || host.startsWith('::ffff:7f')
}

/** A map from names that the user chose. They end up in metric labels and file names: short and plain. */
export function named<V extends z.ZodType>(entry: V, max: number, pattern = ENTRY_NAME): z.ZodRecord<z.ZodString, V> {
  return z
    .record(z.string().regex(pattern), entry)
    .refine((entries) => Object.keys(entries).length <= max, { error: `too many entries; keep at most ${max}` })
    .meta({ maxProperties: max })
}

const ENTRY_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/

/** A list of at most `max` items, none of them twice. */
export function listOf<V extends z.ZodType>(item: V, min: number, max: number): z.ZodArray<V> {
  return z.array(item).min(min).max(max).refine(isDistinct, { error: 'an item is written twice; keep one' })
}

function isDistinct(items: readonly unknown[]): boolean {
  return new Set(items.map((item) => JSON.stringify(item))).size === items.length
}
