import { once } from 'node:events'
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { messageOf } from '../../daemon/errors.ts'
import type { Reply, StreamReply, WholeReply } from '../../daemon/ports.ts'

/** Longer than a slow USB stick takes to write out what it has buffered. */
const STALL_MS = 300_000
const TEXT = 'text/plain; version=0.0.4; charset=utf-8'

/** Undefined when it is longer than `bytesMax`. Rejects when the client goes away midway. */
export async function bodyOf(request: IncomingMessage, bytesMax: number | undefined): Promise<string | undefined> {
  if (bytesMax === undefined) {
    request.resume()
    return ''
  }
  const pieces: Buffer[] = []
  let bytes = 0
  // Left whole when it is too long: the answer still goes over its connection.
  for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += piece.length
    if (bytes > bytesMax) return undefined
    pieces.push(piece)
  }
  return Buffer.concat(pieces).toString('utf8')
}

export function send(response: ServerResponse, reply: WholeReply): void {
  const { body } = reply
  const whole = typeof body === 'string' || body instanceof Uint8Array
  response.writeHead(reply.status, heading(reply, whole ? TEXT : 'application/json'))
  response.end(whole ? body : JSON.stringify(body))
}

/** Resolves when all has gone or the client has. Rejects with what the stream throws. */
export async function sendPieces(response: ServerResponse, reply: StreamReply, signal: AbortSignal): Promise<void> {
  response.writeHead(reply.status, heading(reply, reply.contentType))
  response.flushHeaders()
  for await (const piece of reply.stream) {
    if (signal.aborted) return
    if (!response.write(piece) && !(await drained(response, reply.stallMs ?? STALL_MS, signal))) return
  }
  response.end()
}

/** False when the client has gone, or takes nothing for so long that it is dropped. */
async function drained(response: ServerResponse, stallMs: number, signal: AbortSignal): Promise<boolean> {
  const stalled = AbortSignal.timeout(stallMs)
  try {
    await once(response, 'drain', { signal: AbortSignal.any([signal, stalled]) })
    return true
  } catch (error) {
    if (stalled.aborted) response.destroy()
    else if (!signal.aborted) throw new Error(messageOf(error), { cause: error })
    return false
  }
}

function heading({ headers, contentType }: Reply, otherwise: string): OutgoingHttpHeaders {
  const all: OutgoingHttpHeaders = { 'content-type': contentType ?? otherwise, 'cache-control': 'no-store' }
  for (const [name, value] of Object.entries(headers ?? {})) all[name] = typeof value === 'string' ? value : [...value]
  return all
}
