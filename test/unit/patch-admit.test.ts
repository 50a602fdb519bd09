import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { envelopeText, seal, TrustedEnvelopes } from '../../adapters/signing/dsse.ts'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import { parsePatchPayload } from '../../config/patch/parse.ts'
import { ConfigError } from '../../config/problem.ts'
import { admit, type AdmitContext, readSpec, type Trusted, type Verdict } from '../../daemon/patch/admit.ts'
import { controlOf, type ControlView } from '../../daemon/patch/control.ts'
import type { Patch } from '../../daemon/patch/document.ts'
import type { KeyValue } from '../../daemon/patch/ports.ts'
import { CONTROL_TYPE, PATCH_TYPE } from '../../daemon/patch/records.ts'
import type { Documents } from '../../daemon/patch/signing.ts'
import { outOfScope } from '../../daemon/patch/target.ts'
import { timeVerdict } from '../../daemon/patch/time.ts'

const NOW = Date.UTC(2026, 10, 24)
const DAY = 86_400_000
const key = generateKeyPairSync('ed25519').privateKey
const stranger = generateKeyPairSync('ed25519').privateKey
const envelopes = new TrustedEnvelopes({ ops: publicTextOf(key) })
const documents: Documents = {
  read: (payload) => {
    try {
      return parsePatchPayload(payload)
    } catch (error) {
      if (error instanceof ConfigError) return { refused: error.message }
      throw error
    }
  },
}

function written(change: object = {}): object {
  return {
    ...{ apiVersion: 'edge/v1', kind: 'config', id: 'p1', fleet: 'prod', channel: 'limits', sequence: 42 },
    ...{ expires: '2026-12-24T00:00:00Z', target: { sites: ['plant-7'] }, spec: { log: { level: 'info' } }, ...change },
  }
}

function entryOf(document: object, by = key, path = 'patches/p1/spec', mod = 5): KeyValue {
  return {
    key: path,
    value: Buffer.from(envelopeText(seal(PATCH_TYPE, Buffer.from(JSON.stringify(document)), by))),
    createRevision: 5,
    modRevision: mod,
  }
}

function trusted(change: object = {}): Trusted {
  const read = readSpec(entryOf(written(change), key, `patches/${(written(change) as { id: string }).id}/spec`), envelopes, documents)
  assert.ok(!('refused' in read), JSON.stringify(read))
  return read
}

const active: ControlView = { state: 'active', rollback: false, retry: 0, reason: '', signed: false, revision: 0, slowedAt: 0 }
function context(change: Partial<AdmitContext> = {}): AdmitContext {
  return {
    box: { id: 'gw-1', site: 'plant-7', labels: { role: 'packaging' }, fleet: 'prod' },
    scopes: new Map([['ops', { kinds: ['config'], sites: 'all' }]]),
    clock: { wallMs: NOW, trusted: true, floorMs: NOW },
    ...{
      rollout: undefined,
      floors: new Map(),
      applied: new Map(),
      appliedBefore: new Map(),
      denied: new Map(),
      control: active,
      others: [],
    },
    ...change,
  }
}

function expect(verdict: Verdict, kind: Verdict['verdict'], reason: RegExp = /^$/): void {
  assert.equal(verdict.verdict, kind, JSON.stringify(verdict))
  assert.match('reason' in verdict ? verdict.reason : '', reason)
}

test('a good patch is eligible, with the digest of its bytes', () => {
  const verdict = admit(trusted(), context())
  assert.ok(verdict.verdict === 'eligible')
  assert.match(verdict.accepted.digest, /^[0-9a-f]{64}$/)
  assert.deepEqual(JSON.parse(Buffer.from(verdict.accepted.payload).toString()), written())
})

