import { chmod, rm } from 'node:fs/promises'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Component } from '../../daemon/component.ts'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import type { Log, Reply, Route } from '../../daemon/ports.ts'

/** An `import` of it would also load Node's HTTP/2 and its fetch, which nobody needs here: 5 MB. */
const { createServer } = process.getBuiltinModule('node:http')

/** Where an HTTP endpoint listens: a unix socket (mode 0660) or a TCP address. */
export type Listen = { readonly socketPath: string } | { readonly host: string; readonly port: number }

/** The kernel's limit for a unix socket's path (`sun_path`), less the terminator. */
const SOCKET_PATH_BYTES_MAX = 107
const CONNECTIONS_MAX = 64

/** A small HTTP endpoint: the control socket and the metrics port are two of them. Routes take no body. */
export class HttpEndpoint implements Component {
  readonly name: string
  readonly #listen: Listen
  readonly #routes: readonly CompiledRoute[]
  readonly #log: Log
  #server: Server | undefined

  constructor(name: string, listen: Listen, routes: readonly Route[], log: Log) {
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
    const server = createServer((request, response) => void this.#answer(request, response))
    server.maxConnections = CONNECTIONS_MAX
    server.headersTimeout = 5_000
    server.requestTimeout = 10_000
    server.keepAliveTimeout = 2_000
    await listening(server, listen)
    if ('socketPath' in listen) await chmod(listen.socketPath, 0o660)
    this.#server = server
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
    server.closeAllConnections()
    await new Promise<void>((resolve) => server.close(() => resolve()))
    if ('socketPath' in this.#listen) await rm(this.#listen.socketPath, { force: true })
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://localhost')
    const match = find(this.#routes, request.method ?? 'GET', url.pathname)
    request.resume()
    if (match === undefined) return send(response, { status: 404, body: { error: `nothing at ${request.method} ${url.pathname}` } })
    try {
      send(response, await match.route.run({ params: match.params, query: url.searchParams }))
    } catch (error) {
      this.#log.error({ path: url.pathname, err: messageOf(error) }, 'a request failed')
      send(response, { status: 500, body: { error: messageOf(error) } })
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

function send(response: ServerResponse, reply: Reply): void {
  const text = typeof reply.body === 'string'
  const body = text ? reply.body : JSON.stringify(reply.body)
  response.writeHead(reply.status, {
    'content-type': text ? 'text/plain; version=0.0.4; charset=utf-8' : 'application/json',
    'cache-control': 'no-store',
  })
  response.end(body)
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
