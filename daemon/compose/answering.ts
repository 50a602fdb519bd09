import { GatewayError } from '../errors.ts'
import type { Reply, Route, RouteRequest } from '../ports.ts'

export interface Answering {
  readonly method: Route['method']
  readonly path: string
  readonly answer: (request: RouteRequest) => object | Promise<object>
  /** Of a refusal; 409 by default. */
  readonly refused?: number
  readonly bodyBytesMax?: number | undefined
}

/** A route whose refusals say what to do. A fault of the program is left to the server. */
export function answering({ method, path, answer, refused = 409, bodyBytesMax }: Answering): Route {
  const run = async (request: RouteRequest): Promise<Reply> => {
    try {
      return { status: 200, body: await answer(request) }
    } catch (error) {
      if (!(error instanceof GatewayError) || error.kind === 'fatal') throw error
      return { status: refused, body: { error: error.message, remedy: error.remedy } }
    }
  }
  return { method, path, run, ...(bodyBytesMax === undefined ? {} : { bodyBytesMax }) }
}
