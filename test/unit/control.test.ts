import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { Agent, request } from 'undici'
import { ControlClient } from '../../adapters/control/client.ts'
import { HttpEndpoint } from '../../adapters/control/server.ts'
import { GatewayError } from '../../daemon/errors.ts'
import type { Log, Route } from '../../daemon/ports.ts'

const silent: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const routes: readonly Route[] = [
  { method: 'GET', path: '/status', run: () => ({ status: 200, body: { fine: true } }) },
  {
    method: 'POST',
    path: '/dead-letters/:id/drop',
    run: ({ params, query }) => ({ status: 200, body: { id: params['id'], why: query.get('why') } }),
  },
  {
    method: 'POST',
    path: '/echo',
    bodyBytesMax: 100,
    run: ({ body, headers }) => ({ status: 200, body: { body, type: headers['content-type'] } }),
  },
  { method: 'GET', path: '/ticks', run: ({ signal }) => ({ status: 200, contentType: 'text/plain', stream: ticks(signal) }) },
  { method: 'GET', path: '/flood', run: () => ({ status: 200, contentType: 'application/octet-stream', stream: flood(), stallMs: 300 }) },
  { method: 'GET', path: '/broken', run: () => ({ status: 200, contentType: 'text/plain', stream: broken() }) },
  { method: 'GET', path: '/fault', run: () => Promise.reject(new Error('the ledger could not be read')) },
]

let ended = 0
let sent = 0
let received = false

async function* ticks(signal: AbortSignal): AsyncGenerator<string> {
  try {
    for (let tick = 1; !signal.aborted; tick += 1) {
      yield `tick ${tick}\nhalf of `
      await setTimeout(5, undefined, { signal }).catch(() => undefined)
    }
  } finally {
    ended += 1
  }
}

async function* flood(): AsyncGenerator<Uint8Array> {
  try {
    for (; ; sent += 1) yield new Uint8Array(65_536)
  } finally {
    ended += 1
  }
}

async function* broken(): AsyncGenerator<string> {
  yield 'one\n'
  await until(() => received)
  throw new Error('the disk has gone')
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await setTimeout(5)
}

describe('the control socket', () => {
  let dir = ''
  let socketPath = ''
  let endpoint: HttpEndpoint
  let client: ControlClient

  beforeEach(async () => {
    ended = 0
    sent = 0
    dir = await mkdtemp(join(tmpdir(), 'edge-control-'))
    socketPath = join(dir, 'control.sock')
    endpoint = new HttpEndpoint('control', { socketPath }, routes, silent)
    client = new ControlClient(socketPath)
  })
  afterEach(async () => {
    await client.close()
    await endpoint.stop()
    await rm(dir, { recursive: true })
  })

  it('answers, with path parts and query', async () => {
    await endpoint.start()
    assert.deepEqual(await client.get('/status'), { fine: true })
    assert.deepEqual(await client.post('/dead-letters/7/drop?why=old'), { id: '7', why: 'old' })
  })

  it('is open to its owner and group only', async () => {
    await endpoint.start()
    assert.equal((await stat(socketPath)).mode & 0o777, 0o660)
  })

  it('takes the place of a socket file that a killed daemon left', async () => {
    await writeFile(socketPath, '')
    await endpoint.start()
    assert.deepEqual(await client.get('/status'), { fine: true })
  })

  it('says in words what it has not, and what failed', async () => {
    await endpoint.start()
    await assert.rejects(
      client.get('/nothing'),
      (error) => error instanceof GatewayError && error.kind === 'rejected' && /nothing at GET \/nothing/.test(error.message),
    )
    await assert.rejects(client.get('/fault'), /the ledger could not be read/)
  })

  it('tells a daemon that is down from one that refuses', async () => {
    await assert.rejects(
      client.get('/status'),
      (error) => error instanceof GatewayError && error.kind === 'transient' && /not running/.test(error.message),
    )
  })

  it('refuses a path that the kernel would cut off', async () => {
    const long = new HttpEndpoint('control', { socketPath: join(dir, 'x'.repeat(120)) }, routes, silent)
    await assert.rejects(long.start(), /longer than 107 bytes/)
  })

  it('sends the pieces of an answer as they come, in lines, and ends it when the client goes', async () => {
    await endpoint.start()
    const lines: string[] = []
    for await (const line of client.stream('/ticks')) if (lines.push(line) === 3) break
    assert.deepEqual(lines, ['tick 1', 'half of tick 2', 'half of tick 3'])
    await until(() => ended === 1)
  })

  it('ends open answers when it stops, and says so to the client', async () => {
    await endpoint.start()
    const read = async (): Promise<void> => {
      for await (const line of client.stream('/ticks')) if (line === 'tick 1') void endpoint.stop()
    }
    await assert.rejects(read(), (error) => error instanceof GatewayError && error.kind === 'transient' && /broke off/.test(error.message))
    await until(() => ended === 1)
  })

  it('lets nobody take a part for the whole', async () => {
    await endpoint.start()
    const lines = client.stream('/broken')
    assert.equal((await lines.next()).value, 'one')
    received = true
    await assert.rejects(lines.next(), /broke off/)
  })

  it('makes no more pieces than the client takes, and drops a client that takes none', async () => {
    await endpoint.start()
    const socket = connect(socketPath)
    socket.on('error', () => undefined).write('GET /flood HTTP/1.1\r\nhost: daemon\r\n\r\n')
    await until(() => ended === 1)
    assert.ok(sent < 100, `${sent} pieces of 64 KiB for a client that reads nothing`)
    socket.destroy()
  })

  it('keeps the streams at a number, and answers questions beside them', async () => {
    await endpoint.start()
    const open = Array.from({ length: 40 }, () => client.stream('/ticks'))
    await Promise.all(open.map((stream) => stream.next()))
    await assert.rejects(
      client.stream('/ticks').next(),
      (error) =>
        error instanceof GatewayError && /40 answers flow/.test(error.message) && error.remedy === 'end some of those that are open',
    )
    assert.deepEqual(await client.get('/status'), { fine: true })
    await Promise.all(open.map((stream) => stream.return()))
    await until(() => ended === 40)
    assert.equal((await client.stream('/ticks').next()).value, 'tick 1')
  })

  it('reads a body up to its route’s bound, and survives a request line that is no URL', async () => {
    await endpoint.start()
    const agent = new Agent({ connect: { socketPath } })
    const post = async (body: string): Promise<number> => {
      const answer = await request('http://daemon/echo', { method: 'POST', body, dispatcher: agent })
      await answer.body.dump()
      return answer.statusCode
    }
    assert.equal(await post('x'.repeat(100)), 200)
    assert.equal(await post('x'.repeat(100_000)), 413)
    const socket = connect(socketPath)
    socket.write('GET //:x HTTP/1.1\r\nhost: daemon\r\n\r\n')
    const first: unknown[] = await once(socket, 'data')
    assert.match(String(first[0]), /^HTTP\/1.1 404/)
    socket.destroy()
    await agent.destroy()
  })

  it('says which address is taken', async () => {
    const first = new HttpEndpoint('metrics', { host: '127.0.0.1', port: 0 }, routes, silent)
    await first.start()
    const second = new HttpEndpoint('metrics', { host: '127.0.0.1', port: first.port ?? 0 }, routes, silent)
    await assert.rejects(
      second.start(),
      (error) => error instanceof GatewayError && error.remedy === 'stop the other program, or choose another port',
    )
    await first.stop()
  })
})
