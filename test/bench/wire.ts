import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'
import type { ServiceScope } from '../services/index.ts'

/** Headers of IPv4 and TCP with its time stamps. */
const SEGMENT_BYTES = 52
/** Header, content type and tag of a TLS 1.3 record. */
const RECORD_BYTES = 22

export interface Wire {
  readonly port: number
  /** What the programs wrote, in both directions. */
  bytes(): number
  /** With TLS and TCP around it: each write is a record and a segment, and each segment is acknowledged by another. */
  wireBytes(): number
}

/** In front of `target`, on 127.0.0.1: hands everything on, and counts. */
export async function countingWire(scope: ServiceScope, target: number): Promise<Wire> {
  const count = { bytes: 0, writes: 0 }
  const sockets = new Set<Socket>()
  const carry = (from: Socket, to: Socket): void => {
    sockets.add(from)
    from.on('data', (chunk: Buffer) => {
      count.bytes += chunk.length
      count.writes += 1
      to.write(chunk)
    })
    from.on('error', () => to.destroy()).on('close', () => to.destroy())
  }
  const server = createServer({ noDelay: true }, (client) => {
    const service = connect({ port: target, host: '127.0.0.1', noDelay: true })
    carry(client, service)
    carry(service, client)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  scope.atEnd(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the counting proxy has no port')
  return {
    port: address.port,
    bytes: () => count.bytes,
    wireBytes: () => count.bytes + count.writes * (RECORD_BYTES + 2 * SEGMENT_BYTES),
  }
}
