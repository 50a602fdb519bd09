import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkSettings } from '../../adapters/mqtt/connect-settings.ts'
import type { ConnectSettings } from '../../adapters/mqtt/connect-settings.ts'
import { MqttConnection } from '../../adapters/mqtt/connect.ts'
import { GatewayError } from '../../daemon/errors.ts'
import { FakeClock, FakeRandom } from '../fakes/clock.ts'

const GOOD: ConnectSettings = {
  urls: ['mqtt://127.0.0.1:1884'],
  clientId: 'gw-001',
  protocolVersion: 5,
  sessionExpirySeconds: 604_800,
  receiveMaximum: 2_000,
  keepaliveSeconds: 60,
  filters: [{ filter: 'devices/+/logs/+', qos: 1 }],
  retained: 'ignore',
  inFlight: { messages: 20_000, bytes: 33_554_432 },
}

function refusal(changes: Partial<ConnectSettings>): string {
  try {
    checkSettings('plant', { ...GOOD, ...changes })
  } catch (error) {
    assert.ok(error instanceof GatewayError && error.kind === 'fatal' && error.remedy !== undefined)
    return `${error.message} | ${error.remedy}`
  }
  return 'accepted'
}

test('settings that can not work are refused by name, with what to write instead', () => {
  const cases: readonly [Partial<ConnectSettings>, RegExp][] = [
    [{ urls: [] }, /plant\.urls: no broker is named/],
    [{ urls: ['127.0.0.1:1883'] }, /is no broker url \| Write mqtt:\/\/host:1883/],
    [{ urls: ['ws://127.0.0.1/mqtt'] }, /is no broker url/],
    [{ urls: ['mqtt://host/path'] }, /has a path/],
    [{ urls: ['mqtt://gw@host'] }, /holds a user name/],
    [{ clientId: '' }, /plant\.clientId/],
    [{ passwordFile: '/p' }, /password without a user name/],
    [{ protocolVersion: 3 as 4 }, /protocolVersion: 3 is not known/],
    [{ keepaliveSeconds: 0 }, /keepalive: 0 is out of range.*a dead connection is never found/],
    [{ receiveMaximum: 0 }, /receiveMaximum/],
    [{ receiveMaximum: 65_536 }, /receiveMaximum/],
    [{ inFlight: { messages: 0, bytes: 1 } }, /inFlight\.messages/],
    [{ inFlight: { messages: 1, bytes: 0.5 } }, /inFlight\.bytes/],
    [{ tls: { caFile: '/ca' } }, /is not encrypted/],
    [{ urls: ['mqtts://h'], tls: { certFile: '/c' } }, /needs both certFile and keyFile/],
    [{ filters: [] }, /nothing to subscribe to/],
    [{ filters: [{ filter: 'a/#/b', qos: 1 }] }, /wildcard in the wrong place/],
    [
      {
        filters: [
          { filter: 'a/+', qos: 1 },
          { filter: '+/b', qos: 1 },
        ],
      },
      /overlap in part/,
    ],
  ]
  for (const [changes, expected] of cases) assert.match(refusal(changes), expected)
  assert.equal(refusal({}), 'accepted')
})

test('a password in a url is never repeated', () => {
  for (const url of ['mqtt://gw:s3cret@host:1883', 'http://gw:s3cret@host', 'mqtt://gw:s3cret@ho st']) {
    assert.doesNotMatch(refusal({ urls: [url] }), /s3cret/)
  }
})

test('log path 32: MQTT 5 without session expiry is refused; 3.1.1 leaves it to the broker', () => {
  assert.match(refusal({ sessionExpirySeconds: 0 }), /sessionExpiry: 0 is out of range.*the session ends with the connection/)
  assert.equal(refusal({ sessionExpirySeconds: 0, protocolVersion: 4 }), 'accepted')
})

test('log path 26: a shared subscription is refused when the connection is made', () => {
  const settings = { ...GOOD, filters: [{ filter: '$share/g/devices/#', qos: 1 as const }] }
  const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
  assert.throws(
    () => new MqttConnection({ name: 'plant', settings, clock: new FakeClock(), random: new FakeRandom(), log }),
    /shared subscription: it spreads one device over several gateways/,
  )
})

test('urls become addresses: default ports, IPv6', () => {
  const { brokers } = checkSettings('plant', { ...GOOD, urls: ['mqtt://broker', 'mqtts://[::1]', 'mqtts://b:1'] })
  assert.deepEqual(brokers, [
    { url: 'mqtt://broker:1883', isSecure: false, host: 'broker', port: 1883 },
    { url: 'mqtts://[::1]:8883', isSecure: true, host: '::1', port: 8883 },
    { url: 'mqtts://b:1', isSecure: true, host: 'b', port: 1 },
  ])
})
