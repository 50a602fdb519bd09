/** Stored message → Kafka record. */
import type { EpochId, Envelope, InternalRecord, KafkaRecord, Lane, Stored } from '../ports.ts'
import { timeOfEnvelope, timeOfInternal, withSendTime, type Now, type RecordTime } from './record-time.ts'

type Header = readonly [string, string]

/** What a record says besides its own content. */
export interface RecordMarks {
  /** It may be in Kafka already. */
  readonly redelivery: boolean
  /** Kafka refused its time: it gets the time of sending. */
  readonly sendTime: boolean
}

const REDELIVERY: Header = ['redelivery', 'possible']

/** Bytes of a record in a batch, less key, value and the texts of its headers (KIP-98, record format 2). */
const FRAME_BYTES = 24
const HEADER_BYTES = 4
/** Names and fixed texts of `gw`, `pos`, `ts`, `mqtt-topic` and `clock`. */
const OWN_HEADERS_BYTES = 120

/** Estimate of what a record takes in an uncompressed batch; a few bytes too many for plain ASCII. */
export function recordBytes(stored: Stored, gatewayId: string): number {
  if ('internal' in stored) return internalBytes(stored.internal, gatewayId)
  const { envelope } = stored
  let bytes = FRAME_BYTES + OWN_HEADERS_BYTES + gatewayId.length + envelope.device.length + envelope.topic.length + envelope.payload.length
  if (envelope.userProperties !== undefined) {
    for (const [name, value] of envelope.userProperties) bytes += HEADER_BYTES + 10 + name.length + value.length
  }
  if (envelope.traceparent !== undefined) bytes += HEADER_BYTES + 11 + envelope.traceparent.length
  if (envelope.contentType !== undefined) bytes += HEADER_BYTES + 12 + envelope.contentType.length
  return bytes
}

function internalBytes(internal: InternalRecord, gatewayId: string): number {
  const headers = internal.headers.reduce((sum, [name, value]) => sum + HEADER_BYTES + name.length + value.length, 0)
  return FRAME_BYTES + OWN_HEADERS_BYTES + gatewayId.length + internal.key.length + internal.value.length + headers
}

/** Makes the records of one transaction; holds what they share. */
export class RecordMaker {
  readonly #gateway: Header
  readonly #now: Now
  readonly #bootOf: (epoch: EpochId) => string | undefined
  #tsMs = NaN
  #ts: Header = ['ts', '']

  /** `bootOf`: the boot in which an epoch was written. */
  constructor(gatewayId: string, now: Now, bootOf: (epoch: EpochId) => string | undefined) {
    this.#gateway = ['gw', gatewayId]
    this.#now = now
    this.#bootOf = bootOf
  }

  make(stored: Stored, lane: Lane, topic: string, partition: number, marks: RecordMarks): KafkaRecord {
    const time = this.#timeOf(stored, marks)
    const headers: Header[] = [this.#gateway, ['pos', `${stored.epoch}:${lane}:${stored.position}`], this.#tsHeader(time.tsMs)]
    const internal = 'internal' in stored
    if (internal) headers.push(...stored.internal.headers)
    else headers.push(['mqtt-topic', stored.envelope.topic])
    if (time.clock !== undefined) headers.push(['clock', time.clock])
    if (marks.redelivery) headers.push(REDELIVERY)
    if (!internal) passOn(stored.envelope, headers)
    return {
      topic,
      partition,
      headers,
      key: internal ? stored.internal.key : stored.envelope.device,
      value: internal ? stored.internal.value : stored.envelope.payload,
      timestampMs: time.timestampMs,
    }
  }

  #timeOf(stored: Stored, marks: RecordMarks): RecordTime {
    const internal = 'internal' in stored
    const time = internal
      ? timeOfInternal(stored.internal.receivedMs, this.#now)
      : timeOfEnvelope(stored.envelope, this.#bootOf(stored.epoch), this.#now)
    return marks.sendTime ? withSendTime(time, this.#now) : time
  }

  /** Neighbours often share their millisecond, and formatting a date is half of the cost of a record. */
  #tsHeader(tsMs: number): Header {
    if (tsMs !== this.#tsMs) {
      this.#tsMs = tsMs
      this.#ts = ['ts', new Date(tsMs).toISOString()]
    }
    return this.#ts
  }
}

function passOn(envelope: Envelope, headers: Header[]): void {
  if (envelope.traceparent !== undefined) headers.push(['traceparent', envelope.traceparent])
  if (envelope.contentType !== undefined) headers.push(['content-type', envelope.contentType])
  if (envelope.userProperties === undefined) return
  for (const [name, value] of envelope.userProperties) headers.push([`mqtt-user-${name}`, value])
}
