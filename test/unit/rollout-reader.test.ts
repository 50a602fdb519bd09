/** Which documents a controller leads, by real signatures. */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { envelopeText, seal, TrustedEnvelopes } from '../../adapters/signing/dsse.ts'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import { parsePatchPayload } from '../../config/patch/parse.ts'
import { messageOf } from '../../daemon/errors.ts'
import type { KeyValue } from '../../daemon/patch/ports.ts'
import { CONTROL_TYPE, keys, PATCH_TYPE } from '../../daemon/patch/records.ts'
import { trustingReader } from '../../daemon/patch/rollout/reader.ts'
import type { KeyScope } from '../../daemon/patch/signing.ts'

const { privateKey } = generateKeyPairSync('ed25519')
const stranger = generateKeyPairSync('ed25519').privateKey

function reader(scope: Partial<KeyScope> = {}) {
  const documents = {
    read(payload: Uint8Array) {
      try {
        return parsePatchPayload(payload)
      } catch (error) {
        return { refused: messageOf(error) }
      }
    },
  }
  return trustingReader({
    envelopes: new TrustedEnvelopes({ ops: publicTextOf(privateKey) }),
    documents,
    scopes: new Map([['ops', { kinds: ['config'], sites: 'all', ...scope }]]),
    fleet: 'acme',
  })
}

function spec(changes: object = {}, key = privateKey, name = 'p1'): KeyValue {
  const document = {
    ...{ apiVersion: 'edge/v1', kind: 'config', id: 'p1', fleet: 'acme', channel: 'limits', sequence: 1 },
    ...{ expires: '2026-12-24T00:00:00Z', target: { sites: ['plant-7'] }, spec: { log: { level: 'info' } } },
    ...changes,
  }
  const value = Buffer.from(envelopeText(seal(PATCH_TYPE, Buffer.from(JSON.stringify(document)), key)))
  return { key: keys.spec(name), value, createRevision: 5, modRevision: 5 }
}

function refusal(entry: KeyValue, scope: Partial<KeyScope> = {}): string {
  const seen = reader(scope).spec(entry)
  return 'refused' in seen ? seen.refused : 'leads it'
}

test('patch path 26: a patch of the test fleet, well signed, is led by no controller of production', () => {
  assert.equal(refusal(spec()), 'leads it')
  assert.match(refusal(spec({ fleet: 'acme-test' })), /for the fleet acme-test, and this controller belongs to acme/)
})

test('nor is what no trusted key signed, what its key may not sign, or what was changed after the push', () => {
  assert.match(refusal(spec({}, stranger)), /patches\.trustedKeys has none of these keys/)
  assert.match(refusal(spec(), { kinds: ['files'] }), /may sign files, not config/)
  assert.match(refusal(spec(), { sites: ['plant-8'] }), /not for plant-7/)
  assert.match(refusal({ ...spec(), modRevision: 6 }), /changed after it was pushed/)
  assert.match(refusal(spec({}, privateKey, 'p2')), /it stands under patches\/p2\/spec, and says that it is p1/)
})

test('a signed control counts only for its own patch', () => {
  const seen = reader().spec(spec())
  assert.ok('patch' in seen)
  const control = (patch: string): KeyValue => {
    const payload = Buffer.from(JSON.stringify({ schema: 1, state: 'active', patch, answers: 5, retry: 1 }))
    const value = Buffer.from(envelopeText(seal(CONTROL_TYPE, payload, privateKey)))
    return { key: keys.control('p1'), value, createRevision: 4, modRevision: 9 }
  }
  assert.equal(reader().control(seen.patch, control('p1'), 5).retry, 1)
  assert.equal(reader().control(seen.patch, control('p0'), 5).state, 'paused')
})
