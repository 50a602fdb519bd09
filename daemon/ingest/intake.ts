/**
 * Where all sources hand over what they received: counts it, judges it, gives it to the outbox, and holds the sources
 * while too much is on its way or the outbox has no room.
 *
 * Nothing that one message holds can stop the others: a fault of ours while looking at it is counted, and the
 * message goes on into the normal lane.
 */
import type { Clock, Random } from '../clock.ts'
import type { Component } from '../component.ts'
import { messageOf } from '../errors.ts'
import type { Delivery, Entry, Envelope, Intake, OutboxWriter, ShedReason, Source } from '../ports.ts'
import type { DeviceLimit, Judgement } from './admission.ts'
import { Admission, weightOf } from './admission.ts'
import type { IngestCounters } from './counters.ts'
import { Counters } from './counters.ts'
import type { IdHash } from './message-id.ts'
import type { NoticeSink } from './notices.ts'
import { Notices, quoted } from './notices.ts'
import type { IngestSettings } from './settings.ts'
import { SourceHold } from './source-hold.ts'
import { traceparentOf } from './trace-context.ts'

export interface IntakeParts {
  readonly clock: Clock
  readonly random: Random
  readonly outbox: OutboxWriter
  readonly hash: IdHash
  /** Is this one of the devices that may publish at all? */
  readonly isKnown: (device: string) => boolean
  readonly onNotice: NoticeSink
  /** Looks on; what it throws is a fault of ours, and the message goes on. */
  readonly watch?: { judged(delivery: Delivery, judgement: Judgement, bytes: number, nowMs: number): void }
}

const WHY: Readonly<Partial<Record<ShedReason, string>>> = {
  'over-limit': 'its device or the box is above its limit (limits.perDevice, limits.global), and limits.overLimit is shed',
  oversize: 'larger than limits.maxMessageBytes or than the listener takes',
  'malformed-topic': 'no pattern of mqtt.topics matches, or a part of the topic is empty, too long or no UTF-8',
  'not-own-topic': 'the device published under another name than its own, or to a topic that the aclFile of its listener does not grant',
  'unknown-device': 'its device is not in the file of limits.knownDevices',
  retained: 'a retained message, and its source has retained: ignore',
  'buffer-full': 'the buffer is full, and QoS 0 does not wait',
}

const NO_PAYLOAD = new Uint8Array(0)

export class DeviceIntake implements Intake, Component {
  readonly name = 'intake'
  readonly #clock: Clock
  readonly #outbox: OutboxWriter
  readonly #admission: Admission
  readonly #notices: Notices
  readonly #counters = new Counters()
  readonly #hold: SourceHold
  readonly #watch: IntakeParts['watch']
  #unsubscribe: (() => void) | undefined

