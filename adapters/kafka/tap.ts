/**
 * Reads along on the sockets of a producer's life. kafkajs reduces an answer with errors to the first code in it:
 * the topic and the partition are lost, "not attempted" hides what went wrong, and of FindCoordinator's answer
 * nothing at all is left. The layouts are those of the versions that kafkajs 2.2.4 speaks to Kafka 1.0 and later.
 */
import type { Socket } from 'node:net'
import { FieldReader, FrameSplitter } from './frames.ts'

/** An error code in an answer, and what it is about. */
export interface Refusal {
  readonly code: number
  readonly topic?: string
  readonly partition?: number
}

const PRODUCE = 0
const METADATA = 3
const FIND_COORDINATOR = 10
const ADD_PARTITIONS_TO_TXN = 24
const TXN_OFFSET_COMMIT = 28

type Layout = (fields: FieldReader, version: number) => Iterable<Refusal>

interface Watched {
  readonly layout: Layout
  readonly version: number
}

/** Enough to find the partition to blame, whatever the broker sends. */
const KEPT = 100

export class Tap {
  #refusals: Refusal[] = []

  /** What was refused since the last call. */
  take(): readonly Refusal[] {
    const taken = this.#refusals
    this.#refusals = []
    return taken
  }

  watch(socket: Socket): void {
    const asked = new Map<number, Watched>()
    const frames = new FrameSplitter()
    noteRequests(socket, asked)
    const listen = (chunk: Buffer): void => {
      try {
        for (const frame of frames.push(chunk)) this.#read(frame, asked)
      } catch {
        // Not the framing we know: only the detail of later errors is lost, so the connection goes on unwatched.
        socket.off('data', listen)
      }
    }
    socket.on('data', listen)
  }

  #read(frame: Buffer, asked: Map<number, Watched>): void {
    const correlationId = frame.readInt32BE(0)
    const watched = asked.get(correlationId)
    if (watched === undefined) return
    asked.delete(correlationId)
    for (const refusal of watched.layout(new FieldReader(frame.subarray(4)), watched.version)) {
      if (refusal.code !== 0 && this.#refusals.length < KEPT) this.#refusals.push(refusal)
    }
  }
}

/** kafkajs hands each request to the socket in one piece. */
function noteRequests(socket: Socket, asked: Map<number, Watched>): void {
  const write = socket.write.bind(socket) as (...args: unknown[]) => boolean
  socket.write = (...args: unknown[]): boolean => {
    const [bytes] = args
    if (Buffer.isBuffer(bytes) && bytes.length >= 12) {
      const version = bytes.readInt16BE(6)
      const layout = layoutOf(bytes.readInt16BE(4), version)
      if (layout !== undefined) asked.set(bytes.readInt32BE(8), { layout, version })
    }
    return write(...args)
  }
}

function layoutOf(apiKey: number, version: number): Layout | undefined {
  switch (apiKey) {
    case PRODUCE:
      return version >= 3 && version <= 7 ? produceRefusals : undefined
    case METADATA:
      return version >= 5 && version <= 6 ? metadataRefusals : undefined
    case FIND_COORDINATOR:
      return version >= 1 && version <= 2 ? coordinatorRefusals : undefined
    case ADD_PARTITIONS_TO_TXN:
      return version <= 1 ? partitionRefusals : undefined
    case TXN_OFFSET_COMMIT:
      return version <= 1 ? partitionRefusals : undefined
    default:
      return undefined
  }
}

function* produceRefusals(fields: FieldReader, version: number): Iterable<Refusal> {
  for (let topics = fields.int32(); topics > 0; topics -= 1) {
    const topic = fields.string()
    for (let partitions = fields.int32(); partitions > 0; partitions -= 1) {
      yield { topic, partition: fields.int32(), code: fields.int16() }
      // base offset, log append time, and from version 5 the log start offset
      fields.skip(version >= 5 ? 24 : 16)
    }
  }
}

function* partitionRefusals(fields: FieldReader): Iterable<Refusal> {
  fields.skip(4) // throttle time
  for (let topics = fields.int32(); topics > 0; topics -= 1) {
    const topic = fields.string()
    for (let partitions = fields.int32(); partitions > 0; partitions -= 1) yield { topic, partition: fields.int32(), code: fields.int16() }
  }
}

function* coordinatorRefusals(fields: FieldReader): Iterable<Refusal> {
  fields.skip(4) // throttle time
  yield { code: fields.int16() }
}

function* metadataRefusals(fields: FieldReader): Iterable<Refusal> {
  fields.skip(4) // throttle time
  for (let brokers = fields.int32(); brokers > 0; brokers -= 1) {
    fields.skip(4)
    fields.string()
    fields.skip(4)
    fields.string()
  }
  fields.string()
  fields.skip(4)
  for (let topics = fields.int32(); topics > 0; topics -= 1) {
    const code = fields.int16()
    const topic = fields.string()
    fields.skip(1)
    yield { code, topic }
    yield* partitionStates(fields, topic)
  }
}

function* partitionStates(fields: FieldReader, topic: string): Iterable<Refusal> {
  for (let partitions = fields.int32(); partitions > 0; partitions -= 1) {
    const code = fields.int16()
    yield { code, topic, partition: fields.int32() }
    fields.skip(4) // leader
    for (let list = 0; list < 3; list += 1) fields.skip(4 * fields.int32()) // replicas, in sync, offline
  }
}