test('a spec that was changed, stands elsewhere, is unsigned or of a stranger is refused before it is read', () => {
  const refusal = (entry: KeyValue): string => {
    const read = readSpec(entry, envelopes, { read: () => assert.fail('read before it was verified') })
    return 'refused' in read ? read.refused : 'read'
  }
  assert.match(refusal(entryOf(written(), key, 'patches/p1/spec', 6)), /changed after it was pushed/)
  assert.match(refusal(entryOf(written(), stranger)), /trustedKeys has none of these keys/)
  assert.match(refusal({ ...entryOf(written()), value: Buffer.from(JSON.stringify(written())) }), /payloadType/)
  const control = Buffer.from(envelopeText(seal(CONTROL_TYPE, Buffer.from(JSON.stringify(written())), key)))
  assert.match(refusal({ ...entryOf(written()), value: control }), /belongs/)
  const moved = readSpec(entryOf(written(), key, 'patches/p2/spec'), envelopes, documents)
  assert.ok('refused' in moved && /stands under patches\/p2\/spec/.test(moved.refused))
  const bad = readSpec(entryOf(written({ sequence: 0 })), envelopes, documents)
  assert.ok('refused' in bad && /sequence: 0 is too small/.test(bad.refused))
  expect(admit(bad, context()), 'refused', /too small/)
})

test('patch path 26: a patch of the test fleet, well signed, is refused in production', () => {
  expect(admit(trusted({ fleet: 'test' }), context()), 'refused', /for the fleet test, and this box belongs to prod/)
  const noFleet = { ...context().box, fleet: undefined }
  expect(admit(trusted(), context({ box: noFleet })), 'refused', /this box has none; write gateway: \{ fleet: prod \}/)
  // Nothing else that it says makes up for the fleet.
  expect(admit(trusted({ fleet: 'test', target: { all: true } }), context()), 'refused', /fleet/)
})

test('patch path 24: 42 is not overtaken by a 41 that comes later', () => {
  const floors = new Map([['limits', { sequence: 42, patch: 'p42' }]])
  expect(admit(trusted({ sequence: 41 }), context({ floors })), 'refused', /sequence 41 is not above 42 \(p42\)/)
  expect(admit(trusted({ sequence: 42 }), context({ floors })), 'refused', /not above 42/)
  expect(admit(trusted({ sequence: 43 }), context({ floors })), 'eligible')
  expect(admit(trusted({ sequence: 1, channel: 'other' }), context({ floors })), 'eligible')
  expect(admit(trusted({ id: 'p42' }), context({ floors })), 'eligible')
})

test('patch path 23: a box made anew takes back what it had in force, below the floor that it took over', () => {
  const floors = new Map([['limits', { sequence: 50, patch: 'p50' }]])
  const spec = trusted()
  expect(admit(spec, context({ floors, appliedBefore: new Map([['p1', spec.digest]]) })), 'eligible')
  expect(admit(spec, context({ floors, appliedBefore: new Map([['p1', 'a'.repeat(64)]]) })), 'refused', /not above 50/)
  // A patch in force is not barred by its expiry.
  const clock = { wallMs: NOW + 300 * DAY, trusted: true, floorMs: 0 }
  const rollout = { phase: 'completed', beganMs: NOW, decidedMs: NOW } as const
  expect(admit(spec, context({ clock, rollout })), 'eligible')
  expect(admit(spec, context({ clock })), 'over', /expired/)
})

test('one key must cover the kind and every box that the target could reach', () => {
  const limited = new Map([['ops', { kinds: ['config'] as const, sites: ['plant-7', 'plant-8'] }]])
  const said = (target: object): string | undefined => outOfScope(trusted({ target }).patch, ['ops'], limited)
  assert.equal(said({ sites: ['plant-7'], labels: { a: 'b' } }), undefined)
  assert.match(said({ all: true }) ?? '', /target must name sites among these/)
  assert.match(said({ labels: { a: 'b' } }) ?? '', /must name sites/)
  assert.match(said({ gateways: ['gw-1'] }) ?? '', /must name sites/)
  assert.match(said({ sites: ['plant-7', 'plant-9'] }) ?? '', /not for plant-9/)
  expect(
    admit(trusted(), context({ scopes: new Map([['ops', { kinds: ['files'], sites: 'all' }]]) })),
    'refused',
    /may sign files, not config/,
  )
  expect(admit(trusted(), context({ scopes: new Map() })), 'refused', /not trusted any more/)
  // Two halves are no whole.
  const halves = new Map([
    ['a', { kinds: ['files'] as const, sites: 'all' as const }],
    ['b', { kinds: ['config'] as const, sites: ['plant-9'] }],
  ])
  assert.match(outOfScope(trusted().patch, ['a', 'b'], halves) ?? '', /not config; .*not for plant-7/)
})

