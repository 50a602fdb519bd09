import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, pbkdf2Sync } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { hashPassword, parsePasswordFile, PasswordVerifier, withPassword } from '../../adapters/mqtt/passwords.ts'

function line(user: string, password: string, iterations?: number): string {
  const salt = Buffer.from('0123456789ab')
  const b64 = (bytes: Buffer): string => bytes.toString('base64')
  return iterations === undefined
    ? `${user}:$6$${b64(salt)}$${b64(createHash('sha512').update(password).update(salt).digest())}`
    : `${user}:$7$${iterations}$${b64(salt)}$${b64(pbkdf2Sync(password, salt, iterations, 64, 'sha512'))}`
}

test('files of the real mosquitto_passwd verify, whatever the password', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'edge-passwd-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  const passwords = ['simple', 'a:b$c', ' spaces ', 'größe€', '$7$101$x$y', 'x'.repeat(200)]
  const file = join(dir, 'p')
  for (const hash of ['sha512', 'sha512-pbkdf2']) {
    for (const [i, password] of passwords.entries())
      execFileSync('mosquitto_passwd', [...(i === 0 ? ['-c'] : []), '-H', hash, '-b', file, `u${i}`, password], { stdio: 'ignore' })
    const users = parsePasswordFile(readFileSync(file))
    const verifier = new PasswordVerifier(() => 0)
    for (const [i, password] of passwords.entries()) {
      assert.equal((await verifier.verify(users, `u${i}`, Buffer.from(password)))?.text, users.get(`u${i}`)?.text)
      assert.equal(await verifier.verify(users, `u${i}`, Buffer.from(`${password}.`)), undefined)
      assert.equal(await verifier.verify(users, `u${(i + 1) % passwords.length}`, Buffer.from(password)), undefined)
    }
    assert.equal(await verifier.verify(users, 'nobody', Buffer.from('x')), undefined)
  }
})

test('comments, empty lines and CRLF are fine; a line that can not be used names itself', () => {
  const good = parsePasswordFile(Buffer.from(`# devices\r\n\r\n${line('al', 'x', 5)}\r\n${line('bo', 'y')}\n`))
  assert.deepEqual([...good.keys()], ['al', 'bo'])
  const fails = (text: string, message: RegExp): void => assert.throws(() => parsePasswordFile(Buffer.from(text)), message)
  fails(`${line('al', 'x')}\nno colon`, /line 2: expected user:hash/)
  fails(':x', /line 1: expected user:hash/)
  fails(`${line('al', 'x')}\n${line('al', 'y')}`, /line 2: its user appears twice/)
  fails('al:secret', /line 1: its password is not hashed .* mosquitto_passwd -U/)
  fails(line('al', 'x', 5).replace('$5$', '$2000000$'), /not hashed/)
  fails(line('al', 'x', 5).slice(0, -8), /not hashed/)
})

test('no line that is not a hash is ever taken for one', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        for (const hash of parsePasswordFile(Buffer.from(`al:${text}`)).values()) assert.equal(hash.hash.length, 64)
      } catch (error) {
        assert.match(String(error), /line \d+/)
      }
    }),
  )
})

test('a verified password is remembered for a minute, not longer, and not when the hash changed', async () => {
  let nowMs = 0
  const verifier = new PasswordVerifier(() => nowMs)
  const slow = 300_000
  const file = parsePasswordFile(Buffer.from(line('al', 'pw', slow)))
  const timed = async (users = file, password = 'pw'): Promise<boolean> => {
    // A hash leaves the event loop; a remembered proof is there before any other turn of it.
    let turned = false
    setImmediate(() => (turned = true))
    await verifier.verify(users, 'al', Buffer.from(password))
    return turned
  }
  assert.equal(await timed(), true)
  assert.equal(await timed(), false)
  assert.equal(await timed(file, 'wrong'), true)
  assert.equal(await timed(parsePasswordFile(Buffer.from(line('al', 'other', slow)))), true)
  nowMs = 60_001
  assert.equal(await timed(), true)
})

test('at most two passwords are hashed at once, and all of a storm are answered in turn', async () => {
  const verifier = new PasswordVerifier(() => 0)
  const file = parsePasswordFile(Buffer.from(Array.from({ length: 40 }, (_, i) => line(`u${i}`, `p${i}`, 2_000)).join('\n')))
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, i) => verifier.verify(file, `u${i}`, Buffer.from(`p${i % 2 === 0 ? i : 'x'}`))),
  )
  assert.deepEqual(
    answers.map((hash) => hash !== undefined),
    Array.from({ length: 40 }, (_, i) => i % 2 === 0),
  )
})

test('our own hashes verify here and by their users only; lines of others stay as they are', async () => {
  const before = `# line 3\n${line('al', 'x', 5)}\n`
  const both = withPassword(before, 'bo', await hashPassword('größe:$7$'))
  assert.ok(both.startsWith(before))
  const verifier = new PasswordVerifier(() => 0)
  const users = parsePasswordFile(Buffer.from(both))
  assert.notEqual(await verifier.verify(users, 'bo', Buffer.from('größe:$7$')), undefined)
  assert.equal(await verifier.verify(users, 'al', Buffer.from('größe:$7$')), undefined)
  assert.equal(withPassword(both, 'bo', undefined), before)
  assert.equal(withPassword(before, 'al', '$7$x'), '# line 3\nal:$7$x\n')
})
