import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { openBoxKey, verifyRecord } from '../../adapters/signing/box-key.ts'
import { addSignature, envelopeText, pae, seal, TrustedEnvelopes } from '../../adapters/signing/dsse.ts'
import { createPrivateKeyFile } from '../../adapters/signing/files.ts'
import { keyIdOf, publicTextOf } from '../../adapters/signing/keys.ts'
import { kindOf } from '../../daemon/errors.ts'

const TYPE = 'application/vnd.edge-gateway.patch+json'
const one = generateKeyPairSync('ed25519').privateKey
const two = generateKeyPairSync('ed25519').privateKey
const trusted = new TrustedEnvelopes({ 'ops-2026': publicTextOf(one) })
const payload = Buffer.from('{"id":"p1"}')
const bytes = Buffer.from(envelopeText(seal(TYPE, payload, one)))

function inFolder<T>(use: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'signing-'))
  try {
    return use(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function refusal(envelope: unknown, keys = trusted, type = TYPE): string {
  const opened = keys.open(Buffer.from(typeof envelope === 'string' ? envelope : JSON.stringify(envelope)), type)
  return 'refused' in opened ? opened.refused : 'opened'
}

test('the pre-authentication encoding is the one of the DSSE specification', () => {
  assert.equal(
    pae('http://example.com/HelloWorld', Buffer.from('hello world')).toString(),
    'DSSEv1 29 http://example.com/HelloWorld 11 hello world',
  )
  assert.equal(pae('é', Buffer.from('ü')).toString(), 'DSSEv1 2 é 2 ü')
})

test('what was sealed opens, with the names of the keys', () => {
  assert.deepEqual(trusted.open(bytes, TYPE), { payload, keys: ['ops-2026'] })
})

test('each flipped bit of the envelope is refused, or is a bit that says nothing', () => {
  const key = publicTextOf(one)
  let refused = 0
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = Buffer.from(bytes)
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    const opened = trusted.open(flipped, TYPE)
    if ('refused' in opened) refused += 1
    else assert.deepEqual(opened, { payload, keys: ['ops-2026'] }, `bit ${bit} changed what was signed`)
  }
  // What may change is only the spelling of the member name "keyid": without it, every trusted key is tried.
  assert.ok(refused >= bytes.length * 8 - '"keyid"'.length * 8, `${refused} of ${bytes.length * 8}`)
  assert.equal(keyIdOf(key).length, 16)
})

test('each flipped bit of payload and signature by themselves is refused', () => {
  const flip = (from: Buffer, bit: number): Buffer => {
    const copy = Buffer.from(from)
    copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    return copy
  }
  const envelope = seal(TYPE, payload, one)
  for (let bit = 0; bit < payload.length * 8; bit += 1)
    assert.match(refusal(envelopeText({ ...envelope, payload: flip(payload, bit) })), /no signature fits/)
  const [signature] = envelope.signatures
  assert.ok(signature)
  for (let bit = 0; bit < 512; bit += 1)
    assert.match(refusal(envelopeText({ ...envelope, signatures: [{ ...signature, sig: flip(signature.sig, bit) }] })), /no signature fits/)
})

test('another type, key or form is refused with the reason', () => {
  const good = JSON.parse(bytes.toString()) as { payload: string; signatures: { keyid: string; sig: string }[] }
  const signature = good.signatures[0]
  assert.ok(signature)
  assert.match(
    refusal(good, trusted, 'application/other'),
    /holds "application\/vnd\.edge-gateway\.patch\+json" where application\/other belongs/,
  )
  assert.match(refusal({ ...good, payloadType: 'application/other' }, trusted, 'application/other'), /no signature fits/)
  assert.match(refusal(good, new TrustedEnvelopes({ next: publicTextOf(two) })), /patches\.trustedKeys has none of these keys \(next\)/)
  assert.match(refusal(good, new TrustedEnvelopes({})), /it is empty/)
  assert.match(refusal({ ...good, signatures: [] }), /no signatures/)
  assert.match(refusal({ ...good, signatures: Array.from({ length: 17 }, () => signature) }), /17 signatures; at most 16/)
  assert.match(refusal({ ...good, payload: good.payload.replaceAll('=', '') }), /canonical base64/)
  assert.match(refusal({ ...good, payload: `${good.payload}\n` }), /canonical base64/)
  assert.match(refusal({ ...good, signatures: [{ ...signature, sig: signature.sig.replace('==', '') }] }), /cannot be read/)
  assert.match(refusal({ ...good, payload: Buffer.alloc(262_145).toString('base64') }), /262145 bytes; at most 262144/)
  assert.match(refusal('x'.repeat(400_000)), /too many/)
  for (const text of ['', 'paused', '[]', 'null', '7', '{}', '{"payloadType":1}', '\ufeff{}'])
    assert.notEqual(refusal(text), 'opened', text)
})

test('rotation: several trusted keys, several signatures, unknown keyids are passed over', () => {
  const both = envelopeText(addSignature(seal(TYPE, payload, two), one))
  assert.deepEqual(trusted.open(Buffer.from(both), TYPE), { payload, keys: ['ops-2026'] })
  const wide = new TrustedEnvelopes({ a: publicTextOf(one), b: publicTextOf(two) })
  assert.deepEqual(wide.open(Buffer.from(both), TYPE), { payload, keys: ['a', 'b'] })
  assert.equal(addSignature(addSignature(seal(TYPE, payload, two), one), one).signatures.length, 2)
  // By the hand of another tool: the key's name as keyid, or none at all.
  const { signatures, ...rest } = seal(TYPE, payload, one)
  const sig = signatures[0]?.sig ?? Buffer.alloc(0)
  assert.equal(refusal(envelopeText({ ...rest, signatures: [{ keyid: 'ops-2026', sig }] })), 'opened')
  assert.equal(refusal(envelopeText({ ...rest, signatures: [{ keyid: undefined, sig }] })), 'opened')
  assert.match(refusal(envelopeText({ ...rest, signatures: [{ keyid: 'other', sig }] })), /none of these keys/)
})

test('no bytes make opening throw', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        fc.json().map((text) => Buffer.from(text)),
      ),
      (garbage) => {
        assert.ok('refused' in trusted.open(garbage, TYPE))
      },
    ),
  )
})