test('property: a key of some sites reaches no box of another site', () => {
  const sites = fc.constantFrom('s1', 's2', 's3')
  const target = fc.record({
    all: fc.boolean(),
    sites: fc.uniqueArray(sites),
    gateways: fc.uniqueArray(fc.constantFrom('gw-1', 'gw-2')),
    labels: fc.constantFrom({}, { role: 'packaging' }),
    exclude: fc.constant([]),
  })
  fc.assert(
    fc.property(target, fc.uniqueArray(sites, { minLength: 1 }), sites, (aimed, own, site) => {
      const spec: Trusted = { ...trusted(), patch: { ...trusted().patch, target: aimed } }
      const box = { ...context().box, site }
      const verdict = admit(spec, context({ box, scopes: new Map([['ops', { kinds: ['config'], sites: own }]]) }))
      if (verdict.verdict === 'eligible') assert.ok(own.includes(site))
    }),
    { numRuns: 300 },
  )
})

test('targets: every part must hold, and exclude wins', () => {
  const verdict = (target: object) => admit(trusted({ target }), context())
  expect(verdict({ all: true }), 'eligible')
  expect(verdict({ all: true, exclude: ['gw-1'] }), 'elsewhere', /excludes gw-1/)
  expect(verdict({ gateways: ['gw-1'], exclude: ['gw-1'] }), 'elsewhere', /excludes/)
  expect(verdict({ sites: ['plant-8'] }), 'elsewhere', /for plant-8, and this box stands at plant-7/)
  expect(verdict({ sites: ['plant-7'], labels: { role: 'filling' } }), 'elsewhere', /role: filling/)
  expect(verdict({ sites: ['plant-7'], gateways: ['gw-2'] }), 'elsewhere', /other boxes/)
})

