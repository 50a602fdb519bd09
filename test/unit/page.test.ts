import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { pageDoctor } from '../../daemon/compose/page-doctor.ts'
import { Attempts } from '../../daemon/page/attempts.ts'
import { History } from '../../daemon/page/history.ts'
import { LogLines } from '../../daemon/page/log-lines.ts'
import { paint } from '../../daemon/page/paint.ts'
import { Sessions } from '../../daemon/page/sessions.ts'
import { cookieOf, hostOf, isOurs, isSameSite } from '../../daemon/page/visitor.ts'

const MINUTE = 60_000

describe('sessions of the page', () => {
  test('end after half an hour unused, after half a day in any case, and by their logout', () => {
    let now = 0
    const sessions = new Sessions(() => now)
    const token = sessions.open('tech', 'hash')
    assert.equal(Buffer.from(token, 'base64url').length, 32)
    for (; now < 12 * 60 * MINUTE; now += 29 * MINUTE) assert.equal(sessions.find(token)?.user, 'tech')
    now = 12 * 60 * MINUTE + 1
    assert.equal(sessions.find(token), undefined)
    const other = sessions.open('tech', 'hash')
    now += 31 * MINUTE
    assert.equal(sessions.find(other), undefined)
    const third = sessions.open('tech', 'hash')
    sessions.end(third)
    assert.equal(sessions.find(third), undefined)
  })

  test('are bounded: the oldest goes', () => {
    const sessions = new Sessions(() => 0)
    const tokens = Array.from({ length: 201 }, () => sessions.open('tech', 'hash'))
    assert.equal(sessions.find(tokens[0] ?? ''), undefined)
    assert.equal(sessions.find(tokens[1] ?? '')?.user, 'tech')
  })
})

describe('tries at the password', () => {
  test('cost an address ever more, up to a minute, and are forgotten after success', () => {
    let now = 0
    const attempts = new Attempts(() => now)
    for (let failure = 0; failure < 3; failure += 1) assert.equal(attempts.take('10.0.0.1'), 0)
    const waits = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    for (const wait of waits) {
      assert.equal(attempts.take('10.0.0.1'), wait)
      now += wait
      assert.equal(attempts.take('10.0.0.1'), 0)
    }
    attempts.succeeded('10.0.0.1')
    assert.equal(attempts.take('10.0.0.1'), 0)
  })

  test('of many addresses share a bound, which whoever has logged in before does not feel; a /64 is one address', () => {
    const attempts = new Attempts(() => 0)
    attempts.succeeded('10.9.9.9')
    const taken = Array.from({ length: 100 }, (_, index) => attempts.take(`10.0.1.${index}`)).filter((wait) => wait === 0)
    assert.equal(taken.length, 30)
    assert.equal(attempts.take('10.9.9.9'), 0)
    const other = new Attempts(() => 0)
    const same = ['2001:db8::1', '2001:db8:0:0:1::2', '2001:db8::f:3', '2001:db8:0:0:9:9:9:9'].map((address) => other.take(address))
    assert.deepEqual(same, [0, 0, 0, 1_000])
  })
})

test('what a request says of itself: its host, its site, its cookie', () => {
  const cases = [
    ['localhost:8080', true],
    ['LOCALHOST', true],
    ['192.168.1.7', true],
    ['[fe80::1]:80', true],
    ['gw-1', true],
    ['gw-1.', true],
    ['evil.example', false],
    ['1.2.3.4.evil.example', false],
    ['localhost@evil.example', false],
    ['localhost/x', false],
    ['', false],
    [undefined, false],
  ] as const
  for (const [field, ours] of cases) assert.equal(isOurs(hostOf(field), ['gw-1']), ours, field)
  assert.equal(isSameSite({ host: 'gw-1:80' }), true)
  assert.equal(isSameSite({ host: 'gw-1:8080', origin: 'http://gw-1:8080' }), true)
  assert.equal(isSameSite({ host: 'gw-1:8080', origin: 'http://gw-1:9090' }), false)
  assert.equal(isSameSite({ host: 'gw-1', origin: 'null' }), false)
  assert.equal(isSameSite({ host: 'gw-1', 'sec-fetch-site': 'same-site' }), false)
  assert.equal(cookieOf('a=1; edge-page-80=x_y; b=2', 'edge-page-80'), 'x_y')
  assert.equal(cookieOf('xedge-page-80=z', 'edge-page-80'), undefined)
})

test('a value in the page is text, whatever it is, and is filled in once', () => {
  assert.equal(paint('<p title="{{a}}">{{b}}</p>', { a: `"'`, b: '<b>{{a}}&' }), '<p title="&#34;&#39;">&#60;b&#62;{{a}}&#38;</p>')
  assert.throws(() => paint('{{nothing}}', {}), /asks for nothing/)
})

test('the log’s last lines are kept within bounds, and one that was cut still shows', () => {
  const lines = new LogLines()
  lines.add('{"level":40,"time":"2026-11-24T20:00:00.000Z","device":"a","msg":"careful"}\n')
  assert.deepEqual(lines.after(0), [
    { number: 1, at: '2026-11-24T20:00:00.000Z', level: 'warn', message: 'careful', fields: '{"device":"a"}' },
  ])
  lines.add(`{"level":30,"msg":"${'x'.repeat(5_000)}"}`)
  assert.equal(lines.after(1)[0]?.message.length, 2_000)
  for (let line = 0; line < 1_000; line += 1) lines.add('{}')
  assert.equal(lines.after(0).length, 400)
  assert.equal(lines.after(1_000, 50).length, 2)
})

test('a quarter of an hour is kept for the charts', () => {
  const history = new History()
  for (let atMs = 0; atMs < 1_000; atMs += 1) history.add({ atMs, ms: atMs, in: 0, out: 0, shed: 0, backlog: 0, usedBytes: 0 })
  assert.deepEqual([history.points().length, history.points()[0]?.atMs], [300, 700])
})

test('one walk of the doctor at a time; one that nobody takes blocks no other', async () => {
  const doctor = pageDoctor(async function* () {
    yield { group: 'clock', name: 'time', state: 'ok', finding: 'right' }
  })
  doctor()
  const walk = doctor()?.[Symbol.asyncIterator]()
  assert.match((await walk?.next())?.value as string, /"name":"time"/)
  assert.equal(doctor(), undefined)
  await walk?.return?.()
  assert.notEqual(doctor(), undefined)
})
