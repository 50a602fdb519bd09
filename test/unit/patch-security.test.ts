/** What somebody with a little power would try: with write access to etcd, with a key for less, with a path of his choice. */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { parseAclFile } from '../../adapters/mqtt/acl.ts'
import { parsePasswordFile } from '../../adapters/mqtt/passwords.ts'
import { Hooks } from '../../adapters/host/hooks.ts'
import { envelopeText, seal, TrustedEnvelopes } from '../../adapters/signing/dsse.ts'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import { thisHost } from '../../config/host.ts'
import { objectOf, type JsonObject } from '../../config/merge.ts'
import { parsePatchPayload } from '../../config/patch/parse.ts'
import { ConfigError } from '../../config/problem.ts'
import { loadLayered } from '../../daemon/compose/layers.ts'
import { messageOf } from '../../daemon/errors.ts'
import { TrustingReader } from '../../daemon/patch/agent/reader.ts'
import type { KeyValue } from '../../daemon/patch/ports.ts'
import { CONTROL_TYPE, keys, PATCH_TYPE } from '../../daemon/patch/records.ts'

const { privateKey } = generateKeyPairSync('ed25519')

function documentOf(changes: object = {}): object {
  return {
    ...{ apiVersion: 'edge/v1', kind: 'config', id: 'p1', fleet: 'prod', channel: 'limits', sequence: 42 },
    ...{ expires: '2030-12-24T00:00:00Z', target: { all: true }, spec: { log: { level: 'info' } }, ...changes },
  }
}

/** What is wrong with it; empty when nothing. */
function refusal(text: string): string {
  try {
    parsePatchPayload(Buffer.from(text))
    return ''
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
}

function reader(): TrustingReader {
  const envelopes = new TrustedEnvelopes({ ops: publicTextOf(privateKey) })
  return new TrustingReader(envelopes, { read: parsePatchPayload }, new Map([['ops', { kinds: ['config'], sites: 'all' }]]))
}

function control(value: string, mod: number, create = mod): KeyValue {
  return { key: keys.control('p1'), value: Buffer.from(value), createRevision: create, modRevision: mod }
}

function signed(fields: object): string {
  const text = JSON.stringify({ schema: 1, state: 'active', patch: 'p1', ...fields })
  return envelopeText(seal(CONTROL_TYPE, Buffer.from(text), privateKey))
}

describe('orders', () => {
  const patch = parsePatchPayload(Buffer.from(JSON.stringify(documentOf())))

  it('a signed resume is good for the pause that it answers, and for none after it', () => {
    const box = reader()
    const resume = signed({ answers: 10 })
    assert.equal(box.control(control('paused', 10), patch).state, 'paused')
    assert.equal(box.control(control(resume, 12, 10), patch).state, 'active')
    assert.equal(box.control(control('paused', 20, 10), patch).state, 'paused')
    // Put again over the pause, or in the place of a pause that was deleted first.
    assert.match(box.control(control(resume, 22, 10), patch).reason, /there has been another control since/)
    assert.equal(box.control(undefined, patch).state, 'paused')
    assert.equal(box.control(control(resume, 25), patch).state, 'paused')
    assert.equal(box.control(control(signed({ answers: 25 }), 30, 25), patch).state, 'active')
  })

  it('nothing that is large, nested, or of another shape than expected is taken for an order to go on', () => {
    const nasty = [
      '{'.repeat(15_000),
      `"payloadType"${'['.repeat(15_000)}`,
      `{"schema":1,"state":"active","retry":1e308}`,
      'x'.repeat(1_500_000),
      '\u0000',
      'null',
      '[]',
    ]
    for (const text of nasty) assert.equal(reader().control(control(text, 5), patch).state, 'paused', text.slice(0, 20))
  })

  it('a value of the greatest size that etcd takes is refused without being read', () => {
    const value = Buffer.alloc(1_500_000, '{')
    const read = reader().spec({ key: keys.spec('p1'), value, createRevision: 3, modRevision: 3 })
    assert.match('refused' in read ? read.refused : '', /too many for a signed envelope/)
  })

  it('bytes that took the place of others under the same key are judged anew, and an overwritten spec is refused', () => {
    const box = reader()
    const sealed = (changes: object): Uint8Array =>
      Buffer.from(envelopeText(seal(PATCH_TYPE, Buffer.from(JSON.stringify(documentOf(changes))), privateKey)))
    const at = (value: Uint8Array, create: number, mod: number): KeyValue => ({
      key: keys.spec('p1'),
      value,
      createRevision: create,
      modRevision: mod,
    })
    const first = box.spec(at(sealed({}), 3, 3))
    const again = box.spec(at(sealed({ sequence: 43 }), 7, 7))
    assert.ok(!('refused' in first) && !('refused' in again))
    assert.notEqual(first.digest, again.digest)
    const over = box.spec(at(sealed({ sequence: 44 }), 7, 9))
    assert.match('refused' in over ? over.refused : '', /changed after it was pushed/)
  })
})

describe('names', () => {
  it('no id, channel, scope, fleet or gateway of a patch leads out of its key in etcd, or into that of another', () => {
    for (const name of [
      'a/b',
      '../x',
      '..',
      '.',
      '',
      'a~open',
      '~controller',
      'A',
      'a%2f',
      'a\u0000',
      'a\n',
      'x'.repeat(64),
      '__proto__',
    ]) {
      for (const change of [{ id: name }, { channel: name }, { rollout: { concurrency: { scope: name, slots: 1 } } }]) {
        assert.notEqual(refusal(JSON.stringify(documentOf(change))), '', `${JSON.stringify(change)} was taken`)
      }
    }
    for (const name of ['a/b', '..', 'gw.1', 'gw 1', ''])
      assert.notEqual(refusal(JSON.stringify(documentOf({ target: { gateways: [name] } }))), '', name)
  })
})

describe('settings that no patch may set', () => {
  const spelled: readonly string[] = [
    ...['{"gateway":null}', '{"gateway":{"id":null}}', '{"gateway":[]}', '{"gateway":"x"}', '{"gateway":{"dataDir":"/tmp/x"}}'],
    ...['{"etcd":null}', '{"etcd":{}}', '{"etcd":{"prefix":"/x/"}}', '{"patches":null}', '{"patches":{"units":["sshd.service"]}}'],
    ...['{"kafka":null}', '{"kafka":{"prefix":null}}', '{"kafka":1}', '{"control":null}'],
  ]
  for (const spec of spelled) {
    it(`${spec} is refused in the document, and left out where it is remembered all the same`, (t) => {
      const written = JSON.stringify(documentOf()).replace('{"log":{"level":"info"}}', spec)
      assert.match(refusal(written), /cannot be changed by a patch/)
      const folder = mkdtempSync(join(tmpdir(), 'edge-gateway-'))
      t.after(() => rmSync(folder, { recursive: true }))
      writeFileSync(
        join(folder, 'config.yaml'),
        `gateway: { id: gw-1, dataDir: ${folder} }\nkafka: { brokers: ["127.0.0.1:9092"], prefix: mine }\n`,
      )
      const above = [{ key: 'layers/1', layer: { label: 'patch p1', patch: JSON.parse(spec) as JsonObject } }]
      const { loaded, leftOut } = loadLayered({ path: join(folder, 'config.yaml'), host: thisHost() }, above)
      const { gateway, kafka, etcd } = loaded.settings
      assert.deepEqual([gateway.id, gateway.dataDir, kafka?.prefix, etcd], ['gw-1', folder, 'mine', undefined])
      assert.match(leftOut[0]?.reason ?? '', /is set only in the files of the box/)
    })
  }

  it('a key that is special in JavaScript is a key like any other: unknown', (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'edge-gateway-'))
    t.after(() => rmSync(folder, { recursive: true }))
    writeFileSync(join(folder, 'config.yaml'), `gateway: { id: gw-1, dataDir: ${folder} }\n`)
    for (const name of ['__proto__', 'constructor', 'prototype']) {
      const patch = objectOf([[name, objectOf([['gateway', objectOf([['id', 'gw-2']])]])]])
      const { loaded, leftOut } = loadLayered({ path: join(folder, 'config.yaml'), host: thisHost() }, [
        { key: 'layers/1', layer: { label: 'patch p1', patch } },
      ])
      assert.equal(loaded.settings.gateway.id, 'gw-1')
      assert.equal(leftOut.length, 1, name)
    }
    assert.equal(({} as Record<string, unknown>)['gateway'], undefined)
  })

  it('a key written twice, so that two readers might see two documents, is refused', () => {
    const twice = JSON.stringify(documentOf()).replace('{"log":{"level":"info"}}', '{"log":{"level":"info"},"\\u006cog":{"level":"debug"}}')
    assert.match(refusal(twice), /written twice/)
  })
})

