import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import fc from 'fast-check'
import { startProxy } from '../services/proxy.ts'
import type { Proxy } from '../services/proxy.ts'

interface Echo {
  readonly port: number
  /** All bytes received so far. */
  received(): Buffer
  /** Connections whose client has closed its side. */
  ends(): number
}

/** Sends back what it gets, and says "bye" when its client is done. */
async function startEcho(t: TestContext): Promise<Echo> {
  const chunks: Buffer[] = []
  let ends = 0
  const port = await startServer(t, (socket) => {
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      socket.write(chunk)
    })
    socket.once('end', () => {
      ends += 1
      socket.end('bye')
    })
  })
  return { port, received: () => Buffer.concat(chunks), ends: () => ends }
}

async function startServer(t: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy()) // resets are what these tests are about
    serve(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    sockets.forEach((socket) => socket.destroy())
    server.close()
  })
  return (server.address() as AddressInfo).port
}

async function proxyFor(t: TestContext, target: number): Promise<Proxy> {
  const proxy = await startProxy({ target })
  t.after(() => proxy.stop())
  return proxy
}

interface Client {
  readonly socket: Socket
  send(bytes: string | Buffer): void
  /** Resolves with the next `count` bytes. */
  take(count: number): Promise<string>
  /** Resolves with the error code of the connection's end, or "closed". */
  readonly end: Promise<string>
}

async function client(t: TestContext, port: number): Promise<Client> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  t.after(() => socket.destroy())
  const end = new Promise<string>((resolve) => {
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.once('close', () => resolve('closed'))
  })
  await once(socket, 'connect')
  let unread = Buffer.alloc(0)
  const take = async (count: number): Promise<string> => {
    while (unread.length < count) unread = Buffer.concat([unread, await nextChunk(socket)])
    const taken = unread.subarray(0, count)
    unread = unread.subarray(count)
    return taken.toString()
  }
  return { socket, end, take, send: (bytes) => void socket.write(bytes) }
}

/** Reads only when asked, so that a test can be a slow reader. */
async function nextChunk(socket: Socket): Promise<Buffer> {
  for (;;) {
    const chunk = socket.read() as Buffer | null
    if (chunk !== null) return chunk
    await once(socket, 'readable')
  }
}

async function roundTrip(one: Client, text: string): Promise<void> {
  one.send(text)
  assert.equal(await one.take(text.length), text)
}

/** Time in which anything that is under way on loopback arrives: many round trips beside the proxy. */
async function letThingsArrive(t: TestContext, port: number): Promise<void> {
  const beside = await client(t, port)
  for (let count = 0; count < 50; count++) await roundTrip(beside, 'beside')
}

test('hands every byte on, in order, in both directions, and counts it', async (t) => {
  const echo = await startEcho(t)
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 3_000 }), { minLength: 1, maxLength: 8 }), async (chunks) => {
      const proxy = await startProxy({ target: `tcp://127.0.0.1:${echo.port}` })
      const one = await client(t, proxy.port)
      const whole = Buffer.concat(chunks)
      const answer = collect(one.socket, whole.length)
      for (const chunk of chunks) one.send(Buffer.from(chunk))
      assert.deepEqual(await answer, whole)
      assert.deepEqual(proxy.bytes, { toServer: whole.length, toClient: whole.length })
      await proxy.stop()
    }),
    { numRuns: 15 },
  )
})

function collect(socket: Socket, count: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  return new Promise((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      length += chunk.length
      if (length >= count) resolve(Buffer.concat(chunks))
    })
  })
}

test('holds a fast sender back while the reader is slow, and loses nothing', async (t) => {
  const whole = Buffer.alloc(24_000_000, 'x')
  let sender: Socket | undefined
  const port = await startServer(t, (socket) => {
    sender = socket
    socket.write(whole)
  })
  const proxy = await proxyFor(t, port)
  const echo = await startEcho(t)
  const one = await client(t, proxy.port)
  let before: number
  do {
    before = sender?.writableLength ?? whole.length
    await letThingsArrive(t, echo.port)
  } while (sender?.writableLength !== before)
  assert.ok(before > 0, 'the proxy read on although nobody took the bytes')
  assert.equal((await collect(one.socket, whole.length)).length, whole.length)
})

test('passes a half-closed connection on', async (t) => {
  const echo = await startEcho(t)
  const proxy = await proxyFor(t, echo.port)
  const one = await client(t, proxy.port)
  one.socket.end('ab')
  assert.equal(await one.take(5), 'abbye')
  one.socket.resume()
  await once(one.socket, 'close')
  assert.equal(echo.ends(), 1)
})

test('cut resets open connections and takes new ones', async (t) => {
  const echo = await startEcho(t)
  const proxy = await proxyFor(t, echo.port)
  const one = await client(t, proxy.port)
  await roundTrip(one, 'before')
  proxy.cut()
  assert.equal(await one.end, 'ECONNRESET')
  assert.equal(proxy.open, 0)
  await roundTrip(await client(t, proxy.port), 'after')
  assert.equal(proxy.accepted, 2)
})

