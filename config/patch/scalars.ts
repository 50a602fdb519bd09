/** Scalars that only a patch has. */
import { Cron } from 'croner'
import type { z } from 'zod'
import type { Json } from '../merge.ts'
import { isTimezone } from '../schema/gateway.ts'
import { scalar, text } from '../schema/scalars.ts'
import { kindOf, parsePercent, shown, Wrong } from '../units.ts'

type ScalarOf<T> = z.ZodPipe<z.ZodUnknown, z.ZodTransform<T, unknown>>

/** Ids, channels and lock scopes stand in etcd keys, file names and commands. */
export function plainName(): ScalarOf<string> {
  return text(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'write 1 to 63 lower-case letters, digits, ".", "_" or "-", beginning with a letter or digit')
}

const INSTANT = /^(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,3})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/

/** RFC 3339 with a zone → Unix ms. */
export function instant(): ScalarOf<number> {
  return scalar(
    (value) => {
      const rule = 'write an instant with its zone, for example 2026-12-24T00:00:00Z'
      if (typeof value !== 'string') return new Wrong(`expected an instant, got ${kindOf(value)}; ${rule}`)
      const [, year, month, day] = INSTANT.exec(value) ?? []
      if (day === undefined) return new Wrong(`cannot read ${shown(value)}; ${rule}`)
      // Date.parse rolls 30 February over into March.
      const date = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)))
      if (date.toISOString().slice(0, 10) !== value.slice(0, 10))
        return new Wrong(`${value.slice(0, 10)} is no day of the calendar; ${rule}`)
      return Date.parse(value)
    },
    { type: 'string', format: 'date-time' },
  )
}

const UNIT_CHECK = /^unit:[A-Za-z0-9:_.@-]{1,240}\.(service|socket|timer|path|target)$/

