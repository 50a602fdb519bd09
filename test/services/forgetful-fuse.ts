/**
 * The kernel's side of a file system in user space: requests from /dev/fuse, carried out on a ForgetfulDisk.
 * Protocol 7.31 (linux/fuse.h). Locks are the kernel's own; what we don't know is answered with ENOSYS, which the
 * kernel takes as "not needed".
 */
import { ForgetfulDisk, type Node } from './forgetful-disk.ts'

const ENOENT = 2
const EIO = 5
const ENOTEMPTY = 39
const ENOSYS = 38

const OP = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  mknod: 8,
  mkdir: 9,
  unlink: 10,
  rmdir: 11,
  rename: 12,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  release: 18,
  fsync: 20,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  fsyncdir: 30,
  create: 35,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
  rename2: 45,
} as const

/** Bytes of a request before its own arguments, and of an answer. */
const IN_HEADER = 40
const OUT_HEADER = 16
export const WRITE_MAX = 128 * 1024
export const REQUEST_MAX = WRITE_MAX + 8192

const KEEP_CACHE = 2
const SET_MODE = 1
const SET_SIZE = 8
/** Nobody but the kernel changes anything, so that it may remember for as long as it likes. */
const VALID_SECONDS = 3_600n
const S_IFDIR = 0o040000
const S_IFREG = 0o100000
const BLOCK = 4_096
const DISK_BLOCKS = 262_144n

/** What goes wrong on files of this name until it is taken away: EIO, or no answer at all. */
export interface Fault {
  readonly operation: 'write' | 'fsync'
  readonly name: string
  /** Default: `error`. */
  readonly kind?: 'error' | 'hang'
}

/** An answer, a negative errno, or undefined where the kernel expects none. */
type Answer = Buffer | number | undefined

export class FuseRequests {
  readonly #disk: ForgetfulDisk
  readonly #nameOf = new Map<number, string>()
  fault: Fault | undefined
  /** Requests that hang. */
  held: Buffer[] = []

  constructor(disk: ForgetfulDisk) {
    this.#disk = disk
  }

  /** The bytes to write back to the kernel. */
  answer(request: Buffer): Buffer | undefined {
    const opcode = request.readUInt32LE(4)
    const unique = request.readBigUInt64LE(8)
    const id = Number(request.readBigUInt64LE(16))
    if (this.fault?.kind === 'hang' && this.#isHit(opcode, id)) {
      this.held.push(Buffer.from(request))
      return undefined
    }
    const answer = this.#carryOut(opcode, id, request.subarray(IN_HEADER))
    return answer === undefined ? undefined : reply(unique, answer)
  }

