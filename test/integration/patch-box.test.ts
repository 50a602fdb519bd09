/** A patch through the whole: two daemons as they are started, one of them leading, on a real etcd. */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { describe, test } from 'node:test'
import type { Json } from '../../config/merge.ts'
import { envelopeText, seal } from '../../adapters/signing/dsse.ts'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import { keys, PATCH_TYPE } from '../../daemon/patch/records.ts'
import { PREFIX, toolsFor } from '../contract/etcd-kit.ts'
import { openBox, until, type Box } from '../fleet/box.ts'
import { FakeFleet } from '../fakes/patch-agent.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
const { privateKey } = generateKeyPairSync('ed25519')

function document(id: string, spec: object): object {
  return {
    apiVersion: 'edge/v1',
    kind: 'config',
    id,
    fleet: 'acme',
    channel: 'limits',
    sequence: 1,
    expires: new Date(Date.now() + 86_400_000).toISOString(),
    target: { all: true },
    spec,
    health: { checks: ['pipeline-moving'], consecutive: 1, deadline: '10s', bake: '1s' },
    rollout: {
      stages: [{ count: 1, bake: '1s' }, { percent: 100 }],
      concurrency: { scope: 'plant', slots: 1 },
      maxFailures: { count: 0 },
    },
  }
}

function settings(gateway: string, endpoint: string, controller: boolean): Json {
  return {
    gateway: { id: gateway, fleet: 'acme' },
    etcd: { endpoints: [endpoint], prefix: PREFIX },
    patches: {
      controller,
      lockTtl: '5s',
      trustedKeys: { ops: { ed25519: publicTextOf(privateKey), kinds: ['config'], sites: 'all' } },
    },
  }
}

describe('a patch of the configuration', () => {
  test('goes from box to box, each verified, and is in force in both', limit, async () => {
    const etcd = await scope.etcd()
    const tools = toolsFor(etcd.port)
    const fleet = new FakeFleet(tools.etcd)
    const boxes: Box[] = []
    for (const name of ['gw-1', 'gw-2']) {
      boxes.push(await openBox(scope, { config: settings(name, etcd.endpoint, name === 'gw-1') }))
    }
    const value = document('2026-11-limits', { limits: { perDevice: { messagesPerSecond: 50 } } })
    const spec = Buffer.from(envelopeText(seal(PATCH_TYPE, Buffer.from(JSON.stringify(value)), privateKey)))
    await tools.etcd.transact({ compare: [], then: [{ put: keys.spec('2026-11-limits'), value: spec }] })
    await until(
      'the rollout is completed',
      async () => (await fleet.get(keys.rolloutState('2026-11-limits')))?.['phase'] === 'completed',
      90_000,
    )
    for (const name of ['gw-1', 'gw-2']) assert.equal((await fleet.result(name, '2026-11-limits'))?.state, 'completed')
    assert.deepEqual(await fleet.keysBelow('locks/plant'), [])
    for (const box of boxes) assert.equal(await box.gateway.end('SIGTERM'), 0)
    tools.etcd.close()
  })
})
