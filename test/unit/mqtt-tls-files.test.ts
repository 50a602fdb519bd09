import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { secretFile, WatchedFiles } from '../../adapters/mqtt/tls-files.ts'
import { tlsFiles } from '../../adapters/mqtt/tls.ts'
import { FakeClock } from '../fakes/clock.ts'

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'edge-files-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** One look at the files. */
async function look(clock: FakeClock): Promise<void> {
  clock.advance(1_000)
  await new Promise((resolve) => setTimeout(resolve, 15))
}

test('files that change together are read together, once they are still', async (t) => {
  const dir = folder(t)
  const [a, b] = [join(dir, 'a'), join(dir, 'b')]
  writeFileSync(a, '1')
  writeFileSync(b, '1')
  const clock = new FakeClock()
  const files = new WatchedFiles({
    what: 'the pair',
    paths: [a, b],
    clock,
    log: silent,
    read: (contents) => contents.map(String).join('+'),
  })
  t.after(() => files.close())
  assert.equal(await files.load(), '1+1')
  const seen: string[] = []
  files.onChange((now, before) => seen.push(`${before} -> ${now}`))
  writeFileSync(a, '22')
  await look(clock)
  writeFileSync(b, '22')
  await look(clock)
  assert.equal(files.value, '1+1')
  await look(clock)
  assert.equal(files.value, '22+22')
  await look(clock)
  assert.deepEqual(seen, ['1+1 -> 22+22'])
})

test('a secret is the file less one line end; an empty one is refused', async (t) => {
  const file = join(folder(t), 's')
  const read = async (text: string): Promise<string> => {
    writeFileSync(file, text)
    const secret = secretFile('the password', file, new FakeClock(), silent)
    const value = await secret.load().finally(() => secret.close())
    return value.toString()
  }
  assert.deepEqual([await read('pw'), await read('pw\n'), await read('pw\r\n'), await read(' p w \n\n')], ['pw', 'pw', 'pw', ' p w \n'])
  await assert.rejects(read('\n'), /the password .* can't be used: it is empty/)
})

test('a certificate without its key is refused before anything is read', () => {
  assert.throws(() => tlsFiles('the certificate', { certFile: '/x' }, new FakeClock(), silent), /needs its key/)
})
