/** The box's side of the patch path on a real etcd, with the real runner and a fake kind. */
import assert from 'node:assert/strict'
import { afterEach, before, describe, it } from 'node:test'
import type { EtcdClient } from '../../adapters/etcd/client.ts'
import { GatewayError } from '../../daemon/errors.ts'
import type { Patch } from '../../daemon/patch/document.ts'
import { scopePrefix } from '../../daemon/patch/lock-entries.ts'
import { keys } from '../../daemon/patch/records.ts'
import { AgentRig, FakeFleet } from '../fakes/patch-agent.ts'
import type { BoxOptions } from '../fakes/patch-agent.ts'
import { FakeBox } from '../fakes/patch-kind.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'
import { patchFor, plan } from '../fakes/rollout.ts'
import { serviceScope } from '../services/index.ts'
import type { Service } from '../services/index.ts'
import { etcdctl, toolsFor } from './etcd-kit.ts'

const scope = serviceScope()
const DAY_MS = 86_400_000
let etcd: Service
let operator: EtcdClient
let fleet: FakeFleet
let count = 0
const running = new Set<() => Promise<void>>()

before(async () => {
  etcd = await scope.etcd()
})
afterEach(async () => {
  await Promise.all([...running].map((stop) => stop()))
  running.clear()
  operator.close()
})

/** Each test has a prefix of its own. */
function fresh(): string {
  const prefix = `/test-${++count}/`
  operator = toolsFor(etcd.port, { prefix }).etcd
  fleet = new FakeFleet(operator)
  return prefix
}

async function startBox(prefix: string, gateway: string, options: BoxOptions & { readonly port?: number } = {}): Promise<AgentRig> {
  const tools = toolsFor(options.port ?? etcd.port, { prefix })
  const rig = new AgentRig(gateway, tools, options)
  const stop = async (): Promise<void> => {
    running.delete(stop)
    await rig.stop()
    tools.etcd.close()
  }
  running.add(stop)
  stops.set(rig, stop)
  return rig.start()
}

const stops = new WeakMap<AgentRig, () => Promise<void>>()

function patch(id: string, changes: Partial<Extract<Patch, { kind: 'config' }>> = {}): Patch {
  const health = { checks: [], consecutive: 1, deadlineMs: 3_000, bakeMs: 1_000 }
  return patchFor(id, {
    expires: Date.now() + DAY_MS,
    health,
    rollout: plan({ concurrency: { scope: 'plant', slots: 1 } }),
    ...changes,
  })
}

