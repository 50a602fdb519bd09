import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parse } from 'yaml'
import { yamlOf } from '../../config/issues.ts'
import { formatOrigin, formatPath } from '../../config/problem.ts'
import { redact } from '../../config/redact.ts'
import type { Json } from '../../config/merge.ts'
import { loadText } from './config-fixture.ts'

test('what is shown as in force is in force: written out, it gives the same settings', () => {
  const text = [
    'gateway: { site: plant-7, labels: { role: packaging } }',
    'mqtt: { connect: { plant: { url: "mqtts://broker:8883", username: gw, passwordFile: /p } } }',
    'limits: { overrides: { cameras: { devices: "cam-*", messagesPerSecond: unlimited } }, severity: { from: "json:/level", urgent: [error] } }',
    'kafka: { brokers: ["127.0.0.1:9092"] }',
  ].join('\n')
  const first = loadText(text)
  const written = first.effective.map(({ path, value }) => path.reduceRight<Json>((inner, step) => ({ [String(step)]: inner }), value))
  const again = loadText('', { layers: written.map((patch) => ({ label: 'shown', patch: patch as { readonly [key: string]: Json } })) })
  assert.deepEqual(again.settings, first.settings)
})

test('each value says where it was written', () => {
  const { effective } = loadText('limits:\n  perDevice:\n    burst: 7s\nkafka: { brokers: ["127.0.0.1:9092"] }\n')
  const of = (key: string): string => {
    const found = effective.find(({ path }) => formatPath(path) === key)
    return found === undefined ? 'absent' : `${JSON.stringify(found.value)} ${formatOrigin(found.origin).replace(/^.*\/config/, 'config')}`
  }
  assert.equal(of('limits.perDevice.burst'), '"7s" config.yaml:3:12')
  assert.equal(of('limits.global.burst'), '"2s" default')
  assert.equal(of('kafka.brokers'), '["127.0.0.1:9092"] config.yaml:4:19')
  assert.equal(of('kafka.compression'), '"gzip" default')
  assert.equal(of('gateway.id'), '"gw-125da63932e5" default, from /etc/machine-id')
  assert.equal(of('mqtt.listen.local.url'), '"mqtt://127.0.0.1:1883" default')
  assert.equal(of('gateway.site'), 'absent')
  assert.equal(of('etcd.prefix'), 'absent')
})

test('secrets are hidden, paths of secrets are not', () => {
  const shown = redact({
    url: 'mqtt://user:hunter2@h:1',
    urls: ['mqtts://u:p@ss@h', 'mqtt://h'],
    password: 'hunter2',
    sasl: { clientSecret: 'x', token: 7 },
    passwordFile: '/etc/p',
    note: 'mail me@home',
    passwords: ['x'],
  })
  assert.deepEqual(JSON.parse(JSON.stringify(shown)), {
    url: 'mqtt://(hidden)@h:1',
    urls: ['mqtts://(hidden)@h', 'mqtt://h'],
    password: '(hidden)',
    sasl: { clientSecret: '(hidden)', token: '(hidden)' },
    passwordFile: '/etc/p',
    note: 'mail me@home',
    passwords: ['(hidden)'],
  })
})

test('a value that is shown as YAML is read back the same', () => {
  const value = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.array(fc.string()))
  fc.assert(
    fc.property(value, (original) => {
      assert.deepEqual(parse(yamlOf(original)), original)
    }),
  )
})
