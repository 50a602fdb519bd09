import { randomInt } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

// Below Linux's ephemeral range (32768 and up): a client that reconnects to a
// stopped service must never be given that very port as its own source port,
// or it connects to itself and the service cannot start again.
const LOWEST = 12_000
const HIGHEST = 32_000

/** One file for each port, with the pid of the test program that it is promised to. */
const PROMISES = join(tmpdir(), `edge-gateway-ports-${process.getuid?.() ?? 0}`)

/**
 * A TCP port on 127.0.0.1 that nothing listens on at this moment, and that no other test program is given while this
 * one lives: between the choice and the first listening lie seconds, and a box's own port is away while it restarts.
 */
export async function freePort(): Promise<number> {
  mkdirSync(PROMISES, { recursive: true })
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = randomInt(LOWEST, HIGHEST)
    if (!promised(port)) continue
    if (await canListen(port)) return port
  }
  throw new Error(`no free TCP port between ${LOWEST} and ${HIGHEST} after 100 tries`)
}

/** False when somebody who lives has it. */
function promised(port: number): boolean {
  const path = join(PROMISES, String(port))
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    // Of a program that is gone: the next draw finds the port free. Taken over at once, two could both take it.
    if (!lives(path)) rmSync(path, { force: true })
    return false
  }
}

function lives(path: string): boolean {
  try {
    const pid = Number(readFileSync(path, 'utf8'))
    // Just made, and not written yet.
    if (pid === 0) return true
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