describe('one patch from etcd to committed', () => {
  it('applies under the lock, tells one signed result, and leaves nothing behind', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const one = patch('one')
    await fleet.push(one)
    await box.until('it waits for a controller', () => box.why('one') === 'no controller has opened its rollout yet')
    await fleet.open(one, ['gw-1'])
    await box.until('completed', async () => (await fleet.result('gw-1', 'one'))?.state === 'completed')
    assert.equal(box.kind.box.running, 'one')
    assert.deepEqual(await fleet.keysBelow('locks/'), [])
    assert.deepEqual(await fleet.keysBelow('failures/'), [])
    const result = await fleet.result('gw-1', 'one')
    assert.equal((result as unknown as { signature: string }).signature, 'key of gw-1')
    assert.ok((result?.token ?? 0) > 0)
    await box.until('applied is told', async () => JSON.stringify(await fleet.get(keys.applied('gw-1'))).includes('"patch":"one"'))
    assert.deepEqual([...box.memory.below('outbound/').keys()], [])
  })

  it('starts nothing that its cohort does not name, and starts when a later stage does', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const one = patch('one')
    await fleet.push(one)
    await fleet.open(one, ['gw-2'])
    await box.until('its turn has not come', () => box.why('one')?.startsWith('its turn has not come') === true)
    assert.deepEqual(box.kind.box.calls, [])
    await fleet.open(one, ['gw-1'], 1)
    await box.until('completed', async () => (await fleet.result('gw-1', 'one'))?.state === 'completed')
  })

  it('patch path 12: a failure is counted once, told, denied, and not tried again', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const one = patch('one')
    box.kind.fault = (call) => {
      if (call === 'verify' && box.kind.box.linked === 'one') throw rejected('the new version says no')
    }
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await box.until('failed', async () => (await fleet.result('gw-1', 'one'))?.state === 'failed')
    assert.equal(box.kind.box.running, 'old')
    assert.deepEqual(await fleet.keysBelow('failures/'), [keys.failure('one', 1)])
    await box.until('it says so', () => box.why('one')?.startsWith('it failed here') === true)
    assert.deepEqual(await fleet.keysBelow('locks/'), [])
    assert.equal(box.kind.box.calls.filter((call) => call === 'flip').length, 1)
  })

  it('what is wrong with the patch is its failure; what is wrong with the box only waits', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const [bad, early] = [patch('bad', { channel: 'a' }), patch('early', { channel: 'b' })]
    let isEarly = true
    box.kind.fault = (call) => {
      if (call !== 'prepare') return
      if (isEarly) throw new GatewayError('saturated', 'no room on the disk')
      throw rejected('not for this release')
    }
    await fleet.push(early)
    await fleet.open(early, ['gw-1'])
    await box.until('it waits', () => box.why('early') === 'no room on the disk')
    assert.equal(await fleet.result('gw-1', 'early'), undefined)
    isEarly = false
    await fleet.push(bad)
    await fleet.open(bad, ['gw-1'])
    await box.until('failed', async () => (await fleet.result('gw-1', 'bad'))?.state === 'failed')
    assert.deepEqual(await fleet.keysBelow('failures/'), [keys.failure('bad', 1)])
  })

  it('an effect that may take longer than the lock was asked for gets a lock that lives longer', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1', { ttlMs: 2_000 })
    box.kind.limits = { flip: 5_000, activate: 50_000, unflip: 20_000, reactivate: 20_000 }
    const one = patch('one')
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await box.until('completed', async () => (await fleet.result('gw-1', 'one'))?.state === 'completed')
    await fleet.state(one, { phase: 'rolling-back', undo: 'all' })
    await box.until('rolled back', async () => (await fleet.result('gw-1', 'one'))?.state === 'rolled-back')
  })

  it('patch path 22: checks that fail on the old version as well deny nothing, and wait for the controller', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const health = { checks: ['pipeline-moving'], consecutive: 1, deadlineMs: 1_000, bakeMs: 1_000 }
    const one = patch('one', { health })
    box.kind.fault = (call) => {
      if (call === 'activate') box.checks.bad.set('pipeline-moving', 'Kafka unreachable')
    }
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await box.until('inconclusive', async () => (await fleet.result('gw-1', 'one'))?.state === 'inconclusive')
    assert.equal(box.kind.box.running, 'old')
    assert.equal(box.memory.below('denied/').size, 0)
    assert.deepEqual(await fleet.keysBelow('failures/'), [])
    await box.until('it waits', () => box.why('one')?.includes('the controller must look first') === true)
    box.checks.bad.clear()
    box.kind.fault = undefined
    const at = Date.parse((await fleet.result('gw-1', 'one'))?.at ?? '')
    await fleet.state(one, { reason: 'Kafka is back' })
    await box.until('it will try again', () => box.why('one')?.includes(new Date(at + 60_000).toISOString()) === true)
  })

  it('takes back what it completed when the rollout orders it', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const one = patch('one')
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await box.until('completed', async () => (await fleet.result('gw-1', 'one'))?.state === 'completed')
    await fleet.state(one, { phase: 'rolling-back', undo: 'all' })
    await box.until('rolled back', async () => (await fleet.result('gw-1', 'one'))?.state === 'rolled-back')
    assert.equal(box.kind.box.running, 'old')
    await fleet.state(one, { phase: 'rolled-back', undo: 'all' })
    await box.until(
      'it stays so',
      () => box.why('one') === 'it was taken back on order' || box.why('one')?.includes('rolled-back') === true,
    )
    assert.deepEqual(await fleet.keysBelow('locks/'), [])
  })

  it('patch path 26: a patch of another fleet is refused with the reason, and nothing is tried', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const one = patch('one', { fleet: 'acme-test' })
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await box.until('refused', async () => (await fleet.result('gw-1', 'one'))?.state === 'refused')
    assert.match(String((await fleet.result('gw-1', 'one'))?.reason), /acme-test/)
    assert.deepEqual(box.kind.box.calls, [])
  })
})

