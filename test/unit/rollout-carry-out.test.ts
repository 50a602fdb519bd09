import assert from 'node:assert/strict'
import { it } from 'node:test'
import { keys } from '../../daemon/patch/records.ts'
import { carryOut, giveUp } from '../../daemon/patch/rollout/carry-out.ts'
import type { Reign } from '../../daemon/patch/rollout/carry-out.ts'
import { decide } from '../../daemon/patch/rollout/decide.ts'
import type { GoodView } from '../../daemon/patch/rollout/view.ts'
import { FakeClock } from '../fakes/clock.ts'
import { FakeEtcd } from '../fakes/etcd.ts'
import { box, encode, failure, stateOf, told, viewFrom } from '../fakes/rollout.ts'

class Rig {
  readonly etcd = new FakeEtcd(new FakeClock())
  reign: Reign = { token: 0, compare: { key: 'token', create: 0 }, by: 'c' }

  async put(key: string, value: unknown = {}): Promise<number> {
    return (await this.etcd.transact({ compare: [], then: [{ put: key, value: encode(value) }] })).revision
  }

  async begin(): Promise<GoodView> {
    const create = await this.put('token')
    this.reign = { token: create, compare: { key: 'token', create }, by: 'c' }
    return { ...viewFrom({ boxes: [box('a')] }), specMod: await this.put(keys.spec('p')) }
  }

  async carryOut(view: GoodView): Promise<boolean> {
    const move = decide(view)
    assert.ok(move)
    return carryOut(this.etcd, this.reign, view, move)
  }

  async keys(prefix: string): Promise<string[]> {
    return (await this.etcd.list({ prefix })).entries.map(({ key }) => key)
  }
}

it('a decision that comes a second time, or too late, writes nothing', async () => {
  const rig = new Rig()
  const view = await rig.begin()
  assert.equal(await rig.carryOut(view), true)
  assert.deepEqual(await rig.keys('rollouts/'), ['rollouts/p/cohorts/0', 'rollouts/p/state'])
  const { revision } = rig.etcd
  assert.equal(await rig.carryOut(view), false, 'the state is another one by now')
  // The same with everything else undone, so that the state alone can tell.
  await rig.etcd.transact({ compare: [], then: [{ delete: keys.cohort('p', 0) }] })
  assert.equal(await rig.carryOut(view), false)
  assert.equal(rig.etcd.revision, revision + 1)
})

it('a controller whose lock has gone writes nothing', async () => {
  const rig = new Rig()
  const view = await rig.begin()
  await rig.etcd.transact({ compare: [], then: [{ delete: 'token' }] })
  await rig.put('token')
  assert.equal(await rig.carryOut(view), false)
  assert.deepEqual(await rig.keys('rollouts/'), [])
})

it('an order, or one failure too many, that came meanwhile is not passed over', async () => {
  const rig = new Rig()
  const view = await rig.begin()
  await rig.put(keys.failure('p', 1))
  assert.equal(await rig.carryOut(view), false)
  await rig.etcd.transact({ compare: [], then: [{ delete: keys.failure('p', 1) }] })
  await rig.put(keys.control('p'))
  assert.equal(await rig.carryOut(view), false)
  await rig.etcd.transact({ compare: [], then: [{ delete: keys.control('p') }] })
  assert.equal(await rig.carryOut(view), true)
})

it('a retry forgives more failures than one transaction can delete', async () => {
  const rig = new Rig()
  const good = await rig.begin()
  const failures = Array.from({ length: 250 }, (_, index) => failure(`gw-${index}`))
  for (const index of failures.keys()) await rig.put(keys.failure('p', index + 1))
  const stateMod = await rig.put(keys.rolloutState('p'), stateOf('paused', 0))
  const mod = await rig.put(keys.control('p'))
  const control = { schema: 1, state: 'active', signed: true, answers: 0, retry: 1, mod } as const
  const view = { ...viewFrom({ state: stateOf('paused', 0), cohorts: [['a']], failures, control }), stateMod, specMod: good.specMod }
  assert.equal(await rig.carryOut(view), true)
  assert.deepEqual(await rig.keys('failures/'), [])
})

it('patch path 14: a box that ended at the last moment is not given up', async () => {
  const rig = new Rig()
  const good = await rig.begin()
  const resultMod = await rig.put(keys.result('a', 'p'))
  const markerMod = await rig.put(keys.openBy('plant', 'a'))
  const view = { ...viewFrom({ boxes: [told('a', 'applying', { resultMod, markerMod })] }), specMod: good.specMod }
  const silent = { gateway: 'a', resultMod, markerMod, failure: { number: 1, kind: 'silent', reason: '', token: 7 } } as const
  await rig.put(keys.result('a', 'p'))
  assert.equal(await giveUp(rig.etcd, rig.reign, view, silent), false)
  assert.deepEqual(await rig.keys('failures/'), [])
  const now = { ...silent, resultMod: rig.etcd.revision }
  assert.equal(await giveUp(rig.etcd, rig.reign, view, now), true)
  assert.deepEqual([await rig.keys('failures/'), await rig.keys(keys.open('plant'))], [['failures/p/1'], []])
})

it('the same view gives the same decision', () => {
  const view = viewFrom({ state: stateOf('running', 0), cohorts: [['a']], boxes: [told('a', 'failed')], failures: [failure('a')] })
  assert.deepEqual(decide(structuredClone(view)), decide(view))
})
