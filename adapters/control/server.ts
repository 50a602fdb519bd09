import { chmod, rm } from 'node:fs/promises'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Component } from '../../daemon/component.ts'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import type { Log, Route, StreamReply } from '../../daemon/ports.ts'
import { bodyOf, send, sendPieces } from './answer.ts'

/** An `import` of it would also load Node's HTTP/2 and its fetch, which nobody needs here: 5 MB. */
const { createServer } = process.getBuiltinModule('node:http')

/** Where an HTTP endpoint listens: a unix socket (mode 0660) or a TCP address. */
export type Listen = { readonly socketPath: string } | { readonly host: string; readonly port: number }

/** The kernel's limit for a unix socket's path (`sun_path`), less the terminator. */
const SOCKET_PATH_BYTES_MAX = 107
const CONNECTIONS_MAX = 64
/** Fewer than the connections: somebody with a question gets an answer though all streams are taken. */
const STREAMS_MAX = 40
const METHODS = ['GET', 'POST'] as const

interface TlsMaterial {
  readonly cert?: Buffer
  readonly key?: Buffer
}

export interface EndpointOptions {
  /** Its files are read again when they change; connections that are open go on. */
  readonly tls?: { readonly value: TlsMaterial; onChange(listener: (value: TlsMaterial) => void): () => void }
  readonly connectionsMax?: number
  /** Of one address; loopback is not bound. */
  readonly connectionsPerAddress?: number
  /** With every answer. */
  readonly headers?: Readonly<Record<string, string>>
}

/** A small HTTP endpoint: the control socket and the metrics port are two of them. */
export class HttpEndpoint implements Component {
  readonly name: string
  readonly #listen: Listen
  readonly #routes: readonly CompiledRoute[]
  readonly #log: Log
  /** One for each answer that is under way. */
  readonly #answering = new Set<AbortController>()
  readonly #options: EndpointOptions
  readonly #addresses = new Map<string, number>()
  #streams = 0
  #server: Server | undefined

  constructor(name: string, listen: Listen, routes: readonly Route[], log: Log, options: EndpointOptions = {}) {
    this.#options = options
    this.name = name
    this.#listen = listen
    this.#routes = routes.map((route) => ({ route, parts: route.path.split('/') }))
    this.#log = log
  }

  /** Rejects with `fatal` and a remedy when the address can't be had. The caller owns the data directory's lock. */
  async start(): Promise<void> {
    const listen = this.#listen
    if ('socketPath' in listen) {
      checkSocketPath(listen.socketPath)
      // A socket file outlives a killed daemon; the lock on the data directory proves that nobody serves it.
      await rm(listen.socketPath, { force: true })
    }
    const server = this.#create()
    await listening(server, listen)
    if ('socketPath' in listen) await chmod(listen.socketPath, 0o660)
    this.#server = server
  }

  #create(): Server {
    const { tls, connectionsMax = CONNECTIONS_MAX } = this.#options
    const answer = (request: IncomingMessage, response: ServerResponse): undefined => void this.#answer(request, response)
    // Node looks for overdue requests every 30 s otherwise, however short they may be.
    const options = { connectionsCheckingInterval: 2_000, headersTimeout: 5_000, requestTimeout: 10_000, keepAliveTimeout: 2_000 }
    const server =
      tls === undefined
        ? createServer(options, answer)
        : process
            .getBuiltinModule('node:https')
            .createServer({ ...options, ...tls.value, minVersion: 'TLSv1.2', handshakeTimeout: 5_000 }, answer)
    if ('setSecureContext' in server) tls?.onChange((value) => server.setSecureContext({ ...value, minVersion: 'TLSv1.2' }))
    server.maxConnections = connectionsMax
    server.on('connection', (socket: Socket) => this.#admit(socket))
    return server
  }

  #admit(socket: Socket): void {
    const { connectionsPerAddress } = this.#options
    const address = socket.remoteAddress ?? ''
    if (connectionsPerAddress === undefined || /^(::1$|(::ffff:)?127\.)/.test(address)) return
    const open = this.#addresses.get(address) ?? 0
    if (open >= connectionsPerAddress) return void socket.destroy()
    this.#addresses.set(address, open + 1)
    socket.once('close', () => {
      const left = (this.#addresses.get(address) ?? 1) - 1
      if (left === 0) this.#addresses.delete(address)
      else this.#addresses.set(address, left)
    })
  }