test('denied, control, requires, supersedes, already here', () => {
  const spec = trusted()
  const denied = new Map([[spec.digest, { retry: 1, reason: 'no health' }]])
  expect(admit(spec, context({ denied })), 'waits', /failed here \(no health\); `edgectl patch retry p1`/)
  expect(admit(spec, context({ denied, control: { ...active, retry: 1 } })), 'waits', /failed here/)
  expect(admit(spec, context({ denied, control: { ...active, retry: 2 } })), 'eligible')
  expect(admit(spec, context({ control: { ...active, state: 'paused', reason: 'it was paused' } })), 'waits', /it was paused/)
  expect(admit(spec, context({ control: { ...active, state: 'cancelled', reason: 'it was cancelled' } })), 'over', /cancelled/)
  expect(admit(trusted({ requires: ['p0'] }), context()), 'waits', /requires p0/)
  expect(admit(trusted({ requires: ['p0'] }), context({ applied: new Map([['p0', 'x']]) })), 'eligible')
  const p2 = trusted({ id: 'p2', sequence: 43, supersedes: ['p0'] }).patch
  const p3 = trusted({ id: 'p3', sequence: 44, supersedes: ['p2'] }).patch
  const later = {
    others: [
      { patch: p2, phase: 'gone' },
      { patch: p3, phase: 'completed' },
    ],
  } as const
  const needy = trusted({ requires: ['p0'] })
  expect(admit(needy, context(later)), 'waits', /requires p0/)
  expect(admit(needy, context({ ...later, applied: new Map([['p3', 'x']]) })), 'eligible')
  expect(admit(needy, context({ others: [{ patch: p2, phase: 'completed' }], applied: new Map([['p3', 'x']]) })), 'waits', /requires p0/)
  const p0 = { patch: trusted({ id: 'p0', sequence: 1, channel: 'x' }).patch, phase: 'completed' } as const
  expect(admit(needy, context({ others: [p0, ...later.others], applied: new Map([['p3', 'x']]) })), 'waits', /requires p0/)
  expect(admit(spec, context({ applied: new Map([['p1', spec.digest]]) })), 'over', /in force here/)
  expect(admit(spec, context({ applied: new Map([['p1', 'x']]) })), 'refused', /another patch with this id/)
  const by = trusted({ id: 'p2', sequence: 43, supersedes: ['p1'] }).patch
  expect(admit(spec, context({ others: [{ patch: by, phase: 'pending' }] })), 'over', /p2 supersedes it/)
  expect(admit(spec, context({ others: [{ patch: by, phase: 'gone' }] })), 'eligible')
  expect(admit(spec, context({ others: [{ patch: { ...by, channel: 'x' }, phase: 'pending' }] })), 'eligible')
  expect(
    admit(spec, context({ others: [{ patch: { ...by, target: { ...by.target, sites: ['plant-8'] } }, phase: 'pending' }] })),
    'eligible',
  )
  const rollout = { phase: 'completed', beganMs: NOW, decidedMs: NOW } as const
  expect(admit(spec, context({ rollout, others: [{ patch: by, phase: 'pending' }] })), 'eligible')
  expect(admit(spec, context({ rollout, others: [{ patch: by, phase: 'completed' }] })), 'over', /supersedes/)
})

test('a box that booted in 1970 is neither fooled nor stuck', () => {
  const window = { notBefore: NOW, expires: NOW + 30 * DAY }
  const boot = { wallMs: 3_000, trusted: false, floorMs: 0 }
  assert.match(reasonOf(timeVerdict({ ...window, notBefore: undefined }, boot, undefined)), /clock of this box is not set/)
  assert.match(reasonOf(timeVerdict(window, boot, undefined)), /begins on 2026-11-24/)
  assert.equal(timeVerdict(window, boot, { phase: 'begun', beganMs: NOW + DAY, decidedMs: NOW + DAY }).may, true)
  assert.match(reasonOf(timeVerdict(window, { ...boot, floorMs: NOW + 31 * DAY }, undefined)), /expired/)
  // The rollout began in time: a wall clock that runs ahead, or a late box, does not matter.
  assert.equal(
    timeVerdict(window, { wallMs: NOW + 5_000 * DAY, trusted: true, floorMs: 0 }, { phase: 'begun', beganMs: NOW, decidedMs: NOW }).may,
    true,
  )
  assert.match(
    reasonOf(timeVerdict(window, { ...boot, trusted: true }, { phase: 'begun', beganMs: NOW + 40 * DAY, decidedMs: NOW })),
    /expired/,
  )
})

test('property: no lower bound of the time makes a patch begin before its time', () => {
  const ms = fc.integer({ min: 0, max: NOW * 2 })
  fc.assert(
    fc.property(ms, ms, fc.boolean(), fc.option(ms, { nil: undefined }), (wallMs, floorMs, sure, beganMs) => {
      const rollout = beganMs === undefined ? undefined : ({ phase: 'begun', beganMs, decidedMs: beganMs } as const)
      const verdict = timeVerdict({ notBefore: NOW, expires: NOW + DAY }, { wallMs, trusted: sure, floorMs }, rollout)
      const bounds = [floorMs, sure ? wallMs : 0, beganMs ?? 0]
      if (verdict.may) assert.ok(Math.max(...bounds) >= NOW && (beganMs ?? Math.max(...bounds)) < NOW + DAY)
    }),
  )
})

