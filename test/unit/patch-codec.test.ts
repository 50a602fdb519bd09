import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import * as codec from '../../daemon/patch/codec.ts'
import type { Alive, Applied, Control, Identity, Info, Result } from '../../daemon/patch/records.ts'

const at = '2026-11-24T00:00:00.000Z'
const digest = 'ab'.repeat(32)
const result: Result = {
  schema: 1,
  gateway: 'gw-1',
  patch: 'p1',
  digest,
  state: 'failed',
  step: 'verify',
  reason: 'x',
  token: 7,
  attempt: 1,
  retry: 0,
  startedAt: at,
  at,
  devices: { confirmed: 1, refused: 0, silent: 0 },
}
const control: Control = { schema: 1, state: 'cancelled', rollback: true, retry: 1, patch: 'p1', answers: 4, by: 'eve', reason: 'bad' }
const identity: Identity = { schema: 1, gateway: 'gw-1', publicKey: '11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=', machine: digest, at }
const info: Info = {
  schema: 1,
  gateway: 'gw-1',
  site: null,
  labels: { role: 'a', __proto__x: 'b' },
  fleet: 'prod',
  timezone: 'UTC',
  version: '0.1.0',
  controller: false,
  hold: { until: at, by: 'x', reason: 'y' },
  at,
}
const alive: Alive = { schema: 1, at, clockTrusted: true, verdict: 'OK' }
const applied: Applied = {
  schema: 1,
  gateway: 'gw-1',
  channels: { limits: { sequence: 4, patch: 'p1' } },
  inForce: [{ patch: 'p1', digest, channel: 'limits', sequence: 4 }],
  at,
}

const CASES = [
  ['result', result, codec.readResult],
  ['control', control, codec.readControl],
  ['identity', identity, codec.readIdentity],
  ['info', info, codec.readInfo],
  ['alive', alive, codec.readAlive],
  ['applied', applied, codec.readApplied],
] as const

for (const [name, value, read] of CASES) {
  test(`${name}: there and back; members of a newer release and the signature are passed over`, () => {
    const bytes = codec.encode(value)
    assert.equal(Buffer.from(bytes).includes('\n'), false)
    assert.deepEqual(plain(read(bytes)), { ok: true, value })
    assert.deepEqual(plain(read(Buffer.from(JSON.stringify({ ...value, future: [1], signature: 'x' })))), { ok: true, value })
  })

  test(`${name}: another schema number, a missing member, no JSON, too long`, () => {
    const reason = (text: string): string => {
      const decoded = read(Buffer.from(text))
      return decoded.ok ? 'read' : decoded.reason
    }
    assert.match(reason(JSON.stringify({ ...value, schema: 2 })), /^schema is none of 1$/)
    assert.match(reason('paused'), /no JSON/)
    assert.match(reason('[]'), /it is no map/)
    assert.match(reason(`"${'x'.repeat(1_100_000)}"`), /too many/)
    if ('at' in value) assert.match(reason(JSON.stringify({ ...value, at: undefined })), /^at is no instant/)
  })

  test(`${name}: no value makes it throw`, () => {
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(value)), fc.jsonValue(), (member, other) => {
        const decoded = read(Buffer.from(JSON.stringify({ ...value, [member]: other })))
        assert.equal(typeof decoded.ok, 'boolean')
      }),
    )
  })
}

/** Maps that were read have no prototype. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value))
}

test('a wrong value is named by its place', () => {
  const decoded = codec.readApplied(Buffer.from(JSON.stringify({ ...applied, inForce: [{ ...applied.inForce[0], digest: 'x' }] })))
  assert.deepEqual(decoded, { ok: false, reason: 'inForce[0].digest is no sha256 in hex' })
})
