import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { TrustedEnvelopes } from '../../adapters/signing/dsse.ts'
import { parsePatchPayload, parsePatchText } from '../../config/patch/parse.ts'
import { PATCH_TYPE } from '../../daemon/patch/records.ts'

const EDGECTL = fileURLToPath(new URL('../../daemon/cli/edgectl.js', import.meta.url))
const EXAMPLE = fileURLToPath(new URL('../../config/example-patch.yaml', import.meta.url))
let folder = ''

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgectl-patch-'))
  copyFileSync(EXAMPLE, join(folder, 'p.yaml'))
})
after(() => rmSync(folder, { recursive: true }))

function edgectl(...words: readonly string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [EDGECTL, ...words], { cwd: folder, encoding: 'utf8' })
  return { code: status, out: stdout, err: stderr }
}

test('a key is made, signs, and signs again beside another; the boxes that trust one of them open it', () => {
  const made = ['one', 'two'].map((name) => {
    const { code, out } = edgectl('--json', 'patch', 'keygen', '--out', `${name}.key`)
    assert.equal(code, 0)
    return (JSON.parse(out) as { publicKey: string }).publicKey
  })
  assert.match(edgectl('patch', 'keygen', '--out', 'one.key').err, /exists already\n {2}try:/)
  assert.equal(edgectl('patch', 'sign', 'p.yaml', '--key', 'one.key', '--out', 'p.dsse').code, 0)
  const both = edgectl('patch', 'sign', 'p.dsse', '--key', 'two.key')
  assert.equal(both.code, 0)
  const written = parsePatchText('p.yaml', readFileSync(join(folder, 'p.yaml'), 'utf8')).patch
  for (const publicKey of made) {
    const opened = new TrustedEnvelopes({ ops: publicKey }).open(Buffer.from(both.out.trim()), PATCH_TYPE)
    assert.ok('payload' in opened)
    assert.deepEqual(parsePatchPayload(opened.payload), written)
  }
  const json = JSON.parse(edgectl('--json', 'patch', 'sign', 'p.dsse', '--key', 'two.key').out) as { keyids: string[]; envelope: object }
  assert.equal(json.keyids.length, 2)
  assert.match(edgectl('patch', 'check', 'p.dsse').out, /2026-11-raise-limits is a valid patch/)
})

test('check: what is wrong with the patch, or with the configuration under it, has its place in the patch', () => {
  const text = readFileSync(join(folder, 'p.yaml'), 'utf8')
  writeFileSync(join(folder, 'c.yaml'), 'gateway: { id: gw-1 }\n')
  assert.equal(edgectl('patch', 'check', 'p.yaml', '--config', 'c.yaml').code, 0)
  writeFileSync(join(folder, 'slip.yaml'), text.replace('expires:', 'expire:'))
  const slip = edgectl('patch', 'check', 'slip.yaml')
  assert.equal(slip.code, 78)
  assert.match(slip.err, /^slip\.yaml:16:1 expire: unknown key; did you mean expires\?$/m)
  writeFileSync(join(folder, 'low.yaml'), text.replace('messagesPerSecond: 50', 'bytesPerSecond: 1B'))
  assert.equal(edgectl('patch', 'check', 'low.yaml').code, 0)
  const low = edgectl('patch', 'check', 'low.yaml', '--config', 'c.yaml')
  assert.equal(low.code, 78)
  assert.match(low.err, /^low\.yaml:27:\d+ spec\.limits\.perDevice\.burst: /m)
})

test('a file that is none, a key that is none', () => {
  assert.deepEqual([edgectl('patch', 'check', 'none.yaml').code, edgectl('patch', 'sign', 'p.yaml').code], [1, 64])
  assert.match(edgectl('patch', 'sign', 'p.yaml', '--key', 'none.key').err, /there is no key none\.key\n {2}try: edgectl patch keygen/)
  assert.match(edgectl('patch', 'sign', 'p.yaml', '--key', 'p.yaml').err, /holds no ed25519 private key/)
  writeFileSync(join(folder, 'bad.dsse'), '{"payloadType":"x"}')
  assert.match(edgectl('patch', 'check', 'bad.dsse').err, /no canonical base64/)
})
