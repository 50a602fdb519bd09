import { Agent, request } from 'undici'
import { GatewayError } from '../../daemon/errors.ts'

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

  close(): Promise<void> {
    return this.#agent.close()
  }

  /** Rejects with `transient` when no daemon answers, `rejected` when it refuses the request. */
  async #ask(method: 'GET' | 'POST', path: string): Promise<unknown> {
    const answer = await request(`http://daemon${path}`, { method, dispatcher: this.#agent }).catch((cause: NodeJS.ErrnoException) => {
      throw unreachable(this.#socketPath, cause)
    })
    const body: unknown = await answer.body.json()
    if (answer.statusCode < 400) return body
    const reason = typeof body === 'object' && body !== null && 'error' in body ? String(body.error) : `status ${answer.statusCode}`
    throw new GatewayError('rejected', reason, remedyIn(body))
  }
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
