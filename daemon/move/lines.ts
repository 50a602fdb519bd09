/**
 * The lines of an export: JSON, one message each, with a CRC-32 at the end over what stands before it, so that a
 * damaged line is known by its number. Payloads are base64, since a log line may hold any byte.
 */
import { crc32 } from 'node:zlib'
import { GatewayError } from '../errors.ts'
import { LANES, type Envelope, type InternalRecord, type Lane, type Stored } from '../ports.ts'

/** `,"crc":"xxxxxxxx"}` */
const SEAL = /,"crc":"([0-9a-f]{8})"\}$/
const SEAL_LENGTH = 18
const EPOCH = /^[0-9a-f]{16}$/
const DESTINATIONS: readonly string[] = ['events', 'ledger', 'dead-letter']

export interface LaneMessage {
  readonly lane: Lane
  readonly stored: Stored
}

/** One line, without its end. */
export function sealed(document: object): string {
  const text = JSON.stringify(document)
  return `${text.slice(0, -1)},"crc":"${checksum(text)}"}`
}

/** The document of a line. Throws `rejected` when the line is not what was written. */
export function unsealed(line: string): Record<string, unknown> {
  const crc = SEAL.exec(line)?.[1]
  if (crc === undefined) throw damaged('it does not end with a checksum')
  const text = `${line.slice(0, -SEAL_LENGTH)}}`
  if (checksum(text) !== crc) throw damaged('its checksum does not match')
  const document: unknown = JSON.parse(text)
  if (typeof document !== 'object' || document === null) throw damaged('it is no object')
  return document as Record<string, unknown>
}

export function messageLine(lane: Lane, stored: Stored): string {
  const { epoch, position } = stored
  if ('internal' in stored) {
    const { destination, key, headers, receivedMs, value } = stored.internal
    return sealed({ lane, epoch, position, internal: destination, key, headers, receivedMs, payload: base64(value) })
  }
  const { device, stream, topic, parts, payload, receivedMs, clockTrusted, bootMs, contentType, traceparent, userProperties } =
    stored.envelope
  const optional = { parts, contentType, traceparent, userProperties }
  return sealed({ lane, epoch, position, device, stream, topic, receivedMs, clockTrusted, bootMs, ...optional, payload: base64(payload) })
}

/** Throws `rejected` when it is no message that a gateway could have written. */
export function messageOf(document: Readonly<Record<string, unknown>>): LaneMessage {
  const lane = LANES.find((name) => name === document['lane'])
  const { epoch, position } = document
  if (lane === undefined) throw damaged('it names no lane')
  if (typeof epoch !== 'string' || !EPOCH.test(epoch)) throw damaged('it names no epoch')
  if (typeof position !== 'number' || !Number.isSafeInteger(position) || position < 1) throw damaged('it names no position')
  const at = { epoch, position }
  return { lane, stored: 'internal' in document ? { ...at, internal: internalOf(document) } : { ...at, envelope: envelopeOf(document) } }
}

const HEAD = /^\{"lane":"([a-z]+)","epoch":"[0-9a-f]{16}","position":(\d+),/
const PAYLOAD = '"payload":"'

/** What a line of `messageLine` counts for, without a look at the rest of it. */
export function factsOf(line: string): { readonly lane: Lane; readonly position: number; readonly bytes: number } {
  const head = HEAD.exec(line)
  const lane = LANES.find((name) => name === head?.[1])
  const end = line.length - SEAL_LENGTH - 1
  const start = line.lastIndexOf(PAYLOAD) + PAYLOAD.length
  if (head === null || lane === undefined || start < PAYLOAD.length || end < start) throw damaged('it is no message')
  const padding = line[end - 1] !== '=' ? 0 : line[end - 2] === '=' ? 2 : 1
  return { lane, position: Number(head[2]), bytes: ((end - start) / 4) * 3 - padding }
}

/** A line of a message, and none of the frame. */
export function isMessage(line: string): boolean {
  return line.startsWith('{"lane":')
}

function envelopeOf(document: Readonly<Record<string, unknown>>): Envelope {
  const { contentType, traceparent, parts, userProperties, clockTrusted } = document
  return {
    device: text(document, 'device'),
    stream: text(document, 'stream'),
    topic: text(document, 'topic'),
    payload: payloadOf(document),
    receivedMs: time(document, 'receivedMs'),
    bootMs: time(document, 'bootMs'),
    clockTrusted: clockTrusted === true,
    ...(parts === undefined ? {} : { parts: partsOf(parts) }),
    ...(contentType === undefined ? {} : { contentType: text(document, 'contentType') }),
    ...(traceparent === undefined ? {} : { traceparent: text(document, 'traceparent') }),
    ...(userProperties === undefined ? {} : { userProperties: pairs(userProperties) }),
  }
}

function internalOf(document: Readonly<Record<string, unknown>>): InternalRecord {
  const destination = text(document, 'internal')
  if (!DESTINATIONS.includes(destination)) throw damaged('it names no topic of the gateway')
  return {
    destination: destination as InternalRecord['destination'],
    key: text(document, 'key'),
    headers: pairs(document['headers']),
    receivedMs: time(document, 'receivedMs'),
    value: payloadOf(document),
  }
}

function partsOf(value: unknown): Record<string, string> {
  if (typeof value !== 'object' || value === null || Object.values(value).some((part) => typeof part !== 'string'))
    throw damaged('the parts of its topic are no texts')
  return value as Record<string, string>
}

function pairs(value: unknown): [string, string][] {
  const isPair = (pair: unknown): boolean => Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === 'string')
  if (!Array.isArray(value) || !value.every(isPair)) throw damaged('its properties are no pairs of texts')
  return value as [string, string][]
}

function payloadOf(document: Readonly<Record<string, unknown>>): Uint8Array {
  return Buffer.from(text(document, 'payload'), 'base64')
}

function text(document: Readonly<Record<string, unknown>>, key: string): string {
  const value = document[key]
  if (typeof value !== 'string') throw damaged(`"${key}" is missing`)
  return value
}

function time(document: Readonly<Record<string, unknown>>, key: string): number {
  const value = document[key]
  if (typeof value !== 'number' || !Number.isFinite(value)) throw damaged(`"${key}" is missing`)
  return value
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')
}

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(8, '0')
}

function damaged(why: string): GatewayError {
  return new GatewayError('rejected', why)
}
