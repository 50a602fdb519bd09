/**
 * The socket on which systemd, or whoever started us, hears how we are: sd_notify(3). Node has no datagram sockets of the
 * unix family, so three functions of the C library are called. libsystemd is not needed, and since its own function reads the
 * environment at each call, it would have to keep the socket's name where children inherit it.
 */
import { readFileSync } from 'node:fs'
import koffi from 'koffi'
import type { ServiceNotices } from '../../daemon/ports.ts'

const AF_UNIX = 1
/** SOCK_DGRAM, close on exec, never wait (socket(2), Linux). */
const SOCKET_TYPE = 2 | 0o2_000_000 | 0o4_000
const MSG_NOSIGNAL = 0x4000
/** sun_path of sockaddr_un, with its closing zero. */
const PATH_MAX = 108

/** `path` as in NOTIFY_SOCKET: absolute, or with `@` for the abstract namespace. `failed` hears of the first failure only. */
export class NotifySocket implements ServiceNotices {
  readonly #path: string
  readonly #failed: (text: string) => void
  #send: ((text: Buffer) => number) | undefined
  #broken = false

  constructor(path: string, failed: (text: string) => void) {
    this.#path = path
    this.#failed = failed
  }

  send(...assignments: readonly string[]): void {
    try {
      this.#send ??= connected(this.#path)
      const code = this.#send(Buffer.from(assignments.join('\n')))
      if (code !== 0) this.#fail(`error ${code} of send(2)`)
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error))
    }
  }

  #fail(why: string): void {
    if (this.#broken) return
    this.#broken = true
    this.#failed(`systemd can't be told how the daemon is, at NOTIFY_SOCKET ${this.#path}: ${why}`)
  }
}

/** Sends a text; returns 0, or errno. */
function connected(path: string): (text: Buffer) => number {
  const address = addressOf(path)
  // Of what this program is linked with, whichever C library that is.
  const library = koffi.load(null)
  const socket = library.func('int socket(int, int, int)') as (family: number, type: number, protocol: number) => number
  const connect = library.func('int connect(int, const uint8_t *, uint32_t)') as (fd: number, address: Buffer, bytes: number) => number
  const send = library.func('intptr_t send(int, const uint8_t *, size_t, int)') as (
    fd: number,
    text: Buffer,
    bytes: number,
    flags: number,
  ) => number
  const fd = socket(AF_UNIX, SOCKET_TYPE, 0)
  if (fd < 0) throw new Error(`error ${koffi.errno()} of socket(2)`)
  if (connect(fd, address, address.length) !== 0) throw new Error(`error ${koffi.errno()} of connect(2)`)
  return (text) => (send(fd, text, text.length, MSG_NOSIGNAL) < 0 ? koffi.errno() : 0)
}

/** sockaddr_un (unix(7)): an abstract name begins with a zero, and ends where the address ends. */
function addressOf(path: string): Buffer {
  if (!/^[/@]./.test(path)) throw new Error('only a path, or @ and a name, is understood')
  const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`)
  if (name.length > PATH_MAX) throw new Error(`it is longer than ${PATH_MAX} bytes`)
  const address = Buffer.alloc(2 + name.length)
  if (isLittleEndian) address.writeUInt16LE(AF_UNIX)
  else address.writeUInt16BE(AF_UNIX)
  name.copy(address, 2)
  return address
}

const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1

/** Bytes that this program has read and written so far, files and sockets; 0 where the kernel does not say. */
export function bytesMoved(): number {
  try {
    const text = readFileSync('/proc/self/io', 'utf8')
    return [...text.matchAll(/^[rw]char: (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0)
  } catch {
    return 0 // then a start has the time that the unit gives it, and no more
  }
}
