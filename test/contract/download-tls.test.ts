/** Downloads that ask who we are, redirects between schemes, and servers that say when to come again. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { HttpDownloads, type DownloadOptions } from '../../adapters/http/download.ts'
import type { Clock } from '../../daemon/clock.ts'
import { honest, lyingServer, type Answer } from '../fakes/lying-server.ts'
import { makeCertificates } from '../services/certificates.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const BYTES = randomBytes(100_000)
const sha256 = createHash('sha256').update(BYTES).digest('hex')
const never = new AbortController().signal

async function fetchInto(url: string, options: Partial<DownloadOptions> = {}): Promise<Buffer> {
  const downloads = new HttpDownloads({ clock: new SystemClock(), random: systemRandom, backoffMs: 1, attempts: 2, ...options })
  scope.atEnd(() => downloads.stop())
  const path = join(scope.folder(), sha256)
  await downloads.fetch({ url, sha256, bytes: BYTES.length }, path, never)
  return readFileSync(path)
}

test('a server that asks for a certificate gets ours; one of an unknown authority is not believed', async () => {
  const made = await makeCertificates(scope.folder())
  const text = (path: string): string => readFileSync(path, 'utf8')
  const [ca, cert, key] = [text(made.caFile), text(made.client.certFile), text(made.client.keyFile)]
  const pair = { cert: text(made.server.certFile), key: text(made.server.keyFile) }
  const names: unknown[] = []
  let answer: Answer = honest(BYTES)
  const server = createServer({ ...pair, ca, requestCert: true, rejectUnauthorized: true }, (request, response) => {
    names.push((request.socket as import('node:tls').TLSSocket).getPeerCertificate().subject.CN)
    answer(request, response, 1)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  scope.atEnd(() => new Promise<void>((resolve) => (server.close(() => resolve()), server.closeAllConnections())))
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/app`
  assert.deepEqual(await fetchInto(url, { tls: { ca, cert, key } }), BYTES)
  assert.deepEqual(names, ['test-client'])
  await assert.rejects(fetchInto(url, { tls: { ca } }), { kind: 'transient' })
  await assert.rejects(fetchInto(url), { kind: 'transient', message: /certificate/ })
  const plain = await lyingServer(honest(BYTES))
  scope.atEnd(() => plain.stop())
  answer = (_request, response) => void response.writeHead(302, { location: plain.url }).end()
  await assert.rejects(fetchInto(url, { tls: { ca, cert, key } }), { kind: 'rejected', message: /from https to http/ })
  assert.equal(plain.ranges.length, 0)
})

test('a URL with a password, or with none of the two schemes, is refused', async () => {
  await assert.rejects(fetchInto('http://user:secret@127.0.0.1/'), (error: Error) => /password/.test(error.message) && !/secret/.test(error.message)) // prettier-ignore
  await assert.rejects(fetchInto('ftp://127.0.0.1/'), { kind: 'rejected', message: /no http/ })
})

test('Retry-After is heeded in both forms, up to ten minutes', async () => {
  const atMs = Date.UTC(2026, 10, 24, 12)
  const waits: number[] = []
  const real = new SystemClock()
  const clock: Clock = {
    bootId: real.bootId,
    wallMs: () => atMs,
    monotonicMs: () => real.monotonicMs(),
    bootMs: () => real.bootMs(),
    wallTrusted: () => true,
    after: (ms, fn) => (waits.push(ms), real.after(0, fn)),
  }
  const said = ['120', new Date(atMs + 60_000).toUTCString(), '86400', new Date(atMs - 60_000).toUTCString(), 'soon']
  const server = await lyingServer((request, response, count) => {
    const later = said[count - 1]
    if (later === undefined) return honest(BYTES)(request, response, count)
    response.writeHead(count % 2 === 0 ? 429 : 503, { 'retry-after': later }).end()
  })
  scope.atEnd(() => server.stop())
  assert.deepEqual(await fetchInto(server.url, { clock, attempts: 9 }), BYTES)
  assert.deepEqual(waits.slice(0, 3), [120_000, 60_000, 600_000])
  assert.ok(waits.slice(3).every((ms) => ms <= 16) && waits.length === 5, String(waits))
})
