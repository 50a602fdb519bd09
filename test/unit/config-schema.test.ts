import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { parse } from 'yaml'
import { z } from 'zod'
import { parseFragment } from '../../config/fragment.ts'
import { jsonSchemaText, SCHEMA_PATH } from '../../config/generate.ts'
import { loadConfig } from '../../config/load.ts'
import { type Json, valueAt } from '../../config/merge.ts'
import { configSchema } from '../../config/schema.ts'
import { allPaths } from '../../config/schema/walk.ts'
import { bareHost, errorsOf, loadText } from './config-fixture.ts'

const EXAMPLE_PATH = fileURLToPath(new URL('../../config/example.yaml', import.meta.url))
const example = readFileSync(EXAMPLE_PATH, 'utf8')
const jsonSchema = JSON.parse(readFileSync(SCHEMA_PATH, 'utf8')) as JsonSchema

interface JsonSchema {
  readonly description?: string
  readonly default?: Json
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly additionalProperties?: JsonSchema | boolean
  readonly items?: JsonSchema
  readonly anyOf?: readonly JsonSchema[]
  readonly oneOf?: readonly JsonSchema[]
}

/** Every property with its path, through maps, lists and alternatives. */
function* properties(schema: JsonSchema, path: readonly string[]): Iterable<{ path: readonly string[]; schema: JsonSchema }> {
  for (const one of [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]) yield* properties(one, path)
  for (const [key, below] of Object.entries(schema.properties ?? {})) {
    yield { path: [...path, key], schema: below }
    yield* properties(below, [...path, key])
  }
  if (typeof schema.additionalProperties === 'object') yield* properties(schema.additionalProperties, [...path, '*'])
  if (schema.items !== undefined) yield* properties(schema.items, [...path, '*'])
}

const described = new Map([...properties(jsonSchema, [])].map(({ path, schema }) => [path.join('.'), schema]))

test('the JSON Schema in the repository is the one of the code (npm run schema)', () => {
  assert.equal(readFileSync(SCHEMA_PATH, 'utf8'), jsonSchemaText())
})

test('every key has a description, and the JSON Schema has every key', () => {
  for (const [path, schema] of described) assert.match(schema.description ?? '', /^[A-Z0-9a-z].*\.$/, path)
  const keys = allPaths(configSchema).map((path) => path.join('.'))
  assert.deepEqual([...new Set(keys)].sort(), [...described.keys()].sort())
  assert.ok(keys.length > 100)
})

test('the example validates, by the program and by the JSON Schema', () => {
  const { warnings } = loadConfig(EXAMPLE_PATH, [], bareHost())
  assert.deepEqual(warnings, [])
  const shipped = z.fromJSONSchema(jsonSchema as Parameters<typeof z.fromJSONSchema>[0])
  assert.equal(shipped.safeParse(parse(example)).success, true)
  for (const bad of [
    'gateway: { idd: a }',
    'limits: { perDevice: { burst: 5 } }',
    'log: { level: loud }',
    'buffer: { maxBytes: 5 MB }',
    'mqtt: { listen: { a: {} } }',
  ]) {
    assert.equal(shipped.safeParse(parse(bad)).success, false, bad)
    assert.notDeepEqual(errorsOf(bad), [], bad)
  }
})

test('every key stands in the example, in force or as a comment', () => {
  const value = parse(example) as Json
  const missing = allPaths(configSchema).filter(
    (path) => path.at(-1) !== '*' && !isInForce(value, path) && !isCommented(String(path.at(-1))),
  )
  assert.deepEqual(
    missing.map((path) => path.join('.')),
    [],
  )
})

function isInForce(value: Json | undefined, [step, ...rest]: readonly string[]): boolean {
  if (step === undefined) return value !== undefined
  if (step !== '*') return isInForce(valueAt(value, [step]), rest)
  return typeof value === 'object' && value !== null && Object.values(value).some((item: Json) => isInForce(item, rest))
}

function isCommented(key: string): boolean {
  return new RegExp(`^\\s+#\\s+${key}:\\s`, 'm').test(example)
}

test('every default that the example states is the true one', () => {
  const { fragment } = parseFragment('example', example, {})
  assert.ok(fragment)
  const stated = new Map(
    example.split('\n').flatMap((line, index) => {
      const text = /default: (.*)$/.exec(line)?.[1]
      return text === undefined ? [] : [[index + 1, text] as const]
    }),
  )
  let checked = 0
  for (const { path, line } of keyLines(parse(example) as Json, [])) {
    const text = stated.get(line)
    const schema = described.get(generalised(path))
    if (text === undefined || schema?.default === undefined) continue
    assert.deepEqual(parse(text), schema.default, `${path.join('.')}: default: ${text}`)
    checked += 1
  }
  assert.ok(checked >= 45, `only ${checked} defaults were compared`)

  function* keyLines(value: Json, path: readonly string[]): Iterable<{ path: readonly string[]; line: number }> {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return
    for (const [key, below] of Object.entries(value)) {
      const line = fragment?.origin([...path, key], 'key')?.line ?? 0
      yield { path: [...path, key], line }
      yield* keyLines(below, [...path, key])
    }
  }
})

