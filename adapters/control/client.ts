import { Agent, request, type Dispatcher } from 'undici'
import { GatewayError, messageOf, type ErrorDetails } from '../../daemon/errors.ts'

/** Within these, a daemon that lives has begun to answer, also when it asks an etcd that hangs (5 s): a look, and an order. */
const LOOK_MS = 6_000
const ORDER_MS = 7_000

/** `away`: nobody serves the socket. `silent`: somebody does, and does not answer. */
export class DaemonUnreachable extends GatewayError {
  readonly why: 'away' | 'silent'

  constructor(why: 'away' | 'silent', message: string, details: ErrorDetails) {
    super('transient', message, details)
    this.why = why
  }
}

/** Asks the running daemon over its control socket. One client per command. */
export class ControlClient {
  readonly #socketPath: string
  readonly #agent: Agent

  constructor(socketPath: string) {
    this.#socketPath = socketPath
    this.#agent = new Agent({ connect: { socketPath }, headersTimeout: ORDER_MS, bodyTimeout: 10_000, connectTimeout: 3_000 })
  }

  get(path: string): Promise<unknown> {
    return this.#ask('GET', path, { headersTimeout: LOOK_MS })
  }

  /** `body` is sent as it is. */
  post(path: string, body?: string): Promise<unknown> {
    return this.#ask('POST', path, body === undefined ? {} : { body })
  }

  /**
   * The pieces of an answer as they come, for as long as the daemon sends; leaving the loop ends it. Rejects like `get`,
   * and with `transient` when the daemon stops or the answer breaks off.
   */
  async *pieces(path: string): AsyncGenerator<Uint8Array, void, undefined> {
    const answer = await this.#open('GET', path, { bodyTimeout: 0 })
    if (answer.statusCode >= 400) throw refusal(answer.statusCode, await answer.body.json())
    try {
      for await (const piece of answer.body as AsyncIterable<Uint8Array>) yield piece
    } catch (cause) {
      const remedy = 'run it again; systemctl status edge-gateway'
      throw new GatewayError('transient', `the daemon's answer broke off: ${messageOf(cause)}`, { cause, remedy })
    }
  }

  /** The lines of such an answer, without their ends. */
  async *stream(path: string): AsyncGenerator<string, void, undefined> {
    const decoder = new TextDecoder()
    let rest = ''
    for await (const piece of this.pieces(path)) {
      const lines = (rest + decoder.decode(piece, { stream: true })).split('\n')
      rest = lines.pop() ?? ''
      yield* lines
    }
    if (rest !== '') yield rest
  }

  /** Ends answers that still come. */
  close(): Promise<void> {
    return this.#agent.destroy()
  }

  /** Rejects with `DaemonUnreachable` when no daemon answers, `rejected` when it refuses the request. */
  async #ask(method: 'GET' | 'POST', path: string, options: { headersTimeout?: number; body?: string } = {}): Promise<unknown> {
    const answer = await this.#open(method, path, options)
    const body: unknown = await answer.body.json().catch((cause: Error) => {
      throw silent(this.#socketPath, method, cause)
    })
    if (answer.statusCode >= 400) throw refusal(answer.statusCode, body)
    return body
  }

  async #open(
    method: 'GET' | 'POST',
    path: string,
    options: { bodyTimeout?: number; headersTimeout?: number; body?: string } = {},
  ): Promise<Dispatcher.ResponseData> {
    return request(`http://daemon${path}`, { method, dispatcher: this.#agent, ...options }).catch((cause: NodeJS.ErrnoException) => {
      throw unreachable(this.#socketPath, method, cause)
    })
  }
}

function refusal(status: number, body: unknown): GatewayError {
  const reason = typeof body === 'object' && body !== null && 'error' in body ? String(body.error) : `status ${status}`
  return new GatewayError('rejected', reason, remedyIn(body))
}

function remedyIn(body: unknown): { readonly remedy?: string } {
  return typeof body === 'object' && body !== null && 'remedy' in body ? { remedy: String(body.remedy) } : {}
}

function unreachable(path: string, method: 'GET' | 'POST', cause: NodeJS.ErrnoException): GatewayError {
  if (cause.code === 'EACCES') {
    return new GatewayError('rejected', `no permission for the control socket ${path}`, {
      cause,
      remedy: 'run it with sudo, or add yourself to the group edge-gateway and log in again',
    })
  }
  if (cause.code !== 'ENOENT' && cause.code !== 'ECONNREFUSED') return silent(path, method, cause)
  const remedy = 'systemctl status edge-gateway says why; systemctl start edge-gateway starts it'
  return new DaemonUnreachable('away', `the daemon is not running (nothing answers at ${path})`, { cause, remedy })
}

function silent(path: string, method: 'GET' | 'POST', cause: Error): DaemonUnreachable {
  const later = method === 'POST' ? '; it may still do what it was asked when it goes on' : ''
  const remedy = 'journalctl -u edge-gateway -n 50 says what it did last; systemctl restart edge-gateway loses nothing'
  return new DaemonUnreachable('silent', `the daemon does not answer at ${path}: ${wordsOf(cause)}${later}`, { cause, remedy })
}

/** A reset by a daemon that was killed while it hung has only a code. */
function wordsOf(cause: NodeJS.ErrnoException): string {
  return cause.code === 'ECONNRESET' || cause.code === 'EPIPE' ? 'it ended before it answered' : cause.message
}