/** `pipeline-moving`, `unit:<name>`, `http:<url>`. */
export function healthCheck(): ScalarOf<string> {
  return scalar(
    (value) => {
      const rule = 'write pipeline-moving, unit:NAME.service or http:URL'
      if (typeof value !== 'string') return new Wrong(`expected a health check, got ${kindOf(value)}; ${rule}`)
      if (value === 'pipeline-moving' || UNIT_CHECK.test(value)) return value
      if (/^https?:\/\//.test(value)) return new Wrong(`a URL alone is no check; write http:${value.slice(0, 200)}`)
      if (!value.startsWith('http:')) return new Wrong(`${shown(value)} is no known check; ${rule}`)
      const wrong = wrongUrl(value.slice('http:'.length))
      return wrong ?? value
    },
    { type: 'string', pattern: '^(pipeline-moving|unit:.+|http:https?://.+)$' },
  )
}

/** A download's address. The value is not repeated: its query may hold a token. */
export function artifactUrl(): ScalarOf<string> {
  return scalar(
    (value) => (typeof value === 'string' ? (wrongUrl(value) ?? value) : new Wrong(`expected a URL, got ${kindOf(value)}; ${URL_RULE}`)),
    { type: 'string', pattern: '^https?://' },
  )
}

const URL_RULE = 'write for example https://host/path'

function wrongUrl(value: string): Wrong | undefined {
  if (value.length > 2_048 || /[\u0000-\u0020\u007f]/.test(value))
    return new Wrong(`a URL has no spaces and at most 2048 characters; ${URL_RULE}`)
  if (!/^https?:\/\//.test(value) || !URL.canParse(value)) return new Wrong(`this is no http or https URL; ${URL_RULE}`)
  const url = new URL(value)
  return url.username === '' && url.password === ''
    ? undefined
    : new Wrong('a user name or password in a URL would stand in etcd for everyone; serve the file without them (its sha256 protects it)')
}

/** A place inside the release folder. */
export function insidePath(): ScalarOf<string> {
  return scalar(
    (value) => {
      const rule = 'write a path inside the release, for example bin/app'
      if (typeof value !== 'string' || value === '') return new Wrong(`expected a path, got ${kindOf(value)}; ${rule}`)
      if (Buffer.byteLength(value) > 512 || /[\u0000-\u001f\u007f]/.test(value))
        return new Wrong(`a path has at most 512 bytes and no control characters; ${rule}`)
      if (value.startsWith('/')) return new Wrong(`${shown(value)} is absolute; ${rule}`)
      const steps = value.split('/')
      if (steps.includes('..')) return new Wrong(`${shown(value)} leads out of the release; ${rule}`)
      return value === '.' || steps.every((step) => step !== '' && step !== '.')
        ? value
        : new Wrong(`${shown(value)} is not in its shortest form; ${rule}`)
    },
    { type: 'string', pattern: '^[^/]' },
  )
}

/** `"0755"` → 0o755. Only the nine bits of rwx: no patch makes a file setuid. */
export function fileMode(): ScalarOf<number> {
  return scalar(
    (value) => {
      const rule = 'write three octal digits in quotes, for example "0755"'
      if (typeof value !== 'string') return new Wrong(`expected a mode, got ${kindOf(value)}; ${rule}`)
      return /^0?[0-7]{3}$/.test(value) ? Number.parseInt(value, 8) : new Wrong(`${shown(value)} is no mode; ${rule}`)
    },
    { type: 'string', pattern: '^0?[0-7]{3}$' },
  )
}

const ACCOUNT = '([a-z_][a-z0-9_-]{0,31}|\\d{1,9})'

/** `app:app` or `990:990`. */
export function fileOwner(): ScalarOf<{ user: string; group: string }> {
  return scalar(
    (value) => {
      const rule = 'write user:group, for example app:app'
      const [, user, group] = typeof value === 'string' ? (new RegExp(`^${ACCOUNT}:${ACCOUNT}$`).exec(value) ?? []) : []
      if (user === undefined || group === undefined) return new Wrong(`${shown(value)} is no owner; ${rule}`)
      return { user, group }
    },
    { type: 'string', pattern: `^${ACCOUNT}:${ACCOUNT}$` },
  )
}

/** A file name with its arguments, one text each. */
export function commandWord(): ScalarOf<string> {
  return text(/^[^\u0000]{1,4096}$/s, 'write 1 to 4096 characters')
}

/** Five fields. A cron that never comes is refused: the patch would wait for ever. */
export function cronText(): ScalarOf<string> {
  return scalar(
    (value) => {
      const rule = 'write minute, hour, day, month and weekday, for example "0 1 * * 6,0"'
      if (typeof value !== 'string') return new Wrong(`expected a cron line, got ${kindOf(value)}; ${rule}`)
      // croner reads ? as the instant at which it looks, which differs from box to box.
      if (value.length > 200 || value.includes('?') || value.trim().split(/\s+/).length !== 5)
        return new Wrong(`cannot read ${shown(value)}; ${rule}`)
      return everComes(value) ? value : new Wrong(`${shown(value)} never comes or can't be read; ${rule}`)
    },
    { type: 'string' },
  )
}

function everComes(cron: string): boolean {
  try {
    return new Cron(cron, { mode: '5-part', paused: true, timezone: 'UTC' }).nextRun() !== null
  } catch (error) {
    // croner throws for what it can't read, and only then.
    if (error instanceof Error) return false
    throw error
  }
}

/** `site`, or an IANA name. */
export function windowZone(): ScalarOf<string> {
  return scalar(
    (value) =>
      typeof value === 'string' && (value === 'site' || isTimezone(value))
        ? value
        : new Wrong(`${shown(value)} is no time zone; write site (that of each box), or an IANA name such as Europe/Berlin`),
    { type: 'string' },
  )
}

/** What a broker takes as the name of a topic, with `{device}` where it may or must stand. */
export function deviceTopic(needsDevice: boolean): ScalarOf<string> {
  return scalar(
    (value) => {
      const rule = `write a topic ${needsDevice ? 'with' : 'with or without'} {device}, for example devices/{device}/settings`
      if (typeof value !== 'string' || value === '') return new Wrong(`expected a topic, got ${kindOf(value)}; ${rule}`)
      if (value.length > 512 || value.split('/').length > 32 || /[+#\u0000-\u001f\u007f]/.test(value))
        return new Wrong(
          `${shown(value)} is no topic to publish to (no +, #, control characters, at most 512 characters and 32 levels); ${rule}`,
        )
      if (value.startsWith('$')) return new Wrong(`topics that begin with $ belong to the broker; ${rule}`)
      if (/[{}]/.test(value.replaceAll('{device}', ''))) return new Wrong(`only {device} is replaced in a topic; ${rule}`)
      const devices = value.split('/').filter((level) => level.includes('{device}'))
      if (devices.length > 1) return new Wrong(`{device} stands twice; ${rule}`)
      if ((needsDevice && devices.length === 0) || devices.some((level) => level !== '{device}'))
        return new Wrong(`{device} must be a part of the topic by itself; ${rule}`)
      return value
    },
    { type: 'string', pattern: '^[^+#$][^+#]*$' },
  )
}

const PAYLOAD_BYTES_MAX = 65_536

/** Any JSON, sent to devices as it is. */
export function devicePayload(): ScalarOf<Json> {
  return scalar((value) => {
    const bytes = Buffer.byteLength(JSON.stringify(value) ?? '')
    return bytes <= PAYLOAD_BYTES_MAX ? (value as Json) : new Wrong(`${bytes} bytes as JSON is too big; at most ${PAYLOAD_BYTES_MAX}`)
  }, {})
}

/** `25` or `25%` → 0.25: the key says percent, so that a bare number is clear. */
export function percentOf100(): ScalarOf<number> {
  return scalar((value) => parsePercent(typeof value === 'number' ? `${value}%` : value, { min: 0.0001, max: 1 }), {
    anyOf: [
      { type: 'string', pattern: '^\\d+(\\.\\d+)?%$' },
      { type: 'number', exclusiveMinimum: 0, maximum: 100 },
    ],
  })
}
