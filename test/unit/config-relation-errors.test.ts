import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorsOf } from './config-fixture.ts'

/** What is wrong, the file, and the exact lines that the user reads. */
const CASES: readonly (readonly [string, string, readonly string[]])[] = [
  [
    'a listener open to everyone',
    'mqtt: { listen: { lan: { url: "mqtt://0.0.0.0:1883" } } }',
    [
      'config.yaml:1:24 mqtt.listen.lan: mqtt://0.0.0.0:1883 is not on loopback and has no authentication: anyone who reaches it could publish as any device; add auth: { passwordFile: /path }, or tls with requireClientCert: true, or say that you want this with auth: none',
    ],
  ],
  [
    'listener TLS',
    'mqtt:\n  listen:\n    a: { url: "mqtts://127.0.0.1:1" }\n    b: { url: "mqtt://127.0.0.1:2", tls: { cert: /c, key: /k } }\n    c: { url: "mqtts://127.0.0.1:3", tls: { cert: /c, key: /k, requireClientCert: true } }',
    [
      'config.yaml:3:15 mqtt.listen.a.url: mqtts:// needs a certificate; add tls: { cert: /path.crt, key: /path.key }',
      'config.yaml:4:42 mqtt.listen.b.tls: the url is mqtt://, without TLS; write mqtts:// in the url, or remove tls',
      "config.yaml:5:83 mqtt.listen.c.tls.requireClientCert: no authority is named that may sign the devices' certificates; add ca: /path/to/devices-ca.crt",
    ],
  ],
  [
    'who a device is',
    'mqtt:\n  listen:\n    a: { url: "mqtt://127.0.0.1:1", auth: { deviceFrom: commonName } }\n    b: { url: "mqtt://127.0.0.1:2", auth: {} }\n    c: { url: "mqtts://127.0.0.1:3", tls: { cert: /c, key: /k, ca: /a, requireClientCert: true }, auth: { deviceFrom: clientId } }',
    [
      'config.yaml:3:57 mqtt.listen.a.auth.deviceFrom: commonName needs client certificates; add tls: { requireClientCert: true, ca: /path }, or write username',
      'config.yaml:4:43 mqtt.listen.b.auth: without a password nothing proves the user name; add passwordFile: /path, or write auth: none',
      'config.yaml:5:105 mqtt.listen.c.auth: without a password nothing proves the client id; add passwordFile: /path, or write deviceFrom: commonName, or write auth: none',
    ],
  ],
  [
    'ports',
    'mqtt:\n  listen:\n    a: { url: "mqtt://127.0.0.1:1883" }\n    b: { url: "mqtt://0.0.0.0:1883", auth: none }\nmetrics: { listen: "[::1]:1883" }\npage: { listen: "127.0.0.1:1883" }',
    [
      'config.yaml:4:15 mqtt.listen.b.url: port 1883 is already taken by mqtt.listen.a.url; write another port',
      'config.yaml:5:20 metrics.listen: port 1883 is already taken by mqtt.listen.b.url; write another port',
      'config.yaml:6:17 page.listen: port 1883 is already taken by mqtt.listen.a.url; write another port',
    ],
  ],
  [
    'room for one message',
    'limits: { maxMessageBytes: 1MiB, inFlight: { bytes: 512KiB } }\nmqtt: { listen: { a: { url: "mqtt://127.0.0.1:1", inFlightPerConnection: { bytes: 64KiB } } } }',
    [
      'config.yaml:1:53 limits.inFlight.bytes: 512KiB can never hold a message of limits.maxMessageBytes; write at least 1MiB',
      'config.yaml:2:83 mqtt.listen.a.inFlightPerConnection.bytes: 64KiB can never hold a message of limits.maxMessageBytes; write at least 1MiB',
    ],
  ],
  [
    'brokers',
    'mqtt:\n  connect:\n    a: {}\n    b: { url: "mqtt://h:1", urls: ["mqtt://h:2"] }\n    c: { urls: ["mqtt://h:3", "mqtts://h:4"] }\n    d: { url: "mqtt://h:5", tls: { ca: /a } }\n    e: { url: "mqtts://h:6", tls: { cert: /c } }\n    f: { url: "mqtts://h:7", tls: { key: /k } }\n    g: { url: "mqtt://h:8", passwordFile: /p }\n    h: { url: "mqtt://h:9", sessionExpiry: 0s }',
    [
      'config.yaml:3:8 mqtt.connect.a: no broker is named; add url: mqtt://host:port',
      'config.yaml:4:35 mqtt.connect.b.urls: url and urls exclude each other; keep one',
      'config.yaml:5:16 mqtt.connect.c.urls: some addresses are mqtt:// and some mqtts://; write mqtts:// for all',
      'config.yaml:6:34 mqtt.connect.d.tls: the address is mqtt://, without TLS; write mqtts://, or remove tls',
      'config.yaml:7:43 mqtt.connect.e.tls.cert: a certificate is of no use without its key; add key: /path',
      'config.yaml:8:42 mqtt.connect.f.tls.key: a key is of no use without its certificate; add cert: /path',
      'config.yaml:9:43 mqtt.connect.g.passwordFile: a password without a user name; add username',
      'config.yaml:10:44 mqtt.connect.h.sessionExpiry: the broker would forget the session, and all that waits in it, as soon as the connection ends (MQTT 5 section 3.1.2.11.2); write at least 1s, for example 7d',
    ],
  ],
  [
    'names and client ids',
    'mqtt:\n  listen: { a: { url: "mqtt://127.0.0.1:1" } }\n  connect:\n    a: { url: "mqtt://h:1", clientId: x }\n    b: { url: "mqtt://h:1", clientId: x }',
    [
      'config.yaml:4:8 mqtt.connect.a: a listener has this name too; rename one, since counts are kept by name',
      'config.yaml:5:39 mqtt.connect.b.clientId: mqtt.connect.a has the same client id at h:1, and the two would throw each other out; write another',
    ],
  ],
  [
    'topics and their sources',
    'mqtt:\n  listen: { lan: { url: "mqtt://127.0.0.1:1" } }\n  connect: { a: { url: "mqtt://h:1" }, b: { url: "mqtt://h:2" } }\n  topics: { t: { pattern: "{device}/x", sources: [a, lan] } }',
    [
      'config.yaml:3:43 mqtt.connect.b: no topic has it among its sources, so that it would subscribe to nothing; add it to one, or remove it',
      'config.yaml:4:54 mqtt.topics.t.sources[1]: there is no mqtt.connect.lan (a listener takes every topic); write a, b',
    ],
  ],
  [
    'sources without connections',
    'mqtt: { topics: { t: { pattern: "{device}/x", sources: [a] } } }',
    ['config.yaml:1:57 mqtt.topics.t.sources[0]: there is no mqtt.connect.a (a listener takes every topic); remove sources'],
  ],
  [
    'no topics',
    'mqtt: { topics: {} }',
    [
      'config.yaml:1:17 mqtt.topics: no topic is named, so that every message would be dropped; add one such as { device-logs: { pattern: "devices/{device}/logs/{stream}" } }',
    ],
  ],
  [
    'a topic that is never reached',
    'mqtt: { topics: { all: { pattern: "{device}/#" }, some: { pattern: "{device}/x" } } }',
    [
      'config.yaml:1:68 mqtt.topics.some.pattern: mqtt.topics.all ({device}/#) stands before it and matches all that it matches; put the special case first, or remove it',
    ],
  ],
  [
    'topics that cross',
    'mqtt: { topics: { a: { pattern: "{device}/+/x" }, b: { pattern: "{device}/y/+" } } }',
    [
      'config.yaml:1:65 mqtt.topics.b.pattern: some topics match this and mqtt.topics.a ({device}/+/x), and a broker may send each of them twice; write patterns that do not overlap',
    ],
  ],
  [
    'a bucket that never holds a message',
    'limits: { perDevice: { messagesPerSecond: 0.1, bytesPerSecond: 1KiB, burst: 5s }, maxMessageBytes: 64KiB }',
    [
      'config.yaml:1:77 limits.perDevice.burst: 0.1 messages per second for 5s is less than one message, so that none would ever pass; write a burst of at least 10s',
      'config.yaml:1:77 limits.perDevice.burst: 1KiB per second for 5s is less than a message of limits.maxMessageBytes (64KiB), so that such a one would never pass; write a burst of at least 64s',
    ],
  ],
  [
    'a bucket that the reserve empties',
    'limits: { severity: { from: syslog, reserve: 90% }, perDevice: { bytesPerSecond: 256KiB, burst: 5s } }',
    [
      'config.yaml:1:97 limits.perDevice.burst: 256KiB per second for 5s less the 90% of limits.severity.reserve is less than a message of limits.maxMessageBytes (256KiB), so that such a one would never pass; write a burst of at least 10s',
    ],
  ],
  [
    'an override that is too small',
    'limits: { overrides: { slow: { devices: "x*", bytesPerSecond: 1B } } }',
    [
      'config.yaml:1:24 limits.overrides.slow.burst: 1B per second for 5s is less than a message of limits.maxMessageBytes (256KiB), so that such a one would never pass; write a higher rate',
    ],
  ],
  [
    'a syslog severity',
    'limits: { severity: { from: syslog, urgent: [fatal, err, 3, loud] } }',
    [
      'config.yaml:1:61 limits.severity.urgent[3]: "loud" is no syslog severity; write emerg, alert, crit, err, warning, notice, info, debug, or 0 to 7',
    ],
  ],
  [
    'the disk',
    'buffer: { minFreeBytes: 200GiB }',
    ['config.yaml:1:25 buffer.minFreeBytes: the disk has only 100GiB, so that the buffer could never take anything; write at most 10GiB'],
  ],
  [
    'the buffer and the disk',
    'buffer: { maxBytes: 99.6GiB }',
    [
      'config.yaml:1:21 buffer.maxBytes: together with buffer.minFreeBytes that is more than the disk has (100GiB); write at most 99GiB, or auto (here 2048MiB)',
    ],
  ],
  [
    'the buffer and its commits',
    'buffer: { maxBytes: 16MiB, commit: { maxBytes: 8MiB } }',
    [
      'config.yaml:1:21 buffer.maxBytes: 16MiB is less than four commits of buffer.commit.maxBytes; write at least 32MiB, or smaller commits',
    ],
  ],
  [
    'weights',
    'buffer: { lanes: { urgent: { weight: 0 }, normal: { weight: 0 }, deferred: { weight: 0 } } }',
    ['config.yaml:1:18 buffer.lanes: all weights are 0; write at least 1 for one lane'],
  ],
  [
    'ids in the topic',
    'buffer: { dedupe: { from: "topic:{id}" } }',
    ['config.yaml:1:27 buffer.dedupe.from: no topic pattern has a part {id}; add a level {id} to one, or write json:/id'],
  ],
  [
    'ids that are none',
    'buffer: { dedupe: { from: "topic:{device}" } }',
    ['config.yaml:1:27 buffer.dedupe.from: {device} is the same for many messages; write the part that holds the message id'],
  ],
  [
    'user properties',
    'buffer: { dedupe: { from: "user-property:id" } }',
    [
      'config.yaml:1:27 buffer.dedupe.from: only MQTT 5 has user properties, and no mqtt.connect entry speaks it (a listener speaks 3.1.1); write json:/id or topic:{part}',
    ],
  ],
  [
    'a topic template',
    'mqtt: { topics: { a: { pattern: "{device}/{line}" } } }\nkafka: { brokers: ["127.0.0.1:1"], topic: "logs.{stream}.{site}" }',
    [
      'config.yaml:2:43 kafka.topic: a template lets a device choose the topic; add allowedTopics: [ … ] with those that it may lead to',
      'config.yaml:2:43 kafka.topic: {site} is no part of mqtt.topics.a; add a level {site} there, or write a topic without it',
    ],
  ],
  [
    'allowed topics',
    'kafka: { brokers: ["127.0.0.1:1"], topic: "{stream}.x", allowedTopics: [a.x, a.y], prefix: edge }',
    ['config.yaml:1:78 kafka.allowedTopics[1]: a.y can never come of kafka.topic ({stream}.x); remove it'],
  ],
  [
    "the gateway's own topics",
    'kafka: { brokers: ["127.0.0.1:1"], topic: edge.events }',
    ['config.yaml:1:43 kafka.topic: the gateway keeps its own records in this topic; write another, or another kafka.prefix'],
  ],
  [
    'tokens',
    'kafka: { brokers: ["127.0.0.1:1"], sasl: { mechanism: oauthbearer } }',
    ['config.yaml:1:42 kafka.sasl: no token is named; add tokenFile: /path, or tokenUrl with clientId and clientSecretFile'],
  ],
  [
    'two tokens',
    'kafka: { brokers: ["127.0.0.1:1"], sasl: { mechanism: oauthbearer, tokenFile: /t, tokenUrl: "https://x/t" } }',
    [
      'config.yaml:1:93 kafka.sasl.tokenUrl: tokenFile and tokenUrl exclude each other; keep one',
      'config.yaml:1:93 kafka.sasl.tokenUrl: asking for a token needs a client; add clientId and clientSecretFile',
    ],
  ],
  [
    'kafka certificates',
    'kafka: { brokers: ["127.0.0.1:1"], tls: { cert: /c } }',
    ['config.yaml:1:49 kafka.tls.cert: a certificate is of no use without its key; add key: /path'],
  ],
  [
    'etcd links',
    'etcd: { endpoints: ["http://a", "https://b"], username: u, tls: { key: /k } }',
    [
      'config.yaml:1:20 etcd.endpoints: some addresses are http:// and some https://; write https:// for all',
      'config.yaml:1:57 etcd.username: a user name without a password; add passwordFile: /path',
      'config.yaml:1:72 etcd.tls.key: a key is of no use without its certificate; add cert: /path',
    ],
  ],
  [
    'etcd without TLS',
    'etcd: { endpoints: ["http://127.0.0.1"], passwordFile: /p, tls: {} }',
    [
      'config.yaml:1:56 etcd.passwordFile: a password without a user name; add username',
      'config.yaml:1:65 etcd.tls: the address is http://, without TLS; write https://, or remove tls',
    ],
  ],
  [
    'a controller without etcd',
    'patches: { controller: true }',
    ['config.yaml:1:24 patches.controller: a controller needs etcd; add etcd: { endpoints: [ … ] }, or write false'],
  ],
  [
    'roots',
    'patches: { roots: { a: /opt, b: /opt/app/, c: /var } }',
    [
      'config.yaml:1:33 patches.roots.b: it lies in patches.roots.a (/opt); write folders apart from each other',
      'config.yaml:1:47 patches.roots.c: it and gateway.dataDir (/var/lib/edge-gateway) must lie apart; write another folder',
    ],
  ],
  [
    'a page open to everyone',
    'page: { listen: "0.0.0.0:80" }',
    [
      'config.yaml:1:17 page.listen: the page would be open to everyone who reaches this address; add passwordFile: /path, or write a loopback address',
    ],
  ],
  [
    'a long socket path',
    'control: { socket: /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx }',
    ["config.yaml:1:20 control.socket: 111 bytes, and Linux allows 107 for a socket's path; write a shorter one"],
  ],
]

for (const [name, text, lines] of CASES) {
  test(`values that do not fit each other: ${name}`, () => {
    assert.deepEqual(errorsOf(text), lines)
  })
}
