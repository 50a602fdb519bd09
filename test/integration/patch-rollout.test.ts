/** The story of a good patch and a bad one, in short: three gateways as they are started, one Kafka, one etcd. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { GatewayRow } from '../../daemon/cli/fleet-row.ts'
import type { RolloutLine } from '../../daemon/cli/patch/looking.ts'
import { openBox, until, type Box } from '../fleet/box.ts'
import { keyFile, launchEdgectl, patchDocument, writeYaml } from '../fleet/operator.ts'
import { freePort, serviceScope } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 240_000 }
const NAMES = ['gw-1', 'gw-2', 'gw-3']
const [dir, etcd, kafka] = [scope.folder(), await scope.etcd(), await scope.kafka()]
const ops = keyFile(dir, 'ops')
const patching = {
  etcd: { endpoints: [etcd.endpoint] },
  patches: { lockTtl: '5s', trustedKeys: { ops: { ed25519: ops.publicKey, kinds: ['config'], sites: 'all' } } },
}
const operator = writeYaml(dir, 'operator.yaml', { gateway: { fleet: 'acme' }, ...patching })

async function asked<T>(...words: readonly string[]): Promise<T> {
  const said = await launchEdgectl(['--config', operator, '--json', ...words]).ended
  assert.equal(said.code, 0, said.err)
  return JSON.parse(said.out) as T
}

/** Pushes it, and watches it to its end; resolves with the exit code of the watch. */
async function rolledOut(document: object): Promise<number | null> {
  const { id } = document as { readonly id: string }
  const pushed = await launchEdgectl(['--config', operator, 'patch', 'push', writeYaml(dir, `${id}.yaml`, document), '--key', ops.file])
    .ended
  assert.equal(pushed.code, 0, pushed.err)
  const watched = launchEdgectl(['--config', operator, 'patch', 'status', id, '--watch'], { signal: AbortSignal.timeout(90_000) })
  return (await watched.ended).code
}

async function states(patch: string): Promise<readonly (string | undefined)[]> {
  const { gateways } = await asked<{ gateways: GatewayRow[] }>('fleet')
  return NAMES.map((name) => gateways.find(({ gateway }) => gateway === name)?.results[patch]?.state)
}

async function inForce({ gateway }: Box, path: string): Promise<unknown> {
  const { values } = (await gateway.ask('/config')) as { values: { path: string; value: unknown }[] }
  return values.find((one) => one.path === path)?.value
}

describe('a rollout', () => {
  test('a good patch reaches all, a bad one stops at its first gateway and is taken back, and no message is lost', limit, async () => {
    const boxes: Box[] = []
    for (const id of NAMES) {
      const config = { ...patching, gateway: { id, fleet: 'acme' }, patches: { ...patching.patches, controller: id === 'gw-1' } }
      boxes.push(await openBox(scope, { config, kafka: kafka.endpoint }))
    }
    const fleets = boxes.map((box) => box.fleet({ devices: 5, ratePerDevice: 4 }))
    for (const fleet of fleets) fleet.start()
    await until('messages pass through every gateway', async () => {
      return (await Promise.all(boxes.map((box) => box.status()))).every(({ verdict }) => verdict.state === 'ok')
    })

    const stages = [{ count: 1, bake: '1s' }, { percent: 100 }]
    const rollout = { stages, concurrency: { scope: 'plant', slots: 3 }, maxFailures: { count: 0 }, onFailure: 'rollback-all' }
    const code = await rolledOut(patchDocument('good', { rollout, spec: { limits: { perDevice: { messagesPerSecond: 77 } } } }))
    assert.equal(code, 0)
    assert.deepEqual(await states('good'), ['completed', 'completed', 'completed'])
    for (const box of boxes) assert.equal(await inForce(box, 'limits.perDevice.messagesPerSecond'), 77)

    const nobody = `127.0.0.1:${await freePort()}`
    const bad = { channel: 'uplink', spec: { kafka: { brokers: [nobody] } }, rollout }
    assert.equal(await rolledOut(patchDocument('bad', { ...bad, health: { checks: ['pipeline-moving'], deadline: '10s', bake: '4s' } })), 1)
    assert.deepEqual(
      (await states('bad')).filter((state) => state !== undefined),
      ['failed'],
    )
    const { rollouts } = await asked<{ rollouts: RolloutLine[] }>('patch', 'status')
    const line = rollouts.find(({ patch }) => patch === 'bad')
    assert.deepEqual([line?.phase, line?.failures.length], ['rolled-back', 1])
    assert.match(line?.failures[0]?.reason ?? '', /pipeline-moving/)
    for (const box of boxes) assert.equal(JSON.stringify(await inForce(box, 'kafka.brokers')), JSON.stringify([kafka.endpoint]))

    await assertNothingLost(boxes, fleets)
  })
})

async function assertNothingLost(boxes: readonly Box[], fleets: readonly ReturnType<Box['fleet']>[]): Promise<void> {
  for (const [index, fleet] of fleets.entries()) {
    const box = boxes[index]
    assert.ok(box !== undefined)
    fleet.quiet()
    await until('everything is acknowledged and forwarded', async () => {
      const { pending } = fleet
      const { lanes } = await box.status()
      return pending === 0 && ['urgent', 'normal', 'deferred'].every((lane) => (lanes[lane as keyof typeof lanes]?.messages ?? 0) === 0)
    })
    fleet.close()
    const read = (await box.consumed()).map(({ headers }) => headers['mqtt-topic'] ?? '')
    const ids = read.map((topic) => topic.slice(topic.lastIndexOf('/') + 1))
    assert.ok(ids.length > 0)
    assert.deepEqual(ids.toSorted(), [...fleet.published.keys()].toSorted())
    assert.equal(await box.gateway.end('SIGTERM'), 0)
  }
}