  /** Throws a `rejected` GatewayError when the settings can't work. */
  constructor(settings: IngestSettings, { clock, random, outbox, hash, isKnown, onNotice, watch }: IntakeParts) {
    this.#watch = watch
    this.#clock = clock
    this.#outbox = outbox
    this.#notices = new Notices(onNotice)
    this.#hold = new SourceHold(settings.limits.inFlight)
    this.#admission = new Admission(settings, {
      hash,
      isKnown,
      seed: seedFrom(random),
      seen: (id) => outbox.seen(id),
      onFault: (delivery, error) => this.#fault(delivery, error),
      onMissingId: (delivery, device) => this.#missingId(delivery, device),
    })
  }

  start(): Promise<void> {
    this.#unsubscribe ??= this.#outbox.onRoomChange(() => this.#hold.setRoom(this.#outbox.state().blockedReason))
    this.#hold.setRoom(this.#outbox.state().blockedReason)
    return Promise.resolve()
  }

  /** Sources stop before; what was offered still settles. */
  stop(): Promise<void> {
    this.#unsubscribe?.()
    this.#unsubscribe = undefined
    return Promise.resolve()
  }

  /** The source is held and released from now on, at once if others are held. Returns what ends that. */
  add(source: Pick<Source, 'hold' | 'release'>): () => void {
    return this.#hold.add(source)
  }

  /** All or nothing, from the next message on: throws a `rejected` GatewayError and keeps the old settings. */
  configure(settings: IngestSettings): void {
    this.#admission.configure(settings, this.#clock.monotonicMs())
    this.#hold.configure(settings.limits.inFlight)
  }

  /** MQTT filters that sources subscribe to; may change with `configure`. */
  topicFilters(): readonly string[] {
    return this.#admission.topics.toFilters()
  }

  counters(): IngestCounters {
    return this.#counters.snapshot({ inFlight: this.#hold.inFlight(), held: this.#hold.reason, buckets: this.#admission.bucketState() })
  }

  /** The limits of a device, and what is left of them. */
  limitOf(device: string): DeviceLimit {
    return this.#admission.limitOf(device, this.#clock.monotonicMs())
  }

  offer(delivery: Delivery): void {
    const bytes = delivery.refused?.bytes ?? delivery.payload.length
    this.#counters.received(delivery.source, bytes)
    this.#outbox.submit(this.#entryFor(delivery, bytes))
  }

  #entryFor(delivery: Delivery, bytes: number): Entry {
    try {
      const nowMs = this.#clock.monotonicMs()
      const judgement = this.#withRoom(delivery, this.#admission.judge(delivery, nowMs))
      this.#watch?.judged(delivery, judgement, bytes, nowMs)
      return this.#entry(delivery, judgement, bytes, this.#envelope(delivery, judgement))
    } catch (error) {
      this.#fault(delivery, error)
      const judgement = this.#unjudged(delivery)
      return this.#entry(delivery, judgement, bytes, this.#bareEnvelope(delivery, judgement))
    }
  }

  /** What becomes of a message that we failed to look at: kept, without what may have been the cause. */
  #unjudged(delivery: Delivery): Judgement {
    const verdict = delivery.refused === undefined ? { lane: 'normal' as const } : { shed: delivery.refused.reason }
    return { meaning: this.#admission.meaningOf(delivery), verdict }
  }

  /** QoS 0 has nobody who would wait for room. */
  #withRoom(delivery: Delivery, judgement: Judgement): Judgement {
    if (delivery.qos !== 0 || !this.#hold.roomless || 'shed' in judgement.verdict) return judgement
    if (!this.#outbox.state().lanes[judgement.verdict.lane].blocked) return judgement
    return { meaning: judgement.meaning, verdict: { shed: 'buffer-full' } }
  }

  /** Counts; so nothing that can fail comes after it. */
  #entry(delivery: Delivery, judgement: Judgement, bytes: number, envelope: Envelope): Entry {
    const { qos, exchange } = delivery
    const { verdict, messageId } = judgement
    const held = envelope.payload.length + (envelope.userProperties === undefined ? 0 : weightOf(delivery) - delivery.payload.length)
    this.#counters.decided(judgement, bytes)
    this.#hold.took(held)
    if ('shed' in verdict) this.#tellShed(delivery, judgement.meaning.device, verdict.shed)
    const settle = (): void => {
      this.#hold.settled(held)
      delivery.settle()
    }
    const entry = { envelope, verdict, bytes, qos, settle }
    if (exchange === undefined && messageId === undefined) return entry
    return { ...entry, ...(exchange === undefined ? undefined : { exchange }), ...(messageId === undefined ? undefined : { messageId }) }
  }

  #envelope(delivery: Delivery, judgement: Judgement): Envelope {
    const { contentType, userProperties } = delivery
    const envelope = this.#bareEnvelope(delivery, judgement)
    if ('shed' in judgement.verdict || (contentType === undefined && userProperties === undefined)) return envelope
    const traceparent = traceparentOf(userProperties ?? [])
    return {
      ...envelope,
      ...(contentType === undefined ? undefined : { contentType }),
      ...(traceparent === undefined ? undefined : { traceparent }),
      ...(userProperties === undefined ? undefined : { userProperties }),
    }
  }

  #bareEnvelope({ topic, payload }: Delivery, { meaning, verdict }: Judgement): Envelope {
    const { device, stream, parts } = meaning
    const envelope = {
      device,
      stream,
      topic,
      payload: 'shed' in verdict ? NO_PAYLOAD : payload,
      receivedMs: this.#clock.wallMs(),
      clockTrusted: this.#clock.wallTrusted(),
      bootMs: this.#clock.bootMs(),
    }
    return parts === undefined ? envelope : { ...envelope, parts }
  }

  #fault(delivery: Delivery, error: unknown): void {
    this.#counters.fault()
    const text = (): string =>
      `a fault of this program while it looked at a message of ${quoted(delivery.topic)}, which goes on: ${messageOf(error)}`
    this.#notices.tell('fault', delivery.identity ?? '', text, this.#clock.monotonicMs())
  }

  #missingId(delivery: Delivery, device: string): void {
    this.#counters.missingId()
    this.#notices.tell(
      'no-message-id',
      device,
      () => `no message id in ${quoted(delivery.topic)}: a redelivery would be kept twice`,
      this.#clock.monotonicMs(),
    )
  }

  #tellShed({ topic, payload, refused }: Delivery, device: string, reason: ShedReason): void {
    if (reason === 'duplicate') return
    const text = (): string => `refused ${quoted(topic)}, ${refused?.bytes ?? payload.length} bytes: ${WHY[reason] ?? reason}`
    this.#notices.tell(reason, device, text, this.#clock.monotonicMs())
  }
}

function seedFrom(random: Random): readonly [number, number] {
  const bytes = random.bytes(8)
  const word = (at: number): number => bytes.slice(at, at + 4).reduce((sum, byte) => (sum * 256 + byte) >>> 0, 0)
  return [word(0), word(4)]
}
