import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { parse } from 'yaml'
import { z } from 'zod'
import { PATCH_SCHEMA_PATH, patchSchemaText } from '../../config/generate.ts'
import type { Patch as WrittenShape } from '../../config/patch/document.ts'
import { parsePatchPayload, parsePatchText } from '../../config/patch/parse.ts'
import { patchSchemas } from '../../config/patch/schema.ts'
import { ConfigError } from '../../config/problem.ts'
import { allPaths } from '../../config/schema/walk.ts'
import type { Patch } from '../../daemon/patch/document.ts'

const example = readFileSync(fileURLToPath(new URL('../../config/example-patch.yaml', import.meta.url)), 'utf8')

const MINIMAL = `apiVersion: edge/v1
kind: config
id: p1
fleet: acme
channel: limits
sequence: 1
expires: 2026-12-24T00:00:00Z
target: { all: true }
spec: { log: { level: info } }
`
const FILES = MINIMAL.replace('kind: config', 'kind: files').replace(
  'spec: { log: { level: info } }',
  `spec: { root: app, version: "1", artifacts: [{ url: "https://x/y", sha256: ${'a'.repeat(64)}, bytes: 1, path: bin/app }] }`,
)
const DEVICE = MINIMAL.replace('kind: config', 'kind: device').replace(
  'spec: { log: { level: info } }',
  'spec: { devices: "cam-*", topic: "d/{device}/set", payload: { interval: 30 } }',
)

/** The lines of the error, or none. */
function errorsOf(text: string): readonly string[] {
  return linesOf(() => parsePatchText('p.yaml', text))
}

function payloadErrors(text: string | Uint8Array): readonly string[] {
  return linesOf(() => parsePatchPayload(typeof text === 'string' ? Buffer.from(text) : text))
}

function linesOf(run: () => unknown): readonly string[] {
  try {
    run()
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n')
    throw error
  }
}

test('the shape is the one of the flows, both ways', () => {
  const written: WrittenShape = parsePatchText('p.yaml', MINIMAL).patch
  const seen: Patch = written
  const back: WrittenShape = seen
  assert.equal(back.id, 'p1')
})

test('defaults', () => {
  const { patch } = parsePatchText('p.yaml', MINIMAL)
  assert.deepEqual(JSON.parse(JSON.stringify(patch)), {
    ...{ kind: 'config', id: 'p1', fleet: 'acme', channel: 'limits', sequence: 1, expires: Date.UTC(2026, 11, 24) },
    ...{ requires: [], supersedes: [], spec: { log: { level: 'info' } } },
    target: { all: true, sites: [], labels: {}, gateways: [], exclude: [] },
    health: { checks: ['pipeline-moving'], consecutive: 3, deadlineMs: 120_000, bakeMs: 600_000 },
    rollout: {
      stages: [{ size: { fraction: 1 }, bakeMs: 0, minDone: 0.9 }],
      ...{ concurrency: { scope: 'limits', slots: 1 }, maxFailures: 1, onFailure: 'pause' },
    },
  })
})

test('the example is valid, has every key, and gives the same through its payload', () => {
  const { patch, value } = parsePatchText('example', example)
  assert.deepEqual(parsePatchPayload(Buffer.from(JSON.stringify(value))), patch)
  assert.deepEqual(patch.rollout.stages[1]?.size, { fraction: 0.25 })
  const keys = new Set(Object.values(patchSchemas).flatMap((schema) => allPaths(schema).map((path) => String(path.at(-1)))))
  for (const key of keys) if (key !== '*') assert.match(example, new RegExp(`[\\s#{,]${key}:`), key)
  const shipped = z.fromJSONSchema(JSON.parse(readFileSync(PATCH_SCHEMA_PATH, 'utf8')) as Parameters<typeof z.fromJSONSchema>[0])
  assert.equal(shipped.safeParse(parse(example)).success, true)
  assert.equal(shipped.safeParse(parse(example.replace('expires:', 'expire:'))).success, false)
})