describe('a box that is not ready yet', () => {
  it('looks again soon, by itself', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const one = patch('one', { health: { checks: ['link'], consecutive: 1, deadlineMs: 3_000, bakeMs: 0 } })
    box.checks.bad.set('link', 'it is still coming up')
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await box.until('it waits', () => box.why('one')?.includes('it is still coming up') === true)
    assert.equal(await fleet.result('gw-1', 'one'), undefined)
    box.checks.bad.clear()
    await box.until('completed', async () => (await fleet.result('gw-1', 'one'))?.state === 'completed')
  })
})

describe('the lock of a patch', () => {
  it('patch path 2: a lock lost before FLIP leaves the old version, and the loss is told', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const one = patch('one')
    box.kind.fault = async (call, signal) => {
      if (call !== 'build') return
      await breakLocks(prefix)
      await aborted(signal)
      signal?.throwIfAborted()
    }
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await box.until('interrupted', async () => (await fleet.result('gw-1', 'one'))?.state === 'interrupted')
    assert.equal(box.kind.box.running, 'old')
    assert.ok(!box.kind.box.calls.includes('flip'))
    assert.deepEqual(await fleet.keysBelow('locks/'), [])
    await box.until('no silent retry', () => box.why('one')?.includes('attempt 2 of 3') === true)
  })

  it('a lock lost after FLIP ends locally, and is told once, under the token that it was started under', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const one = patch('one')
    let told = 0
    box.kind.fault = async (call) => {
      if (call === 'verify' && told++ === 0) await breakLocks(prefix)
    }
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await box.until('completed', async () => (await fleet.result('gw-1', 'one'))?.state === 'completed')
    assert.equal(box.kind.box.running, 'one')
    assert.deepEqual(await fleet.keysBelow('locks/'), [])
    assert.equal(box.kind.box.calls.filter((call) => call === 'flip').length, 1)
  })

  it('patch path 8: what a dead box left open keeps the next one out until it is classified', async () => {
    const prefix = fresh()
    const one = patch('one')
    await fleet.push(one)
    const marker = Buffer.from(JSON.stringify({ schema: 1, gateway: 'gw-dead', patch: 'one', token: 1, at: '' }))
    await operator.transact({ compare: [], then: [{ put: keys.openBy('plant', 'gw-dead'), value: marker }] })
    const box = await startBox(prefix, 'gw-1')
    await fleet.open(one, ['gw-1'])
    await box.until('it holds the lock', async () => (await fleet.keysBelow(scopePrefix('plant'))).length === 1)
    assert.equal(await fleet.result('gw-1', 'one'), undefined)
    assert.ok(!box.kind.box.calls.includes('fetch'))
    // The controller counts it, and takes the marker away: more failures than allowed shut the gate.
    await fleet.state(one, { phase: 'paused', reason: 'gw-dead is silent' })
    await fleet.remove(keys.openBy('plant', 'gw-dead'))
    await box.until('it gives the lock back', async () => (await fleet.keysBelow(scopePrefix('plant'))).length === 0)
    assert.ok(!box.kind.box.calls.includes('fetch'))
    await fleet.state(one, {})
    await box.until('completed', async () => (await fleet.result('gw-1', 'one'))?.state === 'completed')
  })

  it('one failure more than allowed shuts the gate, whatever the state still says', async () => {
    const prefix = fresh()
    const one = patch('one')
    await fleet.push(one)
    const failure = Buffer.from(JSON.stringify({ schema: 1, gateway: 'gw-9', kind: 'failed', reason: 'x', token: 5, at: '' }))
    await operator.transact({ compare: [], then: [{ put: keys.failure('one', 1), value: failure }] })
    const box = await startBox(prefix, 'gw-1')
    await fleet.open(one, ['gw-1'])
    await box.until('it has looked', async () => box.kind.box.calls.length > 0 && (await fleet.keysBelow('locks/')).length === 0)
    assert.equal(await fleet.result('gw-1', 'one'), undefined)
    assert.ok(!box.kind.box.calls.includes('fetch'))
  })

  it('patch path 9: the window is looked at again after the lock and before FLIP', async () => {
    const prefix = fresh()
    const window = { timezone: 'UTC', cron: '0 1 * * *', durationMs: 3_600_000 }
    const one = patch('one', { window })
    const box = await startBox(prefix, 'gw-1')
    box.windows.leftMs = 0
    box.windows.opensAtMs = Date.now() + DAY_MS
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await box.until('it waits', () => box.why('one')?.startsWith('its maintenance window opens') === true)
    box.kind.fault = (call) => {
      if (call === 'build') box.windows.leftMs = 10 // shorter than FLIP may take
    }
    box.windows.leftMs = DAY_MS
    box.agent.lookAgain()
    await box.until('interrupted', async () => (await fleet.result('gw-1', 'one'))?.state === 'interrupted')
    assert.ok(!box.kind.box.calls.includes('flip'))
    assert.match(String((await fleet.result('gw-1', 'one'))?.reason), /window/)
  })

  it('a cancel before FLIP ends the run at once', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1')
    const one = patch('one')
    box.kind.fault = async (call, signal) => {
      if (call !== 'fetch') return
      await fleet.control('one', { state: 'cancelled', by: 'ops' })
      await aborted(signal)
      signal?.throwIfAborted()
    }
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await box.until('interrupted', async () => (await fleet.result('gw-1', 'one'))?.state === 'interrupted')
    assert.equal(box.kind.box.running, 'old')
    await box.until('it is over', () => box.why('one')?.startsWith('it was cancelled') === true)
  })
})