  /** The bound TCP port; for listeners on port 0. */
  get port(): number | undefined {
    const address = this.#server?.address()
    return typeof address === 'object' && address !== null ? address.port : undefined
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    for (const under of this.#answering) under.abort()
    server.closeAllConnections()
    await new Promise<void>((resolve) => server.close(() => resolve()))
    if ('socketPath' in this.#listen) await rm(this.#listen.socketPath, { force: true })
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const under = new AbortController()
    this.#answering.add(under)
    for (const [name, value] of Object.entries(this.#options.headers ?? {})) response.setHeader(name, value)
    response.once('close', () => under.abort())
    try {
      await this.#route(request, response, under.signal)
    } catch (error) {
      const level = under.signal.aborted ? 'debug' : 'error'
      this.#log[level]({ path: request.url, err: messageOf(error) }, 'a request failed')
      if (response.headersSent) response.destroy()
      else send(response, { status: 500, body: { error: messageOf(error) } })
    } finally {
      this.#answering.delete(under)
      under.abort()
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
    const url = URL.parse(request.url ?? '/', 'http://localhost')
    const match = url === null ? undefined : find(this.#routes, request.method ?? 'GET', url.pathname)
    if (url === null || match === undefined) {
      request.resume()
      const methods = url === null ? [] : METHODS.filter((method) => find(this.#routes, method, url.pathname) !== undefined)
      const allow = methods.join(', ')
      if (allow !== '') return send(response, { status: 405, headers: { allow }, body: { error: `only ${allow} here` } })
      return send(response, { status: 404, body: { error: `nothing at ${request.method} ${url?.pathname ?? request.url}` } })
    }
    const body = await bodyOf(request, match.route.bodyBytesMax)
    if (body === undefined)
      return send(response, { status: 413, headers: { connection: 'close' }, body: { error: 'the request is too long' } })
    const headers = request.headers as Record<string, string | undefined>
    const address = request.socket.remoteAddress ?? ''
    const reply = await match.route.run({ params: match.params, query: url.searchParams, headers, address, body, signal })
    return 'stream' in reply ? this.#stream(response, reply, signal) : send(response, reply)
  }

  async #stream(response: ServerResponse, reply: StreamReply, signal: AbortSignal): Promise<void> {
    if (this.#streams >= STREAMS_MAX) {
      const remedy = 'end some of those that are open'
      return send(response, { status: 503, body: { error: `${STREAMS_MAX} answers flow already, no more at once`, remedy } })
    }
    this.#streams += 1
    try {
      await sendPieces(response, reply, signal)
    } finally {
      this.#streams -= 1
    }
  }
}

interface CompiledRoute {
  readonly route: Route
  readonly parts: readonly string[]
}

function find(routes: readonly CompiledRoute[], method: string, path: string) {
  const parts = path.split('/')
  for (const { route, parts: pattern } of routes) {
    const params = route.method === method ? paramsOf(pattern, parts) : undefined
    if (params !== undefined) return { route, params }
  }
  return undefined
}

function paramsOf(pattern: readonly string[], parts: readonly string[]): Record<string, string> | undefined {
  if (pattern.length !== parts.length) return undefined
  const params: Record<string, string> = {}
  for (const [index, name] of pattern.entries()) {
    const part = parts[index] ?? ''
    if (name.startsWith(':')) params[name.slice(1)] = part
    else if (name !== part) return undefined
  }
  return params
}

function checkSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return
  throw new GatewayError('fatal', `the control socket's path ${path} is longer than ${SOCKET_PATH_BYTES_MAX} bytes`, {
    remedy: 'set control.socket to a shorter path',
  })
}

function listening(server: Server, listen: Listen): Promise<void> {
  const where = 'socketPath' in listen ? listen.socketPath : `${listen.host}:${listen.port}`
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const remedy =
        cause.code === 'EADDRINUSE' ? 'stop the other program, or choose another port' : 'check the address and its permissions'
      reject(new GatewayError('fatal', `can't listen on ${where}: ${cause.message}`, { remedy, cause }))
    })
    server.listen('socketPath' in listen ? { path: listen.socketPath } : listen, () => resolve())
  })
}
