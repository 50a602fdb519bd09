import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { formatOrigin } from '../../config/problem.ts'
import { loadConfig } from '../../config/load.ts'
import { bareHost, errorsOf, inFolder, loadText, warningsOf } from './config-fixture.ts'

test('an empty file listens on loopback, buffers, and has no Kafka and no etcd', () => {
  const expected = {
    gateway: { id: 'gw-125da63932e5', site: undefined, timezone: 'UTC', labels: {}, fleet: undefined, dataDir: '/var/lib/edge-gateway' },
    mqtt: {
      listen: {
        local: {
          url: { host: '127.0.0.1', port: 1883, secure: false, href: 'mqtt://127.0.0.1:1883' },
          tls: undefined,
          auth: { kind: 'none' },
          maxConnections: 5000,
          connectsPerSecond: 200,
          maxKeepaliveMs: 3_600_000,
          inFlightPerConnection: { messages: 500, bytes: 1_048_576 },
        },
      },
      connect: {},
      topics: {
        'device-logs': {
          pattern: 'devices/{device}/logs/{stream}',
          filter: 'devices/+/logs/+',
          parts: ['device', 'stream'],
          qos: 1,
          sources: [],
        },
      },
    },
    limits: {
      global: { messagesPerSecond: 20_000, bytesPerSecond: 20_971_520, burstMs: 2_000 },
      perDevice: { messagesPerSecond: 200, bytesPerSecond: 262_144, burstMs: 5_000 },
      overrides: [],
      overLimit: 'defer',
      severity: { from: { kind: 'none' }, urgent: ['error', 'fatal'], reserveFraction: 0.2 },
      maxMessageBytes: 262_144,
      maxPacketBytes: 327_688,
      inFlight: { messages: 20_000, bytes: 33_554_432 },
    },
    buffer: {
      maxBytes: 2_147_483_648,
      minFreeBytes: 536_870_912,
      maxAgeMs: 2_592_000_000,
      lanes: {
        urgent: { weight: 4, whenFull: 'block' },
        normal: { weight: 4, whenFull: 'block' },
        deferred: { weight: 1, whenFull: 'drop-oldest' },
      },
      commit: { maxDelayMs: 'auto', maxBytes: 4_194_304 },
      dedupe: { from: { kind: 'none' }, windowMs: 600_000, maxIds: 1_000_000 },
    },
    ledger: { maxDevices: 20_000 },
    presence: { silentAfterMs: 600_000, maxDevices: 50_000, groups: {} },
    kafka: undefined,
    etcd: undefined,
    patches: {
      controller: false,
      trustedKeys: {},
      lockTtlMs: 15_000,
      roots: {},
      units: [],
      executor: { socket: '/run/edge-gateway-executor.sock', ifThere: true },
      hookUser: undefined,
    },
    metrics: { listen: { host: '127.0.0.1', port: 9464 } },
    page: { listen: undefined, passwordFile: undefined, tls: undefined, hosts: [] },
    control: { socket: '/var/lib/edge-gateway/control.sock' },
    log: { level: 'info' },
    shutdown: { drainMs: 20_000 },
  }
  for (const text of ['', '\n', '# nothing yet\n', '---\n', '\uFEFF', 'gateway:\nkafka:\n', '{}']) {
    const { settings, warnings } = loadText(text)
    assert.deepEqual(JSON.parse(JSON.stringify(settings)), JSON.parse(JSON.stringify(expected)), JSON.stringify(text))
    assert.deepEqual(warnings, [])
  }
})

test('settings can be changed by nobody', () => {
  const { settings } = loadText('')
  assert.throws(() => {
    ;(settings.limits.perDevice as { burstMs: number }).burstMs = 1
  }, TypeError)
})

test('auto takes a quarter of a small disk', () => {
  assert.equal(loadText('', { diskBytes: 4 * 2 ** 30 }).settings.buffer.maxBytes, 2 ** 30)
  assert.equal(loadText('', { diskBytes: 64 * 2 ** 30 }).settings.buffer.maxBytes, 2 ** 31)
})

