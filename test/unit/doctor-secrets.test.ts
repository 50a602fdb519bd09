import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { redactor, secretsIn } from '../../daemon/doctor/secrets.ts'

describe('secrets in texts that leave the box', () => {
  it('hides a known secret in each form in which it may be written', () => {
    const secret = fc
      .string({ minLength: 8, maxLength: 40, unit: 'grapheme-ascii' })
      .filter((text) => text.trim() === text && !'(hidden)'.includes(text))
    fc.assert(
      fc.property(secret, fc.string(), fc.string(), (known, before, after) => {
        const clean = redactor([known])
        for (const form of [known, encodeURIComponent(known), JSON.stringify(known).slice(1, -1), Buffer.from(known).toString('base64')])
          assert.ok(!clean(`${before}"${form}"${after}`).includes(form))
      }),
    )
  })

  for (const [text, secret] of [
    ['https://gw:hunter22@etcd-1:2379/', 'hunter22'],
    ['https://idp/token?access_token=abc.def&x=1', 'abc.def'],
    ['"url":"http://x/?sig=AbC%2F9"', 'AbC%2F9'],
    ['Authorization: Bearer abcdefgh12345', 'abcdefgh12345'],
    ['{"authorization":"Basic Z3c6c2VjcmV0"}', 'Z3c6c2VjcmV0'],
    ['got eyJhbGciOiJub25lIn0.eyJzdWIiOiJib3NzIn0. back', 'eyJzdWIiOiJib3NzIn0'],
    ['pump-1:$7$101$c2FsdHNhbHQ=$aGFzaGhhc2g=', 'aGFzaGhhc2g='],
    ['password: hunter22', 'hunter22'],
    ['sasl.password=hunter22;', 'hunter22'],
    ['{"clientSecret":"a b\\"c"}', 'a b'],
    ['{"err":"{\\"password\\":\\"hunter22\\"}"}', 'hunter22'],
    ['{"payload":"temperature 21"}', 'temperature'],
    ['-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----', 'MHcCAQEE'],
    ['-----BEGIN PRIVATE KEY-----\nMHcCAQEE and then it ends', 'MHcCAQEE'],
  ] as const) {
    it(`hides what is none of ours by its place: ${text.slice(0, 40).replaceAll('\n', ' ')}`, () => {
      const clean = redactor([])(text)
      assert.ok(!clean.includes(secret), clean)
      assert.match(clean, /\(hidden\)/)
    })
  }

  it('leaves alone what a technician needs', () => {
    const text = '{"passwordFile":"/etc/edge-gateway/kafka.passwd","key":"gateway.id","value":512,"tokenFile":"/run/x","fencing":12}'
    assert.equal(redactor([])(text), text)
  })

  it('takes of a file of users the hashes, and of a key no frame', () => {
    assert.deepEqual(secretsIn('# users\npump-1:$7$abc\n'), ['pump-1:$7$abc', '$7$abc'])
    assert.deepEqual(secretsIn('-----BEGIN PRIVATE KEY-----\nMHcCAQEE\n'), ['MHcCAQEE'])
  })

  // One that backtracks takes minutes for these, and the runner ends it.
  it('gets through whatever a device may have written', { timeout: 30_000 }, () => {
    const clean = redactor(['secret-one'])
    const hostile = [
      'password'.repeat(20_000),
      `"password":"${'\\"'.repeat(50_000)}`,
      `${'a-'.repeat(100_000)}=`,
      `eyJ${'a'.repeat(200_000)}`,
      '$7$'.repeat(60_000),
    ]
    for (const text of hostile) assert.ok(clean(text).length > 0)
  })
})
