import { z } from 'zod'
import { kindOf, shown, Wrong } from '../units.ts'
import { readPointer } from './pointer.ts'
import { DAY, duration, durationOr, GIB, KIB, MIB, MINUTE, scalar, SECOND, size, sizeOr, TIB } from './scalars.ts'

const lane = (weight: number, whenFull: 'block' | 'drop-oldest') =>
  z
    .strictObject({
      weight: z
        .int()
        .min(0)
        .max(100)
        .default(weight)
        .meta({ description: 'Share of the uplink, compared with the other lanes; 0 for what they leave.' }),
      whenFull: z
        .enum(['block', 'drop-oldest'])
        .default(whenFull)
        .meta({ description: 'When the buffer is full: devices wait, or the oldest of this lane are dropped with a count.' }),
    })
    .prefault({})

/** Where the id of a message is read from, by which a redelivery is known. */
export type DedupeFrom =
  | { readonly kind: 'none' }
  /** RFC 6901; tokens with ~0 and ~1 decoded. */
  | { readonly kind: 'json'; readonly pointer: readonly string[] }
  /** A named part of the topic pattern. */
  | { readonly kind: 'topic'; readonly part: string }
  /** An MQTT 5 user property. */
  | { readonly kind: 'user-property'; readonly name: string }

const dedupeFrom = scalar<DedupeFrom>(
  (value) => {
    const example = 'write none, json:/id, topic:{part} or user-property:name'
    if (typeof value !== 'string') return new Wrong(`expected text, got ${kindOf(value)}; ${example}`)
    if (value === 'none') return { kind: 'none' }
    if (value.startsWith('json:')) {
      const pointer = readPointer(value.slice('json:'.length))
      return pointer instanceof Wrong ? pointer : { kind: 'json', pointer }
    }
    const part = /^topic:\{([a-z][A-Za-z0-9_]*)\}$/.exec(value)?.[1]
    if (part !== undefined) return { kind: 'topic', part }
    const name = /^user-property:(.+)$/.exec(value)?.[1]
    return name === undefined ? new Wrong(`cannot read ${shown(value)}; ${example}`) : { kind: 'user-property', name }
  },
  { type: 'string', pattern: '^(none|json:/.*|topic:\\{.+\\}|user-property:.+)$' },
)

export const bufferSchema = z.strictObject({
  maxBytes: sizeOr({ auto: 'auto' as const }, 16 * MIB, 16 * TIB)
    .prefault('auto')
    .meta({ description: 'Most that the buffer may take of the disk. auto: 2 GiB, or a quarter of the disk if that is less.' }),
  minFreeBytes: size(0, 16 * TIB)
    .prefault('512MiB')
    .meta({ description: 'Free space of the disk that the buffer never touches.' }),
  maxAge: durationOr({ unlimited: Infinity }, MINUTE, 3650 * DAY)
    .prefault('30d')
    .meta({ description: 'Messages older than this are dropped with a count, or unlimited.' }),
  lanes: z
    .strictObject({
      urgent: lane(4, 'block').meta({ description: 'Urgent messages (limits.severity).' }),
      normal: lane(4, 'block').meta({ description: 'All others within their limits.' }),
      deferred: lane(1, 'drop-oldest').meta({ description: "Messages beyond their device's limit." }),
    })
    .prefault({})
    .meta({ description: 'The three lanes of the buffer.' }),
  commit: z
    .strictObject({
      maxDelay: durationOr({ auto: 'auto' as const }, 1, 5 * SECOND)
        .prefault('auto')
        .meta({ description: 'Longest wait for company before a commit. auto: by the kind of disk, up to 100ms.' }),
      maxBytes: size(4 * KIB, 256 * MIB)
        .prefault('4MiB')
        .meta({ description: 'A commit leaves at once when this much waits.' }),
    })
    .prefault({})
    .meta({ description: 'Group commit: how many messages share one fsync.' }),
  dedupe: z
    .strictObject({
      from: dedupeFrom
        .prefault('none')
        .meta({ description: 'Where a message id is read from: none, json:/pointer, topic:{part} or user-property:name (MQTT 5).' }),
      window: duration(SECOND, 30 * DAY)
        .prefault('10m')
        .meta({ description: 'How long an id is remembered, also over restarts.' }),
      maxIds: z.int().min(1).max(50_000_000).default(1_000_000).meta({ description: 'How many ids are remembered; the oldest go first.' }),
    })
    .prefault({})
    .meta({ description: 'Dropping of messages that a device sends again after a lost acknowledgement.' }),
})

export const ledgerSchema = z.strictObject({
  maxDevices: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(20_000)
    .meta({ description: 'Devices that are counted one by one; the rarest others are counted together. Totals stay exact.' }),
})

/** `buffer.maxBytes: auto`, in bytes. */
export function autoMaxBytes(diskBytes: number | undefined): number {
  return Math.max(16 * MIB, Math.min(2 * GIB, Math.floor((diskBytes ?? Infinity) / 4)))
}