test('config.d is merged over the file in the order of the names, and layers over both', () => {
  const { settings, effective } = loadText('limits:\n  perDevice: { messagesPerSecond: 1, burst: 7s }\ngateway: { site: a }\n', {
    files: {
      'config.d/20-b.yaml': 'limits: { perDevice: { messagesPerSecond: 3 } }\ngateway: { site: }\n',
      'config.d/10-a.yaml': 'limits:\n  perDevice: { messagesPerSecond: 2 }\n  overLimit: shed\n',
      'config.d/30-c.yaml.bak': 'nonsense: 1\n',
      'config.d/.40-d.yaml': 'nonsense: 1\n',
    },
    layers: [
      { label: 'patch p-1', patch: { limits: { global: { burst: '9s' } } } },
      { label: 'override', patch: { log: { level: 'debug' } } },
    ],
  })
  assert.equal(settings.limits.perDevice.messagesPerSecond, 3)
  assert.equal(settings.limits.perDevice.burstMs, 7_000)
  assert.equal(settings.limits.overLimit, 'shed')
  assert.equal(settings.limits.global.burstMs, 9_000)
  assert.equal(settings.gateway.site, undefined)
  const origins = new Map(
    effective.map(({ path, origin }) => [path.join('.'), formatOrigin(origin).replace(/^.*\/(config\.(yaml|d))/, '$1')]),
  )
  assert.equal(origins.get('limits.perDevice.messagesPerSecond'), 'config.d/20-b.yaml:1:43')
  assert.equal(origins.get('limits.perDevice.burst'), 'config.yaml:2:45')
  assert.equal(origins.get('limits.overLimit'), 'config.d/10-a.yaml:3:14')
  assert.equal(origins.get('limits.global.burst'), 'patch p-1')
  assert.equal(origins.get('log.level'), 'override')
  assert.equal(origins.get('limits.global.messagesPerSecond'), 'default')
  assert.equal(origins.get('gateway.id'), 'default, from /etc/machine-id')
  assert.equal(origins.has('gateway.site'), false)
})

test('a mistake in a layer or in config.d is told where it was made', () => {
  assert.deepEqual(
    errorsOf('limits: { overLimit: nope }\n', {
      files: { 'config.d/50-x.yaml': '\nlog: { level: loud }\n' },
      layers: [{ label: 'patch p-1', patch: { limits: { perDevice: { burst: 5, brst: '1s' } } } }],
    }),
    [
      'config.yaml:1:22 limits.overLimit: "nope" is not known here; write defer, shed',
      'config.d/50-x.yaml:2:15 log.level: "loud" is not known here; write trace, debug, info, warn, error, fatal',
      'patch p-1: limits.perDevice.brst: unknown key; did you mean burst?',
      'patch p-1: limits.perDevice.burst: 5 has no unit; write for example 5s or 5ms',
    ],
  )
})

test('names in ${} come from the environment, in quotes and without', () => {
  const { settings } = loadText(
    [
      'gateway: { id: "${ID}", site: "${SITE:-plant-9}", fleet: "${EMPTY:-acme}" }',
      'mqtt: { connect: { plant: { url: "mqtt://${HOST}:${PORT:-1884}", username: "$${ID}" } } }',
      'ledger:',
      '  maxDevices: ${DEVICES}',
      'limits: { severity: { from: "pattern:^ERR$" } }',
    ].join('\n'),
    { environment: { ID: 'gw-7', HOST: '10.0.0.5', DEVICES: '500', EMPTY: '' } },
  )
  assert.equal(settings.gateway.id, 'gw-7')
  assert.equal(settings.gateway.site, 'plant-9')
  assert.equal(settings.gateway.fleet, 'acme')
  assert.equal(settings.mqtt.connect['plant']?.urls[0]?.href, 'mqtt://10.0.0.5:1884')
  assert.equal(settings.mqtt.connect['plant']?.username, '${ID}')
  assert.equal(settings.mqtt.connect['plant']?.clientId, 'gw-7-plant')
  assert.equal(settings.ledger.maxDevices, 500)
  assert.deepEqual(settings.limits.severity.from, { kind: 'pattern', regex: '^ERR$' })
})

test('what a variable holds is text, never structure and never another reference', () => {
  const { settings } = loadText('gateway: { id: gw-1, site: "${A}", fleet: "${B}" }', { environment: { A: '{ x: 1 }', B: '${A}' } })
  assert.equal(settings.gateway.site, '{ x: 1 }')
  assert.equal(settings.gateway.fleet, '${A}')
})

test('a patch reads nothing from the environment', () => {
  const { settings } = loadText('', {
    environment: { SECRET: 'x' },
    layers: [{ label: 'patch', patch: { gateway: { site: '${SECRET}' } } }],
  })
  assert.equal(settings.gateway.site, '${SECRET}')
})

test('anchors work, and a chain of them that grows is stopped', () => {
  const { settings } = loadText('limits:\n  global: &b { messagesPerSecond: 7 }\n  perDevice: *b\n')
  assert.equal(settings.limits.perDevice.messagesPerSecond, 7)
  const bomb = [
    'a0: &a0 [x, x, x, x, x, x, x, x, x, x]',
    ...Array.from({ length: 9 }, (_, n) => `a${n + 1}: &a${n + 1} [${Array(10).fill(`*a${n}`).join(', ')}]`),
  ].join('\n')
  const errors = errorsOf(bomb)
  assert.equal(errors.length, 1)
  assert.match(errors[0] ?? '', /^config\.yaml:\d+:\d+ .*: more than 20000 values; write fewer aliases \(\*name\)$/)
})

test('nesting beyond what the parser bears is an error, not a crash', () => {
  for (const text of ['['.repeat(100_000), Array.from({ length: 1_300 }, (_, n) => `${' '.repeat(n)}a:`).join('\n')]) {
    const errors = errorsOf(text)
    assert.equal(errors.length, 1)
    assert.match(errors[0] ?? '', /^config\.yaml:\d+:\d+ nested too deeply to be read; write it flatter$/)
  }
})

