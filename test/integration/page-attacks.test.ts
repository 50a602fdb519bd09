/** What somebody on the same network tries on the page. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { edgectlOf, openBox, setUpBox, until, type Box } from '../fleet/box.ts'
import { makeCertificates } from '../services/certificates.ts'
import { freePort, serviceScope } from '../services/index.ts'
import { ask, passwordLine, type Answer } from './page-kit.ts'

const limit = { timeout: 60_000 }
const scope = serviceScope()
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }
let port: number
let box: Box

before(async () => {
  port = await freePort()
  box = await setUpBox(scope, { config: { gateway: { id: 'gw-page' } } })
  const passwordFile = join(box.dir, 'page.passwd')
  await writeFile(passwordFile, passwordLine('tech', 'valve-7'))
  await box.configure({ page: { listen: `127.0.0.1:${port}`, passwordFile, hosts: ['box.example'] } })
  await box.gateway.start()
})

function login(password: string, headers: Record<string, string> = {}): Promise<Answer> {
  return ask(port, '/login', { method: 'POST', headers: { ...FORM, ...headers } }, `user=tech&password=${password}`)
}

async function visitor(): Promise<{ readonly cookie: string; readonly proof: string }> {
  const { headers } = await login('valve-7')
  const cookie = (headers['set-cookie'] ?? '').split(';')[0] ?? ''
  const { text } = await ask(port, '/', { headers: { cookie } })
  return { cookie, proof: /name="proof" content="([^"]+)"/.exec(text)?.[1] ?? '' }
}

describe('attacks on the page', { concurrency: 1 }, () => {
  test('without a login nothing of the box is told, by any path', limit, async () => {
    const paths = ['/api/events', '/api/ledger', '/api/devices', '/api/dead-letters/1?payload=1', '/api/hold']
    for (const path of paths) assert.equal((await ask(port, path)).status, 401, path)
    for (const path of ['/api/doctor', '/api/hold?for=1h', '/api/dead-letters/1/retry'])
      assert.equal((await ask(port, path, { method: 'POST' })).status, 401, path)
    const outside = [
      '/assets/../server.ts',
      '/assets/%2e%2e/server.ts',
      '/assets/..%2fserver.ts',
      '//etc/passwd',
      '/status',
      '/api/config',
      '/overrides',
    ]
    for (const path of outside) assert.equal((await ask(port, path)).status, 404, path)
    assert.equal((await ask(port, '/', { method: 'DELETE' })).status, 405)
    assert.equal((await ask(port, '/api/ledger', { headers: { cookie: `edge-page-${port}=${'A'.repeat(43)}` } })).status, 401)
  })

  test('each answer carries the policy, also a refusal; nothing lets another origin read', limit, async () => {
    for (const path of ['/', '/login', '/assets/main.js', '/nothing', '/api/ledger']) {
      const { headers } = await ask(port, path, { headers: { origin: 'http://evil.example' } })
      assert.match(headers['content-security-policy'] ?? '', /^default-src 'none'; script-src 'self';.*frame-ancestors 'none'/, path)
      assert.equal(headers['x-content-type-options'], 'nosniff', path)
      assert.equal(headers['access-control-allow-origin'], undefined, path)
    }
    const { headers } = await ask(port, '/assets/main.js')
    assert.equal((await ask(port, '/assets/main.js', { headers: { 'if-none-match': headers['etag'] } })).status, 304)
  })

  test('files of the page are packed for who takes it, and nothing that holds a secret is', limit, async () => {
    const codingOf = async (path: string, accepted: string, more: object = {}): Promise<string | undefined> => {
      const { headers } = await ask(port, path, { headers: { 'accept-encoding': accepted, ...more } })
      return headers['content-encoding']
    }
    for (const accepted of ['gzip', 'deflate, GZIP;q=0.5, br']) assert.equal(await codingOf('/assets/main.js', accepted), 'gzip', accepted)
    for (const accepted of ['', 'br', 'gzip;q=0', 'xgzip']) assert.equal(await codingOf('/assets/main.js', accepted), undefined, accepted)
    const { cookie } = await visitor()
    for (const path of ['/', '/api/ledger']) assert.equal(await codingOf(path, 'gzip', { cookie }), undefined, path)
    const packed = await ask(port, '/assets/main.js', { headers: { 'accept-encoding': 'gzip' } })
    const { headers } = await ask(port, '/assets/main.js')
    assert.notEqual(packed.headers['etag'], headers['etag'])
    assert.equal(packed.headers['vary'], 'accept-encoding')
  })

  test('a foreign site acts neither by its own form nor in the visitor’s name, and a foreign name is refused', limit, async () => {
    const { cookie, proof } = await visitor()
    const post = (headers: Record<string, string>): Promise<Answer> =>
      ask(port, '/api/hold?for=1h&reason=x', { method: 'POST', headers: { cookie, ...headers } })
    assert.equal((await post({})).status, 403)
    assert.equal((await post({ 'x-edge-proof': 'A'.repeat(43) })).status, 403)
    assert.equal((await post({ 'x-edge-proof': proof, origin: 'http://evil.example' })).status, 403)
    assert.equal((await post({ 'x-edge-proof': proof, 'sec-fetch-site': 'cross-site' })).status, 403)
    assert.equal((await login('valve-7', { origin: 'http://evil.example' })).status, 403)
    assert.equal((await ask(port, '/api/hold', { headers: { cookie } })).text.includes('until'), false)
    assert.equal((await post({ 'x-edge-proof': proof })).status, 200)
    for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1.evil.example', 'localhost@evil.example'])
      assert.equal((await ask(port, '/', { headers: { host } })).status, 421, host)
    for (const host of ['localhost', `[::1]:${port}`, 'GW-page', 'box.example'])
      assert.equal((await ask(port, '/', { headers: { host } })).status, 303, host)
  })

  test('headers and bodies have bounds, and who sends slowly is put out', limit, async () => {
    assert.equal((await ask(port, '/', { headers: { 'x-long': 'x'.repeat(20_000) } })).status, 431)
    assert.equal((await login('x'.repeat(5_000))).status, 413)
    const began = performance.now()
    const ends = ['', 'GET / HTTP/1.1\r\nhost: localhost\r\n', 'POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n'].map(
      (start) =>
        new Promise<void>((resolve) => {
          const socket = connect(port, '127.0.0.1', () => socket.write(start))
          socket.on('error', () => undefined).on('close', () => resolve())
          socket.resume()
        }),
    )
    await Promise.all(ends)
    assert.ok(performance.now() - began < 40_000)
  })

  test('twenty may watch, the next is told so; one that reads nothing holds nobody up', limit, async () => {
    const { cookie } = await visitor()
    const watch = () => {
      const socket = connect(port, '127.0.0.1')
      socket.write(`GET /api/events HTTP/1.1\r\nhost: localhost\r\ncookie: ${cookie}\r\n\r\n`)
      return socket
    }
    const sockets = Array.from({ length: 20 }, watch)
    scope.atEnd(() => sockets.forEach((socket) => socket.destroy()))
    const texts = sockets.map(() => '')
    sockets.slice(1).forEach((socket, index) => socket.on('data', (piece) => (texts[index] += piece.toString())))
    await until('all but the deaf one see the box live', () => texts.slice(1, 19).every((text) => text.split('event: change').length > 3))
    const full = await ask(port, '/api/events', { headers: { cookie } })
    assert.match(full.text, /^retry: 10000\nevent: full/)
    sockets.forEach((socket) => socket.destroy())
    await until('there is room again', async () => {
      const socket = watch()
      const [first] = await new Promise<string[]>((resolve) => socket.on('data', (piece) => resolve([piece.toString()])))
      socket.destroy()
      return first?.includes('event: hello') === true
    })
  })

  test('a changed password ends the session; page settings are taken over by a reload, and a bad one changes nothing', limit, async () => {
    const { cookie } = await visitor()
    assert.equal((await ask(port, '/api/hold', { headers: { cookie } })).status, 200)
    await writeFile(join(box.dir, 'page.passwd'), passwordLine('tech', 'other'))
    await until('the session is over', async () => (await ask(port, '/api/hold', { headers: { cookie } })).status === 401)
    await box.configure({ page: { passwordFile: join(box.dir, 'nowhere') } })
    box.gateway.signal('SIGHUP')
    await until('it says why', async () => /the password file of the page can't be read/.test(await box.log()))
    assert.equal((await ask(port, '/login')).status, 200)
    await box.configure({ page: { listen: 'off' } })
    box.gateway.signal('SIGHUP')
    await until('no page', async () => (await ask(port, '/login').catch(() => undefined)) === undefined)
    assert.equal((await edgectlOf(box, ['status'])).code < 3, true)
  })

  test('over TLS the cookie is for TLS only, and a new certificate is taken up', limit, async () => {
    const tlsPort = await freePort()
    const { server } = await makeCertificates(scope.folder())
    const tls = await setUpBox(scope)
    const [certFile, keyFile, passwordFile] = ['c.pem', 'k.pem', 'passwd'].map((name) => join(tls.dir, name)) as [string, string, string]
    const place = (pair: { certFile: string; keyFile: string }): Promise<unknown> =>
      Promise.all([writeFile(certFile, readFileSync(pair.certFile)), writeFile(keyFile, readFileSync(pair.keyFile))])
    await Promise.all([place(server), writeFile(passwordFile, passwordLine('tech', 'valve-7'))])
    await tls.configure({ page: { listen: `127.0.0.1:${tlsPort}`, passwordFile, tls: { cert: certFile, key: keyFile } } })
    await tls.gateway.start()
    const serial = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connectTls({ port: tlsPort, host: '127.0.0.1', rejectUnauthorized: false }, () => {
          resolve(socket.getPeerCertificate().fingerprint256)
          socket.destroy()
        }).on('error', reject)
      })
    const first = await serial()
    const answer = await new Promise<string>((resolve) => {
      const socket = connectTls({ port: tlsPort, host: '127.0.0.1', rejectUnauthorized: false })
      const body = 'user=tech&password=valve-7'
      socket.write(
        `POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-type: ${FORM['content-type']}\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
      )
      socket.once('data', (piece: Buffer) => resolve(piece.toString()))
    })
    assert.match(answer, /set-cookie: __Host-edge-page-\d+=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Secure/i)
    await place((await makeCertificates(scope.folder())).server)
    await until('the new certificate', async () => (await serial()) !== first)
  })

  test('guessing is slowed down, and without a word on what was wrong', limit, async () => {
    const guessed = await openBox(scope)
    const guessPort = await freePort()
    const passwordFile = join(guessed.dir, 'passwd')
    await writeFile(passwordFile, passwordLine('tech', 'valve-7'))
    await guessed.configure({ page: { listen: `127.0.0.1:${guessPort}`, passwordFile } })
    guessed.gateway.signal('SIGHUP')
    await until('the page is there', async () => (await ask(guessPort, '/login').catch(() => undefined))?.status === 200)
    const guess = (user: string): Promise<Answer> => ask(guessPort, '/login', { method: 'POST', headers: FORM }, `user=${user}&password=x`)
    const answers = [await guess('tech'), await guess('nobody'), await guess('tech'), await guess('tech')]
    assert.deepEqual(
      answers.map(({ status }) => status),
      [401, 401, 401, 429],
    )
    assert.equal(answers[0]?.text, answers[1]?.text)
    assert.match(answers[3]?.text ?? '', /Too many tries\. Wait \d+ s/)
    assert.doesNotMatch(await guessed.log(), /password=x|"user":"nobody"/)
  })
})
