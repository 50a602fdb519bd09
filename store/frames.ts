/**
 * Frames: how messages lie inside a group, before compression.
 *
 * A group is one version byte, then frames. A frame is its length, a flags byte and fields; times are
 * differences to the frame before, so a group is read from its start. What the ledger needs (device, stream,
 * payload size) stands first, so that counting does not decode the rest.
 */
import type { Envelope, InternalRecord } from '../daemon/ports.ts'
import { ByteReader, ByteWriter, MalformedBytes } from './bytes.ts'

export const FRAMES_VERSION = 1

const INTERNAL = 1
const TRUSTED = 2
const PARTS = 4
const CONTENT_TYPE = 8
const TRACEPARENT = 16
const USER_PROPERTIES = 32
const KNOWN = INTERNAL | TRUSTED | PARTS | CONTENT_TYPE | TRACEPARENT | USER_PROPERTIES

const DESTINATIONS = ['events', 'ledger', 'dead-letter'] as const

type Pairs = readonly (readonly [string, string])[]

/** What a group says of itself without being decoded. */
export interface GroupFacts {
  count: number
  /** Sum of payload lengths. */
  bytes: number
  /** Wall ms, lowest and highest of the group. */
  oldestMs: number
  newestMs: number
  /** Every clock of the group was trusted at receipt. */
  trusted: boolean
}

/** Lengths are known only after the fields; five bytes hold any frame up to 32 GiB. */
const LENGTH_BYTES = 5

export class GroupEncoder {
  readonly facts: GroupFacts = { count: 0, bytes: 0, oldestMs: Infinity, newestMs: -Infinity, trusted: true }
  readonly #out: ByteWriter
  #receivedMs = 0
  #bootMs = 0

  constructor(first: number | Buffer = 4096) {
    this.#out = new ByteWriter(first)
    this.#out.byte(FRAMES_VERSION)
  }

  /** Bytes so far, uncompressed. */
  get size(): number {
    return this.#out.length
  }

  add(envelope: Envelope): void {
    const start = this.#begin(envelope.payload.length)
    const out = this.#out
    out.byte(flagsOf(envelope))
    out.text(envelope.device)
    out.text(envelope.stream)
    out.varint(envelope.payload.length)
    out.text(envelope.topic)
    this.#times(envelope.receivedMs, envelope.bootMs)
    if (envelope.parts !== undefined) writePairs(out, Object.entries(envelope.parts))
    if (envelope.contentType !== undefined) out.text(envelope.contentType)
    if (envelope.traceparent !== undefined) out.text(envelope.traceparent)
    if (envelope.userProperties !== undefined) writePairs(out, envelope.userProperties)
    out.raw(envelope.payload)
    this.#end(start, envelope.payload.length, envelope.receivedMs, envelope.clockTrusted)
  }

  addInternal(record: InternalRecord): void {
    const start = this.#begin(record.value.length)
    const out = this.#out
    out.byte(INTERNAL)
    out.byte(DESTINATIONS.indexOf(record.destination))
    out.text(record.key)
    out.varint(record.value.length)
    this.#times(record.receivedMs, 0)
    writePairs(out, record.headers)
    out.raw(record.value)
    this.#end(start, record.value.length, record.receivedMs, true)
  }

  /** The group's bytes: a view of exactly what was written. The encoder must not be used afterwards. */
  finish(): Buffer {
    return this.#out.view()
  }

  #begin(payloadBytes: number): number {
    this.#out.reserve(payloadBytes + 256)
    const start = this.#out.length
    this.#out.length += LENGTH_BYTES
    return start
  }

  #times(receivedMs: number, bootMs: number): void {
    const received = Math.round(receivedMs)
    const boot = Math.round(bootMs)
    this.#out.signed(received - this.#receivedMs)
    this.#out.signed(boot - this.#bootMs)
    this.#receivedMs = received
    this.#bootMs = boot
  }

  #end(start: number, payloadBytes: number, receivedMs: number, trusted: boolean): void {
    writeLength(this.#out.bytes, start, this.#out.length - start - LENGTH_BYTES)
    const { facts } = this
    facts.count++
    facts.bytes += payloadBytes
    facts.oldestMs = Math.min(facts.oldestMs, Math.round(receivedMs))
    facts.newestMs = Math.max(facts.newestMs, Math.round(receivedMs))
    facts.trusted &&= trusted
  }
}

function flagsOf(envelope: Envelope): number {
  return (
    (envelope.clockTrusted ? TRUSTED : 0) |
    (envelope.parts === undefined ? 0 : PARTS) |
    (envelope.contentType === undefined ? 0 : CONTENT_TYPE) |
    (envelope.traceparent === undefined ? 0 : TRACEPARENT) |
    (envelope.userProperties === undefined ? 0 : USER_PROPERTIES)
  )
}

