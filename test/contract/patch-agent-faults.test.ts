/** The box's side of the patch path on a real etcd, when lease, link, loop, clock or fleet fail it at a chosen moment. */
import assert from 'node:assert/strict'
import { afterEach, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { EtcdClient } from '../../adapters/etcd/client.ts'
import type { Clock } from '../../daemon/clock.ts'
import { GatewayError } from '../../daemon/errors.ts'
import type { ConfigPatch } from '../../daemon/patch/document.ts'
import { encodeOwner, entryKey, listLocks, scopePrefix } from '../../daemon/patch/lock-entries.ts'
import type { Etcd, LeaseId, Transaction } from '../../daemon/patch/ports.ts'
import { keys } from '../../daemon/patch/records.ts'
import type { RolloutState } from '../../daemon/patch/records.ts'
import { RolloutController } from '../../daemon/patch/rollout/controller.ts'
import type { Tools } from '../../daemon/patch/wait.ts'
import { AgentRig, FakeFleet } from '../fakes/patch-agent.ts'
import type { BoxOptions } from '../fakes/patch-agent.ts'
import { FakeBox } from '../fakes/patch-kind.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'
import { patchFor, plainReader, plan } from '../fakes/rollout.ts'
import { serviceScope } from '../services/index.ts'
import type { Service } from '../services/index.ts'
import { clock, etcdctl, forever, readHistory, toolsFor } from './etcd-kit.ts'

const scope = serviceScope()
const TTL_MS = 2_000
let etcd: Service
let operator: EtcdClient
let fleet: FakeFleet
let prefix = ''
let count = 0
const stops: (() => Promise<void> | void)[] = []

before(async () => {
  etcd = await scope.etcd()
})
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

/** Each test has a prefix of its own, below the one whose history is read. */
function fresh(service = etcd): void {
  prefix = `/edge/v1/t${++count}/`
  operator = toolsFor(service.port, { prefix }).etcd
  stops.push(() => operator.close())
  fleet = new FakeFleet(operator)
}

interface Options extends BoxOptions {
  readonly port?: number
  readonly around?: (inner: Etcd) => Etcd
}

async function startBox(gateway: string, options: Options = {}): Promise<AgentRig & { readonly end: () => Promise<void> }> {
  const made = toolsFor(options.port ?? etcd.port, { prefix, ...(options.clock !== undefined && { clock: options.clock }) })
  const tools: Tools = { ...made, etcd: options.around?.(made.etcd) ?? made.etcd }
  const rig = new AgentRig(gateway, tools, { ttlMs: TTL_MS, ...options })
  let isOver = false
  const end = async (): Promise<void> => {
    if (isOver) return
    isOver = true
    await rig.stop()
    made.etcd.close()
  }
  stops.push(end)
  return Object.assign(await rig.start(), { end })
}

function patch(id: string, changes: Partial<ConfigPatch> = {}): ConfigPatch {
  const health = { checks: [], consecutive: 1, deadlineMs: 3_000, bakeMs: 0 }
  const rollout = plan({ concurrency: { scope: 'plant', slots: 1 } })
  return patchFor(id, { expires: Date.now() + 86_400_000, health, rollout, ...changes })
}

async function open(one: ConfigPatch, ...gateways: string[]): Promise<void> {
  await fleet.push(one)
  await fleet.open(one, gateways)
}

/** What the result said, one after the other, as etcd kept it. */
async function statesOf(gateway: string, id: string): Promise<string[]> {
  const key = `${prefix}${keys.result(gateway, id)}`.slice('/edge/v1/'.length)
  const events = (await readHistory(etcd.endpoint)).filter((event) => event.key === key)
  return events.map(({ value }) => (JSON.parse(Buffer.from(value).toString()) as { state: string }).state)
}

async function untilTold(box: AgentRig, id: string, state: string): Promise<void> {
  // The test's own client stands still with a loop that is blocked.
  await box.until(`${id} is ${state}`, async () => (await fleet.result(box.gateway, id).catch(() => undefined))?.state === state)
}

async function assertNothingLeft(): Promise<void> {
  assert.deepEqual(await fleet.keysBelow('locks/'), [])
}

async function revokeByHand(): Promise<void> {
  const [entry] = await listLocks({ etcd: operator }, 'plant')
  await etcdctl(etcd.endpoint, 'lease', 'revoke', entry?.leaseHex ?? '')
}

async function aborted(signal: AbortSignal | undefined): Promise<void> {
  if (signal !== undefined && !signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  signal?.throwIfAborted()
}

/** Busy, as a long computation is. */
function block(ms: number): void {
  for (const endMs = performance.now() + ms; performance.now() < endMs;);
}

/** Somebody else's place in the queue, taken by hand. */
async function occupy(name = 'plant', gateway = 'gw-other'): Promise<LeaseId> {
  const { id } = await operator.grantLease(120_000)
  await operator.transact({ compare: [], then: [{ put: entryKey(name, id), value: encodeOwner({ gateway, life: 'x' }), lease: id }] })
  return id
}

describe('a box that loses its lease', { timeout: 120_000 }, () => {
  it('patch path 2: revoked by hand before FLIP: the old version stays, told once', async () => {
    fresh()
    const box = await startBox('gw-1')
    box.kind.fault = async (call, signal) => {
      if (call !== 'build') return
      await revokeByHand()
      await aborted(signal)
    }
    await open(patch('one'), 'gw-1')
    await untilTold(box, 'one', 'interrupted')
    assert.deepEqual([box.kind.box.running, box.kind.box.calls.includes('flip')], ['old', false])
    assert.deepEqual(await statesOf('gw-1', 'one'), ['applying', 'interrupted'])
    await assertNothingLeft()
  })

  it('patch path 2: revoked by hand after FLIP: it ends by itself, told once', async () => {
    fresh()
    const box = await startBox('gw-1')
    let looks = 0
    box.kind.fault = async (call) => {
      if (call === 'verify' && looks++ === 0) await revokeByHand()
    }
    await open(patch('one'), 'gw-1')
    await untilTold(box, 'one', 'completed')
    assert.equal(box.kind.box.running, 'one')
    assert.deepEqual(await statesOf('gw-1', 'one'), ['applying', 'completed'])
    await assertNothingLeft()
  })

  it('patch path 2: a loop that stands still for twice the TTL before FLIP changes nothing afterwards', async () => {
    fresh()
    const box = await startBox('gw-1')
    box.kind.fault = (call) => {
      if (call === 'pre') block(2 * TTL_MS + 500)
    }
    await open(patch('one'), 'gw-1')
    await untilTold(box, 'one', 'interrupted')
    assert.equal(box.kind.box.calls.includes('flip'), false)
    assert.deepEqual(await statesOf('gw-1', 'one'), ['applying', 'interrupted'])
    await assertNothingLeft()
  })

  it('patch path 2: a loop that stands still for twice the TTL after FLIP tells one end', async () => {
    fresh()
    const box = await startBox('gw-1')
    box.kind.fault = (call) => {
      if (call === 'activate') block(2 * TTL_MS + 500)
    }
    await open(patch('one'), 'gw-1')
    await box.until('an end is told', async () => (await statesOf('gw-1', 'one')).length === 2)
    assert.deepEqual([await statesOf('gw-1', 'one'), box.kind.box.running], [['applying', 'completed'], 'one'])
    await assertNothingLeft()
  })

  it('patch path 1: a lease that goes while it waits is no grant; it stands in the queue again, and has its turn later', async () => {
    fresh()
    const other = await occupy()
    const box = await startBox('gw-1', { ttlMs: 60_000 })
    await open(patch('one'), 'gw-1')
    const own = async (): Promise<string | undefined> =>
      (await listLocks({ etcd: operator }, 'plant')).find(({ owner }) => owner?.gateway === 'gw-1')?.leaseHex
    await box.until('it waits', async () => (await own()) !== undefined)
    const first = await own()
    await etcdctl(etcd.endpoint, 'lease', 'revoke', first ?? '')
    await box.until('it waits again', async () => ![undefined, first].includes(await own()))
    assert.equal(await fleet.result('gw-1', 'one'), undefined)
    await operator.revokeLease(other)
    await untilTold(box, 'one', 'completed')
    await assertNothingLeft()
  })
})

type Named = 'enqueue' | 'gate' | 'release' | 'undo' | 'other'

function nameOf({ then }: Transaction): Named {
  const puts = then.flatMap((one) => ('put' in one ? [one] : []))
  if (puts.some(({ put }) => put.startsWith('locks/') && !put.includes('~open/'))) return 'enqueue'
  const result = puts.find(({ put }) => put.includes('/results/'))
  if (result === undefined) return 'other'
  return Buffer.from(result.value).toString().includes('"state":"applying"') ? 'gate' : 'release'
}

describe('a box on a bad link', { timeout: 120_000 }, () => {
  for (const lost of ['enqueue', 'gate', 'release'] as const) {
    it(`patch path ${lost === 'enqueue' ? '4' : '3'}: the answer to the ${lost} is lost: one start, one end, nothing left`, async () => {
      fresh()
      const proxy = await scope.proxy({ target: etcd.port })
      let sent = 0
      const around = (inner: Etcd): Etcd =>
        new Proxy(inner, {
          get(target, name) {
            const member = Reflect.get(target, name, target) as (...given: unknown[]) => unknown
            if (name !== 'transact') return (...given: unknown[]) => member.apply(target, given)
            return async (transaction: Transaction) => {
              if (nameOf(transaction) !== lost || sent++ > 0) return target.transact(transaction)
              proxy.dropResponses()
              return target.transact(transaction).finally(() => proxy.heal())
            }
          },
        })
      const box = await startBox('gw-1', { port: proxy.port, around, ttlMs: 20_000 })
      await open(patch('one'), 'gw-1')
      await untilTold(box, 'one', 'completed')
      await box.until('nothing is kept', () => box.memory.below('outbound/').size === 0)
      assert.ok(sent >= 2, `${lost} was sent ${sent} times`)
      assert.deepEqual(await statesOf('gw-1', 'one'), ['applying', 'completed'])
      assert.equal(box.kind.box.calls.filter((call) => call === 'flip').length, 1)
      await assertNothingLeft()
    })
  }

  it('a compaction while it waits for the lock, and for what another left open, costs it no turn', async () => {
    const own = await scope.etcd() // the history of the other one is read to its beginning
    fresh(own)
    const other = await occupy()
    const marker = Buffer.from(JSON.stringify({ schema: 1, gateway: 'gw-dead', patch: 'one', token: 1, at: '' }))
    await operator.transact({ compare: [], then: [{ put: keys.openBy('plant', 'gw-dead'), value: marker }] })
    const box = await startBox('gw-1', { port: own.port, ttlMs: 60_000 })
    await open(patch('one'), 'gw-1')
    const compact = async (): Promise<void> => {
      const { revision } = await operator.transact({ compare: [], then: [{ put: 'noise', value: Buffer.from('x') }] })
      await etcdctl(own.endpoint, 'compact', String(revision))
    }
    await box.until('it waits', async () => (await listLocks({ etcd: operator }, 'plant')).length === 2)
    await compact()
    await operator.revokeLease(other)
    await box.until('it holds', async () => (await listLocks({ etcd: operator }, 'plant')).length === 1)
    await compact()
    await fleet.remove(keys.openBy('plant', 'gw-dead'))
    await untilTold(box, 'one', 'completed')
  })
})

describe('time and names', { timeout: 120_000 }, () => {
  it('patch path 6: a wall clock that jumps by an hour, either way, in the middle of a run changes nothing', async () => {
    fresh()
    let jumpMs = 0
    const jumping: Clock = {
      wallMs: () => clock.wallMs() + jumpMs,
      monotonicMs: () => clock.monotonicMs(),
      bootMs: () => clock.bootMs(),
      bootId: clock.bootId,
      wallTrusted: () => true,
      after: (ms, fn) => clock.after(ms, fn),
    }
    const box = await startBox('gw-1', { clock: jumping })
    box.kind.fault = async (call) => {
      if (call === 'build') jumpMs = 3_600_000
      if (call === 'verify') jumpMs = -3_600_000
      if (call === 'build' || call === 'verify') await sleep(TTL_MS) // over a renewal at least
    }
    await open(patch('one'), 'gw-1')
    await untilTold(box, 'one', 'completed')
    assert.deepEqual(await statesOf('gw-1', 'one'), ['applying', 'completed'])
  })

  it('scopes whose names begin alike keep nobody of the other waiting', async () => {
    fresh()
    await occupy('plant-7')
    const marker = Buffer.from(JSON.stringify({ schema: 1, gateway: 'gw-dead', patch: 'x', token: 1, at: '' }))
    await operator.transact({ compare: [], then: [{ put: keys.openBy('plant-7', 'gw-dead'), value: marker }] })
    const box = await startBox('gw-1')
    await open(patch('one'), 'gw-1')
    await untilTold(box, 'one', 'completed')
  })
})

describe('a box among others', { timeout: 120_000 }, () => {
  it('patch path 18: two boxes that fail in the same instant are both counted, and no third one starts', async () => {
    fresh()
    const gateways = ['gw-1', 'gw-2', 'gw-3', 'gw-4']
    const both = Promise.withResolvers<void>()
    let failing = 0
    const boxes = await Promise.all(gateways.map((name) => startBox(name, { ttlMs: 10_000 })))
    for (const box of boxes) {
      box.kind.fault = async (call) => {
        if (call !== 'verify' || box.kind.box.linked !== 'one') return
        if (++failing === 2) both.resolve()
        await both.promise
        throw new GatewayError('rejected', 'the new version says no')
      }
    }
    for (const box of boxes) await box.until('it belongs', () => box.agent.state().belonging.kind === 'ours')
    const led = toolsFor(etcd.port, { prefix })
    const settings = { owner: { gateway: 'ctl', life: '1' }, ttlMs: 5_000, busyMs: 500, idleMs: 500, pauseMs: 20 }
    const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
    const controller = new RolloutController(led, settings, plainReader, silent)
    await controller.start(forever)
    stops.push(async () => {
      await controller.stop(performance.now() + 5_000)
      led.etcd.close()
    })
    const stages = [{ size: { fraction: 1 }, bakeMs: 0, minDone: 0.5 }]
    await fleet.push(patch('one', { rollout: plan({ stages, maxFailures: 0, concurrency: { scope: 'plant', slots: 2 } }) }))
    const state = async (): Promise<RolloutState | undefined> => (await fleet.get(keys.rolloutState('one'))) as RolloutState | undefined
    await boxes[0]?.until('the rollout is paused', async () => (await state())?.phase === 'paused')
    assert.equal((await state())?.pausedBy, 'failures')
    assert.deepEqual(await fleet.keysBelow('failures/'), [keys.failure('one', 1), keys.failure('one', 2)])
    await boxes[0]?.until('nobody holds the lock', async () => (await fleet.keysBelow(scopePrefix('plant'))).length === 0)
    const started = boxes.filter(({ kind }) => kind.box.calls.includes('fetch'))
    assert.equal(started.length, 2)
    assert.deepEqual(
      boxes.map(({ kind }) => kind.box.running),
      ['old', 'old', 'old', 'old'],
    )
  })

  it('patch path 24: what comes later with a lower sequence is refused, and the higher one stays', async () => {
    fresh()
    const box = await startBox('gw-1')
    await open(patch('p42', { sequence: 42 }), 'gw-1')
    await untilTold(box, 'p42', 'completed')
    await open(patch('p41', { sequence: 41 }), 'gw-1')
    await untilTold(box, 'p41', 'refused')
    assert.equal(box.kind.box.running, 'p42')
    assert.match(String((await fleet.result('gw-1', 'p41'))?.reason), /sequence 41 is not above 42/)
  })

  it('an undo that could not begin is told as no end: whoever leads must not take the box for free of it', async () => {
    fresh()
    const box = await startBox('gw-1')
    const one = patch('one')
    await open(one, 'gw-1')
    await untilTold(box, 'one', 'completed')
    let asked = 0
    box.kind.limits = {
      // First for the length of the lock, then right before the effect: by then the lease has gone.
      get unflip() {
        if (++asked === 2) block(2 * TTL_MS + 500)
        return 100
      },
    }
    await fleet.state(one, { phase: 'rolling-back', undo: 'all' })
    await untilTold(box, 'one', 'rolled-back')
    assert.ok(asked > 2)
    assert.deepEqual(await statesOf('gw-1', 'one'), ['applying', 'completed', 'rolled-back'])
    assert.equal(box.kind.box.running, 'old')
    await assertNothingLeft()
  })

  it('a cohort that is made anew under the same id counts, not the one from before', async () => {
    fresh()
    const box = await startBox('gw-1')
    const one = patch('one')
    await fleet.push(one)
    await fleet.open(one, ['gw-1'])
    await fleet.state(one, { phase: 'paused', reason: 'wait' })
    await box.until('it waits', () => box.why('one')?.includes('paused') === true)
    // An operator clears the patch away, and pushes another one under its name.
    for (const key of [keys.spec('one'), keys.cohort('one', 0), keys.rolloutState('one')]) await fleet.remove(key)
    await box.until('it is gone', () => box.why('one') === undefined)
    const again = patch('one', { sequence: 2 })
    await fleet.push(again)
    await fleet.open(again, ['gw-2'])
    await box.until('not its turn', () => box.why('one')?.startsWith('its turn has not come') === true, 10_000)
    assert.equal(await fleet.result('gw-1', 'one'), undefined)
  })
})

describe('a box after a crash', { timeout: 120_000 }, () => {
  it('takes the entries of its earlier life out of every queue, whatever it does next', async () => {
    fresh()
    await occupy('elsewhere', 'gw-1')
    const other = await occupy('elsewhere', 'gw-2')
    const box = await startBox('gw-1')
    await box.until('its own is gone', async () => (await listLocks({ etcd: operator }, 'elsewhere')).length === 1)
    assert.equal((await listLocks({ etcd: operator }, 'elsewhere'))[0]?.owner?.gateway, 'gw-2')
    await operator.revokeLease(other)
  })

  it('is seen alive while it ends what was under way, however long that bakes', async () => {
    fresh()
    const memory = new FakeMemory()
    const disk = new FakeBox()
    const first = await startBox('gw-1', { memory, box: disk })
    const health = { checks: [], consecutive: 1, deadlineMs: 3_000, bakeMs: 3_600_000 }
    await open(patch('one', { health }), 'gw-1')
    await first.until('it bakes', () => first.agent.state().running?.step === 'bake')
    await first.end()
    await fleet.remove(keys.alive('gw-1'))
    const second = await startBox('gw-1', { memory, box: disk })
    await second.until('it is alive', async () => (await fleet.get(keys.alive('gw-1'))) !== undefined)
    assert.equal(second.agent.state().running?.step, 'bake')
  })
})
