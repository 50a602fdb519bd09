/** What a technician learns of patches on the box: daemon up, down, etcd away, credentials wrong. */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { describe, test } from 'node:test'
import mqtt from 'mqtt'
import type { Json } from '../../config/merge.ts'
import { envelopeText, seal } from '../../adapters/signing/dsse.ts'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import type { HistoryDocument, HoldDocument, LocksDocument, PatchesDocument, WhyDocument } from '../../daemon/cli/patch-views.ts'
import { withLease } from '../../daemon/patch/lock.ts'
import { keys, PATCH_TYPE } from '../../daemon/patch/records.ts'
import { etcdctl, PREFIX, requestFor, toolsFor } from '../contract/etcd-kit.ts'
import { FakeFleet } from '../fakes/patch-agent.ts'
import { edgectlOf, openBox, until, type Box } from '../fleet/box.ts'
import { serviceScope, type Service } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
const { privateKey } = generateKeyPairSync('ed25519')

function settings(etcd: Service, gateway = 'gw-1'): Json {
  const ops = { ed25519: publicTextOf(privateKey), kinds: ['config', 'device'], sites: 'all' }
  return {
    gateway: { id: gateway, fleet: 'acme' },
    etcd: { endpoints: [etcd.endpoint], prefix: PREFIX },
    patches: { controller: true, lockTtl: '5s', trustedKeys: { ops } },
  }
}

function specOf(id: string, sequence: number, change: object): Buffer {
  const document = {
    apiVersion: 'edge/v1',
    kind: 'config',
    id,
    fleet: 'acme',
    channel: 'limits',
    sequence,
    expires: new Date(Date.now() + 86_400_000).toISOString(),
    target: { all: true },
    spec: { limits: { perDevice: { messagesPerSecond: 50 + sequence } } },
    health: { checks: ['pipeline-moving'], consecutive: 1, deadline: '5s', bake: '1s' },
    rollout: { stages: [{ percent: 100, bake: '1s' }], concurrency: { scope: 'plant', slots: 1 }, maxFailures: { count: 0 } },
    ...change,
  }
  return Buffer.from(envelopeText(seal(PATCH_TYPE, Buffer.from(JSON.stringify(document)), privateKey)))
}

async function json<Document>(box: Box, ...words: readonly string[]): Promise<Document> {
  const { stdout, stderr } = await edgectlOf(box, ['--json', ...words])
  assert.notEqual(stdout, '', stderr)
  return JSON.parse(stdout) as Document
}

/** As `edgectl why patch` prints it; asked often, so without a program of its own. */
async function sentence(box: Box, patch: string): Promise<string> {
  return ((await box.gateway.ask(`/patches/${patch}/why`)) as WhyDocument).sentence
}

async function stateOf(box: Box, patch: string): Promise<string | undefined> {
  return ((await box.gateway.ask('/patches')) as PatchesDocument).patches.find((one) => one.patch === patch)?.state
}

class Push {
  readonly #tools: ReturnType<typeof toolsFor>

  constructor(tools: ReturnType<typeof toolsFor>) {
    this.#tools = tools
  }

  async spec(id: string, sequence: number, change: object = {}): Promise<void> {
    await this.#tools.etcd.transact({ compare: [], then: [{ put: keys.spec(id), value: specOf(id, sequence, change) }] })
  }
}

