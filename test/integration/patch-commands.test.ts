/** The operators' commands against a real etcd, where also others write, and write nonsense. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { TrustedEnvelopes } from '../../adapters/signing/dsse.ts'
import { parsePatchPayload } from '../../config/patch/parse.ts'
import { controlOf, type ControlView } from '../../daemon/patch/control.ts'
import { keys, PATCH_TYPE, type RolloutPhase, type RolloutState } from '../../daemon/patch/records.ts'
import { toolsFor } from '../contract/etcd-kit.ts'
import { until } from '../fleet/box.ts'
import { keyFile, launchEdgectl, patchDocument, type Said, writeYaml } from '../fleet/operator.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
const etcd = await scope.etcd()
const tools = toolsFor(etcd.port)
scope.atEnd(() => tools.etcd.close())
const dir = scope.folder()
const ops = keyFile(dir, 'ops')
const stranger = keyFile(dir, 'stranger')
const trustedKeys = { ops: { ed25519: ops.publicKey, kinds: ['config'], sites: 'all' } }
const bare = writeYaml(dir, 'bare.yaml', { etcd: { endpoints: [etcd.endpoint] } })
const trusting = writeYaml(dir, 'trusting.yaml', {
  gateway: { fleet: 'acme' },
  etcd: { endpoints: [etcd.endpoint] },
  patches: { trustedKeys },
})

function edgectl(...words: readonly string[]): Promise<Said> {
  return launchEdgectl(['--config', trusting, ...words]).ended
}

async function get(key: string): Promise<{ readonly text: string; readonly mod: number; readonly create: number } | undefined> {
  const { answers } = await tools.etcd.transact({ compare: [], then: [{ get: key }] })
  const entry = answers[0]?.entries[0]
  return entry && { text: Buffer.from(entry.value).toString(), mod: entry.modRevision, create: entry.createRevision }
}

async function put(key: string, value: object | string): Promise<void> {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  await tools.etcd.transact({ compare: [], then: [{ put: key, value: Buffer.from(text) }] })
}

async function audits(patch: string): Promise<readonly string[]> {
  const { entries } = await tools.etcd.list({ prefix: 'audit/' })
  const records = entries.map(({ value }) => JSON.parse(Buffer.from(value).toString()) as { action: string; patch?: string; by: string })
  return records.filter((record) => record.patch === patch && record.by.includes('@')).map(({ action }) => action)
}

/** As a gateway that trusts `ops` reads it. */
async function control(id: string, slowedAt: number): Promise<ControlView> {
  const { answers } = await tools.etcd.transact({ compare: [], then: [{ get: keys.spec(id) }, { get: keys.control(id) }] })
  const envelopes = new TrustedEnvelopes({ ops: ops.publicKey })
  const opened = envelopes.open(answers[0]?.entries[0]?.value ?? new Uint8Array(), PATCH_TYPE)
  assert.ok('payload' in opened)
  const scopes = new Map([['ops', { kinds: ['config'] as const, sites: 'all' as const }]])
  return controlOf(answers[1]?.entries[0], { patch: parsePatchPayload(opened.payload), envelopes, scopes, slowedAt })
}

async function pushed(id: string, changes: object = {}): Promise<void> {
  const said = await edgectl('patch', 'push', writeYaml(dir, `${id}.yaml`, patchDocument(id, changes)), '--key', ops.file)
  assert.equal(said.code, 0, said.err)
}

function stateOf(patch: string, phase: RolloutPhase, changes: Partial<RolloutState> = {}): RolloutState {
  const at = new Date().toISOString()
  const own = {
    patch,
    digest: '0'.repeat(64),
    phase,
    stage: 0,
    reason: `it is ${phase}`,
    at,
    token: 1,
    by: 'gw-1',
    retry: 0,
    decisions: [],
  }
  return { schema: 1, ...own, ...changes }
}

/** A sentence, and no stack. */
function assertPlain({ err }: Said, pattern: RegExp): void {
  assert.match(err, pattern)
  assert.doesNotMatch(err, /^\s+at /m)
}

