/**
 * The kernel's side of a file system in user space: requests from /dev/fuse, carried out on a ForgetfulDisk.
 * Protocol 7.31 (linux/fuse.h). Locks are the kernel's own; what we don't know is answered with ENOSYS, which the
 * kernel takes as "not needed".
 */
import { ForgetfulDisk, type Node } from './forgetful-disk.ts'
import { attributes, entry, initialised, listed, opened, reply, S_IFREG, statistics, text } from './forgetful-frames.ts'

const ENOENT = 2
const EIO = 5
const EINVAL = 22
const ENOTEMPTY = 39
const ENOSYS = 38

const OP = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  readlink: 5,
  symlink: 6,
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

/** What changes the disk, or what of it is sure. */
const CHANGES: readonly number[] = [
  OP.setattr,
  OP.symlink,
  OP.mknod,
  OP.mkdir,
  OP.unlink,
  OP.rmdir,
  OP.rename,
  OP.rename2,
  OP.write,
  OP.fsync,
  OP.fsyncdir,
  OP.create,
]
/** The kernel waits for no answer to these. */
const ONE_WAY: readonly number[] = [OP.forget, OP.batchForget, OP.interrupt, OP.destroy]

/** Bytes of a request before its own arguments. */
const IN_HEADER = 40

const SET_MODE = 1
const SET_UID = 2
const SET_GID = 4
const SET_SIZE = 8
const S_IFDIR = 0o040000
const S_IFLNK = 0o120000

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
  /** Changes until the power fails; from then on everything is answered with EIO. */
  left = Infinity
  isDark = false
  /** That happened. */
  changes = 0

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
    const isLit = CHANGES.includes(opcode) ? this.change() : !this.isDark
    const answer = isLit ? this.#carryOut(opcode, id, request.subarray(IN_HEADER)) : ONE_WAY.includes(opcode) ? undefined : -EIO
    return answer === undefined ? undefined : reply(unique, answer)
  }

  /** One change is about to happen; false: the power fails before it. */
  change(): boolean {
    if (this.left === 0) this.isDark = true
    else {
      this.left -= 1
      this.changes += 1
    }
    return !this.isDark
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
      case OP.symlink:
        return this.#link(id, body)
      case OP.create:
        return Buffer.concat([entry(this.#create(id, text(body, 16), S_IFREG | body.readUInt32LE(4))), opened()])
      case OP.unlink:
      case OP.rmdir:
        return this.#remove(id, text(body, 0))
      case OP.rename:
        return this.#rename(id, body, 8)
      case OP.rename2:
        // Exchange and no-replace: nobody here asks for them.
        return body.readUInt32LE(8) === 0 ? this.#rename(id, body, 16) : -EINVAL
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
      case OP.readlink:
        return node.live.read(0, node.live.size)
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

  #link(folder: number, body: Buffer): Answer {
    const name = text(body, 0)
    const node = this.#create(folder, name, S_IFLNK | 0o777)
    this.#disk.aim(node, Buffer.from(text(body, Buffer.byteLength(name) + 1)))
    return entry(node)
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
    const newFolder = Number(body.readBigUInt64LE(0))
    if ((this.#disk.find(newFolder, to)?.names.size ?? 0) > 0) return -ENOTEMPTY
    this.#disk.rename(folder, from, newFolder, to)
    this.#nameOf.set(node.id, to)
    return Buffer.alloc(0)
  }

  #setAttributes(node: Node, body: Buffer): Answer {
    const valid = body.readUInt32LE(0)
    if ((valid & SET_SIZE) !== 0) this.#disk.truncate(node, Number(body.readBigUInt64LE(16)))
    if ((valid & SET_MODE) !== 0) this.#disk.own(node, { mode: body.readUInt32LE(68) })
    if ((valid & SET_UID) !== 0) this.#disk.own(node, { uid: body.readUInt32LE(76) })
    if ((valid & SET_GID) !== 0) this.#disk.own(node, { gid: body.readUInt32LE(80) })
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