describe('patches, as the box tells of them', { concurrency: 2 }, () => {
  test('what is in force, what waits and why; a hold; a lock that is broken; the same with the daemon down', limit, async () => {
    const etcd = await scope.etcd()
    const tools = toolsFor(etcd.port)
    const [fleet, push, box] = [new FakeFleet(tools.etcd), new Push(tools), await openBox(scope, { config: settings(etcd) })]

    await push.spec('june', 1)
    await until('it is in force', async () => (await stateOf(box, 'june')) === 'in force', 30_000)
    const { patches } = await json<PatchesDocument>(box, 'patches')
    assert.deepEqual(
      patches.map(({ patch, kind, channel, sequence, inForce }) => [patch, kind, channel, sequence, inForce]),
      [['june', 'config', 'limits', 1, true]],
    )
    const [run] = (await json<HistoryDocument>(box, 'history')).runs
    assert.deepEqual([run?.patch, run?.outcome, run?.step, run?.attempt], ['june', 'completed', 'commit', 1])
    assert.ok((run?.seconds ?? 0) >= 1)

    await held(box, push)
    await lockBroken(box, tools, fleet)
    assert.equal(await box.gateway.end('SIGTERM'), 0)
    await stopped(box)
    tools.etcd.close()
  })

  test('etcd that hangs is named, and what is in force is told all the same', limit, async () => {
    const etcd = await scope.etcd()
    const [tools, box] = [toolsFor(etcd.port), await openBox(scope, { config: settings(etcd) })]
    await new Push(tools).spec('june', 1)
    await until('it is in force', async () => (await stateOf(box, 'june')) === 'in force', 30_000)
    etcd.pause()
    try {
      const locks = await edgectlOf(box, ['lock', 'ls'])
      assert.equal(locks.code, 1)
      assert.match(locks.stderr, /^etcd: /)
      assert.equal(await stateOf(box, 'june'), 'in force')
      // The box learns of it when it next has something to tell.
      assert.equal((await edgectlOf(box, ['hold', '--for', '1h'])).code, 0)
      await until('status says so', async () => /etcd/.test((await box.status()).patches?.trouble ?? ''), 30_000)
      assert.match(await sentence(box, 'june'), /^june: it is in force here since .*; but (for now nothing goes on|etcd is not heard)/)
      const { verdict } = await box.status()
      assert.equal(verdict.state, 'buffering') // for want of a Kafka, and not of etcd: what waits for it is no trouble
      assert.doesNotMatch(verdict.line, /etcd/)
    } finally {
      etcd.resume()
    }
    tools.etcd.close()
  })

  test('a label that comes with a reload makes it a target; a second box with the same id buffers, and says so', limit, async () => {
    const etcd = await scope.etcd()
    const [tools, box] = [toolsFor(etcd.port), await openBox(scope, { config: settings(etcd) })]
    await new Push(tools).spec('press', 1, { target: { labels: { line: 'press' } } })
    await until('it is not for this box', async () => (await stateOf(box, 'press')) === 'not for this box', 30_000)
    await box.configure({ gateway: { labels: { line: 'press' } } })
    box.gateway.signal('SIGHUP')
    await until('it is in force', async () => (await stateOf(box, 'press')) === 'in force', 30_000)

    const clone = await openBox(scope, { config: settings(etcd) })
    const { verdict } = await until('the clone knows', async () => {
      const status = await clone.status()
      return status.patches?.identity.kind === 'duplicate' ? status : undefined
    })
    assert.deepEqual([verdict.state, /^the id "gw-1" belongs to another box/.test(verdict.line)], ['buffering', true], verdict.line)
    assert.match(verdict.remedy ?? '', /own gateway\.id/)
    assert.equal((await clone.status()).patches?.controller, undefined)
    assert.equal((await box.status()).patches?.controller?.leading, true)
    tools.etcd.close()
  })

  test('settings of devices are there when the listener opens, also without etcd', limit, async () => {
    const etcd = await scope.etcd()
    const [tools, box] = [toolsFor(etcd.port), await openBox(scope, { config: settings(etcd) })]
    const spec = { devices: 'pump-*', topic: 'devices/{device}/settings', payload: { rate: 5 } }
    await new Push(tools).spec('rates', 1, { kind: 'device', spec })
    await until('it is in force', async () => (await stateOf(box, 'rates')) === 'in force', 30_000)
    assert.equal(await box.gateway.end('SIGTERM'), 0)
    etcd.pause()
    try {
      const starting = box.gateway.start()
      assert.equal(await settingsOf(box, 'pump-7'), '{"rate":5}')
      await starting
    } finally {
      etcd.resume()
    }
    tools.etcd.close()
  })

  test('credentials that etcd refuses are trouble of the patches only, with what to do', limit, async () => {
    const etcd = await scope.etcd()
    for (const words of [
      ['user', 'add', 'root:secret'],
      ['user', 'grant-role', 'root', 'root'],
      ['auth', 'enable'],
    ]) {
      await etcdctl(etcd.endpoint, ...words).catch(() =>
        etcdctl(etcd.endpoint, 'role', 'add', 'root').then(() => etcdctl(etcd.endpoint, ...words)),
      )
    }
    const box = await openBox(scope, { config: settings(etcd) })
    const { patches } = await until('etcd has refused', async () => {
      const status = await box.status()
      return status.patches?.feed?.state === 'refused' ? status : undefined
    })
    assert.match(patches?.feed?.remedy ?? '', /etcd\.username/)
    const text = await edgectlOf(box, ['status'])
    assert.match(text.stdout, /^ {2}patches {2}0 in force, 0 waiting, etcd refused for /m)
    const locks = await edgectlOf(box, ['lock', 'ls'])
    assert.deepEqual([locks.code, /try: Look at etcd\.username/.test(locks.stderr)], [1, true], locks.stderr)
    const why = await edgectlOf(box, ['why', 'patch', 'june'])
    assert.deepEqual([why.code, why.stderr.split('\n')[0]], [1, 'no patch june is known on this box'])
    assert.equal((await box.metrics()).get('edge_gateway_patch_feed{state="refused"}'), 1)
    assert.equal((await json<PatchesDocument>(box, 'patches')).patches.length, 0)
  })
})

/** A device that connects as soon as it can. */
async function settingsOf({ port }: Box, device: string): Promise<string> {
  const client = mqtt.connect({ host: '127.0.0.1', port, clientId: device, reconnectPeriod: 20 })
  const { promise, resolve } = Promise.withResolvers<string>()
  client.on('message', (_, payload) => resolve(payload.toString()))
  client.on('connect', () => client.subscribe(`devices/${device}/settings`, { qos: 1 }))
  try {
    return await promise
  } finally {
    await client.endAsync(true)
  }
}