test('the specs that the example shows as comments are valid', () => {
  const blocks = example.split('\n\n').filter((block) => block.startsWith('# spec:'))
  for (const [index, kind] of (['files', 'device'] as const).entries()) {
    const spec = (blocks[index] ?? '').replaceAll(/^# /gm, '')
    const text = `${MINIMAL.replace('kind: config', `kind: ${kind}`).replace(/spec:.*\n/, '')}${spec}\n`
    assert.deepEqual(errorsOf(text), [], kind)
  }
})

test('the JSON Schema in the repository is the one of the code (npm run schema)', () => {
  assert.equal(readFileSync(PATCH_SCHEMA_PATH, 'utf8'), patchSchemaText())
})

test('files and device specs in units', () => {
  const files = parsePatchText(
    'p',
    FILES.replace('path: bin/app', 'path: bin/app, mode: "0755"').replace(
      'version: "1"',
      'version: "1", owner: "app:app", hooks: { pre: { command: [bin/check], timeout: 5s } }',
    ),
  ).patch
  assert.ok(files.kind === 'files')
  assert.equal(files.spec.artifacts[0]?.mode, 0o755)
  assert.deepEqual(files.spec.owner, { user: 'app', group: 'app' })
  assert.deepEqual(files.spec.hooks, { pre: { command: ['bin/check'], timeoutMs: 5_000 } })
  const device = parsePatchText('p', DEVICE.replace('payload:', 'acknowledge: { topic: "d/{device}/ok" }, payload:')).patch
  assert.ok(device.kind === 'device')
  assert.deepEqual(device.spec.acknowledge, { topic: 'd/{device}/ok', deadlineMs: 60_000, minDone: 1 })
})

const REFUSED: readonly (readonly [string, string, string, RegExp])[] = [
  [MINIMAL, 'expires: 2026-12-24T00:00:00Z\n', '', /^p\.yaml:1:1 expires: missing; write for example/],
  [MINIMAL, 'expires:', 'expire:', /^p\.yaml:7:1 expire: unknown key; did you mean expires\?$/],
  [MINIMAL, '2026-12-24T00:00:00Z', '2026-12-24', /:7:10 expires: cannot read "2026-12-24"; write an instant with its zone/],
  [MINIMAL, '2026-12-24T', '2026-02-30T', /no day of the calendar/],
  [MINIMAL, 'kind: config', 'kind: confg', /:2:7 kind: "confg" is not known here; write config, files, device/],
  [MINIMAL, 'edge/v1', 'edge/v2', /apiVersion: "edge\/v2" is not known here; write edge\/v1/],
  [MINIMAL, 'id: p1', 'id: P1', /id: "P1" is not allowed here; write 1 to 63 lower-case/],
  [MINIMAL, 'id: p1', `id: ${'a'.repeat(64)}`, /id: .* is not allowed here/],
  [MINIMAL, 'sequence: 1', 'sequence: 0', /sequence: 0 is too small; at least 1/],
  [MINIMAL, 'sequence: 1', 'sequence: 9007199254740993', /sequence: /],
  [MINIMAL, '{ all: true }', '{}', /:8:9 target: an empty target might be meant for no box or for all; write sites/],
  [MINIMAL, '{ all: true }', '{ all: false, exclude: [gw-1] }', /an empty target/],
  [MINIMAL, '{ all: true }', '{ sites: [] }', /target\.sites: too few items/],
  [MINIMAL, '{ all: true }', '{ labels: {} }', /no labels would match every box/],
  [MINIMAL, '{ all: true }', '{ all: true, sites: [a] }', /target\.all: all contradicts/],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nrequires: [p1]', /requires\[0\]: a patch cannot require itself/],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nsupersedes: [p1]', /supersedes\[0\]: a patch cannot supersede itself/],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nnotBefore: 2027-01-01T00:00:00Z', /expires: it expires before it may begin/],
  [
    MINIMAL,
    'sequence: 1',
    'sequence: 1\nrollout: { stages: [{ count: 2 }, { count: 2 }] }',
    /stages\[1\]\.count: stages must grow; write more than 2/,
  ],
  [
    MINIMAL,
    'sequence: 1',
    'sequence: 1\nrollout: { stages: [{ percent: 29 }, { percent: 5% }] }',
    /stages\[1\]\.percent: stages must grow; write more than 29%/,
  ],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nrollout: { stages: [{ count: 2, percent: 5 }] }', /stages\[0\]: a stage has one size/],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nrollout: { concurrency: { scope: "~controller" } }', /scope: "~controller" is not allowed/],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nrollout: { concurrency: { scope: "plant~open" } }', /scope: "plant~open" is not allowed/],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nhealth: { checks: [] }', /health\.checks: too few/],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nhealth: { checks: ["http://127.0.0.1/"] }', /write http:http:\/\/127/],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nwindow: { cron: "0 1 * *", duration: 4h }', /window\.cron: cannot read/],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nwindow: { cron: "0 1 30 2 *", duration: 4h }', /window\.cron: .* never comes/],
  [MINIMAL, 'sequence: 1', 'sequence: 1\nwindow: { cron: "0 1 * * *", duration: 4h, timezone: Berlin }', /is no time zone; write site/],
  [MINIMAL, '{ log: { level: info } }', '{}', /spec: an empty change/],
  [MINIMAL, '{ log: { level: info } }', '{ gateway: { id: x } }', /:9:\d+ spec\.gateway\.id: gateway\.id cannot be changed by a patch/],
  [MINIMAL, '{ log: { level: info } }', '{ gateway: null }', /spec\.gateway: gateway\.id cannot be changed/],
  [MINIMAL, '{ log: { level: info } }', '{ kafka: { prefix: x } }', /spec\.kafka\.prefix: kafka\.prefix cannot/],
  [MINIMAL, '{ log: { level: info } }', '{ etcd: { prefix: /x/ } }', /spec\.etcd: etcd cannot/],
  [MINIMAL, '{ log: { level: info } }', '{ patches: { units: [] } }', /spec\.patches: patches cannot/],
  [MINIMAL, '{ log: { level: info } }', '{ logg: { level: info } }', /spec\.logg: unknown key; did you mean log\?/],
  [MINIMAL, '{ log: { level: info } }', '{ log: { level: loud } }', /spec\.log\.level: "loud" is not known here/],
  [MINIMAL, '{ log: { level: info } }', '{ limits: { perDevice: { burst: 5 } } }', /spec\.limits\.perDevice\.burst: 5 has no unit/],
  [
    MINIMAL,
    '{ log: { level: info } }',
    '{ page: { passwordFile: "${X}/a" } }',
    /spec\.page\.passwordFile: a patch means the same on every box/,
  ],
  [FILES, 'bin/app', '../app', /path: "\.\.\/app" leads out of the release/],
  [FILES, 'bin/app', '/bin/app', /is absolute/],
  [FILES, 'bin/app', 'bin//app', /shortest form/],
  [FILES, 'path: bin/app', 'path: "a\\0b"', /control characters/],
  [FILES, ', path: bin/app', '', /a file that is placed needs its name/],
  [FILES, 'bytes: 1', 'bytes: 12MiB', /bytes: expected a (whole )?number, got the text "12MiB"/],
  [FILES, 'path: bin/app', 'path: bin/app, mode: 0755', /mode: expected a mode, got the number 755; write three octal digits in quotes/],
  [FILES, 'path: bin/app', 'path: bin/app, mode: "4755"', /is no mode/],
  [FILES, 'https://x/y', 'https://u:p@x/y', /a user name or password in a URL/],
  [FILES, 'https://x/y', 'ftp://x/y', /no http or https URL/],
  [FILES, 'version: "1"', 'version: "1", owner: app', /owner: "app" is no owner; write user:group/],
  [FILES, 'version: "1"', 'version: "1", units: [app]', /is no systemd unit/],
  [DEVICE, 'd/{device}/set', 'd/+/set', /no topic to publish to/],
  [DEVICE, 'd/{device}/set', 'd/{dev}/set', /only \{device\} is replaced/],
  [DEVICE, 'payload: { interval: 30 }', 'payload: { interval: 9007199254740993 }', /too big to be kept exactly/],
  [DEVICE, ', payload: { interval: 30 }', '', /spec\.payload: missing/],
  [DEVICE, 'payload:', 'acknowledge: { topic: ok }, payload:', /\{device\} must be a part/],
  [
    DEVICE,
    'payload:',
    'acknowledge: { topic: "a/{device}", deadline: 3m }, payload:',
    /:9:\d+ spec\.acknowledge\.deadline: 3m is longer than health\.deadline \(2m\), which ends the wait; raise that one/,
  ],
  [
    DEVICE,
    'spec: { ',
    'health: { deadline: 30s }\nspec: { acknowledge: { topic: "a/{device}" }, ',
    /spec\.acknowledge\.deadline: 1m is longer than health\.deadline \(30s\)/,
  ],
  [DEVICE, 'd/{device}/set', 'd/x{device}/set', /\{device\} must be a part of the topic by itself/],
  [DEVICE, 'd/{device}/set', '{device}/{device}', /\{device\} stands twice/],
]

