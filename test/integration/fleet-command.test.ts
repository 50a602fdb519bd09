/** `edgectl fleet` on a real etcd: who is believed, who is let go, and how large a fleet may be. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openBoxKey } from '../../adapters/signing/box-key.ts'
import type { GatewayRow } from '../../daemon/cli/fleet-row.ts'
import type { Put } from '../../daemon/patch/ports.ts'
import { keys } from '../../daemon/patch/records.ts'
import type { BoxKey } from '../../daemon/patch/signing.ts'
import { etcdctl, toolsFor } from '../contract/etcd-kit.ts'
import { launchEdgectl, type Said, writeYaml } from '../fleet/operator.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 180_000 }
const etcd = await scope.etcd()
const tools = toolsFor(etcd.port, { timeoutMs: 10_000 })
scope.atEnd(() => tools.etcd.close())
const dir = scope.folder()

function bytes(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

/** What a box of this name writes when it runs. */
function boxPuts(gateway: string, key: BoxKey, agoMs: number, digest = '0'.repeat(64)): Put[] {
  const at = new Date(Date.now() - agoMs).toISOString()
  const about = { schema: 1, gateway, at }
  const result = { ...about, patch: 'limits-1', digest, state: 'completed', token: 3, attempt: 1, retry: 0 }
  const applied = { ...about, channels: {}, inForce: [{ patch: 'limits-1', digest, channel: 'limits', sequence: 1 }] }
  const info = {
    ...about,
    site: 'plant-7',
    labels: { role: 'packaging' },
    fleet: 'acme',
    timezone: 'UTC',
    version: '1.2.3',
    controller: false,
  }
  return [
    { put: keys.identity(gateway), value: bytes({ ...about, publicKey: key.publicKey, machine: 'm' }) },
    { put: keys.alive(gateway), value: bytes({ schema: 1, at, clockTrusted: true, verdict: 'ok' }) },
    { put: keys.info(gateway), value: bytes(info) },
    { put: keys.applied(gateway), value: key.signRecord(applied) },
    { put: keys.result(gateway, 'limits-1'), value: key.signRecord(result) },
  ]
}

async function inChunks(puts: readonly Put[]): Promise<void> {
  for (let at = 0; at < puts.length; at += 125) await tools.etcd.transact({ compare: [], then: puts.slice(at, at + 125) })
}

function configFor(prefix: string, changes: object = {}): string {
  const name = prefix.replaceAll('/', '-')
  return writeYaml(dir, `${name}${Object.keys(changes).join('')}.yaml`, { etcd: { endpoints: [etcd.endpoint], prefix, ...changes } })
}

function rowsOf({ out }: Said): readonly GatewayRow[] {
  return (JSON.parse(out) as { gateways: GatewayRow[] }).gateways
}

describe('edgectl fleet', () => {
  test('shows who is there, believes what the box itself has signed, and marks the rest', limit, async () => {
    const [one, two] = [openBoxKey(scope.folder()), openBoxKey(scope.folder())]
    await inChunks([...boxPuts('gw-1', one, 1_000), ...boxPuts('gw-2', two, 3_600_000)])
    const config = configFor('/edge/v1/')
    const well = await launchEdgectl(['--config', config, 'fleet']).ended
    assert.equal(well.code, 0, well.err)
    assert.match(well.out, /2 gateways: 1 online, 1 offline[^]*gw-1 +online[^]*role=packaging +limits-1 +limits-1 completed/)
    // The neighbour speaks for it, and somebody writes what is no record at all.
    const forged = boxPuts('gw-1', two, 0).slice(3)
    await inChunks([...forged, { put: keys.info('gw-3'), value: Buffer.from('\u001b[2J') }])
    const said = await launchEdgectl(['--config', config, '--json', 'fleet']).ended
    assert.equal(said.code, 1)
    const [first, second, third] = rowsOf(said)
    assert.deepEqual([first?.inForce, first?.results, first?.doubts.length], [[], {}, 2])
    assert.deepEqual([second?.state, second?.doubts], ['offline', []])
    assert.match(third?.doubts.join() ?? '', /no identity[^]*info can't be read/)
    const text = await launchEdgectl(['--config', config, 'fleet']).ended
    assert.match(text.out, /NOT VERIFIED/)
    assert.equal(text.out.includes('\u001b'), false)
  })

  test('release takes the identity, keeps what the old key proves, and says so once', limit, async () => {
    const config = configFor('/edge/v1/')
    const before = (await tools.etcd.transact({ compare: [], then: [{ get: keys.identity('gw-2') }] })).answers[0]?.entries[0]
    const released = await launchEdgectl(['--config', config, 'fleet', 'release', 'gw-2', '--reason', 'board replaced']).ended
    assert.equal(released.code, 0, released.err)
    const reads = [{ get: keys.identity('gw-2') }, { get: keys.released('gw-2') }, { list: { prefix: 'audit/' } }]
    const { answers } = await tools.etcd.transact({ compare: [], then: reads })
    assert.equal(answers[0]?.entries.length, 0)
    assert.deepEqual(answers[1]?.entries[0]?.value, before?.value)
    assert.match(Buffer.from(answers[2]?.entries[0]?.value ?? []).toString(), /"fleet release","gateway":"gw-2","reason":"board replaced"/)
    const again = await launchEdgectl(['--config', config, 'fleet', 'release', 'gw-2']).ended
    assert.equal(again.code, 1)
    assert.match(again.err, /no gateway is bound to "gw-2"[^]*edgectl fleet/)
  })

  test('ten thousand gateways, in bounded memory', limit, async () => {
    const prefix = '/huge/v1/'
    const huge = toolsFor(etcd.port, { prefix, timeoutMs: 10_000 })
    const key = openBoxKey(scope.folder())
    for (let from = 0; from < 10_000; from += 25) {
      const names = Array.from({ length: 25 }, (_, index) => `gw-${String(from + index).padStart(5, '0')}`)
      await huge.etcd.transact({ compare: [], then: names.flatMap((name) => boxPuts(name, key, 1_000)) })
    }
    huge.etcd.close()
    const env = { NODE_OPTIONS: '--max-old-space-size=96' }
    const said = await launchEdgectl(['--config', configFor(prefix), '--json', 'fleet'], { env }).ended
    assert.equal(said.code, 0, said.err.slice(0, 500))
    const rows = rowsOf(said)
    assert.equal(rows.length, 10_000)
    assert.ok(rows.every(({ inForce, results }) => inForce[0] === 'limits-1' && results['limits-1']?.state === 'completed'))
    const rollouts = await launchEdgectl(['--config', configFor(prefix), 'patch', 'status'], {
      env: { NODE_OPTIONS: '--max-old-space-size=256' },
    }).ended
    assert.match(rollouts.out, /no patch was pushed yet/, rollouts.err.slice(0, 500))
  })

  test('wrong credentials are named as such', limit, async () => {
    for (const words of ['user add root:secret', 'user grant-role root root', 'auth enable'])
      await etcdctl(etcd.endpoint, ...words.split(' '))
    const passwordFile = writeYaml(dir, 'password', { no: 'match' })
    for (const changes of [{}, { username: 'root', passwordFile }]) {
      const said = await launchEdgectl(['--config', configFor('/edge/v1/', changes), 'fleet']).ended
      assert.equal(said.code, 3, said.err)
      assert.match(said.err, /try: Look at etcd\.username/)
      assert.doesNotMatch(said.err, /^\s+at /m)
    }
  })
})
