/** What a box asks about rollouts, and when it asks nothing. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { Rollouts } from '../../daemon/patch/agent/rollouts.ts'
import { keys } from '../../daemon/patch/records.ts'
import { FakeClock } from '../fakes/clock.ts'
import { FakeEtcd } from '../fakes/etcd.ts'
import { encode, stateOf } from '../fakes/rollout.ts'

const HOUR_MS = 3_600_000

class Scene {
  readonly clock = new FakeClock()
  readonly etcd = new FakeEtcd(this.clock)
  readonly rollouts = new Rollouts(this.etcd, 'gw-1', () => undefined)
  calls = 0
  nowMs = 0

  constructor() {
    this.etcd.verdict = () => {
      this.calls += 1
      return 'pass'
    }
  }

  async write(phase: 'running' | 'completed'): Promise<void> {
    await this.etcd.transact({ compare: [], then: [{ put: keys.rolloutState('p'), value: encode(stateOf(phase, -1)) }] })
    await turn()
  }

  /** How often etcd was asked for it. */
  async refresh(...patches: readonly string[]): Promise<number> {
    const before = this.calls
    await this.rollouts.refresh(new Set(patches), this.nowMs)
    this.rollouts.watch(patches, () => undefined)
    return this.calls - before
  }

  get phase(): string | undefined {
    return this.rollouts.state('p')?.state.phase
  }
}

describe('what a box asks about rollouts', () => {
  it('is nothing while its watch says nothing, for a quarter of an hour', async () => {
    const scene = new Scene()
    await scene.write('running')
    await scene.refresh('p')
    assert.equal(scene.phase, 'running')
    assert.equal(await scene.refresh('p'), 0)
    scene.nowMs += HOUR_MS
    assert.equal(await scene.refresh('p'), 1)
  })

  it('is the state again after each hint, and after one that was lost when the time has come', async () => {
    const scene = new Scene()
    await scene.write('running')
    await scene.refresh('p')
    await scene.write('completed')
    await scene.refresh('p')
    assert.equal(scene.phase, 'completed')
    scene.etcd.areHintsLost = true
    await scene.write('running')
    await scene.refresh('p')
    assert.equal(scene.phase, 'completed')
    scene.nowMs += HOUR_MS
    await scene.refresh('p')
    assert.equal(scene.phase, 'running')
  })

  it('is all that was asked before when the answer was lost, the watch ended, or another patch is there', async () => {
    const scene = new Scene()
    await scene.write('running')
    await scene.refresh('p')
    assert.ok((await scene.refresh('p', 'q')) > 0)
    scene.etcd.endWatches()
    await turn()
    const pass = scene.etcd.verdict
    scene.etcd.verdict = () => 'lost-request'
    await assert.rejects(scene.refresh('p', 'q'))
    scene.etcd.verdict = pass
    assert.ok((await scene.refresh('p', 'q')) > 0)
  })

  it('is a changed state again, when the look told of it and the answer with the state was lost', async () => {
    const scene = new Scene()
    await scene.write('running')
    await scene.refresh('p')
    await scene.write('completed')
    const pass = scene.etcd.verdict
    let asked = 0
    scene.etcd.verdict = () => (++asked === 2 ? 'lost-request' : 'pass')
    await assert.rejects(scene.refresh('p'))
    scene.etcd.verdict = pass
    await scene.refresh('p')
    assert.equal(scene.phase, 'completed')
  })
})
