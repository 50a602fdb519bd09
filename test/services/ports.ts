import { createServer } from 'node:net'
import { randomInt } from 'node:crypto'

// Below Linux's ephemeral range (32768 and up): a client that reconnects to a
// stopped service must never be given that very port as its own source port,
// or it connects to itself and the service cannot start again.
const LOWEST = 12_000
const HIGHEST = 32_000

/** A TCP port on 127.0.0.1 that nothing listens on at this moment. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = randomInt(LOWEST, HIGHEST)
    if (await canListen(port)) return port
  }
  throw new Error(`no free TCP port between ${LOWEST} and ${HIGHEST} after 100 tries`)
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
