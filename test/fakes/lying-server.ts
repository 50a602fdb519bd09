import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

export type Answer = (request: IncomingMessage, response: ServerResponse, count: number) => void

export interface LyingServer {
  readonly url: string
  /** Header `range` of each request, in order. */
  readonly ranges: (string | undefined)[]
  answer: Answer
  stop(): Promise<void>
}

/** A real HTTP server that answers as the test says. */
export async function lyingServer(answer: Answer): Promise<LyingServer> {
  const sockets = new Set<Socket>()
  const ranges: (string | undefined)[] = []
  const server: Server = createServer((request, response) => {
    ranges.push(request.headers.range)
    response.on('error', () => undefined)
    lying.answer(request, response, ranges.length)
  })
  server.on('connection', (socket) => {
    sockets.add(socket.on('close', () => sockets.delete(socket)).on('error', () => undefined))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const lying: LyingServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ranges,
    answer,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
  return lying
}

/** An honest answer, with Range and If-Range. */
export function honest(bytes: Buffer, etag = '"one"'): Answer {
  return (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const same = request.headers['if-range'] === undefined || request.headers['if-range'] === etag
    if (from === 0 || !same) return void response.writeHead(200, { etag, 'content-length': bytes.length }).end(bytes)
    const head = { etag, 'content-length': bytes.length - from, 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }
    response.writeHead(206, head).end(bytes.subarray(from))
  }
}

/** So many bytes from where it was asked for, then the connection breaks. */
export function breaking(bytes: Buffer, after: number, etag = '"one"'): Answer {
  return (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const head = { etag, 'content-length': bytes.length - from }
    if (from === 0) response.writeHead(200, head)
    else response.writeHead(206, { ...head, 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` })
    response.write(bytes.subarray(from, from + after), () => setTimeout(() => response.socket?.destroy(), 250))
  }
}
