import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Change, changes } from '../../config/changes.ts'
import { allPaths } from '../../config/schema/walk.ts'
import { configSchema } from '../../config/schema.ts'
import { loadText } from './config-fixture.ts'

const KAFKA = 'kafka: { brokers: ["127.0.0.1:9092"]'

/** `path component apply` of each change. */
function between(before: string, after: string): readonly string[] {
  return changes(loadText(before).settings, loadText(after).settings).map(({ path, component, entry, apply }: Change) =>
    [path, component, ...(entry === undefined ? [] : [entry]), apply].join(' '),
  )
}

const CASES: readonly (readonly [string, string, readonly string[]])[] = [
  ['', '# the same\n', []],
  ['limits: { perDevice: { burst: 5s } }', 'limits: { perDevice: { burst: 5000ms } }', []],
  ['', 'gateway: { id: other }', ['gateway.id gateway restart']],
  ['', 'gateway: { dataDir: /srv/x }', ['gateway.dataDir gateway restart', 'control.socket control restart']],
  ['', 'gateway: { site: a, labels: { b: c } }', ['gateway.site gateway live', 'gateway.labels.b gateway live']],
  [
    '',
    'limits: { perDevice: { burst: 6s, messagesPerSecond: unlimited } }',
    ['limits.perDevice.messagesPerSecond admission live', 'limits.perDevice.burst admission live'],
  ],
  ['', 'limits: { overrides: { a: { devices: "a*" } } }', ['limits.overrides admission live']],
  ['', 'limits: { maxMessageBytes: 128KiB }', ['limits.maxMessageBytes admission live']],
  ['', 'limits: { knownDevices: { file: /d } }', ['limits.knownDevices admission live']],
  [
    '',
    'limits: { severity: { from: "json:/level", reserve: 30% } }',
    ['limits.severity.from admission live', 'limits.severity.reserve admission live'],
  ],
  ['', 'log: { level: debug }\nshutdown: { drain: 5s }', ['log.level log live', 'shutdown.drain shutdown live']],
  [
    '',
    'buffer: { maxBytes: 64MiB, maxAge: unlimited, lanes: { normal: { whenFull: drop-oldest } }, commit: { maxDelay: 5ms } }',
    [
      'buffer.maxBytes outbox live',
      'buffer.maxAge outbox live',
      'buffer.lanes.normal.whenFull outbox live',
      'buffer.commit.maxDelay outbox live',
    ],
  ],
  ['', 'buffer: { dedupe: { from: "json:/id", window: 1m } }', ['buffer.dedupe.from outbox live', 'buffer.dedupe.window outbox live']],
  ['', 'ledger: { maxDevices: 5 }', ['ledger.maxDevices ledger live']],
  ['', `${KAFKA} }`, ['kafka relay live']],
  [
    `${KAFKA} }`,
    'kafka: { brokers: ["127.0.0.1:9093"], transaction: { linger: 1s } }',
    ['kafka.brokers relay live', 'kafka.transaction.linger relay live'],
  ],
  [`${KAFKA} }`, `${KAFKA}, prefix: other }`, ['kafka.prefix relay restart']],
  [`${KAFKA} }`, `${KAFKA}, topic: "x.{stream}", allowedTopics: [x.a] }`, ['kafka.topic relay live', 'kafka.allowedTopics relay live']],
  [
    `${KAFKA}, sasl: { mechanism: plain, username: a, passwordFile: /p } }`,
    `${KAFKA}, sasl: { mechanism: oauthbearer, tokenFile: /t } }`,
    ['kafka.sasl relay live'],
  ],
  [
    `${KAFKA}, sasl: { mechanism: plain, username: a, passwordFile: /p } }`,
    `${KAFKA}, sasl: { mechanism: plain, username: b, passwordFile: /p } }`,
    ['kafka.sasl.username relay live'],
  ],
  ['limits: { severity: { from: "json:/a" } }', 'limits: { severity: { from: "json:/b" } }', ['limits.severity.from admission live']],
  ['', 'mqtt: { listen: { local: { url: "mqtt://127.0.0.1:1885" } } }', ['mqtt.listen.local.url listener local live']],
  [
    '',
    'mqtt: { listen: { local: { url: "mqtt://127.0.0.1:1883", auth: { passwordFile: /p } } } }',
    ['mqtt.listen.local.auth listener local live'],
  ],
  [
    'mqtt: { listen: { a: { url: "mqtts://127.0.0.1:1", tls: { cert: /c, key: /k } } } }',
    'mqtt: { listen: { a: { url: "mqtts://127.0.0.1:1", tls: { cert: /d, key: /k } } } }',
    ['mqtt.listen.a.tls.cert listener a live'],
  ],
  [
    'mqtt: { connect: { a: { url: "mqtts://h:1" } } }',
    'mqtt: { connect: { a: { url: "mqtts://h:2", tls: { ca: /c }, keepalive: 60s } } }',
    ['mqtt.connect.a.url connection a live', 'mqtt.connect.a.keepalive connection a live', 'mqtt.connect.a.tls.ca connection a live'],
  ],
  [
    'mqtt: { connect: { a: { url: "mqtt://h:1" } } }',
    'mqtt: { connect: { a: { url: "mqtt://h:1" }, b: { url: "mqtt://h:2" } } }',
    ['mqtt.connect.b connection b live', 'mqtt.topics.device-logs.sources topics live'],
  ],
  ['', 'mqtt: { topics: { device-logs: { pattern: "x/{device}" } } }', ['mqtt.topics.device-logs.pattern topics live']],
  ['', 'metrics: { listen: off }\npage: { listen: "127.0.0.1:8080" }', ['metrics.listen metrics live', 'page.listen page live']],
  ['metrics: { listen: "127.0.0.1:1" }', 'metrics: { listen: "127.0.0.1:2" }', ['metrics.listen metrics live']],
  ['', 'patches: { lockTtl: 20s }\netcd: { endpoints: ["https://h"] }', ['etcd etcd restart', 'patches.lockTtl patches restart']],
]

for (const [before, after, expected] of CASES) {
  test(`from ${JSON.stringify(before)} to ${JSON.stringify(after)}`, () => {
    assert.deepEqual(between(before, after), expected)
    assert.equal(between(after, before).length > 0, expected.length > 0)
  })
}

test('a change names a key of the file, whatever changes', () => {
  const known = new Set(allPaths(configSchema).map((path) => path.join('.')))
  const texts = CASES.flatMap(([before, after]) => [before, after])
  fc.assert(
    fc.property(fc.constantFrom(...texts), fc.constantFrom(...texts), (before, after) => {
      for (const line of between(before, after)) {
        const path = (line.split(' ')[0] ?? '').split('.')
        const general = path
          .reduce<readonly string[]>((found, step) => [...found, known.has([...found, step].join('.')) ? step : '*'], [])
          .join('.')
        assert.ok(known.has(general) || known.has(general.replace(/\.\*$/, '')), `${path.join('.')} (${general})`)
      }
    }),
    { numRuns: 60 },
  )
})
