/**
 * The verdict on one delivery. Pure and synchronous: the clock's reading comes in, nothing waits.
 *
 * Order of the checks: refused by its source, topic, identity, known, retained, oversize, duplicate id, limits. So what a
 * device may not send costs nobody tokens, and a duplicate costs its device none.
 *
 * What an urgent message may do: use all of a bucket, where others leave the reserve. It is no exemption. A device that
 * shouts is bounded by its own bucket, so of the global reserve it can take at most its own burst and rate; beyond
 * that its messages are over the limit like any other's.
 */
import type { Delivery, DeviceLane, ShedReason } from '../ports.ts'
import { DeviceBuckets } from './device-buckets.ts'
import { LimitClasses } from './limit-classes.ts'
import type { IdHash, MessageIdReader } from './message-id.ts'
import { messageIdReader } from './message-id.ts'
import { JsonPayload } from './payload-json.ts'
import type { IngestSettings } from './settings.ts'
import { checkSettings } from './settings.ts'
import type { UrgencyTest } from './severity.ts'
import { urgencyTest } from './severity.ts'
import { type Limit, TokenBucket } from './token-bucket.ts'
import type { TopicMeaning } from './topic-pattern.ts'
import { TopicPatterns } from './topic-pattern.ts'

type Verdict = { readonly lane: DeviceLane } | { readonly shed: ShedReason }

export interface Judgement {
  /** The device and stream that the message is counted under; both empty when nobody can be named. */
  readonly meaning: TopicMeaning
  readonly verdict: Verdict
  /**
   * Of an accepted message, and of one that was shed for a limit: its redelivery would else be accepted once the bucket
   * has filled up, behind later messages of its device. Whatever else is shed is shed again.
   */
  readonly messageId?: Uint8Array
  /** Which bucket was empty. */
  readonly limitedBy?: 'device' | 'global'
}

/** Which limits hold for a device, and how much of each bucket is left now: 1 is full. */
export interface DeviceLimit {
  /** Of `limits.overrides`; undefined: `limits.perDevice`. */
  readonly override: string | undefined
  readonly limit: Limit
  readonly level: number
  readonly globalLevel: number
  readonly overLimit: 'defer' | 'shed'
}

export interface AdmissionParts {
  readonly hash: IdHash
  readonly isKnown: (device: string) => boolean
  /** Is this id in the dedupe window? */
  readonly seen: (id: Uint8Array) => boolean
  /** Two random 32-bit numbers. */
  readonly seed: readonly [number, number]
  /** A fault of our own while looking at one message; the message goes on without what failed. */
  readonly onFault: (delivery: Delivery, error: unknown) => void
  readonly onMissingId: (delivery: Delivery, device: string) => void
}

interface Rules {
  readonly settings: IngestSettings
  readonly topics: TopicPatterns
  readonly classes: LimitClasses
  readonly urgent: UrgencyTest | undefined
  /** Share of a bucket that a message may use that is not urgent. */
  readonly normalShare: number
  readonly messageId: MessageIdReader | undefined
}

/** Share of a bucket that an urgent message may use. */
const ALL = 1

export class Admission {
  readonly #parts: AdmissionParts
  readonly #payload = new JsonPayload()
  readonly #devices: DeviceBuckets
  readonly #global: TokenBucket
  #rules: Rules

  /** Throws a `rejected` GatewayError when the settings can't work. */
  constructor(settings: IngestSettings, parts: AdmissionParts) {
    this.#parts = parts
    this.#rules = this.#compile(settings)
    this.#devices = new DeviceBuckets(this.#rules.classes, parts.seed)
    this.#global = new TokenBucket(settings.limits.global)
  }

  /** All or nothing: throws a `rejected` GatewayError and keeps the old settings. */
  configure(settings: IngestSettings, nowMs: number): void {
    this.#rules = this.#compile(settings)
    this.#devices.configure(this.#rules.classes, nowMs)
    this.#global.configure(settings.limits.global, nowMs)
  }

  get topics(): TopicPatterns {
    return this.#rules.topics
  }

