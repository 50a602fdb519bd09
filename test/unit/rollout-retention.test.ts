import assert from 'node:assert/strict'
import { it } from 'node:test'
import { keys } from '../../daemon/patch/records.ts'
import type { ResultState, RolloutPhase } from '../../daemon/patch/records.ts'
import { KEEP_AUDIT_MS, KEEP_RESULTS_MS, Retention } from '../../daemon/patch/rollout/retention.ts'
import { takeSnapshot } from '../../daemon/patch/rollout/snapshot.ts'
import { FakeClock } from '../fakes/clock.ts'
import { FakeEtcd } from '../fakes/etcd.ts'
import { encode, result, stateOf } from '../fakes/rollout.ts'

const HOUR_MS = 3_600_000

class Rig {
  readonly clock = new FakeClock({ wallTrusted: true })
  readonly etcd = new FakeEtcd(this.clock)
  readonly retention = new Retention(this.clock)

  ago(ms: number): string {
    return new Date(this.clock.wallMs() - ms).toISOString()
  }

  async put(key: string, value: unknown): Promise<number> {
    return (await this.etcd.transact({ compare: [], then: [{ put: key, value: encode(value) }] })).revision
  }

  /** A rollout that has stood in this phase for so long, and one box's result. */
  async ended(patch: string, phase: RolloutPhase, agoMs: number, state: ResultState = 'completed'): Promise<void> {
    await this.put(keys.rolloutState(patch), { ...stateOf(phase, 0), patch, at: this.ago(agoMs) })
    await this.put(keys.result('b', patch), { ...result('b', state), patch })
  }

  async clear(token?: { readonly key: string; readonly create: number }): Promise<number> {
    this.clock.advance(HOUR_MS)
    const compare = token ?? { key: 'nobody', create: 0 }
    return this.retention.clear(this.etcd, { token: 1, by: 'c', compare }, await takeSnapshot(this.etcd))
  }

  async left(prefix: string): Promise<string[]> {
    return (await this.etcd.list({ prefix })).entries.map(({ key }) => key).sort()
  }
}

const LONG = KEEP_RESULTS_MS + 2 * HOUR_MS

it('results of rollouts that ended long ago go; what is in force, wanted or new stays', async () => {
  const rig = new Rig()
  for (const phase of ['cancelled', 'superseded', 'expired', 'rolled-back'] as const) await rig.ended(`old-${phase}`, phase, LONG)
  await rig.ended('new', 'superseded', KEEP_RESULTS_MS - 2 * HOUR_MS)
  for (const phase of ['completed', 'running', 'paused', 'waiting'] as const) await rig.ended(`kept-${phase}`, phase, LONG)
  for (const state of ['applying', 'broken', 'refused'] as const) await rig.ended(`kept-${state}`, 'cancelled', LONG, state)
  await rig.put(keys.result('b', 'no-rollout'), result('b', 'failed'))
  await rig.put('gateways/b/alive', { at: rig.ago(LONG) })
  assert.equal(await rig.clear(), 4)
  const kept = ['completed', 'running', 'paused', 'waiting', 'applying', 'broken', 'refused'].map((name) => `kept-${name}`)
  assert.deepEqual(await rig.left('gateways/b/results/'), [...kept, 'new', 'no-rollout'].map((name) => keys.result('b', name)).sort())
  assert.deepEqual(await rig.left('gateways/b/alive'), ['gateways/b/alive'])
  assert.equal((await rig.left('rollouts/')).length, 12, 'the rollouts themselves stay')
})

it('audit records go after more than a year; what has no time stays', async () => {
  const rig = new Rig()
  for (let n = 0; n < 250; n++) await rig.put(keys.audit(`old-${n}`), { at: rig.ago(KEEP_AUDIT_MS + 2 * HOUR_MS) })
  await rig.put(keys.audit('new'), { at: rig.ago(KEEP_AUDIT_MS - 2 * HOUR_MS) })
  for (const [name, value] of Object.entries({ null: null, text: 'x', number: { at: 5 }, word: { at: 'yesterday' } }))
    await rig.put(keys.audit(name), value)
  assert.equal(await rig.clear(), 250)
  assert.deepEqual(await rig.left('audit/'), ['new', 'null', 'number', 'text', 'word'].map((name) => keys.audit(name)).sort())
})

it('not before an hour, and never by one who leads no more', async () => {
  const rig = new Rig()
  await rig.put(keys.audit('old'), { at: rig.ago(KEEP_AUDIT_MS + 2 * HOUR_MS) })
  assert.equal(
    await rig.retention.clear(rig.etcd, { token: 1, by: 'c', compare: { key: 'x', create: 0 } }, await takeSnapshot(rig.etcd)),
    0,
  )
  assert.equal(await rig.clear({ key: 'locks/gone', create: 7 }), 0)
  assert.deepEqual(await rig.left('audit/'), [keys.audit('old')])
  assert.equal(await rig.clear(), 1)
})
