import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConfigPatch } from '../../daemon/patch/document.ts'
import { listLocks } from '../../daemon/patch/lock-entries.ts'
import { CONTROLLER_SCOPE, keys } from '../../daemon/patch/records.ts'
import type { RolloutPhase, RolloutState } from '../../daemon/patch/records.ts'
import { PlayedBox } from '../fakes/rollout-fleet.ts'
import { judgeRollout } from '../fakes/rollout-judge.ts'
import { encode, patchFor, plan } from '../fakes/rollout.ts'
import { serviceScope } from '../services/index.ts'
import type { Service } from '../services/index.ts'
import { etcdctl, PREFIX, readHistory, toolsFor } from './etcd-kit.ts'
import { startController } from './rollout-child.ts'

const scope = serviceScope()
let etcd: Service
let tools: ReturnType<typeof toolsFor>
let controllers: Map<string, ChildProcess>

before(async () => {
  etcd = await scope.etcd()
  tools = toolsFor(etcd.port, { timeoutMs: 10_000 }) // a busy machine is none of the test's affair
  scope.atEnd(() => tools.etcd.close())
  controllers = new Map()
  for (const name of ['c1', 'c2', 'c3']) launch(name)
})

function launch(name: string): void {
  const child = startController(etcd.port, name)
  controllers.set(name, child)
  scope.atEnd(() => void child.kill('SIGKILL'))
}

async function elected(): Promise<string> {
  for (;;) {
    const [first] = await listLocks(tools, CONTROLLER_SCOPE)
    if (first?.owner !== undefined) return first.owner.gateway
    await sleep(20)
  }
}

async function killElected(): Promise<string> {
  const name = await elected()
  controllers.get(name)?.kill('SIGKILL')
  return name
}

async function stateOf(id: string): Promise<RolloutState | undefined> {
  const { answers } = await tools.etcd.transact({ compare: [], then: [{ get: keys.rolloutState(id) }] })
  const entry = answers[0]?.entries[0]
  return entry && (JSON.parse(Buffer.from(entry.value).toString()) as RolloutState)
}

async function until(id: string, phase: RolloutPhase): Promise<RolloutState> {
  for (;;) {
    const state = await stateOf(id)
    if (state?.phase === phase) return state
    await sleep(20)
  }
}

async function push(id: string, changes: Partial<ConfigPatch>): Promise<{ patch: ConfigPatch; boxes: PlayedBox[] }> {
  const patch = patchFor(id, { channel: id, expires: Date.now() + 3_600_000, ...changes })
  const boxes = Array.from({ length: 8 }, (_, index) => new PlayedBox(tools.etcd, `gw-${index}`, patch))
  for (const box of boxes) await box.register(Date.now())
  await tools.etcd.transact({ compare: [{ key: keys.spec(id), create: 0 }], then: [{ put: keys.spec(id), value: encode(patch) }] })
  return { patch, boxes }
}

const quick = [
  { size: { count: 1 }, bakeMs: 100, minDone: 1 },
  { size: { fraction: 0.5 }, bakeMs: 100, minDone: 1 },
  { size: { fraction: 1 }, bakeMs: 100, minDone: 1 },
]

/** Each begins when it may, and ends well. */
async function playWell(boxes: readonly PlayedBox[], isOver: () => Promise<boolean>): Promise<void> {
  while (!(await isOver())) {
    for (const box of boxes) if ((await box.begin()) !== undefined) await box.end('completed')
    await sleep(10)
  }
}

