/**
 * Groups as they lie in a row: one byte for the coding, a checksum, then the frames. The checksum covers the
 * row's own columns too, so that a page that landed in the wrong place is noticed.
 */
import { constants, crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib'

const RAW = 0
const ZSTD = 1
const HEAD_BYTES = 5
/** Below this a compressed block has nothing to win. */
const MIN_COMPRESS_BYTES = 96
/**
 * Level 1: 0.078 of the size at 0.4 µs a message of log text; level 3 gains nothing, deflate 1 is 0.10 at 1.1 µs.
 * A window of a group's size keeps what zstd allocates for each call small.
 */
const PARAMS = { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_windowLog]: 17 }
const MIN_CHUNK_BYTES = 1 << 10
const MAX_CHUNK_BYTES = 1 << 20
/** A row never claims more than this; a damaged length can't make us allocate the machine's memory. */
const MAX_GROUP_BYTES = 1 << 30

/** The columns that the checksum binds to the frames. */
export interface RowColumns {
  readonly lane: number
  readonly first: number
  readonly count: number
  readonly epoch: number
  readonly bytes: number
}

/** A row whose bytes are not what was written. */
export class DamagedGroup extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'DamagedGroup'
  }
}

export function packFrames(frames: Uint8Array): Buffer {
  const packed = frames.length < MIN_COMPRESS_BYTES ? undefined : compress(frames)
  const useful = packed !== undefined && packed.length < frames.length
  const body = useful ? packed : frames
  const out = Buffer.allocUnsafe(HEAD_BYTES + body.length)
  out[0] = useful ? ZSTD : RAW
  out.set(body, HEAD_BYTES)
  return out
}

/** Writes the checksum into bytes of `packFrames`, once the row's columns are known. */
export function sealGroup(packed: Buffer, columns: RowColumns): void {
  packed.writeUInt32LE(checksum(packed, columns), 1)
}

/** The frames of a row; throws `DamagedGroup`. */
export function openGroup(packed: Buffer, columns: RowColumns): Buffer {
  if (packed.length < HEAD_BYTES || packed.readUInt32LE(1) !== checksum(packed, columns)) {
    throw new DamagedGroup(`the checksum of the group at position ${columns.first} does not match`)
  }
  const body = packed.subarray(HEAD_BYTES)
  if (packed[0] === RAW) return body
  if (packed[0] === ZSTD)
    return letGo(
      zstdDecompressSync(body, { maxOutputLength: MAX_GROUP_BYTES, chunkSize: chunkBytes(columns.bytes + columns.count * 80), info: true }),
    )
  throw new DamagedGroup(`the group at position ${columns.first} has the unknown coding ${packed[0]}; a newer release wrote it`)
}

function compress(frames: Uint8Array): Buffer {
  return letGo(
    zstdCompressSync(frames, { params: PARAMS, pledgedSrcSize: frames.length, chunkSize: chunkBytes(frames.length / 2), info: true }),
  )
}

/**
 * Node keeps an engine, and the engine its output buffer, until the next full collection, which the worker seldom
 * needs: 40 MB of them under load.
 */
function letGo(result: unknown): Buffer {
  const { buffer, engine } = result as { readonly buffer: Buffer; readonly engine: object }
  Object.assign(engine, { _outBuffer: undefined })
  return buffer
}

/** What zlib allocates for its output at a time. */
function chunkBytes(expected: number): number {
  return Math.min(MAX_CHUNK_BYTES, Math.max(MIN_CHUNK_BYTES, Math.ceil(expected)))
}

const head = Buffer.alloc(1 + 8 * 4 + 1)

function checksum(packed: Buffer, columns: RowColumns): number {
  head[0] = columns.lane
  head.writeDoubleLE(columns.first, 1)
  head.writeDoubleLE(columns.count, 9)
  head.writeDoubleLE(columns.epoch, 17)
  head.writeDoubleLE(columns.bytes, 25)
  head[33] = packed[0] ?? 0
  return crc32(packed.subarray(HEAD_BYTES), crc32(head))
}
