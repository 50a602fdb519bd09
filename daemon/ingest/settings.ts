/**
 * What a person can set about the intake, and the check that all of it can work together.
 */
import { GatewayError } from '../errors.ts'
import { CLASSES_AT_MOST } from './device-buckets.ts'
import type { OverrideSettings } from './limit-classes.ts'
import type { SeveritySettings } from './severity.ts'
import type { Limit } from './token-bucket.ts'
import type { TopicSettings } from './topic-pattern.ts'

export interface LimitSettings {
  readonly global: Limit
  readonly perDevice: Limit
  readonly overrides: readonly OverrideSettings[]
  /** What becomes of a message above a limit: it waits in the deferred lane, or is shed. */
  readonly overLimit: 'defer' | 'shed'
  /** Payload with user properties and content type. */
  readonly maxMessageBytes: number
  /** From `offer` to `settle`; above either, all sources are held. */
  readonly inFlight: { readonly messages: number; readonly bytes: number }
}

export interface IngestSettings {
  /** In the order of the config: the first match wins. */
  readonly topics: readonly TopicSettings[]
  readonly limits: LimitSettings
  readonly severity: SeveritySettings
  /** `none`, `json:/id`, `topic:{part}` or `user-property:name`. */
  readonly dedupeFrom: string
  /**
   * By source; `ignore` where a source is not named. For a listener `accept` is right: there the flag is the device's
   * wish to have a new message kept; only from a broker does it mark an old one (MQTT 3.1.1 section 3.3.1.3).
   */
  readonly retained: Readonly<Record<string, 'ignore' | 'accept'>>
}

/** Throws a `rejected` GatewayError for the first value that can't work. */
export function checkSettings({ topics, limits, severity }: IngestSettings): void {
  if (topics.length === 0)
    throw wrong('mqtt.topics', 'no pattern, so every message would be refused', 'Add one, as in devices/{device}/logs/{stream}.')
  checkLimit('limits.global', limits.global)
  checkLimit('limits.perDevice', limits.perDevice)
  for (const { name, devices, ...limit } of limits.overrides) {
    checkLimit(`limits.overrides.${name}`, { ...limits.perDevice, ...defined(limit) })
    if (devices === '')
      throw wrong(`limits.overrides.${name}.devices`, 'an empty pattern matches no device', 'Write a device id, or a pattern as cam-*.')
  }
  if (limits.overrides.length >= CLASSES_AT_MOST)
    throw wrong('limits.overrides', `${limits.overrides.length} entries`, `At most ${CLASSES_AT_MOST - 1}; use patterns.`)
  checkRange('limits.maxMessageBytes', limits.maxMessageBytes, 1, Infinity)
  checkRange('limits.inFlight.messages', limits.inFlight.messages, 1, Infinity)
  checkRange('limits.inFlight.bytes', limits.inFlight.bytes, 1, Infinity)
  checkRange('limits.severity.reserve', severity.reserveShare, 0, 0.95)
}

function checkLimit(key: string, limit: Limit): void {
  checkRange(`${key}.messagesPerSecond`, limit.messagesPerSecond, 0, Infinity)
  checkRange(`${key}.bytesPerSecond`, limit.bytesPerSecond, 0, Infinity)
  checkRange(`${key}.burst (ms)`, limit.burstMs, 1, 86_400_000)
}

function checkRange(key: string, value: number, least: number, most: number): void {
  if (value >= least && value <= most) return
  throw wrong(key, String(value), `Write a number from ${least}${most === Infinity ? ' up' : ` to ${most}`}.`)
}

function defined(limit: Partial<Record<keyof Limit, number | undefined>>): Partial<Limit> {
  return Object.fromEntries(Object.entries(limit).filter(([, value]) => value !== undefined))
}

function wrong(key: string, fault: string, remedy: string): GatewayError {
  return new GatewayError('rejected', `${key}: ${fault}.`, { remedy })
}
