import { Agent, request, type Dispatcher } from 'undici'
import { GatewayError, messageOf } from '../../daemon/errors.ts'

/** Asks the running daemon over its control socket. One client per command. */
export class ControlClient {
  readonly #socketPath: string
  readonly #agent: Agent

  constructor(socketPath: string) {
    this.#socketPath = socketPath
    this.#agent = new Agent({ connect: { socketPath }, headersTimeout: 10_000, bodyTimeout: 10_000, connectTimeout: 3_000 })
  }

  get(path: string): Promise<unknown> {
    return this.#ask('GET', path)
  }

  post(path: string): Promise<unknown> {
    return this.#ask('POST', path)
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

  /** Rejects with `transient` when no daemon answers, `rejected` when it refuses the request. */
  async #ask(method: 'GET' | 'POST', path: string): Promise<unknown> {
    const answer = await this.#open(method, path)
    const body: unknown = await answer.body.json()
    if (answer.statusCode >= 400) throw refusal(answer.statusCode, body)
    return body
  }

  async #open(method: 'GET' | 'POST', path: string, options: { bodyTimeout?: number } = {}): Promise<Dispatcher.ResponseData> {
    return request(`http://daemon${path}`, { method, dispatcher: this.#agent, ...options }).catch((cause: NodeJS.ErrnoException) => {
      throw unreachable(this.#socketPath, cause)
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

function unreachable(path: string, cause: NodeJS.ErrnoException): GatewayError {
  if (cause.code === 'EACCES') {
    return new GatewayError('rejected', `no permission for the control socket ${path}`, {
      cause,
      remedy: 'run it with sudo, or add yourself to the group edge-gateway and log in again',
    })
  }
  const missing = cause.code === 'ENOENT' || cause.code === 'ECONNREFUSED'
  const message = missing
    ? `the daemon is not running (nothing answers at ${path})`
    : `the daemon does not answer at ${path}: ${cause.message}`
  return new GatewayError('transient', message, { cause, remedy: 'systemctl status edge-gateway' })
}