/** `mqtt.listen.lan.url` → `mqtt.listen.*.url`. */
function generalised(path: readonly string[]): string {
  return path.reduce<readonly string[]>((known, step) => [...known, described.has([...known, step].join('.')) ? step : '*'], []).join('.')
}

test('every default of the JSON Schema is what an empty file gives', () => {
  const effective = new Map(loadText('').effective.map(({ path, value }) => [generalised(path.map(String)), value]))
  for (const [path, value] of effective) {
    const stated = described.get(path)?.default
    if (stated !== undefined) assert.deepEqual(JSON.parse(JSON.stringify(value)), stated, path)
  }
})

test('the keys of the design keep their names', () => {
  const { settings } = loadText(`
gateway: { id: gw-001, site: plant-7, timezone: Europe/Berlin, labels: { role: packaging }, fleet: acme-prod, dataDir: /var/lib/edge-gateway }
mqtt:
  listen:
    lan:
      url: "mqtts://[::]:8883"
      tls: { cert: /etc/edge-gateway/server.crt, key: /etc/edge-gateway/server.key, ca: /etc/edge-gateway/devices-ca.crt, requireClientCert: true }
      auth: { passwordFile: /etc/edge-gateway/devices.passwd, deviceFrom: username }
      maxConnections: 20000
      connectsPerSecond: 500
  connect:
    plant: { url: "mqtt://127.0.0.1:1884", clientId: gw-001, protocolVersion: 5, sessionExpiry: 7d, receiveMaximum: 2000, username: gw, passwordFile: /etc/edge-gateway/mqtt.passwd, retained: ignore }
  topics:
    device-logs: { pattern: "devices/{device}/logs/{stream}", qos: 1 }
limits:
  global: { messagesPerSecond: 20000, bytesPerSecond: 20MiB, burst: 2s }
  perDevice: { messagesPerSecond: 200, bytesPerSecond: 256KiB, burst: 5s }
  overrides: { cameras: { devices: "cam-*", messagesPerSecond: 1000 } }
  overLimit: defer
  severity: { from: "json:/level", urgent: [error, fatal], reserve: 20% }
  maxMessageBytes: 256KiB
  inFlight: { messages: 20000, bytes: 32MiB }
buffer:
  maxBytes: auto
  minFreeBytes: 512MiB
  maxAge: 30d
  lanes: { urgent: { weight: 4, whenFull: block }, normal: { weight: 4, whenFull: block }, deferred: { weight: 1, whenFull: drop-oldest } }
  commit: { maxDelay: auto, maxBytes: 4MiB }
  dedupe: { from: none, window: 10m, maxIds: 1000000 }
kafka:
  brokers: ["127.0.0.1:9092"]
  topic: device-logs
  prefix: edge
  delivery: exactly-once
  compression: gzip
  uplinkBytesPerSecond: unlimited
  tls: { ca: /etc/edge-gateway/kafka-ca.crt }
  sasl: { mechanism: scram-sha-512, username: gw-001, passwordFile: /etc/edge-gateway/kafka.passwd }
etcd: { endpoints: ["https://etcd-1:2379"], prefix: /edge/v1/, tls: { ca: /etc/edge-gateway/etcd-ca.crt }, username: gw-001, passwordFile: /etc/edge-gateway/etcd.passwd }
patches: { controller: false, trustedKeys: { ops-2026: { ed25519: "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", kinds: [config, files], sites: all } }, lockTtl: 15s, roots: { app: /opt/app }, units: [app.service] }
metrics: { listen: "127.0.0.1:9464" }
page: { listen: off, passwordFile: /etc/edge-gateway/page.passwd, hosts: [gw-001.plant.example] }
log: { level: info }
`)
  assert.deepEqual(settings.limits.overrides, [
    { name: 'cameras', devices: 'cam-*', messagesPerSecond: 1000, bytesPerSecond: 262_144, burstMs: 5_000 },
  ])
  assert.deepEqual(settings.limits.severity, {
    from: { kind: 'json', pointer: ['level'] },
    urgent: ['error', 'fatal'],
    reserveFraction: 0.2,
  })
  assert.equal(settings.kafka?.uplinkBytesPerSecond, Infinity)
  assert.deepEqual(settings.kafka?.allowedTopics, ['device-logs'])
  assert.equal(settings.mqtt.connect['plant']?.sessionExpiryMs, 604_800_000)
  assert.deepEqual(settings.mqtt.topics['device-logs']?.sources, ['plant'])
  assert.equal(settings.etcd?.endpoints[0]?.secure, true)
})