describe('controllers on a real etcd', { timeout: 120_000 }, () => {
  it('lead a rollout to its end although each elected one is killed', async () => {
    const { patch, boxes } = await push('kills', { rollout: plan({ stages: quick, concurrency: { scope: 'kills', slots: 3 } }) })
    const killed: string[] = []
    const playing = playWell(boxes, async () => (await stateOf('kills'))?.phase === 'completed')
    for (const phase of ['a', 'b', 'c', 'd']) {
      const name = await killElected()
      killed.push(`${phase} ${name}`)
      await sleep(500)
      launch(name)
      await sleep(1_500)
    }
    await playing
    const verdict = judgeRollout(await readHistory(etcd.endpoint), 'kills', patch.rollout)
    assert.deepEqual(verdict.violations, [])
    assert.equal(verdict.starts, 8)
    assert.equal(killed.length, 4)
    assert.deepEqual((await listLocks(tools, 'kills')).length, 0)
  })

  it('patch path 18: stop at two boxes that fail in the same instant', async () => {
    const stages = [{ size: { fraction: 1 }, bakeMs: 60_000, minDone: 0.5 }]
    const { patch, boxes } = await push('twins', { rollout: plan({ stages, maxFailures: 1, concurrency: { scope: 'twins', slots: 2 } }) })
    await until('twins', 'running')
    const [one, two, three] = boxes
    assert.ok(one && two && three)
    assert.deepEqual([await one.begin(), await two.begin()], [0, 0])
    await Promise.all([one.end('failed'), two.end('failed')])
    assert.equal(await three.begin(), undefined, 'the gate is shut before the controller has looked')
    const state = await until('twins', 'paused')
    assert.equal(state.pausedBy, 'failures')
    const { count } = await tools.etcd.list({ prefix: keys.failures('twins'), keysOnly: true })
    assert.equal(count, 2)
    assert.deepEqual(judgeRollout(await readHistory(etcd.endpoint), 'twins', patch.rollout).violations, [])
  })

  it('patch path 14: stop at a box that began and fell silent, and give its place free', async () => {
    const stages = [{ size: { fraction: 1 }, bakeMs: 0, minDone: 1 }]
    const health = { checks: [], consecutive: 1, deadlineMs: 100, bakeMs: -59_000 } // with the grace: about a second
    const { boxes } = await push('silent', { health, rollout: plan({ stages, concurrency: { scope: 'silent', slots: 1 } }) })
    await until('silent', 'running')
    const [box, other] = boxes
    assert.equal(await box?.begin(), 0)
    await box?.vanish()
    assert.equal(await other?.begin(), undefined, 'its marker holds the others back')
    const state = await until('silent', 'paused')
    assert.equal(state.decisions.at(-1)?.counts.failed, 1)
    assert.equal((await tools.etcd.list({ prefix: keys.open('silent'), keysOnly: true })).count, 0)
  })

  it('do what is written by hand, and are not felled by nonsense', async () => {
    const stages = [{ size: { fraction: 1 }, bakeMs: 0, minDone: 1 }]
    const { boxes } = await push('hand', { rollout: plan({ stages, concurrency: { scope: 'hand', slots: 8 } }) })
    await until('hand', 'running')
    const put = (key: string, value: string): Promise<string> => etcdctl(etcd.endpoint, 'put', PREFIX + key, value)
    await put('gateways/gw-1/results/hand', 'nonsense')
    await put('gateways/gw-77/info', '[]')
    await put('gateways/gw-78/alive', '{')
    await put('patches/broken/spec', '{')
    await put('patches/broken/control', '{"state":7}')
    await put('rollouts/elsewhere/state', 'x')
    await put('rollouts/hand/notes', 'x')
    await put('failures/hand/not-a-number', 'x')
    await until('broken', 'refused')
    await put('patches/hand/control', 'paused')
    assert.equal((await until('hand', 'paused')).pausedBy, 'operator')
    assert.equal(await boxes[0]?.begin(), undefined)
    await etcdctl(etcd.endpoint, 'del', `${PREFIX}patches/hand/control`)
    await sleep(1_500)
    assert.equal((await stateOf('hand'))?.phase, 'paused', 'a pause that is deleted is no order to go on')
    await put('patches/hand/control', 'cancelled')
    await until('hand', 'cancelled')
  })
})
