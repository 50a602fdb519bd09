/** What the doctor asks peers may also run in the daemon: nothing that goes wrong there may end it. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { tryEndpoint } from '../../adapters/etcd/probe.ts'
import { SystemClock } from '../../adapters/host/clock.ts'

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'probes-'))
})

afterEach(() => rmSync(folder, { recursive: true, force: true }))

test('a certificate that is none is named as a fault of the look at etcd', async (t) => {
  const pem = join(folder, 'cert.pem')
  writeFileSync(pem, 'no certificate\n')
  const server = createServer((socket) => void socket.destroy()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as { port: number }
  const settings = {
    ...{ endpoints: [{ host: '127.0.0.1', port, secure: true }], prefix: '/edge/', timeoutMs: 500 },
    ...{ tls: { ca: pem, cert: pem, key: pem }, username: undefined, passwordFile: undefined },
  }
  const tried = await tryEndpoint(settings, { reads: ['patches/'], writes: [] }, new SystemClock())
  assert.notEqual(tried.read.fault, undefined)
  assert.equal(tried.clockAheadMs, undefined)
})
