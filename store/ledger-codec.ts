/**
 * Ledger deltas and snapshots as bytes: a version, operations, a CRC-32.
 *
 * `define` gives a line its number; `count` adds to a line; `lane` adds to what a lane holds. A snapshot is the
 * same language: all lines defined, with all they ever counted.
 */
import { crc32 } from 'node:zlib'
import type { ShedReason } from '../daemon/ports.ts'
import { ByteReader, ByteWriter, MalformedBytes } from './bytes.ts'

const VERSION = 1
const DEFINE = 1
const COUNT = 2
const LANE = 3
const CRC_BYTES = 4

/** What is counted, as stored: never renumber, only add. */
export const RECEIVED = 0
export const DELIVERED = 1
export const DEAD_LETTERED = 2
export const EXPORTED = 3
export const LOST = 4
export const SHED_CODES: Readonly<Record<ShedReason, number>> = {
  'over-limit': 16,
  oversize: 17,
  'malformed-topic': 18,
  'not-own-topic': 19,
  retained: 20,
  duplicate: 21,
  'buffer-full': 22,
  evicted: 23,
  expired: 24,
  'dead-letter-dropped': 25,
  'unknown-device': 26,
}

export interface LedgerSink {
  define(id: number, device: string, stream: string): void
  count(id: number, code: number, messages: number, bytes: number): void
  lane(index: number, messages: number, bytes: number): void
}

export class LedgerWriter {
  readonly #out = new ByteWriter(256)

  constructor() {
    this.#out.byte(VERSION)
  }

  get size(): number {
    return this.#out.length
  }

  define(id: number, device: string, stream: string): void {
    this.#out.byte(DEFINE)
    this.#out.varint(id)
    this.#out.text(device)
    this.#out.text(stream)
  }

  count(id: number, code: number, messages: number, bytes: number): void {
    this.#out.byte(COUNT)
    this.#out.varint(id)
    this.#out.byte(code)
    this.#out.signed(messages)
    this.#out.signed(bytes)
  }

  lane(index: number, messages: number, bytes: number): void {
    this.#out.byte(LANE)
    this.#out.byte(index)
    this.#out.signed(messages)
    this.#out.signed(bytes)
  }

  finish(): Buffer {
    this.#out.reserve(CRC_BYTES)
    const sum = crc32(this.#out.view())
    this.#out.length = this.#out.bytes.writeUInt32LE(sum, this.#out.length)
    return this.#out.view()
  }
}

/** Plays a blob into `sink`; throws `MalformedBytes` before the first call when the checksum does not match. */
export function replayLedger(blob: Buffer, sink: LedgerSink): void {
  const end = blob.length - CRC_BYTES
  if (end < 1 || crc32(blob.subarray(0, end)) !== blob.readUInt32LE(end)) throw new MalformedBytes('a ledger record has a wrong checksum')
  const reader = new ByteReader(blob, 0, end)
  const version = reader.byte()
  if (version !== VERSION) throw new MalformedBytes(`a ledger record of version ${version}; a newer release wrote it`)
  while (!reader.done) replayOne(reader, sink)
}

function replayOne(reader: ByteReader, sink: LedgerSink): void {
  const operation = reader.byte()
  if (operation === DEFINE) sink.define(reader.varint(), reader.text(), reader.text())
  else if (operation === COUNT) sink.count(reader.varint(), reader.byte(), reader.signed(), reader.signed())
  else if (operation === LANE) sink.lane(reader.byte(), reader.signed(), reader.signed())
  else throw new MalformedBytes(`unknown ledger operation ${operation}; a newer release wrote it`)
}