function reasonOf(verdict: ReturnType<typeof timeVerdict>): string {
  return verdict.may ? 'may' : verdict.reason
}

const scopes = context().scopes
function control(
  value: string | Uint8Array | undefined,
  at: { create?: number; mod?: number; slowedAt?: number; patch?: Patch } = {},
): ControlView {
  const { create = 9, mod = 9, slowedAt = 0, patch = trusted().patch } = at
  const entry =
    value === undefined ? undefined : { key: 'patches/p1/control', value: Buffer.from(value), createRevision: create, modRevision: mod }
  return controlOf(entry, { patch, envelopes, scopes, slowedAt })
}
function signedControl(fields: object, by = key): string {
  return envelopeText(
    seal(CONTROL_TYPE, Buffer.from(JSON.stringify({ schema: 1, state: 'active', patch: 'p1', answers: 0, ...fields })), by),
  )
}

test('control: words and JSON slow down, and cannot speed up', () => {
  assert.equal(control(undefined).state, 'active')
  assert.equal(control('active').state, 'active')
  assert.deepEqual([control('paused\n').state, control('paused').slowedAt], ['paused', 9])
  assert.deepEqual(
    [control('{"schema":1,"state":"cancelled","rollback":true,"by":"eve","reason":"bad"}').rollback, control('cancelled').rollback],
    [true, false],
  )
  assert.match(control('{"schema":1,"state":"cancelled","by":"eve","reason":"bad"}').reason, /cancelled by eve: bad/)
  assert.match(control('active', { mod: 12 }).reason, /only a signed control/)
  assert.equal(control('active', { slowedAt: 3 }).state, 'paused')
  assert.equal(control('{"schema":1,"state":"active","retry":3}').state, 'paused')
  assert.equal(control('{"schema":1,"state":"paused","retry":3}').retry, 0)
  assert.match(control(undefined, { slowedAt: 3 }).reason, /deleted without a signature/)
})

test('control: garbage is a pause, and stays one', () => {
  for (const text of [
    '',
    'resume',
    '{"state":"active"}',
    '{',
    'x'.repeat(20_000),
    signedControl({}, stranger),
    signedControl({ patch: 'p2' }),
  ]) {
    const first = control(text)
    assert.equal(first.state, 'paused', text.slice(0, 40))
    assert.deepEqual(control(text, { slowedAt: first.slowedAt }), first)
  }
})

test('control: a signature names its patch and answers the control that is there', () => {
  assert.deepEqual([control(signedControl({ retry: 2 })).state, control(signedControl({ retry: 2 })).retry], ['active', 2])
  const resumed = { mod: 12, slowedAt: 9 }
  assert.equal(control(signedControl({ answers: 9 }), resumed).state, 'active')
  assert.match(control(signedControl({ answers: 8 }), resumed).reason, /another control since \(9\)/)
  assert.match(control(signedControl({ answers: 0 }), { mod: 12 }).reason, /another control since/)
  assert.match(control(signedControl({ answers: 12 }), resumed).reason, /came later/)
  const envelope = signedControl({ state: 'paused', answers: 0 })
  assert.equal(control(envelope, { slowedAt: control(envelope).slowedAt }).reason, 'it was paused')
  const files = { ...trusted().patch, kind: 'files' } as Patch
  assert.match(control(signedControl({}), { patch: files }).reason, /may sign config, not files/)
})

test('property: without a trusted signature nothing is sped up after a pause', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc
          .record({ schema: fc.constant(1), state: fc.constantFrom('active', 'paused', 'cancelled'), retry: fc.nat() })
          .map((value) => JSON.stringify(value)),
      ),
      fc.integer({ min: 1, max: 8 }),
      (text, slowedAt) => {
        const view = control(text, { mod: 12, slowedAt })
        assert.notEqual(view.state, 'active')
        assert.equal(view.retry, 0)
      },
    ),
  )
})
