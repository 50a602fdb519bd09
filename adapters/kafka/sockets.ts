import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ISocketFactory } from 'kafkajs'
import type { TlsMaterial } from './credentials.ts'
import type { KafkaClientSettings } from './settings.ts'
import type { Tap } from './tap.ts'

const KEEPALIVE_MS = 60_000

/**
 * The sockets of one producer's life. kafkajs waits for unanswered requests before it disconnects, and does not
 * notice a silent `destroy()`; a socket destroyed with an error makes it reject everything at once.
 */
export class Sockets {
  readonly #open = new Set<Socket>()
  readonly #tap: Tap
  readonly #tls: TlsMaterial | undefined
  readonly #aliases: ReadonlyMap<string, string>
  #over: Error | undefined
  #closedBytes = 0

  constructor(settings: KafkaClientSettings, tls: TlsMaterial | undefined, tap: Tap) {
    this.#tls = tls
    this.#tap = tap
    this.#aliases = new Map(settings.brokers.filter(({ host }) => isIP(host) === 6).map(({ host }) => [aliasOf(host), host]))
  }

  /** kafkajs splits `host:port` at the first colon, so an IPv6 address goes in under another name. */
  static seeds(settings: KafkaClientSettings): string[] {
    return settings.brokers.map(({ host, port }) => `${isIP(host) === 6 ? aliasOf(host) : host}:${port}`)
  }

  readonly factory: ISocketFactory = ({ host, port, onConnect }) => {
    if (this.#over !== undefined) throw this.#over
    const socket = this.#connect(this.#aliases.get(host) ?? host, port, onConnect)
    socket.setNoDelay(true)
    socket.setKeepAlive(true, KEEPALIVE_MS)
    this.#open.add(socket)
    socket.once('close', () => {
      this.#open.delete(socket)
      this.#closedBytes += socket.bytesWritten
    })
    this.#tap.watch(socket)
    return socket
  }

  get open(): ReadonlySet<Socket> {
    return this.#open
  }

  get sentBytes(): number {
    let sum = this.#closedBytes
    for (const socket of this.#open) sum += socket.bytesWritten
    return sum
  }

  /** Cuts all connections, and lets no new one begin. Idempotent. */
  cut(reason: string): void {
    this.#over ??= new Error(reason)
    for (const socket of this.#open) socket.destroy(this.#over)
  }

  #connect(host: string, port: number, onConnect: () => void): Socket {
    if (this.#tls === undefined) return connectTcp({ host, port }, onConnect)
    const servername = isIP(host) === 0 ? { servername: host } : {}
    return connectTls({ host, port, ...servername, ...this.#tls, minVersion: 'TLSv1.2' }, onConnect)
  }
}

/** RFC 6761 keeps `.invalid` free: no broker has such a name. */
function aliasOf(address: string): string {
  return `${address.replaceAll(':', '-')}.invalid`
}