describe('patch push', () => {
  test('signs and pushes in one go, once; the same again is no error, another under the same id is one', limit, async () => {
    const file = writeYaml(dir, 'push-a.yaml', patchDocument('push-a'))
    const first = await launchEdgectl(['--config', bare, 'patch', 'push', file, '--key', ops.file]).ended
    assert.equal(first.code, 0, first.err)
    const before = await get(keys.spec('push-a'))
    const again = await edgectl('--json', 'patch', 'push', file, '--key', ops.file)
    assert.equal(again.code, 0)
    assert.deepEqual(JSON.parse(again.out), { schema: 1, id: 'push-a', pushed: false, alreadyPushed: true, verified: true })
    const other = writeYaml(dir, 'push-b.yaml', patchDocument('push-a', { sequence: 2 }))
    const refused = await edgectl('patch', 'push', other, '--key', ops.file)
    assert.equal(refused.code, 1)
    assertPlain(refused, /another patch was pushed as push-a/)
    assert.deepEqual(await get(keys.spec('push-a')), before)
    assert.deepEqual(await audits('push-a'), ['push'])
  })

  test('refuses what the gateways would refuse, and writes nothing', limit, async () => {
    const file = writeYaml(dir, 'push-c.yaml', patchDocument('push-c'))
    assertPlain(await edgectl('patch', 'push', file), /is not signed[^]*--key FILE/)
    assertPlain(await edgectl('patch', 'push', file, '--key', stranger.file), /would not believe[^]*trustedKeys/)
    const foreign = writeYaml(dir, 'push-d.yaml', patchDocument('push-c', { fleet: 'test' }))
    assertPlain(await edgectl('patch', 'push', foreign, '--key', ops.file), /fleet test/)
    assertPlain(await edgectl('patch', 'push', `${dir}/absent.dsse`), /can't be read/)
    assert.equal(await get(keys.spec('push-c')), undefined)
    assert.deepEqual(await audits('push-c'), [])
  })
})

describe('orders', () => {
  test('a pause needs no key, a gateway reads it, and only a signed order lets it go on', limit, async () => {
    await pushed('order-a')
    const paused = await edgectl('patch', 'pause', 'order-a', '--reason', 'line 3 complains')
    assert.equal(paused.code, 0, paused.err)
    const view = await control('order-a', 0)
    assert.equal(view.state, 'paused')
    assert.match(view.reason, /line 3 complains/)
    assert.match((await edgectl('patch', 'pause', 'order-a', '--reason', 'x')).out, /paused already/)
    assertPlain(await edgectl('patch', 'resume', 'order-a', '--key', stranger.file), /would not believe/)
    assert.equal((await edgectl('patch', 'resume', 'order-a', '--key', ops.file)).code, 0)
    const resumed = await control('order-a', view.slowedAt)
    assert.deepEqual([resumed.state, resumed.signed, resumed.retry], ['active', true, 0])
    assertPlain(await edgectl('patch', 'resume', 'order-a', '--key', ops.file), /is not paused/)
    assert.deepEqual((await audits('order-a')).toSorted(), ['pause', 'push', 'resume'])
  })

  test('a pause that was deleted is answered too', limit, async () => {
    await pushed('order-b')
    await edgectl('patch', 'pause', 'order-b', '--reason', 'x')
    const { slowedAt } = await control('order-b', 0)
    await put(keys.rolloutState('order-b'), stateOf('order-b', 'paused', { pausedBy: 'operator', pausedAt: slowedAt }))
    await tools.etcd.transact({ compare: [], then: [{ delete: keys.control('order-b') }] })
    assert.equal((await control('order-b', slowedAt)).state, 'paused')
    assert.equal((await edgectl('patch', 'resume', 'order-b', '--key', ops.file)).code, 0)
    assert.equal((await control('order-b', slowedAt)).state, 'active')
  })

  test('a retry counts up, a later resume repeats its number, and failures are not passed over by a resume', limit, async () => {
    await pushed('order-c')
    await put(keys.rolloutState('order-c'), stateOf('order-c', 'paused', { retry: 2, pausedBy: 'failures', pausedAt: 0 }))
    await put(keys.failure('order-c', 1), { schema: 1, gateway: 'gw-1', kind: 'failed', reason: 'x', token: 1, at: '' })
    assertPlain(await edgectl('patch', 'resume', 'order-c', '--key', ops.file), /1 gateways failed, 0 may[^]*patch retry/)
    assert.equal((await edgectl('patch', 'retry', 'order-c', '--key', ops.file)).code, 0)
    assert.equal((await control('order-c', 0)).retry, 3)
    await tools.etcd.transact({ compare: [], then: [{ delete: keys.failure('order-c', 1) }] })
    await put(keys.rolloutState('order-c'), stateOf('order-c', 'running', { retry: 3 }))
    await edgectl('patch', 'pause', 'order-c', '--reason', 'x')
    const { slowedAt } = await control('order-c', 0)
    assert.equal((await edgectl('patch', 'resume', 'order-c', '--key', ops.file)).code, 0)
    const resumed = await control('order-c', slowedAt)
    assert.deepEqual([resumed.state, resumed.retry], ['active', 3])
  })

  test('cancelled stays cancelled; rollback goes further', limit, async () => {
    await pushed('order-d')
    assert.equal((await edgectl('patch', 'cancel', 'order-d', '--reason', 'no need')).code, 0)
    assert.deepEqual([(await control('order-d', 0)).state, (await control('order-d', 0)).rollback], ['cancelled', false])
    assertPlain(await edgectl('patch', 'pause', 'order-d', '--reason', 'x'), /is cancelled: there is nothing to pause/)
    assert.equal((await edgectl('patch', 'rollback', 'order-d')).code, 0)
    assert.equal((await control('order-d', 0)).rollback, true)
    assert.match((await edgectl('patch', 'cancel', 'order-d')).out, /cancelled already, and is taken back/)
    assert.equal((await control('order-d', 0)).rollback, true)
    assertPlain(await edgectl('patch', 'cancel', 'nobody'), /no patch nobody[^]*patch status/)
  })

  test('of several at once, each sees what the one before has written', limit, async () => {
    await pushed('order-e')
    const all = await Promise.all(['a', 'b', 'c'].map((reason) => edgectl('--json', 'patch', 'pause', 'order-e', '--reason', reason)))
    const changed = all.map(({ out }) => (JSON.parse(out) as { changed: boolean }).changed)
    assert.deepEqual(changed.toSorted(), [false, false, true])
    assert.deepEqual((await audits('order-e')).toSorted(), ['pause', 'push'])
  })
})

describe('patch status', () => {
  test('says what a rollout waits for; nonsense in etcd is named, and moves no cursor', limit, async () => {
    await pushed('status-a', { channel: 'status' })
    const said = await edgectl('patch', 'status', 'status-a')
    assert.equal(said.code, 0)
    assert.match(said.out, /WAITING: status-a[^]*waits for/)
    await put('rollouts/status-a/cohorts/0', '\u001b[2J{')
    await put(keys.spec('status-b'), '\u001b[2Jnonsense')
    await put(keys.info('gw-\u001b[1m'), '{"site":"\u001b[2J"}')
    const list = await edgectl('patch', 'status')
    assert.equal(list.code, 0, list.err)
    assert.equal(list.out.includes('\u001b'), false)
    assert.match(list.out, /keys in etcd can't be used[^]*rollouts\/status-a\/cohorts\/0/)
    assert.equal((await edgectl('patch', 'status', 'status-b')).code, 0)
    await put(keys.rolloutState('status-a'), 'nonsense')
    assertPlain(await edgectl('patch', 'status', 'status-a'), /state in etcd can't be read/)
    assertPlain(await edgectl('patch', 'pause', 'status-a', '--reason', 'x'), /state in etcd can't be read/)
    assert.equal((await edgectl('patch', 'status', 'nobody')).code, 1)
    await tools.etcd.transact({ compare: [], then: [{ delete: keys.info('gw-\u001b[1m') }, { delete: keys.spec('status-b') }] })
  })

  test('--watch tells each change and ends with the rollout: 0 for completed, else 1', limit, async () => {
    for (const [phase, code] of [
      ['completed', 0],
      ['rolled-back', 1],
    ] as const) {
      const id = `watch-${code}`
      await pushed(id, { channel: id })
      const watching = launchEdgectl(['--config', trusting, 'patch', 'status', id, '--watch'])
      await until('it shows the beginning', async () => watching.out().includes(`${id} waiting`))
      await put(keys.rolloutState(id), stateOf(id, 'running'))
      await until('it shows the change', async () => watching.out().includes(`${id} running`))
      await put(keys.rolloutState(id), stateOf(id, phase))
      const said = await watching.ended
      assert.equal(said.code, code, said.err)
      assert.match(said.out, new RegExp(`${id} ${phase}`))
    }
  })
})

describe('an etcd that does not serve', () => {
  test('absent, or not ours to read: a sentence with what to do, and code 3', limit, async () => {
    const nowhere = writeYaml(dir, 'nowhere.yaml', { etcd: { endpoints: ['http://127.0.0.1:1'] } })
    for (const words of [['patch', 'status'], ['patch', 'pause', 'x', '--reason', 'y'], ['fleet']]) {
      const said = await launchEdgectl(['--config', nowhere, ...words]).ended
      assert.equal(said.code, 3, said.err)
      assertPlain(said, /etcd[^]*try: look whether etcd answers at http:\/\/127\.0\.0\.1:1/)
    }
    const none = writeYaml(dir, 'none.yaml', {})
    assertPlain(await launchEdgectl(['--config', none, 'fleet']).ended, /no etcd is named/)
  })
})
