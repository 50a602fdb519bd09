import { z } from 'zod'
import { kindOf, shown, Wrong } from '../units.ts'
import {
  absolutePath,
  byteRate,
  duration,
  HOUR,
  KIB,
  listOf,
  messageRate,
  MIB,
  named,
  percent,
  plainText,
  scalar,
  size,
} from './scalars.ts'
import { readPointer } from './pointer.ts'
import { wrongPattern } from './regex.ts'

const BYTES = { min: 1, max: 10_000 * MIB }
const RATE_DOCS = {
  messagesPerSecond: 'Messages per second, or unlimited.',
  bytesPerSecond: 'Payload bytes per second, or unlimited.',
  burst: 'How much may come at once, as a time at the full rate.',
}

const bucket = (messagesPerSecond: number, bytesPerSecond: string, burst: string) =>
  z.strictObject({
    messagesPerSecond: messageRate().prefault(messagesPerSecond).meta({ description: RATE_DOCS.messagesPerSecond }),
    bytesPerSecond: byteRate(BYTES).prefault(bytesPerSecond).meta({ description: RATE_DOCS.bytesPerSecond }),
    burst: duration(100, HOUR).prefault(burst).meta({ description: RATE_DOCS.burst }),
  })

const overrideSchema = z.strictObject({
  devices: plainText(256).meta({
    description: 'Which devices: a pattern of their ids with * (any characters) and ? (one).',
    example: 'cam-*',
  }),
  messagesPerSecond: messageRate()
    .optional()
    .meta({ description: `${RATE_DOCS.messagesPerSecond} Default: as in perDevice.` }),
  bytesPerSecond: byteRate(BYTES)
    .optional()
    .meta({ description: `${RATE_DOCS.bytesPerSecond} Default: as in perDevice.` }),
  burst: duration(100, HOUR)
    .optional()
    .meta({ description: `${RATE_DOCS.burst} Default: as in perDevice.` }),
})

/** Where the severity of a message is read from. */
export type SeverityFrom =
  | { readonly kind: 'none' }
  /** RFC 6901; tokens with ~0 and ~1 decoded. */
  | { readonly kind: 'json'; readonly pointer: readonly string[] }
  /** The priority in front of a syslog line, `<13>` (RFC 5424 section 6.2.1). */
  | { readonly kind: 'syslog' }
  /** Source of a regular expression; a payload that it matches is urgent. */
  | { readonly kind: 'pattern'; readonly regex: string }

const severityFrom = scalar<SeverityFrom>(
  (value) => {
    const example = 'write none, syslog, json:/level or pattern:<regular expression>'
    if (typeof value !== 'string') return new Wrong(`expected text, got ${kindOf(value)}; ${example}`)
    if (value === 'none' || value === 'syslog') return { kind: value }
    if (value.startsWith('json:')) {
      const pointer = readPointer(value.slice('json:'.length))
      return pointer instanceof Wrong ? pointer : { kind: 'json', pointer }
    }
    if (!value.startsWith('pattern:')) return new Wrong(`cannot read ${shown(value)}; ${example}`)
    const regex = value.slice('pattern:'.length)
    const wrong = wrongPattern(regex)
    return wrong === undefined ? { kind: 'pattern', regex } : new Wrong(wrong)
  },
  { type: 'string', pattern: '^(none|syslog|json:/.*|pattern:.+)$' },
)

const severitySchema = z.strictObject({
  from: severityFrom
    .prefault('none')
    .meta({ description: 'Where the severity is read from: none, syslog, json:/pointer, or pattern:regex (a match is urgent).' }),
  urgent: listOf(z.union([plainText(64), z.int().transform(String)], { error: 'write a word such as error, or a whole number' }), 1, 32)
    .optional()
    .meta({
      description:
        "Severities that travel in the urgent lane, in any case; fatal includes syslog's emerg, alert and crit. Default: error and fatal. Without meaning for a pattern.",
    }),
  reserve: percent(0, 90)
    .prefault('20%')
    .meta({ description: 'Share of every limit that only urgent messages may use. Never an exemption.' }),
})

export const limitsSchema = z.strictObject({
  global: bucket(20_000, '20MiB', '2s').prefault({}).meta({ description: 'Limit of the whole box.' }),
  perDevice: bucket(200, '256KiB', '5s').prefault({}).meta({ description: 'Limit of each device.' }),
  overrides: named(overrideSchema, 1_000)
    .prefault({})
    .meta({ description: 'Other limits for some devices. Where several match, the most specific pattern counts.' }),
  overLimit: z
    .enum(['defer', 'shed'])
    .default('defer')
    .meta({ description: "What becomes of a message beyond a device's limit: the low-priority lane, or dropped with a count." }),
  severity: severitySchema.prefault({}).meta({ description: 'Which messages are urgent.' }),
  knownDevices: z
    .strictObject({
      file: absolutePath('file').meta({
        description: 'One device id, or pattern of ids with * and ?, a line; # begins a comment line. Read again when it changes.',
      }),
    })
    .optional()
    .meta({ description: 'Which devices may publish at all; messages of others are dropped with a count. Default: all.' }),
  maxMessageBytes: size(1, 16 * MIB)
    .prefault('256KiB')
    .meta({ description: 'Largest payload; a larger one is dropped with a count.' }),
  inFlight: z
    .strictObject({
      messages: z.int().min(1).max(1_000_000).default(20_000).meta({ description: 'Messages.' }),
      bytes: size(64 * KIB, 1024 * MIB)
        .prefault('32MiB')
        .meta({ description: 'Bytes; at least maxMessageBytes.' }),
    })
    .prefault({})
    .meta({ description: 'What all sources together may have received and not yet made durable. Beyond it they are not read.' }),
})