describe('restarts and etcd away', () => {
  it('patch path 10: a patch that was under way at a kill is ended at the next start, without etcd, and told later', async () => {
    const prefix = fresh()
    const memory = new FakeMemory()
    const disk = new FakeBox()
    const one = patch('one', { health: { checks: [], consecutive: 1, deadlineMs: 30_000, bakeMs: 600_000 } })
    const first = await startBox(prefix, 'gw-1', { memory, box: disk })
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await first.until('it bakes', () => first.agent.state().running?.step === 'bake')
    await stops.get(first)?.()
    assert.equal((await fleet.result('gw-1', 'one'))?.state, 'applying')
    // Nobody listens on port 1: an offline boot.
    shortenBake(memory)
    const offline = await startBox(prefix, 'gw-1', { memory, box: disk, port: 1 })
    await offline.until('committed', () => memory.get('applied/one') !== undefined)
    await stops.get(offline)?.()
    const last = await startBox(prefix, 'gw-1', { memory, box: disk })
    await last.until('told', async () => (await fleet.result('gw-1', 'one'))?.state === 'completed')
    assert.deepEqual(await fleet.keysBelow(keys.open('plant')), [])
  })

  it('patch path 20: without etcd the box starts, holds nothing back, and stops in time', async () => {
    const prefix = fresh()
    const box = await startBox(prefix, 'gw-1', { port: 1 })
    await box.until('it says why', () => box.agent.state().trouble !== undefined)
    assert.equal(box.agent.state().belonging.kind, 'unmet')
    assert.deepEqual(box.belongings, [])
  })

  it('etcd silent from FLIP on: the box ends by itself, and tells one result when it is back', async () => {
    const prefix = fresh()
    const other = await scope.etcd()
    const tools = toolsFor(other.port, { prefix })
    const its = new FakeFleet(tools.etcd)
    const box = await startBox(prefix, 'gw-1', { port: other.port })
    const one = patch('one')
    box.kind.fault = (call) => {
      if (call === 'activate') other.pause()
    }
    await its.push(one)
    await its.open(one, ['gw-1'])
    await box.until('committed', () => box.memory.get('applied/one') !== undefined)
    other.resume()
    await box.until('told', async () => (await its.result('gw-1', 'one').catch(() => undefined))?.state === 'completed')
    assert.equal(box.kind.box.calls.filter((call) => call === 'flip').length, 1)
    await stops.get(box)?.()
    tools.etcd.close()
    await other.stop()
  })

  it('etcd silent before FLIP: the old version stays', async () => {
    const prefix = fresh()
    const other = await scope.etcd()
    const tools = toolsFor(other.port, { prefix })
    const its = new FakeFleet(tools.etcd)
    const box = await startBox(prefix, 'gw-1', { port: other.port })
    const one = patch('one')
    box.kind.fault = async (call, signal) => {
      if (call !== 'build') return
      other.pause()
      await aborted(signal)
      signal?.throwIfAborted()
    }
    await its.push(one)
    await its.open(one, ['gw-1'])
    await box.until('taken back', () => box.memory.get('journal/run') === undefined && box.memory.below('outbound/').size === 1)
    assert.equal(box.kind.box.running, 'old')
    other.resume()
    await box.until('told', async () => (await its.result('gw-1', 'one').catch(() => undefined))?.state === 'interrupted')
    await stops.get(box)?.()
    tools.etcd.close()
    await other.stop()
  })
})