  #carryOut(opcode: number, id: number, body: Buffer): Answer {
    switch (opcode) {
      case OP.init:
        return initialised(body)
      case OP.forget:
      case OP.batchForget:
      case OP.interrupt:
      case OP.destroy:
        return undefined
      case OP.release:
      case OP.releasedir:
      case OP.flush:
        return Buffer.alloc(0)
      case OP.open:
      case OP.opendir:
        return opened()
      case OP.statfs:
        return statistics()
      case OP.fsyncdir:
        this.#disk.syncNames(id)
        return Buffer.alloc(0)
      default:
        return this.#onNames(opcode, id, body) ?? this.#onFile(opcode, id, body)
    }
  }

  /** Operations on a name in the folder `id`; undefined for all others. */
  #onNames(opcode: number, id: number, body: Buffer): Answer {
    switch (opcode) {
      case OP.lookup:
        return this.#entry(this.#disk.find(id, text(body, 0)))
      case OP.mkdir:
        return this.#entry(this.#create(id, text(body, 8), S_IFDIR | body.readUInt32LE(0)))
      case OP.mknod:
        return this.#entry(this.#create(id, text(body, 16), body.readUInt32LE(0)))
      case OP.create:
        return Buffer.concat([entry(this.#create(id, text(body, 16), S_IFREG | body.readUInt32LE(4))), opened()])
      case OP.unlink:
      case OP.rmdir:
        return this.#remove(id, text(body, 0))
      case OP.rename:
        return this.#rename(id, body, 8)
      case OP.rename2:
        return this.#rename(id, body, 16)
      default:
        return undefined
    }
  }

  #onFile(opcode: number, id: number, body: Buffer): Answer {
    const node = this.#disk.node(id)
    if (node === undefined) return -ENOENT
    switch (opcode) {
      case OP.getattr:
        return attributes(node)
      case OP.setattr:
        return this.#setAttributes(node, body)
      case OP.read:
        return node.live.read(Number(body.readBigUInt64LE(8)), body.readUInt32LE(16))
      case OP.readdir:
        return this.#list(node, Number(body.readBigUInt64LE(8)), body.readUInt32LE(16))
      case OP.write:
        return this.#write(node, body)
      case OP.fsync:
        return this.#sync(node)
      default:
        return -ENOSYS
    }
  }

  #create(folder: number, name: string, mode: number): Node {
    const node = this.#disk.create(folder, name, mode)
    this.#nameOf.set(node.id, name)
    return node
  }

  #entry(node: Node | undefined): Answer {
    return node === undefined ? -ENOENT : entry(node)
  }

  #remove(folder: number, name: string): Answer {
    const node = this.#disk.find(folder, name)
    if (node === undefined) return -ENOENT
    if (node.names.size > 0) return -ENOTEMPTY
    this.#disk.remove(folder, name)
    return Buffer.alloc(0)
  }

  #rename(folder: number, body: Buffer, namesAt: number): Answer {
    const from = text(body, namesAt)
    const to = text(body, namesAt + Buffer.byteLength(from) + 1)
    const node = this.#disk.find(folder, from)
    if (node === undefined) return -ENOENT
    this.#disk.rename(folder, from, Number(body.readBigUInt64LE(0)), to)
    this.#nameOf.set(node.id, to)
    return Buffer.alloc(0)
  }

  #setAttributes(node: Node, body: Buffer): Answer {
    const valid = body.readUInt32LE(0)
    if ((valid & SET_SIZE) !== 0) this.#disk.truncate(node, Number(body.readBigUInt64LE(16)))
    if ((valid & SET_MODE) !== 0) node.mode = body.readUInt32LE(68)
    return attributes(node)
  }

  #write(node: Node, body: Buffer): Answer {
    if (this.#isHit(OP.write, node.id)) return -EIO
    const size = body.readUInt32LE(16)
    this.#disk.write(node, Number(body.readBigUInt64LE(8)), body.subarray(40, 40 + size))
    const answer = Buffer.alloc(8)
    answer.writeUInt32LE(size, 0)
    return answer
  }

  #sync(node: Node): Answer {
    if (this.#isHit(OP.fsync, node.id)) return -EIO
    this.#disk.sync(node)
    return Buffer.alloc(0)
  }

  #isHit(opcode: number, id: number): boolean {
    return this.fault !== undefined && OP[this.fault.operation] === opcode && this.fault.name === this.#nameOf.get(id)
  }

  #list(folder: Node, from: number, length: number): Buffer {
    const parts: Buffer[] = []
    let left = length
    for (const [index, [name, id]] of [...folder.names].entries()) {
      if (index < from) continue
      const part = listed(name, id, index + 1, this.#disk.node(id)?.mode ?? S_IFREG)
      if (part.length > left) break
      left -= part.length
      parts.push(part)
    }
    return Buffer.concat(parts)
  }
}

function reply(unique: bigint, answer: Buffer | number): Buffer {
  const body = typeof answer === 'number' ? Buffer.alloc(0) : answer
  const header = Buffer.alloc(OUT_HEADER)
  header.writeUInt32LE(OUT_HEADER + body.length, 0)
  header.writeInt32LE(typeof answer === 'number' ? answer : 0, 4)
  header.writeBigUInt64LE(unique, 8)
  return Buffer.concat([header, body])
}

function text(body: Buffer, at: number): string {
  return body.toString('utf8', at, body.indexOf(0, at))
}

function initialised(body: Buffer): Buffer {
  const answer = Buffer.alloc(64)
  answer.writeUInt32LE(7, 0)
  answer.writeUInt32LE(31, 4)
  answer.writeUInt32LE(body.readUInt32LE(8), 8)
  answer.writeUInt32LE(WRITE_MAX, 20)
  answer.writeUInt32LE(1, 24)
  return answer
}

function opened(): Buffer {
  const answer = Buffer.alloc(16)
  answer.writeUInt32LE(KEEP_CACHE, 8)
  return answer
}

function statistics(): Buffer {
  const answer = Buffer.alloc(80)
  for (const at of [0, 8, 16, 24, 32]) answer.writeBigUInt64LE(DISK_BLOCKS, at)
  answer.writeUInt32LE(BLOCK, 40)
  answer.writeUInt32LE(255, 44)
  answer.writeUInt32LE(BLOCK, 48)
  return answer
}

function entry(node: Node): Buffer {
  const head = Buffer.alloc(40)
  head.writeBigUInt64LE(BigInt(node.id), 0)
  head.writeBigUInt64LE(VALID_SECONDS, 16)
  head.writeBigUInt64LE(VALID_SECONDS, 24)
  return Buffer.concat([head, attribute(node)])
}

function attributes(node: Node): Buffer {
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
  bytes.writeUInt32LE(node.mode, 60)
  bytes.writeUInt32LE(1, 64)
  bytes.writeUInt32LE(BLOCK, 80)
  return bytes
}

function listed(name: string, id: number, next: number, mode: number): Buffer {
  const bytes = Buffer.from(name)
  const part = Buffer.alloc(Math.ceil((24 + bytes.length) / 8) * 8)
  part.writeBigUInt64LE(BigInt(id), 0)
  part.writeBigUInt64LE(BigInt(next), 8)
  part.writeUInt32LE(bytes.length, 16)
  part.writeUInt32LE((mode & 0o170000) >> 12, 20)
  bytes.copy(part, 24)
  return part
}
