import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorsOf } from './config-fixture.ts'

/** What is wrong, the file, and the exact lines that the user reads. */
const CASES: readonly (readonly [string, string, readonly string[]])[] = [
  [
    'an id with a dot',
    'gateway: { id: my.gw }',
    [
      'config.yaml:1:16 gateway.id: "my.gw" is not allowed here; write 1 to 63 letters, digits, "-" or "_", beginning with a letter or digit (a dot would make Kafka names ambiguous)',
    ],
  ],
  ['an id that is a number', 'gateway: { id: 7 }', ['config.yaml:1:16 gateway.id: expected text, got the number 7; put it in quotes']],
  ['an id that is yes', 'gateway: { id: true }', ['config.yaml:1:16 gateway.id: expected text, got the value true; put it in quotes']],
  [
    'a time zone',
    'gateway: { timezone: Mars/Olympus }',
    ['config.yaml:1:22 gateway.timezone: expected an IANA time zone; write for example Europe/Berlin or UTC'],
  ],
  [
    'a relative folder',
    'gateway: { dataDir: ./x }',
    ['config.yaml:1:21 gateway.dataDir: write the absolute path of a folder, beginning with /'],
  ],
  [
    'a label',
    'gateway: { labels: { _x: a, b: 1 } }',
    [
      'config.yaml:1:26 gateway.labels._x: "_x" can be no name; write up to 64 letters, digits, "-" or "_", beginning with a letter or digit',
      'config.yaml:1:32 gateway.labels.b: expected text, got the number 1; put it in quotes',
    ],
  ],
  [
    'a key of another section',
    'brokers: ["a:1"]\nbuffer: { brokers: [] }',
    [
      'config.yaml:1:1 brokers: unknown key; it belongs at kafka.brokers',
      'config.yaml:2:11 buffer.brokers: unknown key; it belongs at kafka.brokers',
    ],
  ],
  [
    'unknown keys',
    'gateway: { hostname: a }\nlimits: { maxMessageByte: 1KiB, per_device: {} }\nkafka: { broker: ["a:1"] }\nbufer: {}',
    [
      'config.yaml:1:12 gateway.hostname: unknown key; known here: id, site, timezone, labels, fleet, dataDir',
      'config.yaml:2:11 limits.maxMessageByte: unknown key; did you mean maxMessageBytes?',
      'config.yaml:2:33 limits.per_device: unknown key; did you mean perDevice?',
      'config.yaml:3:10 kafka.broker: unknown key; did you mean brokers?',
      'config.yaml:4:1 bufer: unknown key; did you mean buffer?',
    ],
  ],
  [
    'a password',
    'kafka: { brokers: ["a:1"], password: x }',
    ['config.yaml:1:28 kafka.password: unknown key; secrets are read from files; write passwordFile: /path/to/a/file'],
  ],
  ['a section that is a word', 'limits: none', ['config.yaml:1:9 limits: expected a map, got the text "none"']],
  [
    'a listener without url',
    'mqtt: { listen: { lan: {} } }',
    ['config.yaml:1:19 mqtt.listen.lan.url: missing; write for example url: mqtt://127.0.0.1:1883'],
  ],
  [
    'a name with a blank',
    'mqtt: { listen: { "bad name": { url: mqtt://127.0.0.1 } } }',
    [
      'config.yaml:1:31 mqtt.listen."bad name": "bad name" can be no name; write up to 64 letters, digits, "-" or "_", beginning with a letter or digit',
    ],
  ],
  [
    'addresses',
    'mqtt:\n  listen:\n    a: { url: 5 }\n    b: { url: "http://h:1" }\n    c: { url: "mqtt://u:p@h:1" }\n    d: { url: "mqtt://h:1/x" }\n    e: { url: "mqtt://h:99999" }\n    f: { url: localhost }\n  connect:\n    g: { url: "mqtt://h:0" }',
    [
      'config.yaml:3:15 mqtt.listen.a.url: expected a URL, got the number 5; write mqtt://host:port or mqtts://host:port',
      'config.yaml:4:15 mqtt.listen.b.url: "http" is not spoken here; write mqtt://host:port or mqtts://host:port',
      'config.yaml:5:15 mqtt.listen.c.url: a user name or password in a URL would reach logs; write username and passwordFile',
      'config.yaml:6:15 mqtt.listen.d.url: a path or query is not used; write mqtt://host:port or mqtts://host:port',
      'config.yaml:7:15 mqtt.listen.e.url: cannot read the host or port; write mqtt://host:port or mqtts://host:port',
      'config.yaml:8:15 mqtt.listen.f.url: this is no URL; write mqtt://host:port or mqtts://host:port',
      'config.yaml:10:15 mqtt.connect.g.url: cannot read the host or port; write mqtt://host:port or mqtts://host:port',
    ],
  ],
  [
    'what auth can be',
    'mqtt:\n  listen:\n    a: { url: "mqtt://127.0.0.1:1", auth: on }\n    b: { url: "mqtt://127.0.0.1:2", auth: { passwordFile: secret, deviceFrom: name } }',
    [
      'config.yaml:3:43 mqtt.listen.a.auth: write none, or a map such as { passwordFile: /etc/edge-gateway/devices.passwd }, not the text "on"',
      'config.yaml:4:59 mqtt.listen.b.auth.passwordFile: write the absolute path of a file, beginning with /',
      'config.yaml:4:79 mqtt.listen.b.auth.deviceFrom: "name" is not known here; write username, clientId, commonName',
    ],
  ],
  [
    'numbers',
    'mqtt:\n  listen: { a: { url: "mqtt://127.0.0.1:1", maxConnections: 0, connectsPerSecond: fast, maxKeepalive: 19h } }\n  connect: { b: { url: "mqtt://127.0.0.1:2", receiveMaximum: 70000, protocolVersion: 3, keepalive: 30, retained: yes } }\nledger: { maxDevices: 1.5 }',
    [
      'config.yaml:2:61 mqtt.listen.a.maxConnections: 0 is too small; at least 1',
      'config.yaml:2:83 mqtt.listen.a.connectsPerSecond: expected a number, got the text "fast"',
      'config.yaml:2:103 mqtt.listen.a.maxKeepalive: 19h is too big; at most 65535s',
      'config.yaml:3:62 mqtt.connect.b.receiveMaximum: 70000 is too big; at most 65535',
      'config.yaml:3:86 mqtt.connect.b.protocolVersion: write 5 (MQTT 5) or 4 (MQTT 3.1.1), not the number 3',
      'config.yaml:3:100 mqtt.connect.b.keepalive: 30 has no unit; write for example 30s or 30ms',
      'config.yaml:3:114 mqtt.connect.b.retained: "yes" is not known here; write ignore, accept',
      'config.yaml:4:23 ledger.maxDevices: expected a whole number, got the number 1.5',
    ],
  ],
  [
    'a session that would not be kept',
    'mqtt: { connect: { b: { url: "mqtt://127.0.0.1:2", cleanStart: false } } }',
    ['config.yaml:1:52 mqtt.connect.b.cleanStart: unknown key; the session is always kept; remove this key, and set sessionExpiry'],
  ],
  [
    'topic patterns',
    'mqtt:\n  topics:\n    a: { pattern: "$share/g/devices/{device}/x" }\n    b: { pattern: "devices/+/x" }\n    c: { pattern: "devices/x{device}/x" }\n    d: { pattern: "devices/{device}/{device}" }\n    e: { pattern: "devices/{device}/#/x" }\n    f: { pattern: "devices/{device}/a+" }\n    g: { pattern: "devices/{device...}" }\n    h: { pattern: "{rest...}/{device}" }\n    i: { pattern: 7, qos: 3, sources: [] }\n    j: {}',
    [
      'config.yaml:3:19 mqtt.topics.a.pattern: a shared subscription is refused: it spreads one device over two boxes, and then its messages are neither in order nor free of duplicates; write "devices/{device}/x" and give each box its own devices',
      'config.yaml:4:19 mqtt.topics.b.pattern: a level must be {device}, or nobody knows whose message it is; write for example devices/{device}/logs/{stream}',
      'config.yaml:5:19 mqtt.topics.c.pattern: "x{device}" must be a whole level such as {device}, named with letters, digits or "_" and beginning with a small letter',
      'config.yaml:6:19 mqtt.topics.d.pattern: {device} stands in it twice; give each part its own name',
      'config.yaml:7:19 mqtt.topics.e.pattern: # may stand only at the end; write + or {name} for one level',
      'config.yaml:8:19 mqtt.topics.f.pattern: + and # must stand alone in their level, not in "a+"',
      'config.yaml:9:19 mqtt.topics.g.pattern: a device is one level; write {device}',
      'config.yaml:10:19 mqtt.topics.h.pattern: {rest...} may stand only at the end; write + or {name} for one level',
      'config.yaml:11:19 mqtt.topics.i.pattern: expected a topic pattern, got the number 7; write for example devices/{device}/logs/{stream}',
      'config.yaml:11:27 mqtt.topics.i.qos: write 0, 1 or 2, not the number 3',
      'config.yaml:11:39 mqtt.topics.i.sources: too few items (0); at least 1',
      'config.yaml:12:5 mqtt.topics.j.pattern: missing; write for example pattern: "devices/{device}/logs/{stream}"',
    ],
  ],
  [
    'limits',
    'limits:\n  global: { messagesPerSecond: lots, burst: 5, bytesPerSecond: 10mb }\n  perDevice: { messagesPerSecond: 0, burst: 1w }\n  overrides: { a: { messagesPerSecond: 1 } }\n  overLimit: drop\n  maxMessageBytes: 1GiB\n  inFlight: 5',
    [
      'config.yaml:2:32 limits.global.messagesPerSecond: expected a number of messages per second or unlimited, got the text "lots"; write for example 200',
      'config.yaml:2:45 limits.global.burst: 5 has no unit; write for example 5s or 5ms',
      'config.yaml:2:64 limits.global.bytesPerSecond: cannot read "10mb"; write 10MB, or unlimited',
      'config.yaml:3:35 limits.perDevice.messagesPerSecond: 0 is too small; at least 0.001 (one message in 1000 s), or unlimited',
      'config.yaml:3:45 limits.perDevice.burst: "w" is no known unit; write a duration such as 250ms, 5s, 10m, 4h or 30d',
      'config.yaml:4:16 limits.overrides.a.devices: missing; write for example devices: "cam-*"',
      'config.yaml:5:14 limits.overLimit: "drop" is not known here; write defer, shed',
      'config.yaml:6:20 limits.maxMessageBytes: 1GiB is too big; at most 16MiB',
      'config.yaml:7:13 limits.inFlight: expected a map, got the number 5',
    ],
  ],
  [
    'severity',
    'limits: { severity: { from: level, urgent: error, reserve: 0.2 } }',
    [
      'config.yaml:1:29 limits.severity.from: cannot read "level"; write none, syslog, json:/level or pattern:<regular expression>',
      'config.yaml:1:44 limits.severity.urgent: expected a list, got the text "error"',
      'config.yaml:1:60 limits.severity.reserve: 0.2 is no percentage; write for example 20%',
    ],
  ],
  [
    'JSON pointers',
    'limits: { severity: { from: "json:level" } }\nbuffer: { dedupe: { from: "json:/a~2" } }',
    [
      'config.yaml:1:29 limits.severity.from: "level" is no JSON pointer; write for example json:/level or json:/log/level',
      'config.yaml:2:27 buffer.dedupe.from: a lone ~ in a JSON pointer; write ~0 for ~ and ~1 for /',
    ],
  ],
  [
    'patterns that are none',
    'limits: { severity: { from: "pattern:(" } }',
    [
      'config.yaml:1:29 limits.severity.from: no valid regular expression (Invalid regular expression: /(/: Unterminated group); write for example pattern:\\b(ERROR|FATAL)\\b',
    ],
  ],
  [
    'patterns with look-around',
    'limits: { severity: { from: "pattern:(?<=a)b" } }',
    ['config.yaml:1:29 limits.severity.from: (?<= (look-around, flags) is not supported; write for example pattern:\\b(ERROR|FATAL)\\b'],
  ],
  [
    'patterns with back-references',
    "limits: { severity: { from: 'pattern:(a)\\1' } }",
    ['config.yaml:1:29 limits.severity.from: \\1 is not supported; write for example pattern:\\b(ERROR|FATAL)\\b'],
  ],
  [
    'patterns with unknown classes',
    "limits: { severity: { from: 'pattern:\\p{L}' } }",
    ['config.yaml:1:29 limits.severity.from: \\p is not supported; write for example pattern:\\b(ERROR|FATAL)\\b'],
  ],
  [
    'buffer',
    'buffer: { maxBytes: 2Gb, minFreeBytes: 10%, maxAge: forever, lanes: { urgnt: {}, normal: { weight: -1, whenFull: drop } }, commit: { maxDelay: 10s }, dedupe: { from: id } }',
    [
      'config.yaml:1:21 buffer.maxBytes: cannot read "2Gb"; write 2GB, or auto',
      'config.yaml:1:40 buffer.minFreeBytes: cannot read "10%"; write a size such as 256KiB, 64MiB, 2GiB or 10MB',
      'config.yaml:1:53 buffer.maxAge: cannot read "forever"; write a duration such as 250ms, 5s, 10m, 4h or 30d, or unlimited',
      'config.yaml:1:71 buffer.lanes.urgnt: unknown key; did you mean urgent?',
      'config.yaml:1:100 buffer.lanes.normal.weight: -1 is too small; at least 0',
      'config.yaml:1:114 buffer.lanes.normal.whenFull: "drop" is not known here; write block, drop-oldest',
      'config.yaml:1:144 buffer.commit.maxDelay: 10s is too big; at most 5s, or auto',
      'config.yaml:1:167 buffer.dedupe.from: cannot read "id"; write none, json:/id, topic:{part} or user-property:name',
    ],
  ],
  [
    'kafka',
    'kafka: { brokers: ["kafka://a:1", "a", "a:1", "a:1"], topic: "a b", allowedTopics: [..], prefix: "", delivery: twice, uplinkBytesPerSecond: 1, sasl: { mechanism: kerberos } }',
    [
      'config.yaml:1:20 kafka.brokers[0]: "kafka://a:1" is a URL; write host:port, for example 127.0.0.1:9092 or [::1]:9092',
      'config.yaml:1:35 kafka.brokers[1]: cannot read "a"; write host:port, for example 127.0.0.1:9092 or [::1]:9092',
      'config.yaml:1:62 kafka.topic: "a b" is no topic name; write 1 to 249 letters, digits, ".", "_" or "-"',
      'config.yaml:1:85 kafka.allowedTopics[0]: ".." is not allowed here; write 1 to 249 letters, digits, ".", "_" or "-"',
      'config.yaml:1:98 kafka.prefix: "" is not allowed here; write 1 to 200 letters, digits, ".", "_" or "-"',
      'config.yaml:1:112 kafka.delivery: "twice" is not known here; write exactly-once, at-least-once',
      'config.yaml:1:141 kafka.uplinkBytesPerSecond: 1 is too small; at least 1KiB, or unlimited',
      'config.yaml:1:163 kafka.sasl.mechanism: "kerberos" is not known here; write plain, scram-sha-256, scram-sha-512, oauthbearer',
    ],
  ],
  [
    'sasl',
    'kafka: { brokers: ["a:1"], sasl: { mechanism: plain, user: a } }',
    [
      'config.yaml:1:28 kafka.sasl.passwordFile: missing; write for example passwordFile: /etc/edge-gateway/kafka.passwd',
      'config.yaml:1:54 kafka.sasl.user: unknown key; did you mean username?',
    ],
  ],
  [
    'etcd',
    'etcd: { endpoints: "https://x", prefix: edge }',
    [
      'config.yaml:1:20 etcd.endpoints: expected a list, got the text "https://x"; write for example endpoints: [https://etcd-1:2379]',
      'config.yaml:1:41 etcd.prefix: "edge" is not allowed here; write a path that begins and ends with "/", for example /edge/v1/',
    ],
  ],
  [
    'patches',
    'patches: { trustedKeys: { k: { ed25519: abc, kinds: [conf], sites: 5 }, "o!": {} }, units: [x], roots: { a: b }, lockTtl: 1s }',
    [
      'config.yaml:1:41 patches.trustedKeys.k.ed25519: this is no key; write the 32 bytes of an ed25519 public key in base64 (44 characters), as "edgectl patch keygen" prints it',
      'config.yaml:1:54 patches.trustedKeys.k.kinds[0]: "conf" is not known here; write config, files, device',
      'config.yaml:1:68 patches.trustedKeys.k.sites: write all, or a list of sites such as [plant-7], not the number 5',
      'config.yaml:1:79 patches.trustedKeys."o!": "o!" can be no name; write up to 64 letters, digits, "-" or "_", beginning with a letter or digit',
      'config.yaml:1:93 patches.units[0]: "x" is no systemd unit; write for example app.service',
      'config.yaml:1:109 patches.roots.a: write the absolute path of a folder, beginning with /',
      'config.yaml:1:123 patches.lockTtl: 1s is too small; at least 5s',
    ],
  ],
  [
    'local services',
    'metrics: { listen: 9464 }\npage: { listen: false }\ncontrol: { socket: x }\nlog: { level: verbose }\nshutdown: { drain: 1h }',
    [
      'config.yaml:1:20 metrics.listen: expected host:port, got the number 9464; write host:port, for example 127.0.0.1:9092 or [::1]:9092, or off',
      'config.yaml:2:17 page.listen: expected host:port, got the value false; write host:port, for example 127.0.0.1:9092 or [::1]:9092, or off',
      'config.yaml:3:20 control.socket: write the absolute path of a socket, beginning with /',
      'config.yaml:4:15 log.level: "verbose" is not known here; write trace, debug, info, warn, error, fatal',
      'config.yaml:5:20 shutdown.drain: 1h is too big; at most 10m',
    ],
  ],
]

for (const [name, text, lines] of CASES) {
  test(`a value that can not be: ${name}`, () => {
    assert.deepEqual(errorsOf(text), lines)
  })
}