describe('who a box is', () => {
  it('two boxes with one id: the second holds, writes nothing, and says what to do', async () => {
    const prefix = fresh()
    const first = await startBox(prefix, 'gw-1')
    await first.until('bound', () => first.agent.state().belonging.kind === 'ours')
    const written = await etcdctl(etcd.endpoint, 'get', '--prefix', `${prefix}gateways/`)
    const second = await startBox(prefix, 'gw-1', { publicKey: 'another key', machine: 'another board' })
    await second.until('duplicate', () => second.agent.state().belonging.kind === 'duplicate')
    const belonging = second.agent.state().belonging
    assert.match('remedy' in belonging ? belonging.remedy : '', /edgectl fleet release gw-1/)
    assert.equal(second.belongings.at(-1)?.kind, 'duplicate')
    assert.equal(await etcdctl(etcd.endpoint, 'get', '--prefix', `${prefix}gateways/`), written)
    const one = patch('one')
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await first.until('completed', async () => (await fleet.result('gw-1', 'one'))?.state === 'completed')
    assert.deepEqual(second.kind.box.calls, [])
  })

  it('a card that was moved to another board holds at once, also without etcd', async () => {
    const prefix = fresh()
    const memory = new FakeMemory()
    const first = await startBox(prefix, 'gw-1', { memory })
    await first.until('bound', () => memory.get('identity') !== undefined)
    await stops.get(first)?.()
    const moved = await startBox(prefix, 'gw-1', { memory, machine: 'another board', port: 1 })
    assert.equal(moved.agent.state().belonging.kind, 'duplicate')
  })

  it('patch path 23: a new box applies what is in force, in the order of the sequences', async () => {
    const prefix = fresh()
    for (const sequence of [2, 1, 3]) {
      const one = patch(`p${sequence}`, { sequence })
      await fleet.push(one)
      await fleet.open(one, ['gw-0'])
      await fleet.state(one, { phase: 'completed' })
    }
    const box = await startBox(prefix, 'gw-1')
    await box.until('all', async () => (await fleet.result('gw-1', 'p3'))?.state === 'completed')
    const order = [...box.memory.below('history/').values()].map((outcome) => (outcome as { patch: string }).patch)
    assert.deepEqual(order, ['p1', 'p2', 'p3'])
  })

  it('patch path 23: a released and re-imaged box takes its floors from what its old key signed', async () => {
    const prefix = fresh()
    const first = await startBox(prefix, 'gw-1')
    const two = patch('two', { sequence: 2 })
    await fleet.push(two)
    await fleet.open(two, ['gw-1'])
    await fleet.state(two, { phase: 'completed' })
    await first.until('applied is told', async () => JSON.stringify(await fleet.get(keys.applied('gw-1')))?.includes('"two"'))
    await stops.get(first)?.()
    const again = await startBox(prefix, 'gw-1', { publicKey: 'new key' })
    await again.until('duplicate', () => again.agent.state().belonging.kind === 'duplicate')
    await stops.get(again)?.()
    const identity = Buffer.from(JSON.stringify(await fleet.get(keys.identity('gw-1'))))
    const then = [{ put: keys.released('gw-1'), value: identity }, { delete: keys.identity('gw-1') }]
    await operator.transact({ compare: [], then })
    const older = patch('older', { sequence: 1 })
    await fleet.push(older)
    const made = await startBox(prefix, 'gw-1', { publicKey: 'new key' })
    await made.until('two is back', () => made.kind.box.running === 'two')
    await made.until('older is refused', async () => (await fleet.result('gw-1', 'older'))?.state === 'refused')
  })
})

function rejected(message: string): Error {
  return new GatewayError('rejected', message)
}

async function aborted(signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined || signal.aborted) return
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** As an operator does by hand. */
async function breakLocks(prefix: string): Promise<void> {
  await etcdctl(etcd.endpoint, 'del', '--prefix', `${prefix}locks/plant/`)
}

/** The rest of a long bake is not what the test is about. */
function shortenBake(memory: FakeMemory): void {
  const run = memory.get('journal/run') as { health: object }
  memory.stored.set('journal/run', JSON.stringify({ ...run, health: { ...run.health, bakeMs: 0 } }))
}
