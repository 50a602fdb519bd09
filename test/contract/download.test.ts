import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { HttpDownloads, type DownloadOptions } from '../../adapters/http/download.ts'
import { breaking, honest, lyingServer, type Answer, type LyingServer } from '../fakes/lying-server.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const BYTES = randomBytes(300_000)
const sha256 = createHash('sha256').update(BYTES).digest('hex')
const never = new AbortController().signal

interface Rig {
  readonly server: LyingServer
  readonly path: string
  readonly fetch: (signal?: AbortSignal) => Promise<void>
}

async function rig(answer: Answer, options: Partial<DownloadOptions> = {}): Promise<Rig> {
  const server = await lyingServer(answer)
  const downloads = new HttpDownloads({ clock: new SystemClock(), random: systemRandom, backoffMs: 1, attempts: 3, ...options })
  scope.atEnd(() => server.stop())
  scope.atEnd(() => downloads.stop())
  const path = join(scope.folder(), sha256)
  const artifact = { url: `${server.url}/app.tar.gz`, sha256, bytes: BYTES.length }
  return { server, path, fetch: (signal = never) => downloads.fetch(artifact, path, signal) }
}

test('a connection that breaks again and again is resumed, over lives too', async () => {
  const { server, path, fetch } = await rig(breaking(BYTES, 100_000))
  await fetch()
  assert.deepEqual(readFileSync(path), BYTES)
  assert.deepEqual(server.ranges, [undefined, 'bytes=100000-', 'bytes=200000-'])
})

test('what a later life finds is gone on with by Range and If-Range', async () => {
  const { server, path, fetch } = await rig((request, response, count) => {
    if (count === 1) return breaking(BYTES, 50_000)(request, response, count)
    response.writeHead(503).end()
  })
  await assert.rejects(fetch(), { kind: 'transient', message: /3 attempts.*503/ })
  server.answer = honest(BYTES)
  await fetch()
  assert.equal(server.ranges.at(-1), 'bytes=50000-')
  assert.deepEqual(readFileSync(path), BYTES)
})

test('patch path 17: 200 instead of 206 starts the file anew, and is never appended', async () => {
  const { path, fetch } = await rig((request, response, count) => {
    if (count === 1) return breaking(BYTES, 70_000)(request, response, count)
    response.writeHead(200).end(BYTES)
  })
  await fetch()
  assert.deepEqual(readFileSync(path), BYTES)
})

test('patch path 17: 404, 410, 401 and 403 end it at once', async () => {
  for (const status of [404, 410, 401, 403]) {
    const { server, path, fetch } = await rig((_request, response) => void response.writeHead(status).end())
    await assert.rejects(fetch(), { kind: 'rejected', message: new RegExp(`answered ${status}`) })
    assert.equal(server.ranges.length, 1)
    assert.equal(existsSync(path), false)
  }
})

test('patch path 17: a cancel works at once while the server is silent', async () => {
  const silent: Answer[] = [
    () => undefined,
    (_request, response) => void response.writeHead(200, { 'content-length': BYTES.length }).write(BYTES.subarray(0, 1_000)),
  ]
  for (const answer of silent) {
    const { fetch } = await rig(answer)
    const cancel = new AbortController()
    const fetching = fetch(cancel.signal)
    await pause(100)
    cancel.abort()
    await assert.rejects(fetching, { kind: 'transient' })
  }
})

test('a changed ETag, a wrong Content-Range and 416 start the file anew', async () => {
  const lies: Answer[] = [
    honest(BYTES, '"two"'),
    (_request, response) => void response.writeHead(206, { etag: '"one"', 'content-range': `bytes 0-9/${BYTES.length}` }).end('0123456789'),
    (_request, response) => void response.writeHead(206, { etag: '"one"' }).end(BYTES),
    (_request, response) =>
      void response.writeHead(206, { etag: '"two"', 'content-range': `bytes 70000-299999/300000` }).end(BYTES.subarray(70_000)),
    (_request, response) => void response.writeHead(416).end(),
  ]
  for (const lie of lies) {
    const { path, fetch } = await rig((request, response, count) => {
      const answer = count === 1 ? breaking(BYTES, 70_000) : count === 2 ? lie : honest(BYTES, '"two"')
      answer(request, response, count)
    })
    await fetch()
    assert.deepEqual(readFileSync(path), BYTES)
  }
})

test('wrong bytes are fetched anew once, then refused, and nothing is left', async () => {
  const other = randomBytes(BYTES.length)
  const endless = (response: Parameters<Answer>[1]): void => {
    response.once('drain', () => endless(response))
    while (response.writable && !response.destroyed && response.write(other));
  }
  const lies: [Answer, RegExp][] = [
    [honest(other), /sha256/],
    [honest(BYTES.subarray(1)), /299999 bytes there/],
    [honest(Buffer.concat([BYTES, BYTES])), /600000 bytes there/],
    [(_request, response) => endless(response.writeHead(200)), /more than the 300000 bytes/],
  ]
  for (const [lie, message] of lies) {
    const { server, path, fetch } = await rig(lie)
    await assert.rejects(fetch(), { kind: 'rejected', message })
    assert.equal(server.ranges.length, 2)
    assert.deepEqual([existsSync(path), existsSync(`${path}.json`)], [false, false])
  }
})

test('an encoded body, a loop of redirects, and one to a file are refused; an honest redirect is followed', async () => {
  const to =
    (location: string): Answer =>
    (_request, response) =>
      void response.writeHead(302, { location }).end()
  const gzip: Answer = (_request, response) => void response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(BYTES))
  for (const [answer, message] of [
    [gzip, /encoded/],
    [to('/again'), /redirects/],
    [to('file:///etc/passwd'), /no http/],
  ] as const) {
    await assert.rejects((await rig(answer)).fetch(), { kind: 'rejected', message })
  }
  const { path, fetch } = await rig((request, response, count) =>
    (request.url === '/there' ? honest(BYTES) : to('/there'))(request, response, count),
  )
  await fetch()
  assert.deepEqual(readFileSync(path), BYTES)
})

test('a trickle and a body that goes silent end the attempt; attempts are capped', async () => {
  const trickle: Answer = (_request, response) => {
    response.writeHead(200, { 'content-length': BYTES.length })
    const timer = setInterval(() => response.write('x'), 20)
    response.on('close', () => clearInterval(timer))
  }
  const slow = await rig(trickle, { slow: { bytes: 1_000, perMs: 100 } })
  await assert.rejects(slow.fetch(), { kind: 'transient', message: /less than 1000 bytes/ })
  const silent = await rig((_request, response) => void response.writeHead(200, { 'content-length': 300_000 }).write('x'), {
    idleTimeoutMs: 1_100,
  })
  await assert.rejects(silent.fetch(), { kind: 'transient', message: /3 attempts/ })
})

test('a proxy is used, and NO_PROXY heeded', async () => {
  const { server, path, fetch } = await rig(honest(BYTES), { proxy: { http: 'http://127.0.0.1:9', none: '127.0.0.1' } })
  await fetch()
  assert.deepEqual(readFileSync(path), BYTES)
  const through = await rig(() => undefined, { proxy: { http: server.url, none: '' } })
  await through.fetch()
  assert.equal(through.server.ranges.length, 0)
})
