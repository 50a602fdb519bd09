import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { readDrops } from '../../adapters/mqtt/connect-drops.ts'
import { FileMemory, SessionBook } from '../../adapters/mqtt/connect-memory.ts'
import { findSession, takesRetained } from '../../adapters/mqtt/connect-subscribe.ts'
import { failureWords, refusalWords } from '../../adapters/mqtt/connect-words.ts'

const folder = mkdtempSync(join(tmpdir(), 'edge-gateway-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const BROKER = { url: 'mqtt://plant:1883', isSecure: false, host: 'plant', port: 1883 }
const SESSION = { clientId: 'gw', filters: ['a/#'], established: [] }

function bookOn(path: string): { readonly book: SessionBook; readonly warnings: string[] } {
  const warnings: string[] = []
  const ignore = (): void => undefined
  const log = { debug: ignore, info: ignore, warn: (_: object, message: string) => void warnings.push(message), error: ignore }
  return { book: new SessionBook(new FileMemory(path), 'plant', log), warnings }
}

test('what is noted is there after a restart, and no half file is left', async () => {
  const path = join(folder, 'deep', 'plant.json')
  const { book } = bookOn(path)
  await book.load()
  await book.put(BROKER.url, { ...SESSION, dropped: 7 })
  await book.put('mqtt://other:1883', SESSION)
  const next = bookOn(path)
  await next.book.load()
  assert.deepEqual(next.book.of(BROKER.url), { ...SESSION, dropped: 7 })
  assert.deepEqual(next.book.of('mqtt://other:1883'), SESSION)
  assert.deepEqual(readdirSync(join(folder, 'deep')), ['plant.json'])
})

test('a file that can not be read costs a warning, not the connection', async () => {
  for (const text of ['', '{"schema":2,"sessions":{}}', '{"schema":1}', '{"schema":1,"sessions":{"x":{"clientId":"gw"}}}', '[]', 'null']) {
    const path = join(folder, 'broken.json')
    writeFileSync(path, text)
    const { book, warnings } = bookOn(path)
    await book.load()
    assert.equal(warnings.length, 1, text)
    assert.equal(book.of('x'), undefined)
  }
})

test('a memory that can not be written costs a warning, and the session is known all the same', async () => {
  writeFileSync(join(folder, 'file'), '')
  const { book, warnings } = bookOn(join(folder, 'file', 'plant.json'))
  await book.put(BROKER.url, SESSION)
  assert.equal(warnings.length, 1)
  assert.deepEqual(book.of(BROKER.url), SESSION)
})

test('a session is lost when the broker does not know it and we do', () => {
  const accepted = (isSessionPresent: boolean): Parameters<typeof findSession>[0] => ({ isSessionPresent, sessionExpirySeconds: undefined })
  const known = { ...SESSION, established: ['a/#'] }
  assert.equal(findSession(accepted(false), undefined, 'gw').isLost, false)
  assert.equal(findSession(accepted(true), known, 'gw').isLost, false)
  assert.deepEqual(findSession(accepted(true), known, 'gw').established, ['a/#'])
  assert.deepEqual(findSession(accepted(false), known, 'gw'), {
    isLost: true,
    isStrange: false,
    established: [],
    formerClientId: undefined,
  })
  assert.deepEqual(findSession(accepted(false), known, 'new'), { isLost: false, isStrange: false, established: [], formerClientId: 'gw' })
  assert.equal(findSession(accepted(true), undefined, 'gw').isStrange, true)
  assert.equal(findSession(accepted(true), known, 'gw').isStrange, false)
})

test('log path 27: retained messages are taken once at most, and only when they are wanted', () => {
  const base = {
    filters: [],
    brokers: [],
    urls: [],
    clientId: 'gw',
    sessionExpirySeconds: 1,
    receiveMaximum: 1,
    keepaliveSeconds: 1,
    inFlight: { messages: 1, bytes: 1 },
  }
  const takes = (protocolVersion: 4 | 5, retained: 'ignore' | 'accept', established: string[]): boolean =>
    takesRetained({ ...base, protocolVersion, retained }, established, 'a/b')
  assert.equal(takes(4, 'ignore', []), false)
  assert.equal(takes(5, 'ignore', []), false)
  assert.equal(takes(4, 'accept', []), true)
  assert.equal(takes(4, 'accept', ['a/#']), false)
  assert.equal(takes(5, 'accept', ['a/#']), true, 'the broker itself leaves out repetitions')
})

test("log path 28: the broker's counter of drops is read as a rise, also after its restart", () => {
  const read = (text: string, former?: number): unknown => readDrops(Buffer.from(text), former)
  assert.deepEqual(read('12'), { total: 12, rise: 0 })
  assert.deepEqual(read('15', 12), { total: 15, rise: 3 })
  assert.deepEqual(read('4', 12), { total: 4, rise: 4 })
  for (const text of ['', '-1', '1.5', 'many', '9'.repeat(16)]) assert.equal(read(text, 1), undefined)
})

test('every failure has words of its own, and none shows a stack of foreign ones', () => {
  const coded = (code: string | number, message = 'raw'): Error => Object.assign(new Error(message), { code })
  const words = (error: unknown): string => failureWords(error, BROKER)
  assert.equal(words(coded('ECONNREFUSED')), 'mqtt://plant:1883 refuses the connection: nothing listens there')
  assert.equal(
    words(Object.assign(new AggregateError([coded('EHOSTUNREACH'), coded('ETIMEDOUT')]), { code: 'X' })),
    'mqtt://plant:1883 does not answer (TCP timeout)',
  )
  assert.equal(words(coded('ENOTFOUND')), 'the name plant can not be resolved: no such host')
  assert.match(
    words(coded('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', '40:error:0A:SSL routines:rec_layer')),
    /refuses our client certificate \(tlsv13 alert certificate required\)/,
  )
  assert.match(words(coded('ERR_SSL_NO_PROTOCOLS_AVAILABLE')), /^TLS with mqtt:\/\/plant:1883 failed \(no protocols available\)$/)
  assert.match(words(coded(0x86)), /refuses the user name or password/)
  assert.match(words(coded(4)), /refuses the user name or password/)
  assert.match(words(new Error('Keepalive timeout')), /stopped answering/)
  assert.equal(words('odd'), 'mqtt://plant:1883: odd')
  assert.equal(refusalWords(0xaa, BROKER), 'mqtt://plant:1883 refused (reason code 0xaa)')
})
