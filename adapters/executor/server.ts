import { chmodSync, rmSync } from 'node:fs'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { GatewayError } from '../../daemon/errors.ts'
import type { Log } from '../../daemon/ports.ts'
import { BEAT_MS, ENVELOPE_BYTES_MAX, failureOf, SILENCE_MS } from './wire.ts'

const { createServer } = process.getBuiltinModule('node:http')

/** What is served; each call with the abort of the one who asked. */
export interface Executions {
  prepare(envelope: Uint8Array, signal: AbortSignal): Promise<object>
  missing(digest: string): Promise<readonly string[]>
  receive(digest: string, sha256: string, bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>
  step(digest: string, step: string, endBootMs: number | undefined, signal: AbortSignal): Promise<boolean | undefined>
}

const CONNECTIONS_MAX = 8
const PATHS = /^\/(?:prepare|([0-9a-f]{64})\/(?:(missing)|artifacts\/([0-9a-f]{64})|steps\/([a-zA-Z]{1,20})))$/

/**
 * The executor's end of the socket. One request is carried out at a time, in the order in which they came; when who
 * asked is gone, its step is cut off. Ends by itself when nobody has asked for `idleMs`: systemd starts it again.
 */
export class ExecutorServer {
  readonly ended: Promise<void>
  readonly #executions: Executions
  readonly #log: Log
  readonly #idleMs: number
  readonly #server: Server
  #turn: Promise<void> = Promise.resolve()
  #open = 0
  #idle: NodeJS.Timeout | undefined
  #end: () => void = () => undefined

  constructor(executions: Executions, log: Log, idleMs: number) {
    this.#executions = executions
    this.#log = log
    this.#idleMs = idleMs
    this.ended = new Promise((resolve) => (this.#end = resolve))
    const server = createServer((request, response) => void this.#serve(request, response))
    server.maxConnections = CONNECTIONS_MAX
    server.headersTimeout = 5_000
    server.requestTimeout = 0 // an artifact may be long in coming; silence ends it
    server.timeout = SILENCE_MS
    server.on('connection', (socket) => {
      this.#open += 1
      clearTimeout(this.#idle)
      socket.once('close', () => {
        this.#open -= 1
        this.#rest()
      })
    })
    this.#server = server
  }

  /** The socket that systemd opened, or a path; who may connect is decided by the socket's owner and mode. */
  async listen(where: { readonly fd: number } | { readonly path: string }): Promise<void> {
    if ('path' in where) rmSync(where.path, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(where, () => resolve())
    })
    if ('path' in where) chmodSync(where.path, 0o600)
    this.#rest()
  }

  stop(): void {
    clearTimeout(this.#idle)
    this.#server.close(() => this.#end())
    this.#server.closeAllConnections()
  }

  #rest(): void {
    if (this.#open > 0 || this.#idleMs === Infinity) return
    this.#idle = setTimeout(() => this.stop(), this.#idleMs)
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController()
    response.on('close', () => gone.abort(new GatewayError('transient', 'who asked for the step is gone')))
    response.on('error', () => undefined) // the same
    response.writeHead(200, { 'content-type': 'application/json', connection: 'close' })
    response.flushHeaders()
    const beat = setInterval(() => response.write('\n'), BEAT_MS)
    const before = this.#turn
    const over = Promise.withResolvers<void>()
    this.#turn = over.promise
    try {
      await before
      // After a standstill the request and the news that its sender has gone come at once.
      await turn()
      gone.signal.throwIfAborted()
      response.end(JSON.stringify((await this.#answer(request, gone.signal)) ?? {}))
    } catch (error) {
      const failure = failureOf(error)
      if (!gone.signal.aborted) this.#log.warn({ path: request.url?.slice(0, 200), err: error }, `refused or failed: ${failure.error}`)
      response.end(JSON.stringify(failure))
    } finally {
      clearInterval(beat)
      request.resume()
      over.resolve()
    }
  }

  async #answer(request: IncomingMessage, signal: AbortSignal): Promise<object | undefined> {
    const url = new URL(request.url ?? '/', 'http://executor')
    const found = request.method === 'POST' ? PATHS.exec(url.pathname) : null
    if (found === null) throw new GatewayError('rejected', 'the executor has nothing there')
    const [, digest, missing, sha256, step] = found
    if (digest === undefined) return this.#executions.prepare(await bodyOf(request), signal)
    if (missing !== undefined) return { missing: await this.#executions.missing(digest) }
    if (sha256 !== undefined) return void (await this.#executions.receive(digest, sha256, request, signal))
    return { is: await this.#executions.step(digest, step ?? '', endOf(url), signal) }
  }
}

function endOf({ searchParams }: URL): number | undefined {
  const text = searchParams.get('end')
  if (text === null) return undefined
  const end = Number(text)
  if (Number.isFinite(end)) return end
  throw new GatewayError('rejected', 'the end of a step is no number')
}

async function bodyOf(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > ENVELOPE_BYTES_MAX) throw new GatewayError('rejected', `an envelope has at most ${ENVELOPE_BYTES_MAX} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
