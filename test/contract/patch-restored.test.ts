/** etcd taken back to a backup in the middle of a rollout: what the box and the controller make of it. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Patch } from '../../daemon/patch/document.ts'
import { keys } from '../../daemon/patch/records.ts'
import type { RolloutState } from '../../daemon/patch/records.ts'
import { RolloutController } from '../../daemon/patch/rollout/controller.ts'
import { AgentRig, FakeFleet } from '../fakes/patch-agent.ts'
import { encode, patchFor, plainReader, plan } from '../fakes/rollout.ts'
import { PlayedBox } from '../fakes/rollout-fleet.ts'
import { serviceScope } from '../services/index.ts'
import type { Service } from '../services/index.ts'
import { clock, etcdctl, restore, toolsFor } from './etcd-kit.ts'

const scope = serviceScope()
const TOKEN = 'etcd-cluster'

function patch(id: string, sequence = 1): ReturnType<typeof patchFor> {
  const health = { checks: [], consecutive: 1, deadlineMs: 3_000, bakeMs: 1_000 }
  const rollout = plan({ concurrency: { scope: 'plant', slots: 1 } })
  return patchFor(id, { sequence, health, rollout, expires: Date.now() + 86_400_000 })
}

interface Rig {
  readonly etcd: Service
  readonly fleet: FakeFleet
  readonly box: AgentRig
  readonly open: (one: Patch) => Promise<void>
  readonly backup: () => Promise<void>
  readonly back: (token?: string) => Promise<void>
}

async function rig(): Promise<Rig> {
  const etcd = await scope.etcd()
  const [operator, tools] = [toolsFor(etcd.port, { timeoutMs: 10_000 }), toolsFor(etcd.port)]
  const fleet = new FakeFleet(operator.etcd)
  const box = new AgentRig('gw-1', tools)
  scope.atEnd(async () => {
    await box.stop()
    tools.etcd.close()
    operator.etcd.close()
  })
  const file = join(etcd.dir, 'backup.db')
  return {
    etcd,
    fleet,
    box: await box.start(),
    async open(one) {
      await fleet.push(one)
      await fleet.open(one, ['gw-1'])
    },
    backup: async () => void (await etcdctl(etcd.endpoint, 'snapshot', 'save', file)),
    async back(token = TOKEN) {
      await restore(etcd, file, token)
      await etcd.start()
    },
  }
}

/** etcd needs a moment until it answers everybody again. */
async function settled<T>(ask: () => Promise<T>): Promise<T | undefined> {
  return ask().catch(() => undefined)
}

describe('a box whose etcd was restored', { timeout: 120_000 }, () => {
  it('patch path 27: a turn of the old history ends before FLIP, and is told in the new one', async () => {
    const { fleet, box, open, backup, back } = await rig()
    await box.until('it is met', () => box.agent.state().belonging.kind === 'ours')
    const one = patch('one')
    // A backup that knows the turn would be no other history.
    const saved = Promise.withResolvers<void>()
    let held = 0
    box.kind.fault = async (call, signal) => {
      if (call === 'prepare') await saved.promise
      if (call !== 'build' || held++ > 0) return
      await back()
      if (!signal?.aborted) await new Promise((resolve) => signal?.addEventListener('abort', resolve, { once: true }))
      signal?.throwIfAborted()
    }
    await open(one)
    await backup()
    saved.resolve()
    await box.until('taken back', () => held === 1 && box.memory.get('journal/run') === undefined)
    assert.equal(box.kind.box.running, 'old')
    assert.ok(!box.kind.box.calls.includes('flip'))
    await box.until('told', async () => (await settled(() => fleet.result('gw-1', 'one')))?.state === 'interrupted')
    assert.deepEqual(await fleet.keysBelow('locks/'), [])
  })

  it('patch path 27: what it committed is told again where the backup does not know it, and applied only once', async () => {
    const { fleet, box, open, backup, back } = await rig()
    const one = patch('one')
    await open(one)
    await backup()
    await box.until('completed', async () => (await fleet.result('gw-1', 'one'))?.state === 'completed')
    await back()
    await box.until('told again', async () => (await settled(() => fleet.result('gw-1', 'one')))?.state === 'completed')
    const applied = async (): Promise<string> => JSON.stringify(await settled(() => fleet.get(keys.applied('gw-1'))))
    await box.until('in force again', async () => (await applied()).includes('"one"'))
    assert.equal(box.kind.box.calls.filter((call) => call === 'flip').length, 1)
    const two = patch('two', 2)
    await open(two)
    await box.until('the next one', async () => (await settled(() => fleet.result('gw-1', 'two')))?.state === 'completed')
  })

  it('patch path 27: a failure that the backup does not know is counted again, and the patch is not tried again', async () => {
    const { fleet, box, open, backup, back } = await rig()
    const one = patch('one')
    box.kind.fault = async (call) => {
      if (call === 'fetch') await backup()
      if (call === 'verify' && box.kind.box.linked === 'one') box.checks.bad.set('x', 'no')
    }
    const bad = { ...one, health: { ...one.health, checks: ['x'] } }
    await open(bad)
    box.checks.onRound = () => void (box.kind.box.linked === 'old' && box.checks.bad.clear())
    await box.until('failed', async () => (await fleet.result('gw-1', 'one'))?.state === 'failed')
    await back('another')
    await box.until('told again', async () => (await settled(() => fleet.result('gw-1', 'one')))?.state === 'failed')
    assert.deepEqual(await fleet.keysBelow(keys.failures('one')), [keys.failure('one', 1)])
    assert.deepEqual(await fleet.keysBelow(keys.open('plant')), [])
    assert.equal(box.kind.box.calls.filter((call) => call === 'flip').length, 1)
  })
})