function writePairs(out: ByteWriter, pairs: Pairs): void {
  out.varint(pairs.length)
  for (const [name, value] of pairs) {
    out.text(name)
    out.text(value)
  }
}

/** LEB128 padded to its fixed width, so that it reads like any other integer. */
function writeLength(bytes: Buffer, at: number, length: number): void {
  for (let index = 0; index < LENGTH_BYTES - 1; index++) bytes[at + index] = ((length >>> (7 * index)) & 0x7f) | 0x80
  bytes[at + LENGTH_BYTES - 1] = Math.floor(length / 0x1000_0000)
}

export type Decoded = { readonly envelope: Envelope } | { readonly internal: InternalRecord }

/** The messages `from` (inclusive) to `to` (exclusive) of a group. Payloads are views of `group`. */
export function decodeGroup(group: Uint8Array, from: number, to: number): Decoded[] {
  const reader = openGroup(group)
  const times = { receivedMs: 0, bootMs: 0 }
  const decoded: Decoded[] = []
  for (let index = 0; index < to; index++) {
    const frame = decodeFrame(reader, times)
    if (index >= from) decoded.push(frame)
  }
  return decoded
}

/** Calls `visit` for each frame in order; internal records have no device. Goes on while `visit` returns true. */
export function skimGroup(
  group: Uint8Array,
  visit: (index: number, payloadBytes: number, device: string | undefined, stream: string) => boolean,
): void {
  const reader = openGroup(group)
  for (let index = 0; !reader.done; index++) {
    const end = frameEnd(reader)
    const internal = (readFlags(reader) & INTERNAL) !== 0
    if (internal) reader.byte()
    const name = reader.text()
    const stream = internal ? '' : reader.text()
    if (!visit(index, reader.varint(), internal ? undefined : name, stream)) return
    reader.at = end
  }
}

function openGroup(group: Uint8Array): ByteReader {
  const reader = new ByteReader(group)
  const version = reader.byte()
  if (version !== FRAMES_VERSION) {
    throw new MalformedBytes(
      `frames of version ${version}; this release reads version ${FRAMES_VERSION}: install the release that wrote them`,
    )
  }
  return reader
}

function frameEnd(reader: ByteReader): number {
  const length = reader.varint()
  return reader.at + length
}

function readFlags(reader: ByteReader): number {
  const flags = reader.byte()
  if ((flags & ~KNOWN) !== 0) throw new MalformedBytes(`unknown frame flags ${flags}; a newer release wrote them`)
  return flags
}

function decodeFrame(reader: ByteReader, times: { receivedMs: number; bootMs: number }): Decoded {
  const end = frameEnd(reader)
  const flags = readFlags(reader)
  const decoded =
    (flags & INTERNAL) === 0 ? { envelope: decodeEnvelope(reader, flags, times) } : { internal: decodeInternal(reader, times) }
  if (reader.at !== end) throw new MalformedBytes(`a frame ends at ${reader.at} instead of ${end}`)
  return decoded
}

function decodeEnvelope(reader: ByteReader, flags: number, times: { receivedMs: number; bootMs: number }): Envelope {
  const device = reader.text()
  const stream = reader.text()
  const size = reader.varint()
  const topic = reader.text()
  times.receivedMs += reader.signed()
  times.bootMs += reader.signed()
  const { receivedMs, bootMs } = times
  const parts = (flags & PARTS) === 0 ? {} : { parts: Object.fromEntries(readPairs(reader)) }
  const contentType = (flags & CONTENT_TYPE) === 0 ? {} : { contentType: reader.text() }
  const traceparent = (flags & TRACEPARENT) === 0 ? {} : { traceparent: reader.text() }
  const userProperties = (flags & USER_PROPERTIES) === 0 ? {} : { userProperties: readPairs(reader) }
  const payload = reader.raw(size)
  const clockTrusted = (flags & TRUSTED) !== 0
  if (flags <= TRUSTED) return { device, stream, topic, payload, receivedMs, clockTrusted, bootMs }
  return { device, stream, topic, payload, receivedMs, clockTrusted, bootMs, ...parts, ...contentType, ...traceparent, ...userProperties }
}

function decodeInternal(reader: ByteReader, times: { receivedMs: number; bootMs: number }): InternalRecord {
  const destination = DESTINATIONS[reader.byte()]
  if (destination === undefined) throw new MalformedBytes('an internal record has an unknown destination')
  const key = reader.text()
  const size = reader.varint()
  times.receivedMs += reader.signed()
  times.bootMs += reader.signed()
  const headers = readPairs(reader)
  return { destination, key, value: reader.raw(size), headers, receivedMs: times.receivedMs }
}

function readPairs(reader: ByteReader): [string, string][] {
  const count = reader.varint()
  const pairs: [string, string][] = []
  for (let index = 0; index < count; index++) pairs.push([reader.text(), reader.text()])
  return pairs
}
