import assert from 'node:assert/strict'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { ControlClient } from '../../adapters/control/client.ts'
import { HttpEndpoint } from '../../adapters/control/server.ts'
import { GatewayError } from '../../daemon/errors.ts'
import type { Log, Route } from '../../daemon/ports.ts'

const silent: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const routes: readonly Route[] = [
  { method: 'GET', path: '/status', run: () => ({ status: 200, body: { fine: true } }) },
  {
    method: 'POST',
    path: '/dead-letters/:id/drop',
    run: ({ params, query }) => ({ status: 200, body: { id: params['id'], why: query.get('why') } }),
  },
  { method: 'GET', path: '/fault', run: () => Promise.reject(new Error('the ledger could not be read')) },
]

describe('the control socket', () => {
  let dir = ''
  let socketPath = ''
  let endpoint: HttpEndpoint
  let client: ControlClient

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'edge-control-'))
    socketPath = join(dir, 'control.sock')
    endpoint = new HttpEndpoint('control', { socketPath }, routes, silent)
    client = new ControlClient(socketPath)
  })
  afterEach(async () => {
    await client.close()
    await endpoint.stop()
    await rm(dir, { recursive: true })
  })

  it('answers, with path parts and query', async () => {
    await endpoint.start()
    assert.deepEqual(await client.get('/status'), { fine: true })
    assert.deepEqual(await client.post('/dead-letters/7/drop?why=old'), { id: '7', why: 'old' })
  })

  it('is open to its owner and group only', async () => {
    await endpoint.start()
    assert.equal((await stat(socketPath)).mode & 0o777, 0o660)
  })

  it('takes the place of a socket file that a killed daemon left', async () => {
    await writeFile(socketPath, '')
    await endpoint.start()
    assert.deepEqual(await client.get('/status'), { fine: true })
  })

  it('says in words what it has not, and what failed', async () => {
    await endpoint.start()
    await assert.rejects(
      client.get('/nothing'),
      (error) => error instanceof GatewayError && error.kind === 'rejected' && /nothing at GET \/nothing/.test(error.message),
    )
    await assert.rejects(client.get('/fault'), /the ledger could not be read/)
  })

  it('tells a daemon that is down from one that refuses', async () => {
    await assert.rejects(
      client.get('/status'),
      (error) => error instanceof GatewayError && error.kind === 'transient' && /not running/.test(error.message),
    )
  })

  it('refuses a path that the kernel would cut off', async () => {
    const long = new HttpEndpoint('control', { socketPath: join(dir, 'x'.repeat(120)) }, routes, silent)
    await assert.rejects(long.start(), /longer than 107 bytes/)
  })

  it('says which address is taken', async () => {
    const first = new HttpEndpoint('metrics', { host: '127.0.0.1', port: 0 }, routes, silent)
    await first.start()
    const second = new HttpEndpoint('metrics', { host: '127.0.0.1', port: first.port ?? 0 }, routes, silent)
    await assert.rejects(
      second.start(),
      (error) => error instanceof GatewayError && error.remedy === 'stop the other program, or choose another port',
    )
    await first.stop()
  })
})