test('CRLF and a byte order mark change nothing', () => {
  assert.equal(loadText('\uFEFFgateway:\r\n  site: a\r\n').settings.gateway.site, 'a')
  assert.deepEqual(errorsOf('gateway:\r\n  sites: a\r\n'), ['config.yaml:2:3 gateway.sites: unknown key; did you mean site?'])
})

test('a file that is missing, a folder, a pipe, too big or damaged is told in words', () => {
  inFolder('', {}, (path, folder) => {
    const failure = (name: string): string => {
      try {
        loadConfig(name, [], bareHost())
        return 'loaded'
      } catch (error) {
        return String(error).replaceAll(`${folder}/`, '').replaceAll(folder, 'FOLDER')
      }
    }
    assert.equal(
      failure(`${folder}/none.yaml`),
      'ConfigError: none.yaml: there is no such file; write it (an empty one is valid), or name another with --config',
    )
    assert.equal(failure(folder), 'ConfigError: FOLDER: this is a folder; name the file in it')
    execFileSync('mkfifo', [`${folder}/pipe`])
    assert.equal(failure(`${folder}/pipe`), 'ConfigError: pipe: this is no regular file; write the config to a file')
    writeFileSync(path, `# ${'x'.repeat(1024 * 1024)}`)
    assert.equal(failure(path), 'ConfigError: config.yaml: 1048578 bytes; a config file has at most 1048576 (1 MiB)')
    writeFileSync(path, '')
    rmSync(`${folder}/config.d`, { recursive: true })
    assert.equal(failure(path), 'loaded')
    writeFileSync(`${folder}/config.d`, '')
    assert.match(failure(path), /^ConfigError: config\.d: cannot read and list it: ENOTDIR/)
    rmSync(`${folder}/config.d`)
    mkdirSync(`${folder}/config.d`)
    for (let n = 0; n < 101; n += 1) writeFileSync(`${folder}/config.d/${n}.yaml`, '')
    assert.equal(failure(path), 'ConfigError: config.d: 101 files; keep at most 100')
  })
})

test('a secret that stands in the wrong place is repeated in no message', () => {
  const text = [
    'mqtt:',
    '  connect:',
    '    a: { url: "mqtt://user:hunter2@h:1", passwordFile: hunter2 }',
    '    b: { url: mqtt://h:1, password: hunter2 }',
    'kafka: { brokers: ["h:1"], sasl: { mechanism: plain, username: u, password: hunter2 } }',
    'patches: { trustedKeys: { k: { ed25519: hunter2, kinds: [config], sites: all } } }',
  ].join('\n')
  const errors = errorsOf(text)
  assert.equal(errors.length, 5, errors.join('\n'))
  assert.ok(!errors.join('\n').includes('hunter2'), errors.join('\n'))
})

test('what is probably not meant is a warning, and loads', () => {
  const text = [
    'gateway: { id: gw-1 }',
    'mqtt:',
    '  listen: { lan: { url: "mqtt://0.0.0.0:1883", auth: { passwordFile: /p } } }',
    '  connect: { far: { url: "mqtt://10.0.0.9:1883", username: u, passwordFile: /p } }',
    'kafka: { brokers: ["10.0.0.8:9092"], sasl: { mechanism: plain, username: u, passwordFile: /p } }',
    'etcd: { endpoints: ["http://10.0.0.7:2379"], username: u, passwordFile: /p }',
    'metrics: { listen: "0.0.0.0:9464" }',
  ].join('\n')
  assert.deepEqual(warningsOf(text), [
    'config.yaml:1:10 gateway: without gateway.fleet every patch is refused, since a patch names its fleet; add fleet',
    'config.yaml:3:25 mqtt.listen.lan.url: devices send their passwords in clear; write mqtts:// with tls',
    'config.yaml:4:77 mqtt.connect.far.passwordFile: the password goes over the network in clear; write mqtts://',
    'config.yaml:5:57 kafka.sasl.mechanism: plain sends the password in clear; add kafka.tls, or use scram-sha-512',
    'config.yaml:6:7 etcd: without patches.trustedKeys every patch is refused; add a key',
    'config.yaml:6:20 etcd.endpoints: the password goes over the network in clear; write https://',
    'config.yaml:7:20 metrics.listen: metrics are open to everyone who reaches this address; write a loopback address, or keep it behind a firewall',
  ])
  assert.deepEqual(warningsOf('mqtt: { listen: {} }\nlimits: { severity: { from: "pattern:ERR", urgent: [x] } }'), [
    'config.yaml:1:7 mqtt: no listener and no connection: nothing can arrive; add mqtt.listen or mqtt.connect',
    'config.yaml:2:52 limits.severity.urgent: with a pattern, every match is urgent and this list has no meaning; remove it',
  ])
})

test('known devices are named by a file, or everyone is known', () => {
  assert.equal(loadText('').settings.limits.knownDevices, undefined)
  assert.deepEqual(loadText('limits: { knownDevices: { file: /etc/devices.txt } }').settings.limits.knownDevices, {
    file: '/etc/devices.txt',
  })
})