describe('files that a patch may name', () => {
  // What /etc/shadow, a password file or a key would show.
  const secret = [
    'root:$y$j9T$aVerySecretHash:19000:0:99999:7:::',
    'hunter2:and-more',
    '-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIGhpZGRlbg==',
  ]

  for (const [name, parse] of [
    ['access list', parseAclFile],
    ['password file', parsePasswordFile],
  ] as const) {
    it(`a path to something else than an ${name} shows nothing of it in the error, which goes to etcd`, () => {
      for (const text of [...secret, `${secret[1]}\n${secret[1]}`]) {
        let said = ''
        try {
          parse(Buffer.from(text))
        } catch (error) {
          said = messageOf(error)
        }
        assert.match(said, /^line \d+: /)
        for (const word of ['root', 'Secret', 'hunter2', 'and-more', 'MC4C', 'BEGIN']) assert.ok(!said.includes(word), said)
      }
    })
  }
})

describe('hooks', () => {
  it('see nothing of the daemon: neither its environment nor its input, and no shell reads their words', async (t) => {
    process.env['EDGE_TEST_SECRET'] = 'hunter2'
    process.env['LD_PRELOAD_OF_TEST'] = '/tmp/x.so'
    const folder = mkdtempSync(join(tmpdir(), 'edge-gateway-'))
    t.after(() => {
      rmSync(folder, { recursive: true })
      delete process.env['EDGE_TEST_SECRET']
      delete process.env['LD_PRELOAD_OF_TEST']
    })
    const call = { timeoutMs: 5_000, folder, root: folder, environment: {} }
    const { signal } = new AbortController()
    const seen = await new Hooks().run({ ...call, command: ['/usr/bin/env'] }, signal)
    assert.deepEqual(
      seen
        .trim()
        .split('\n')
        .map((line) => line.split('=')[0])
        .sort(),
      ['LANG', 'PATH'],
    )
    const words = ['$(id)', '`id`', '; id', 'A=b', '--', '\n']
    assert.equal(
      await new Hooks().run({ ...call, command: ['/usr/bin/printf', '%s|', ...words] }, signal),
      words.map((word) => `${word}|`).join(''),
    )
    for (const name of ['A=b', '../../bin/sh', '/etc/passwd', '/usr/bin/../../etc/passwd', 'sh']) {
      await assert.rejects(new Hooks().run({ ...call, command: [name] }, signal), { kind: 'rejected' }, name)
    }
  })
})
