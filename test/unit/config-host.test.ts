import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deriveGatewayId, thisHost } from '../../config/host.ts'
import { errorsOf, loadText } from './config-fixture.ts'

const MACHINE = { '/etc/machine-id': '0123456789abcdef0123456789abcdef\n' }
const DMI = '/sys/class/dmi/id/product_serial'
const TREE = '/proc/device-tree/serial-number'

function derive(
  files: Readonly<Record<string, string>>,
  environment: Readonly<Record<string, string>> = {},
): ReturnType<typeof deriveGatewayId> {
  return deriveGatewayId({ environment, readText: (path) => files[path] })
}

test('the board comes before the card, and the id is always the same', () => {
  assert.deepEqual(derive({ [TREE]: '10000000a1b2c3d4\0', ...MACHINE }), { id: 'gw-5b5699618bfa', source: TREE })
  assert.deepEqual(derive({ [DMI]: 'PF2ABC12\n', ...MACHINE }), { id: 'gw-231b82533403', source: DMI })
  assert.deepEqual(derive(MACHINE), { id: 'gw-125da63932e5', source: '/etc/machine-id' })
})

test('a serial that systemd hands over gives the id that root would see', () => {
  const handed = derive({ '/run/credentials/x/board-serial': 'PF2ABC12\n', ...MACHINE }, { CREDENTIALS_DIRECTORY: '/run/credentials/x' })
  assert.equal(handed?.id, derive({ [DMI]: 'PF2ABC12\n' })?.id)
  assert.equal(
    derive({ '/run/credentials/x/board-serial': '\n', ...MACHINE }, { CREDENTIALS_DIRECTORY: '/run/credentials/x' })?.source,
    '/etc/machine-id',
  )
})

test('a placeholder is no serial number', () => {
  for (const junk of [
    'To be filled by O.E.M.',
    'To Be Filled By OEM',
    'Default string',
    'None',
    'Not Specified',
    'System Serial Number',
    '0000000000',
    'XXXXXXXX',
    '0123456789',
    'N/A',
    '',
    '   \n',
    '0',
  ]) {
    assert.equal(derive({ [DMI]: junk, ...MACHINE })?.source, '/etc/machine-id', junk)
  }
})

test('without anything to go by, the id must be written', () => {
  assert.equal(derive({ '/etc/machine-id': 'uninitialized\n', '/etc/hostname': 'box' }), undefined)
  assert.deepEqual(errorsOf('', { host: { readText: () => undefined } }), [
    'config.yaml: gateway.id: this box has neither a serial number nor /etc/machine-id to take a name from; write gateway: { id: … }',
  ])
  assert.equal(loadText('gateway: { id: gw-1 }', { host: { readText: () => undefined } }).settings.gateway.id, 'gw-1')
})

test('the state folder is the one that systemd made; the socket is in it, where edgectl finds it from any shell', () => {
  const environment = { STATE_DIRECTORY: '/var/lib/private/edge-gateway:/var/lib/other', RUNTIME_DIRECTORY: '/run/edge-gateway' }
  const { settings } = loadText('', { environment })
  assert.equal(settings.gateway.dataDir, '/var/lib/private/edge-gateway')
  assert.equal(settings.control.socket, '/var/lib/private/edge-gateway/control.sock')
  const written = loadText('gateway: { dataDir: /srv/gw }', { environment: { STATE_DIRECTORY: '/var/lib/x' } }).settings
  assert.equal(written.gateway.dataDir, '/srv/gw')
  assert.equal(written.control.socket, '/srv/gw/control.sock')
})

test('the real box answers', () => {
  const host = thisHost()
  assert.equal(host.environment['PATH'], process.env['PATH'])
  assert.equal(host.environment['CREDENTIALS_DIRECTORY'], process.env['CREDENTIALS_DIRECTORY'] ?? '/run/credentials/edge-gateway.service')
  assert.equal(host.readText('/nonexistent/file'), undefined)
  assert.equal(host.readText('/'), undefined)
  const bytes = host.diskBytes('/tmp/not/there/yet')
  assert.ok(bytes !== undefined && bytes > 2 ** 20 && Number.isSafeInteger(bytes))
})
