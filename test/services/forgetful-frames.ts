/** Requests and answers of the FUSE protocol as bytes (linux/fuse.h). */
import type { Node } from './forgetful-disk.ts'

const OUT_HEADER = 16
export const WRITE_MAX = 128 * 1024
export const REQUEST_MAX = WRITE_MAX + 8192
const KEEP_CACHE = 2
/** Nobody but the kernel changes anything, so that it may remember for as long as it likes. */
const VALID_SECONDS = 3_600n
export const S_IFREG = 0o100000
const BLOCK = 4_096
const DISK_BLOCKS = 262_144n

export function reply(unique: bigint, answer: Buffer | number): Buffer {
  const body = typeof answer === 'number' ? Buffer.alloc(0) : answer
  const header = Buffer.alloc(OUT_HEADER)
  header.writeUInt32LE(OUT_HEADER + body.length, 0)
  header.writeInt32LE(typeof answer === 'number' ? answer : 0, 4)
  header.writeBigUInt64LE(unique, 8)
  return Buffer.concat([header, body])
}

export function text(body: Buffer, at: number): string {
  return body.toString('utf8', at, body.indexOf(0, at))
}

export function initialised(body: Buffer): Buffer {
  const answer = Buffer.alloc(64)
  answer.writeUInt32LE(7, 0)
  answer.writeUInt32LE(31, 4)
  answer.writeUInt32LE(body.readUInt32LE(8), 8)
  answer.writeUInt32LE(WRITE_MAX, 20)
  answer.writeUInt32LE(1, 24)
  return answer
}

export function opened(): Buffer {
  const answer = Buffer.alloc(16)
  answer.writeUInt32LE(KEEP_CACHE, 8)
  return answer
}

export function statistics(): Buffer {
  const answer = Buffer.alloc(80)
  for (const at of [0, 8, 16, 24, 32]) answer.writeBigUInt64LE(DISK_BLOCKS, at)
  answer.writeUInt32LE(BLOCK, 40)
  answer.writeUInt32LE(255, 44)
  answer.writeUInt32LE(BLOCK, 48)
  return answer
}

export function entry(node: Node): Buffer {
  const head = Buffer.alloc(40)
  head.writeBigUInt64LE(BigInt(node.id), 0)
  head.writeBigUInt64LE(VALID_SECONDS, 16)
  head.writeBigUInt64LE(VALID_SECONDS, 24)
  return Buffer.concat([head, attribute(node)])
}

export function attributes(node: Node): Buffer {
  const head = Buffer.alloc(16)
  head.writeBigUInt64LE(VALID_SECONDS, 0)
  return Buffer.concat([head, attribute(node)])
}

function attribute(node: Node): Buffer {
  const bytes = Buffer.alloc(88)
  bytes.writeBigUInt64LE(BigInt(node.id), 0)
  bytes.writeBigUInt64LE(BigInt(node.live.size), 8)
  bytes.writeBigUInt64LE(BigInt(Math.ceil(node.live.size / 512)), 16)
  for (const at of [24, 32, 40]) bytes.writeBigUInt64LE(BigInt(Math.floor(node.mtimeMs / 1_000)), at)
  for (const at of [48, 52, 56]) bytes.writeUInt32LE(Math.floor((node.mtimeMs % 1_000) * 1e6), at)
  bytes.writeUInt32LE(node.mode, 60)
  bytes.writeUInt32LE(1, 64)
  bytes.writeUInt32LE(node.uid, 68)
  bytes.writeUInt32LE(node.gid, 72)
  bytes.writeUInt32LE(BLOCK, 80)
  return bytes
}

export function listed(name: string, id: number, next: number, mode: number): Buffer {
  const bytes = Buffer.from(name)
  const part = Buffer.alloc(Math.ceil((24 + bytes.length) / 8) * 8)
  part.writeBigUInt64LE(BigInt(id), 0)
  part.writeBigUInt64LE(BigInt(next), 8)
  part.writeUInt32LE(bytes.length, 16)
  part.writeUInt32LE((mode & 0o170000) >> 12, 20)
  bytes.copy(part, 24)
  return part
}
