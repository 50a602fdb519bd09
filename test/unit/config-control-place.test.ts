import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { controlSockets } from '../../config/control-place.ts'

const HOST = { environment: { PLACE: '/srv/gw' }, readText: () => undefined, diskBytes: () => undefined }

describe('the control socket of a file that is not valid', () => {
  const dir = mkdtempSync(join(tmpdir(), 'control-place-'))
  const file = join(dir, 'config.yaml')
  after(() => rmSync(dir, { recursive: true }))
  const socketsOf = (text: string): readonly string[] => {
    writeFileSync(file, text)
    return controlSockets(file, HOST)
  }

  const cases: readonly (readonly [what: string, text: string, socket: string])[] = [
    ['an unknown key', 'gateway: { dataDir: /srv/a }\nnonsense: 1\n', '/srv/a/control.sock'],
    ['a key written twice', 'gateway: { dataDir: /srv/a }\nmqtt: {}\nmqtt: {}\n', '/srv/a/control.sock'],
    ['a socket of its own', 'gateway: { dataDir: /srv/a }\ncontrol: { socket: /run/b.sock }\nx: 1\n', '/run/b.sock'],
    ['a reference', 'gateway:\n  dataDir: ${PLACE}\nx: 1\n', '/srv/gw/control.sock'],
    ['no YAML below', 'gateway:\n  id: a\n  dataDir: /srv/a # here\n\tkafka: {\n', '/srv/a/control.sock'],
    ['no YAML in one line', 'gateway: { id: a, dataDir: "/srv/a", labels: [\n', '/srv/a/control.sock'],
    ['no YAML, with a socket', 'control:\n  socket: /run/b.sock\n]\n', '/run/b.sock'],
    ['a remark only', '# dataDir: /srv/a\n]\n', '/var/lib/edge-gateway/control.sock'],
    ['a folder that is none', 'gateway: { dataDir: 5 }\n', '/var/lib/edge-gateway/control.sock'],
    ['nothing but noise', '{{{{', '/var/lib/edge-gateway/control.sock'],
  ]
  for (const [what, text, socket] of cases) it(`is found in spite of: ${what}`, () => assert.deepEqual(socketsOf(text), [socket]))

  it('is found in a file of config.d, which goes over the main one', () => {
    mkdirSync(join(dir, 'config.d'))
    writeFileSync(join(dir, 'config.d', 'a.yaml'), 'gateway: { dataDir: /srv/b }\n')
    assert.deepEqual(socketsOf('gateway: { dataDir: /srv/a }\n]\n'), ['/srv/b/control.sock'])
  })

  it('is nowhere for a file that is not there: another daemon was asked for', () => {
    assert.deepEqual(controlSockets(join(dir, 'nowhere.yaml'), HOST), [])
  })
})