async function held(box: Box, push: Push): Promise<void> {
  assert.equal((await edgectlOf(box, ['hold', '--for', '2'])).code, 64)
  const set = await edgectlOf(box, ['hold', '--for', '2h', '--reason', 'on the press'])
  assert.match(set.stdout, /^no patch starts on this box until .* \(2 h 0 min\), held by \w+: on the press$/m, set.stderr)
  await push.spec('july', 2)
  await until('july waits', async () => (await stateOf(box, 'july')) === 'waiting', 30_000)
  await until('for the hold', async () => /holds all patches of this box until .*on the press/.test(await sentence(box, 'july')), 30_000)
  assert.match((await edgectlOf(box, ['status'])).stdout, /^ {2}patches {2}held until .* by \w+: on the press$/m)
  assert.equal((await box.metrics()).get('edge_gateway_patch_held'), 1)
}

/** The lock of the scope is another's when the hold ends. */
async function lockBroken(box: Box, tools: ReturnType<typeof toolsFor>, fleet: FakeFleet): Promise<void> {
  const rival = new AbortController()
  const { promise: holding, resolve } = Promise.withResolvers<void>()
  const request = requestFor('plant', 'gw-9', { ttlMs: 60_000 })
  const lost = withLease(tools, request, rival.signal, async (_, signal) => {
    resolve()
    await new Promise((wake) => signal.addEventListener('abort', wake, { once: true }))
    return { value: signal.reason instanceof Error ? signal.reason.message : '' }
  }).catch((error: unknown) => String(error))
  await holding
  assert.equal((await edgectlOf(box, ['hold', '--clear'])).stdout, 'patches may start again\n')
  assert.equal((await edgectlOf(box, ['hold', '--clear'])).code, 1)
  await until('july waits for its lock', async () => /it waits for the lock plant/.test(await sentence(box, 'july')), 30_000)
  await until('behind gw-9', async () =>
    /^july: it waits for the lock plant, held by gw-9 \(its lease has (1 min|\d\d s) left, unless it renews it\); it is next$/.test(
      await sentence(box, 'july'),
    ),
  )
  const { locks } = await json<LocksDocument>(box, 'lock', 'ls')
  const queue = locks.filter(({ scope }) => scope === 'plant').map(({ place, gateway }) => [place, gateway])
  assert.deepEqual(queue, [
    [1, 'gw-9'],
    [2, 'gw-1'],
  ])
  assert.equal((await edgectlOf(box, ['lock', 'break', 'plant'])).code, 64)
  assert.match((await edgectlOf(box, ['lock', 'break', 'nothing', '--reason', 'x'])).stderr, /no lock nothing is held/)
  const broken = await edgectlOf(box, ['lock', 'break', 'plant', '--reason', 'gw-9 was scrapped'])
  assert.match(broken.stdout, /broken: the lock plant of gw-9; paused: .*july/, broken.stderr)
  assert.match(await lost, /the lock is lost/)
  const control = await fleet.get(keys.control('july'))
  assert.deepEqual([control?.['state'], control?.['reason']], ['paused', 'lock broken: gw-9 was scrapped'])
  await until('the rollout is paused', async () => (await fleet.get(keys.rolloutState('july')))?.['pausedBy'] === 'lock broken', 30_000)
  assert.equal((await fleet.keysBelow('audit/')).length, 1)
  let last = ''
  await until(
    'july waits for the rollout',
    async () => /^july: .*paused .*lock broken: gw-9 was scrapped/.test((last = await sentence(box, 'july'))),
    30_000,
  )
  assert.equal((await edgectlOf(box, ['why', 'patch', 'july'])).stdout, `${last}\n`)
  assert.equal((await edgectlOf(box, ['hold', '--for', '3h'])).code, 0)
}

async function stopped(box: Box): Promise<void> {
  const { running, patches } = await json<PatchesDocument>(box, 'patches')
  assert.deepEqual([running, patches.map(({ patch, state, inForce }) => [patch, state, inForce])], [false, [['june', 'in force', true]]])
  assert.equal((await json<HistoryDocument>(box, 'history', '--limit', '1')).runs[0]?.patch, 'june')
  assert.match((await edgectlOf(box, ['why', 'patch', 'june'])).stdout, /^june: it is in force here since .*; but the daemon is down/)
  assert.ok(((await json<HoldDocument>(box, 'hold')).hold?.remainingSeconds ?? 0) > 10_000)
  assert.equal((await edgectlOf(box, ['history', '--limit', 'few'])).code, 64)
  const unknown = await edgectlOf(box, ['why', 'patch', 'july'])
  assert.deepEqual([unknown.code, unknown.stderr.split('\n')[0]], [1, 'the daemon is down, and remembers no patch july'])
  for (const words of [
    ['lock', 'ls'],
    ['lock', 'break', 'plant', '--reason', 'x'],
    ['hold', '--for', '1h'],
    ['hold', '--clear'],
  ]) {
    const { code, stderr } = await edgectlOf(box, words)
    assert.deepEqual([code, /^the daemon is not running/.test(stderr)], [3, true], words.join(' '))
  }
}