for (const [text, from, to, expected] of REFUSED) {
  test(`refused: ${to === '' ? `no ${from.trim()}` : to.replaceAll('\n', ' ').slice(0, 80)}`, () => {
    assert.ok(text.includes(from), from)
    const errors = errorsOf(text.replace(from, to))
    assert.equal(errors.length, 1, errors.join('\n'))
    assert.match(errors[0] ?? '', expected)
  })
}

test('all problems are told at once', () => {
  assert.equal(
    errorsOf(MINIMAL.replace('sequence: 1', 'sequence: -1').replace('id: p1', 'id: "?"').replace('kind: config', 'kind: x')).length,
    3,
  )
})

test('secrets are named by files, which a patch may change', () => {
  assert.deepEqual(errorsOf(MINIMAL.replace('{ log: { level: info } }', '{ page: { passwordFile: /etc/x } }')), [])
})

test('a payload is JSON, in UTF-8, with each key once', () => {
  const good = JSON.stringify(parse(MINIMAL))
  assert.deepEqual(payloadErrors(good), [])
  assert.deepEqual(payloadErrors(JSON.stringify(parse(MINIMAL), null, 4)), [])
  assert.match(payloadErrors(MINIMAL)[0] ?? '', /no JSON in UTF-8/)
  assert.match(payloadErrors(`\ufeff${good}`)[0] ?? '', /no JSON/)
  assert.match(payloadErrors(Buffer.concat([Buffer.from(good.slice(0, -1)), Buffer.from([0xff, 0x7d])]))[0] ?? '', /no JSON/)
  assert.match(payloadErrors(good.replace('{', '{"id":"p0",'))[0] ?? '', /a key is written twice/)
  assert.match(payloadErrors('[1]')[0] ?? '', /must be a map/)
  assert.match(payloadErrors(`{"spec":${'['.repeat(40)}${']'.repeat(40)}}`)[0] ?? '', /more than/)
  assert.match(payloadErrors('['.repeat(100_000))[0] ?? '', /no JSON|more than/)
  assert.match(payloadErrors(`"${'a'.repeat(300_000)}"`)[0] ?? '', /too many/)
})

test('a box of another release takes configuration keys that this one does not know', () => {
  assert.deepEqual(payloadErrors(JSON.stringify({ ...(parse(MINIMAL) as object), spec: { future: { x: 1 } } })), [])
  assert.match(
    payloadErrors(JSON.stringify({ ...(parse(MINIMAL) as object), spec: { etcd: null } }))[0] ?? '',
    /payload.*etcd cannot be changed/,
  )
})

test('nothing that is read throws anything but a list of problems', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), fc.constantFrom('spec', 'target', 'health', 'rollout', 'window', 'id', 'kind'), (json, key) => {
      const document = { ...(parse(MINIMAL) as object), [key]: JSON.parse(json) as unknown }
      const errors = payloadErrors(JSON.stringify(document))
      for (const line of errors) assert.match(line, /^payload: /)
    }),
    { numRuns: 300 },
  )
})