  /** Whom a message is counted under: who sent it, not whom it claims to be from, unless it may speak for that one. */
  meaningOf(delivery: Delivery): TopicMeaning {
    return counted(this.#rules.topics.read(delivery.topic), delivery)
  }

  judge(delivery: Delivery, nowMs: number): Judgement {
    const found = this.#rules.topics.read(delivery.topic)
    const meaning = counted(found, delivery)
    const shed = refusal(delivery, found, this.#rules.settings, this.#parts.isKnown)
    if (shed !== undefined) return { meaning, verdict: { shed } }
    this.#payload.turnTo(delivery.payload)
    return this.#judgeReadable(delivery, meaning, nowMs)
  }

  bucketState(): ReturnType<DeviceBuckets['state']> & { readonly globalLevel: number } {
    return { ...this.#devices.state(), globalLevel: this.#global.level() }
  }

  limitOf(device: string, nowMs: number): DeviceLimit {
    const { classes, settings } = this.#rules
    const index = classes.classOf(device)
    this.#global.refill(nowMs)
    return {
      override: classes.names[index],
      limit: classes.limits[index] ?? settings.limits.perDevice,
      level: this.#devices.levelOf(device, nowMs),
      globalLevel: this.#global.level(),
      overLimit: settings.limits.overLimit,
    }
  }

  #judgeReadable(delivery: Delivery, meaning: TopicMeaning, nowMs: number): Judgement {
    const messageId = this.#messageId(delivery, meaning)
    if (messageId !== undefined && this.#parts.seen(messageId)) return { meaning, verdict: { shed: 'duplicate' } }
    const limited = this.#limit(delivery, meaning.device, nowMs)
    const isShed = 'limitedBy' in limited && this.#rules.settings.limits.overLimit === 'shed'
    const verdict: Verdict = isShed ? { shed: 'over-limit' } : { lane: limited.lane }
    const judgement = { meaning, verdict, ...('limitedBy' in limited ? { limitedBy: limited.limitedBy } : {}) }
    return messageId === undefined ? judgement : { ...judgement, messageId }
  }

  /** Takes from both buckets, or from neither. */
  #limit(delivery: Delivery, device: string, nowMs: number): { readonly lane: DeviceLane; readonly limitedBy?: 'device' | 'global' } {
    const bytes = weightOf(delivery)
    this.#devices.open(device, bytes, nowMs)
    // A device beyond all limits is not even read: what it costs is bounded by what it may send.
    if (!this.#devices.fits(ALL)) return { lane: 'deferred', limitedBy: 'device' }
    const urgent = this.#isUrgent(delivery)
    const ceiling = urgent ? ALL : this.#rules.normalShare
    if (!this.#devices.fits(ceiling)) return { lane: 'deferred', limitedBy: 'device' }
    this.#global.refill(nowMs)
    if (!this.#global.fits(bytes, ceiling)) return { lane: 'deferred', limitedBy: 'global' }
    this.#devices.take()
    this.#global.take(bytes)
    return { lane: urgent ? 'urgent' : 'normal' }
  }

  #isUrgent(delivery: Delivery): boolean {
    try {
      return this.#rules.urgent?.(this.#payload) ?? false
    } catch (error) {
      this.#parts.onFault(delivery, error)
      return false
    }
  }

  #messageId(delivery: Delivery, meaning: TopicMeaning): Uint8Array | undefined {
    const read = this.#rules.messageId
    if (read === undefined) return undefined
    try {
      const id = read(delivery, meaning, this.#payload)
      if (id === undefined) this.#parts.onMissingId(delivery, meaning.device)
      return id
    } catch (error) {
      this.#parts.onFault(delivery, error)
      return undefined
    }
  }

  #compile(settings: IngestSettings): Rules {
    checkSettings(settings)
    const topics = new TopicPatterns(settings.topics)
    const urgent = urgencyTest(settings.severity)
    return {
      settings,
      topics,
      classes: new LimitClasses(settings.limits.perDevice, settings.limits.overrides),
      urgent,
      // Where nothing can be urgent, a reserve would only be lost.
      normalShare: urgent === undefined ? ALL : ALL - settings.severity.reserveShare,
      messageId: messageIdReader(settings.dedupeFrom, topics, this.#parts.hash),
    }
  }
}

function counted(found: TopicMeaning | undefined, delivery: Delivery): TopicMeaning {
  if (found === undefined) return { device: delivery.identity ?? '', stream: '' }
  return isForeign(delivery, found) ? { ...found, device: delivery.identity ?? '' } : found
}

function isForeign({ identity, speaksForOthers }: Delivery, found: TopicMeaning): boolean {
  return identity !== undefined && identity !== found.device && speaksForOthers !== true
}

/** What is wrong with the delivery itself, whatever the limits are. */
function refusal(
  delivery: Delivery,
  found: TopicMeaning | undefined,
  settings: IngestSettings,
  isKnown: (device: string) => boolean,
): ShedReason | undefined {
  if (delivery.refused !== undefined) return delivery.refused.reason
  if (found === undefined) return 'malformed-topic'
  if (isForeign(delivery, found)) return 'not-own-topic'
  if (!isKnown(found.device)) return 'unknown-device'
  if (delivery.retained && settings.retained[delivery.source] !== 'accept') return 'retained'
  if (weightOf(delivery) > settings.limits.maxMessageBytes) return 'oversize'
  return undefined
}

/**
 * Bytes that a limit counts: the payload and what MQTT 5 lets a device send beside it, else a device would put its
 * flood into user properties. Without properties it is the payload.
 */
export function weightOf({ payload, contentType, userProperties }: Delivery): number {
  let bytes = payload.length + (contentType?.length ?? 0)
  if (userProperties !== undefined) for (const [name, value] of userProperties) bytes += name.length + value.length
  return bytes
}
