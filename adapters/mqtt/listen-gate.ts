import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type Server as TlsServer, type TLSSocket } from 'node:tls'
import type { Clock } from '../../daemon/clock.ts'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import type { Tally } from './listen-counters.ts'
import type { ListenAddress } from './listen-settings.ts'
import type { TlsMaterial } from './tls.ts'

/** A device's own timeout is not shorter; who waits longer has given up, and would only take the place of others. */
const WAIT_MAX_MS = 5_000
const HANDSHAKE_TIMEOUT_MS = 10_000
const BACKLOG = 4_096
/** Dead peers are found by the kernel even when MQTT's own keepalive is long. */
const TCP_KEEPALIVE_MS = 60_000
/** A paused socket has read one chunk more; this does not add another. */
const SOCKET_BUFFER_BYTES = 16_384

export interface GateOptions {
  readonly address: ListenAddress
  readonly connectsPerSecond: number
  /** Sockets at once, in whatever state. */
  readonly socketsMax: number
  readonly requireClientCert: boolean
  readonly clock: Clock
  readonly tally: Tally
  /** A socket that may speak MQTT now; its common name when it showed a certificate that was verified. */
  readonly enter: (socket: Socket, commonName: string | undefined) => void
}

/**
 * Accepts sockets at a bounded rate: beyond it they wait unread, before a TLS handshake costs anything; beyond five
 * seconds' worth of them they are closed at once.
 */
export class Gate {
  readonly #options: GateOptions
  readonly #waiting: Socket[] = []
  #server: Server | undefined
  #tls: TlsServer | undefined
  #sockets = 0
  #tokens: number
  #refilledMs: number
  #cancel: (() => void) | undefined
  #closed = false

  constructor(options: GateOptions) {
    this.#options = options
    this.#tokens = options.connectsPerSecond
    this.#refilledMs = options.clock.monotonicMs()
  }

  /** Rejects with `fatal` when the address can't be had. */
  async open(material: TlsMaterial | undefined): Promise<void> {
    const { address } = this.#options
    if (material !== undefined) this.#openTls(material)
    const server = createServer({
      pauseOnConnect: true,
      noDelay: true,
      highWaterMark: SOCKET_BUFFER_BYTES,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEPALIVE_MS,
    })
    this.#server = server
    server.on('connection', (socket) => this.#arrived(socket))
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(cannotListen(address, error)))
      server.listen({ host: address.host, port: address.port, backlog: BACKLOG }, resolve)
    })
    server.on('error', (error) => this.#options.tally.warn('accept', {}, `a connection could not be accepted: ${error.message}`))
  }

  /** The port in use; differs from the address' when that was 0. */
  get port(): number {
    const address = this.#server?.address()
    return typeof address === 'object' && address !== null ? address.port : this.#options.address.port
  }

  /** New connections use it. Its context has ticket keys of its own: no session of before can be resumed. */
  renew(material: TlsMaterial): void {
    this.#tls?.setSecureContext(contextOf(material))
  }

  /** Stops accepting and drops who waits; connections that entered are not touched. */
  close(): void {
    this.#closed = true
    this.#cancel?.()
    for (const socket of this.#waiting.splice(0)) socket.destroy()
    this.#server?.close()
  }

  #openTls(material: TlsMaterial): void {
    const { requireClientCert, tally } = this.#options
    // Judged below and not by the server, which would not say why it turned somebody away.
    const tls = createTlsServer({
      ...contextOf(material),
      requestCert: requireClientCert,
      rejectUnauthorized: false,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    })
    tls.on('secureConnection', (socket) => this.#judge(socket))
    tls.on('tlsClientError', (error, socket) => {
      tally.end('tls-error', plainTlsError(error), peerOf(socket))
      socket.destroy()
    })
    this.#tls = tls
  }

  #judge(socket: TLSSocket): void {
    const { requireClientCert, enter, tally } = this.#options
    if (!requireClientCert) return enter(socket, undefined)
    // A resumed session counts as authorised even when it began without a certificate.
    if (socket.authorized && socket.getPeerX509Certificate() !== undefined) return enter(socket, commonNameOf(socket))
    socket.on('error', () => socket.destroy())
    tally.end('tls-error', plainCertificateError(socket), peerOf(socket))
    socket.destroy()
  }

  #arrived(socket: Socket): void {
    const { socketsMax, tally, connectsPerSecond } = this.#options
    socket.on('error', () => socket.destroy())
    if (this.#closed) return void socket.destroy()
    this.#sockets++
    socket.once('close', () => this.#sockets--)
    if (this.#sockets > socketsMax) {
      tally.refuse('max-connections', `${socketsMax} sockets are open`, peerOf(socket))
      socket.destroy()
    } else if (this.#waiting.length >= (connectsPerSecond * WAIT_MAX_MS) / 1_000) {
      tally.refuse('connects-per-second', `more than ${connectsPerSecond} a second for ${WAIT_MAX_MS / 1_000} s`, peerOf(socket))
      socket.destroy()
    } else {
      this.#waiting.push(socket)
      this.#admit()
    }
  }

  #admit(): void {
    this.#refill()
    while (this.#tokens >= 1) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      if (next.destroyed) continue
      this.#tokens--
      this.#enter(next)
    }
    if (this.#waiting.length > 0)
      this.#cancel ??= this.#options.clock.after(Math.max(10, 1_000 / this.#options.connectsPerSecond), () => this.#again())
  }

  #again(): void {
    this.#cancel = undefined
    if (!this.#closed) this.#admit()
  }

  #refill(): void {
    const nowMs = this.#options.clock.monotonicMs()
    const rate = this.#options.connectsPerSecond
    this.#tokens = Math.min(Math.max(1, rate), this.#tokens + ((nowMs - this.#refilledMs) * rate) / 1_000)
    this.#refilledMs = nowMs
  }

  #enter(socket: Socket): void {
    // Documented: a TLS server takes sockets from elsewhere by this event.
    if (this.#tls !== undefined) this.#tls.emit('connection', socket)
    else this.#options.enter(socket, undefined)
  }
}

