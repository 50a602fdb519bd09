/** Words shared by the whole log path. */

/** Lanes that devices' messages travel in; each is strictly first in, first out within an epoch. */
export const DEVICE_LANES = ['urgent', 'normal', 'deferred'] as const
/** All lanes; the index is the partition of `<prefix>.positions` that holds the lane's position. */
export const LANES = ['urgent', 'normal', 'deferred', 'internal'] as const
export type DeviceLane = (typeof DEVICE_LANES)[number]
export type Lane = (typeof LANES)[number]

/** 16 lower-case hex digits, drawn at the first append of each daemon start. */
export type EpochId = string

/** Why a message was shed. Bounded: it is a metric label and a ledger key. */
export const SHED_REASONS = [
  'over-limit', // the device's or the global bucket was empty and `overLimit` is `shed`
  'oversize', // payload above `limits.maxMessageBytes`, or packet above the listener's limit
  'malformed-topic', // matches no pattern, is not valid UTF-8, or has an empty device part
  'not-own-topic', // the device published under another device's name
  'unknown-device', // not in the file of `limits.knownDevices`
  'retained', // a retained message while `retained: ignore`
  'duplicate', // a message id seen within the dedupe window, or a DUP of a delivery already durable
  'buffer-full', // QoS 0 while the buffer blocks
  'evicted', // `drop-oldest` made room
  'expired', // older than `buffer.maxAge`
  'dead-letter-dropped', // an operator dropped it
] as const
export type ShedReason = (typeof SHED_REASONS)[number]

/** Our durable record of one accepted message. */
export interface Envelope {
  /** Kafka key; as received, never normalised. */
  readonly device: string
  /** Value of the `{stream}` part, else the name of the topic pattern. */
  readonly stream: string
  /** MQTT topic as received. */
  readonly topic: string
  /** Further named parts of the pattern, in pattern order; for topic templates. */
  readonly parts?: Readonly<Record<string, string>>
  readonly payload: Uint8Array
  /** Wall clock at receipt, and whether it was trusted then. */
  readonly receivedMs: number
  readonly clockTrusted: boolean
  /** Boot time at receipt; comparable within the epoch's boot id. */
  readonly bootMs: number
  readonly contentType?: string
  readonly traceparent?: string
  /** MQTT 5 user properties, in order. */
  readonly userProperties?: readonly (readonly [string, string])[]
}

/** A record of the gateway's own; travels in the `internal` lane under the same positions. */
export interface InternalRecord {
  readonly destination: 'events' | 'ledger' | 'dead-letter'
  readonly key: string
  readonly value: Uint8Array
  readonly headers: readonly (readonly [string, string])[]
  readonly receivedMs: number
}
