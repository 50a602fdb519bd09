/** The Produce request, versions 3 to 7 (KIP-98, KIP-110), as kafkajs asks for it: its contents, written in one go. */
import { promisify } from 'node:util'
import { gzip, zstdCompress } from 'node:zlib'
import type { KafkaRecord } from '../../daemon/ports.ts'
import { BATCH_HEAD_BYTES, type BatchIdentity, RecordWriter, sealBatch } from './record-batch.ts'

/** What kafkajs gives to the encoder of its version 3; later versions only change the number. */
export interface ProduceRequest {
  readonly acks: number
  readonly timeout: number
  readonly transactionalId?: string | null
  readonly producerId?: { toString(): string }
  readonly producerEpoch?: number
  readonly compression?: number
  readonly topicData: readonly {
    readonly topic: string
    readonly partitions: readonly PartitionData[]
  }[]
}

interface PartitionData {
  readonly partition: number
  readonly firstSequence: number
  readonly messages: readonly KafkaRecord[]
}

/** What kafkajs takes for an encoder that is done. */
interface Encoded {
  readonly buf: Buffer
  readonly buffer: Buffer
}

export type ProduceRequestMaker = (request: ProduceRequest) => {
  readonly apiKey: number
  readonly apiVersion: number
  readonly apiName: string
  expectResponse(): boolean
  encode(): Promise<Encoded>
}

const API_KEY = 0
const GZIP = 1
const ZSTD = 4
const compressGzip = promisify<Buffer, Buffer>(gzip)
const compressZstd = promisify<Buffer, Buffer>(zstdCompress)

export const produceRequest: ProduceRequestMaker = (request) => ({
  apiKey: API_KEY,
  apiVersion: 3,
  apiName: 'Produce',
  expectResponse: () => request.acks !== 0,
  encode: async () => {
    const body = Buffer.concat(await partsOf(request))
    return { buf: body, buffer: body }
  },
})

async function partsOf(request: ProduceRequest): Promise<Buffer[]> {
  const { transactionalId = null, acks, timeout, topicData } = request
  const head = Buffer.alloc(10)
  head.writeInt16BE(acks, 0)
  head.writeInt32BE(timeout, 2)
  head.writeInt32BE(topicData.length, 6)
  const parts: Promise<Buffer[]>[] = [Promise.resolve([text(transactionalId), head])]
  for (const { topic, partitions } of topicData) {
    parts.push(Promise.resolve([text(topic), int32(partitions.length)]))
    for (const data of partitions) {
      // Two at a time: while one is compressed by another thread, the next is written.
      await parts.at(-2)
      parts.push(batchOf(request, data))
    }
  }
  return (await Promise.all(parts)).flat()
}

async function batchOf(request: ProduceRequest, { partition, firstSequence, messages }: PartitionData): Promise<Buffer[]> {
  const writer = RecordWriter.take()
  for (const record of messages) writer.add(record)
  const { times } = writer
  const records = await compressed(writer.bytes, request.compression ?? 0)
  writer.giveBack()
  const batch = { ...identityOf(request, firstSequence), ...times, count: messages.length }
  return [int32(partition), int32(BATCH_HEAD_BYTES + records.length), sealBatch(batch, records), records]
}

function identityOf(
  { producerId = -1, producerEpoch = 0, transactionalId = null, compression = 0 }: ProduceRequest,
  firstSequence: number,
): BatchIdentity {
  return { producerId: BigInt(producerId.toString()), producerEpoch, firstSequence, isTransactional: transactionalId !== null, compression }
}

/** What it returns is no part of `records`, which are written anew for the next batch. */
function compressed(records: Buffer, compression: number): Promise<Buffer> | Buffer {
  switch (compression) {
    case 0:
      return Buffer.from(records)
    case GZIP:
      return compressGzip(records)
    case ZSTD:
      return compressZstd(records)
    default:
      throw new Error(`no codec for compression ${compression}`)
  }
}

/** Null, or a text behind its length as 16 bits. */
function text(value: string | null): Buffer {
  const bytes = Buffer.from(value ?? '')
  const length = Buffer.alloc(2)
  length.writeInt16BE(value === null ? -1 : bytes.length)
  return Buffer.concat([length, bytes])
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}
