/**
 * Plain questions on a connection that kafkajs has opened and logged in. kafkajs itself asks them of whichever broker
 * it likes, hides which rights we have, and gives up when one broker can't be reached.
 */
import type { Socket } from 'node:net'
import { messageOf } from '../../daemon/errors.ts'
import { FieldReader, FrameSplitter } from './frames.ts'
import type { ClusterAnswer, NamedBroker, NamedTopic } from '../../daemon/doctor/facts.ts'

const METADATA = 3
const FIND_COORDINATOR = 10
const API_VERSIONS = 18
const DESCRIBE_CONFIGS = 32
/** Beyond what kafkajs counts up to: an answer that it did not ask for is passed over by it. */
const FIRST_ID = 0x7f00_0000

export interface CoordinatorAnswer {
  readonly code: number
  readonly broker?: NamedBroker
}

export class ProbeWire {
  readonly #socket: Socket
  readonly #timeoutMs: number
  readonly #asked = new Map<number, (frame: Buffer) => void>()
  #next = FIRST_ID

  constructor(socket: Socket, timeoutMs: number) {
    this.#socket = socket
    this.#timeoutMs = timeoutMs
    const frames = new FrameSplitter()
    const listen = (chunk: Buffer): void => {
      try {
        for (const frame of frames.push(chunk)) this.#asked.get(frame.readInt32BE(0))?.(frame)
      } catch (error) {
        // Not Kafka's framing: whoever waits is told by the end of the connection.
        socket.off('data', listen)
        socket.destroy(new Error(`what answers does not speak Kafka's protocol: ${messageOf(error)}`))
      }
    }
    socket.on('data', listen)
  }

  /** Metadata, version 8: of these topics, without making any. */
  async cluster(topics: readonly string[]): Promise<ClusterAnswer> {
    const names = Buffer.concat([int32(topics.length), ...topics.map(string)])
    return readCluster(await this.#ask(METADATA, 8, Buffer.concat([names, Buffer.from([0, 0, 1])])))
  }

  /** FindCoordinator, version 2. It tells whether we may use the group or the transactional id (Describe). */
  async coordinator(key: string, type: 'group' | 'transaction'): Promise<CoordinatorAnswer> {
    const fields = await this.#ask(FIND_COORDINATOR, 2, Buffer.concat([string(key), Buffer.from([type === 'group' ? 0 : 1])]))
    fields.skip(4) // throttle time
    const code = fields.int16()
    fields.string()
    const broker = { id: fields.int32(), host: fields.string(), port: fields.int32() }
    return code === 0 ? { code, broker } : { code }
  }

  /** ApiVersions, version 0: lowest and highest version by api key. */
  async versions(): Promise<ReadonlyMap<number, readonly [number, number]>> {
    const fields = await this.#ask(API_VERSIONS, 0, Buffer.alloc(0))
    fields.int16()
    return new Map(times(fields.int32(), () => [fields.int16(), [fields.int16(), fields.int16()]] as const))
  }

  /** DescribeConfigs, version 1; `undefined` without the right to it. */
  async settings(topic: string, names: readonly string[]): Promise<ReadonlyMap<string, string> | undefined> {
    const TOPIC = Buffer.from([2])
    const resource = Buffer.concat([int32(1), TOPIC, string(topic), int32(names.length), ...names.map(string)])
    const fields = await this.#ask(DESCRIBE_CONFIGS, 1, Buffer.concat([resource, Buffer.from([0])]))
    fields.skip(8) // throttle time, number of resources
    const code = fields.int16()
    fields.string()
    fields.skip(1)
    fields.string()
    const values = times(fields.int32(), () => {
      const entry = [fields.string(), fields.string()] as const
      fields.skip(3) // read only, source, sensitive
      times(fields.int32(), () => [fields.string(), fields.string(), fields.skip(1)])
      return entry
    })
    return code === 0 ? new Map(values) : undefined
  }

  async #ask(apiKey: number, version: number, body: Buffer): Promise<FieldReader> {
    const id = this.#next++
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    const timer = setTimeout(() => reject(new Error(`the broker did not answer within ${this.#timeoutMs / 1_000} s`)), this.#timeoutMs)
    const gone = (): void => reject(new Error('the broker closed the connection'))
    this.#asked.set(id, resolve)
    this.#socket.once('close', gone)
    try {
      const header = Buffer.concat([int16(apiKey), int16(version), int32(id), string('edge-gateway.doctor')])
      this.#socket.write(Buffer.concat([int32(header.length + body.length), header, body]))
      return new FieldReader((await promise).subarray(4))
    } finally {
      clearTimeout(timer)
      this.#asked.delete(id)
      this.#socket.off('close', gone)
    }
  }
}

function readCluster(fields: FieldReader): ClusterAnswer {
  fields.skip(4) // throttle time
  const brokers = times(fields.int32(), () => {
    const broker = { id: fields.int32(), host: fields.string(), port: fields.int32() }
    fields.string() // rack
    return broker
  })
  const clusterId = fields.string()
  fields.skip(4) // controller
  return { brokers, clusterId, topics: times(fields.int32(), () => readTopic(fields)) }
}

function readTopic(fields: FieldReader): NamedTopic {
  const code = fields.int16()
  const topic = fields.string()
  fields.skip(1) // internal
  const leaders = times(fields.int32(), () => {
    fields.skip(6) // error, partition
    const leader = fields.int32()
    fields.skip(4) // leader epoch
    for (let list = 0; list < 3; list += 1) fields.skip(4 * fields.int32()) // replicas, in sync, offline
    return leader
  })
  const rights = fields.int32()
  const known = rights === -2_147_483_648 ? {} : { rights }
  return { code, topic, partitions: leaders.length, leaderless: leaders.filter((leader) => leader < 0).length, ...known }
}

function times<Item>(count: number, read: () => Item): Item[] {
  return Array.from({ length: Math.max(0, count) }, read)
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

function string(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([int16(bytes.length), bytes])
}
