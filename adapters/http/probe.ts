import { request, type Dispatcher } from 'undici'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import type { Probe } from '../../daemon/patch/kinds.ts'
import { dispatcherOf, type HttpOptions } from './dispatcher.ts'

/** For health checks: any host, GET, no redirect followed, and nothing of the body is read. */
export class HttpProbe implements Probe {
  readonly #options: HttpOptions
  #dispatcher: Dispatcher | undefined

  constructor(options: HttpOptions = {}) {
    this.#options = options
  }

  async status(url: string, timeoutMs: number, signal: AbortSignal): Promise<number> {
    this.#dispatcher ??= dispatcherOf(this.#options)
    try {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
      const response = await request(url, { dispatcher: this.#dispatcher, signal: limit })
      // A body that never ends would hold the socket.
      response.body.on('error', () => undefined).destroy()
      return response.statusCode
    } catch (error) {
      throw new GatewayError('transient', `${url} did not answer: ${messageOf(error)}`, { cause: error })
    }
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    await this.#dispatcher?.destroy()
    this.#dispatcher = undefined
  }
}