describe('a controller whose etcd was restored', { timeout: 120_000 }, () => {
  it('patch path 27: begins anew with a token of the new history, and leads the rollout to its end', async () => {
    const etcd = await scope.etcd()
    const [tools, its] = [toolsFor(etcd.port, { timeoutMs: 10_000 }), toolsFor(etcd.port)]
    const lines: string[] = []
    const say = (_: object, message: string): void => void lines.push(message)
    const log = { debug: say, info: say, warn: say, error: say }
    const settings = { owner: { gateway: 'c1', life: '1' }, ttlMs: 2_000, busyMs: 300, idleMs: 300, pauseMs: 20 }
    const controller = new RolloutController(its, settings, plainReader, log)
    await controller.start(new AbortController().signal)
    scope.atEnd(async () => {
      await controller.stop(clock.monotonicMs() + 1_000)
      its.etcd.close()
      tools.etcd.close()
    })
    const stages = [
      { size: { count: 1 }, bakeMs: 0, minDone: 1 },
      { size: { fraction: 1 }, bakeMs: 0, minDone: 1 },
    ]
    const one = patchFor('one', {
      expires: Date.now() + 3_600_000,
      rollout: plan({ stages, concurrency: { scope: 'restored', slots: 1 } }),
    })
    const boxes = ['gw-1', 'gw-2', 'gw-3'].map((name) => new PlayedBox(tools.etcd, name, one))
    for (const box of boxes) await box.register(Date.now())
    await tools.etcd.transact({ compare: [], then: [{ put: keys.spec('one'), value: encode(one) }] })
    const state = async (): Promise<RolloutState | undefined> =>
      settled(async () => {
        const { answers } = await tools.etcd.transact({ compare: [], then: [{ get: keys.rolloutState('one') }] })
        const entry = answers[0]?.entries[0]
        return entry && (JSON.parse(Buffer.from(entry.value).toString()) as RolloutState)
      })
    while ((await state())?.stage !== 0) await sleep(20)
    const file = join(etcd.dir, 'backup.db')
    await etcdctl(etcd.endpoint, 'snapshot', 'save', file)
    const play = async (isOver: (now: RolloutState | undefined) => boolean): Promise<void> => {
      while (!isOver(await state())) {
        for (const box of boxes) if ((await settled(() => box.begin())) !== undefined) await box.end('completed')
        await sleep(20)
      }
    }
    await play((now) => now?.stage === 1)
    await restore(etcd, file, TOKEN)
    await etcd.start()
    for (const box of boxes) await box.vanish().catch(() => undefined)
    await play((now) => now?.phase === 'completed')
    const last = await state()
    assert.equal(last?.decisions.length, 3, 'open, open, put in force: each once in the history that counts')
    assert.ok(lines.filter((line) => line === 'this controller decides').length >= 2, lines.join('\n'))
  })
})