test('refuse turns new connections away and keeps open ones; accept takes new ones on the same port', async (t) => {
  const echo = await startEcho(t)
  const proxy = await proxyFor(t, echo.port)
  const one = await client(t, proxy.port)
  await roundTrip(one, 'before')
  await proxy.refuse()
  await assert.rejects(client(t, proxy.port), { code: 'ECONNREFUSED' })
  await roundTrip(one, 'still here')
  await proxy.accept()
  await roundTrip(await client(t, proxy.port), 'again')
})

test('resets the client when the target is down', async (t) => {
  const proxy = await startProxy({ target: 1 })
  t.after(() => proxy.stop())
  const one = await client(t, proxy.port)
  assert.equal(await one.end, 'ECONNRESET')
})

test('halfOpen lets nothing through, not even a close, until it heals', async (t) => {
  const echo = await startEcho(t)
  const proxy = await proxyFor(t, echo.port)
  const one = await client(t, proxy.port)
  await roundTrip(one, 'before')
  proxy.halfOpen()
  one.socket.end('held')
  const late = await client(t, proxy.port)
  late.send('late')
  const before = echo.received().length
  await letThingsArrive(t, echo.port)
  assert.equal(echo.received().length - before, 50 * 'beside'.length)
  assert.equal(echo.ends(), 0)
  await proxy.heal()
  assert.equal(await one.take(7), 'heldbye')
  assert.equal(await late.take(4), 'late')
})

test('cut ends a black hole for its connections', async (t) => {
  const echo = await startEcho(t)
  const proxy = await proxyFor(t, echo.port)
  const one = await client(t, proxy.port)
  proxy.halfOpen()
  one.send('lost')
  proxy.cut()
  assert.equal(await one.end, 'ECONNRESET')
  await proxy.heal()
  await roundTrip(await client(t, proxy.port), 'new')
  assert.equal(echo.received().toString(), 'new')
})

test('dropResponses lets requests through and discards the answers that the predicate picks', async (t) => {
  const echo = await startEcho(t)
  const proxy = await proxyFor(t, echo.port)
  const one = await client(t, proxy.port)
  proxy.dropResponses((bytes) => bytes.includes('lost'))
  one.send('lost')
  while (proxy.swallowed === 0) await new Promise((resolve) => setImmediate(resolve))
  await roundTrip(one, 'kept')
  proxy.dropResponses()
  one.send('gone')
  while (proxy.swallowed === 1) await new Promise((resolve) => setImmediate(resolve))
  await proxy.heal()
  await roundTrip(one, 'lost but healed')
  assert.equal(echo.received().toString(), 'lostkeptgonelost but healed')
})

test('delay is paid in each direction', async (t) => {
  const echo = await startEcho(t)
  const proxy = await proxyFor(t, echo.port)
  const one = await client(t, proxy.port)
  proxy.delay(50)
  const started = performance.now()
  await roundTrip(one, 'x')
  const spent = performance.now() - started
  // A timer may come a little early; one delay alone would be about 50 ms.
  assert.ok(spent > 75, `${spent} ms is no more than one delay`)
})

test('delay does not add up: many pieces under way arrive before three round trips are over', async (t) => {
  const echo = await startEcho(t)
  const proxy = await proxyFor(t, echo.port)
  const [many, few] = [await client(t, proxy.port), await client(t, proxy.port)]
  proxy.delay(50)
  let arrived = 0
  many.socket.on('data', (chunk: Buffer) => (arrived += chunk.length))
  for (let count = 0; count < 40; count++) {
    many.send('x')
    await new Promise((resolve) => setImmediate(resolve))
  }
  for (let count = 0; count < 3; count++) await roundTrip(few, 'y')
  assert.equal(arrived, 40)
})

test('throttle bounds the rate of all connections together', async (t) => {
  const echo = await startEcho(t)
  const proxy = await proxyFor(t, echo.port)
  const both = [await client(t, proxy.port), await client(t, proxy.port)]
  proxy.throttle(20_000)
  const started = performance.now()
  await Promise.all(both.map((one) => roundTrip(one, 'y'.repeat(2_000))))
  const spent = performance.now() - started
  assert.ok(spent >= 195, `4,000 bytes at 20,000 a second in ${spent} ms`)
})

test('faults by api key need a proxy that knows Kafka', async (t) => {
  const proxy = await proxyFor(t, 1)
  assert.throws(() => proxy.onRequest(() => 'cut'), /kafka: true/)
  assert.throws(() => proxy.dropKafkaResponses(0, 1), /kafka: true/)
  await assert.rejects(startProxy({ target: 'nonsense' }), /is no target/)
})