function contextOf(material: TlsMaterial): TlsMaterial & { minVersion: 'TLSv1.2' } {
  return { ...material, minVersion: 'TLSv1.2' }
}

function commonNameOf(socket: TLSSocket): string | undefined {
  const name: unknown = socket.getPeerCertificate().subject?.CN
  return typeof name === 'string' && name !== '' ? name : undefined
}

function peerOf(socket: Socket): string {
  return `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? 0}`
}

function plainTlsError(error: Error): string {
  const { message } = error
  if (/wrong version number|http request/i.test(message)) return 'it does not speak TLS on this port'
  return `TLS handshake failed: ${messageOf(error)}`
}

function plainCertificateError(socket: TLSSocket): string {
  const code = String(socket.authorizationError)
  if (socket.getPeerX509Certificate() === undefined) return 'it showed no client certificate'
  if (code === 'CERT_REVOKED') return 'its client certificate is revoked'
  if (code === 'CERT_HAS_EXPIRED') return 'its client certificate has expired'
  if (code === 'CRL_HAS_EXPIRED') return 'the revocation list has expired: renew it, nobody can come in before'
  return `its client certificate is not trusted (${code})`
}

function cannotListen(address: ListenAddress, error: Error): GatewayError {
  const { code } = error as NodeJS.ErrnoException
  const where = `${address.host}:${address.port}`
  if (code === 'EADDRINUSE') {
    return new GatewayError('fatal', `can't listen on ${where}: another program has this port`, {
      cause: error,
      remedy: `Stop it (see: ss -ltnp 'sport = :${address.port}'), or choose another port.`,
    })
  }
  if (code === 'EACCES') {
    return new GatewayError('fatal', `can't listen on ${where}: ports below 1024 need a right of their own`, {
      cause: error,
      remedy: 'Take a higher port, or give the service CAP_NET_BIND_SERVICE: README, "The service".',
    })
  }
  return new GatewayError('fatal', `can't listen on ${where}: ${error.message}`, {
    cause: error,
    remedy: 'Check the address of the listener.',
  })
}