test('a key file is 0600 under any umask, and is never overwritten', () => {
  inFolder((folder) => {
    const path = join(folder, 'ops.key')
    const before = process.umask(0o000)
    try {
      createPrivateKeyFile(path)
    } finally {
      process.umask(before)
    }
    const text = readFileSync(path, 'utf8')
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.match(text, /^-----BEGIN PRIVATE KEY-----/)
    assert.throws(() => createPrivateKeyFile(path), /exists already/)
    assert.equal(readFileSync(path, 'utf8'), text)
    assert.throws(() => createPrivateKeyFile(join(folder, 'none', 'ops.key')), /can't be written/)
  })
})

test('the box keeps its key; a half-made one is no obstacle, a damaged one is told', () => {
  inFolder((folder) => {
    writeFileSync(join(folder, 'identity.key.new'), '-----BEGIN')
    const first = openBoxKey(folder).publicKey
    assert.equal(openBoxKey(folder).publicKey, first)
    assert.equal(existsSync(join(folder, 'identity.key.new')), false)
    assert.equal(statSync(join(folder, 'identity.key')).mode & 0o777, 0o600)
    for (const damage of [
      '',
      '-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n',
      generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    ]) {
      chmodSync(join(folder, 'identity.key'), 0o600)
      writeFileSync(join(folder, 'identity.key'), damage)
      assert.throws(
        () => openBoxKey(folder),
        (error: unknown) =>
          kindOf(error) === 'fatal' && /identity of this box can't be used.*holds no ed25519/.test((error as Error).message),
      )
    }
  })
})

test('a signed record is one line, reads as JSON, and each flipped bit is refused', () => {
  inFolder((folder) => {
    const key = openBoxKey(folder)
    const record = { schema: 1, gateway: 'gw-1', reason: 'ends with "signature":"x"} or so\n€' }
    const value = key.signRecord(record)
    const text = Buffer.from(value).toString()
    assert.equal(text.includes('\n'), false)
    assert.deepEqual(Object.keys(JSON.parse(text) as object).at(-1), 'signature')
    assert.deepEqual(key.verifyRecord(value, key.publicKey), { record })
    for (let bit = 0; bit < value.length * 8; bit += 1) {
      const flipped = Buffer.from(value)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      assert.ok('refused' in verifyRecord(flipped, key.publicKey), `bit ${bit}`)
    }
    assert.match(refusalOf(verifyRecord(value, publicTextOf(two))), /another box wrote it/)
    assert.match(refusalOf(verifyRecord(value, 'AAAA')), /public key/)
    assert.match(refusalOf(verifyRecord(Buffer.from('{"schema":1}'), key.publicKey)), /does not end with a signature/)
    assert.match(refusalOf(verifyRecord(Buffer.from(`${text}\n`), key.publicKey)), /does not end/)
    assert.match(refusalOf(verifyRecord(Buffer.alloc(70_000), key.publicKey)), /too many/)
    assert.throws(() => key.signRecord({ signature: 'x' }), /no signature yet/)
    assert.throws(() => key.signRecord({}), /has members/)
  })
})

function refusalOf(verified: ReturnType<typeof verifyRecord>): string {
  return 'refused' in verified ? verified.refused : 'verified'
}
