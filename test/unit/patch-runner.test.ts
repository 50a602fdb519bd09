/** What the runner does about each kind of failure, and about a lock that is lost, a cancel, and a stop of the daemon. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { GatewayError, kindOf } from '../../daemon/errors.ts'
import { MemoryCheckpoint } from '../../daemon/patch/checkpoint.ts'
import type { Outcome } from '../../daemon/patch/kinds.ts'
import { Cancelled } from '../../daemon/patch/runner/life.ts'
import type { Runner } from '../../daemon/patch/runner/runner.ts'
import type { KindCall } from '../fakes/patch-kind.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'
import { acceptedPatch, World } from '../fakes/patch-world.ts'

const never = new AbortController().signal
const lost = new GatewayError('fenced', 'the lock is lost')

async function applied(world: World, signal = never, runner = world.begin()): Promise<Outcome> {
  const outcome = await world.end(runner.apply(acceptedPatch(), world.permit, signal))
  assert.ok(outcome !== 'killed')
  return outcome
}

async function recovered(world: World, runner = world.begin()): Promise<Outcome | undefined> {
  const outcome = await world.end(runner.recover(never))
  assert.ok(outcome !== 'killed')
  return outcome
}

function failing(world: World, at: KindCall, error: Error, times = Infinity): void {
  let left = times
  world.kind.fault = (call) => {
    if (call === at && left-- > 0) throw error
  }
}

function assertOld(world: World): void {
  assert.deepEqual([world.box.linked, world.box.running, [...world.box.leftovers]], ['old', 'old', []])
  assert.equal(world.memory.get('journal/run'), undefined)
}

const transient = new GatewayError('transient', 'no answer')

describe('failures of a step', () => {
  test('a transient one is tried again, each try with a record', async () => {
    const world = new World()
    failing(world, 'fetch', transient, 2)
    const records: unknown[] = []
    world.memory.fault = ({ 'journal/run': run }) => {
      if (run !== undefined) records.push(run)
    }
    assert.equal((await applied(world)).state, 'completed')
    const tries = records.filter((run) => (run as { point: string; phase: string }).point === 'fetch').map((run) => (run as { tries: number }).tries) // prettier-ignore
    assert.deepEqual(tries, [1, 2, 3, 3])
  })

  test('patch path 17: surroundings that stay bad are given up after three runs, and the patch is denied then', async () => {
    const world = new World()
    failing(world, 'fetch', transient)
    const states = [(await applied(world)).state, (await applied(world)).state]
    assert.deepEqual(states, ['interrupted', 'interrupted'])
    assert.equal(world.memory.get('denied/digest-p1'), undefined)
    const last = await applied(world)
    assert.equal(last.state, 'failed')
    assert.match(last.reason ?? '', /no answer \(attempt 3 of 3\)/)
    assert.ok(world.memory.get('denied/digest-p1') !== undefined)
    assertOld(world)
  })

  for (const step of ['prepare', 'fetch', 'build', 'pre', 'flip', 'activate'] as const) {
    test(`a fault of the patch in ${step} takes it back, and denies it`, async () => {
      const world = new World()
      failing(world, step, new GatewayError('rejected', 'not like this'))
      const outcome = await applied(world)
      assert.deepEqual([outcome.state, outcome.step, outcome.reason], ['failed', step, `${step}: not like this`])
      assert.ok(world.memory.get('denied/digest-p1') !== undefined)
      assertOld(world)
    })

    test(`patch path 16: no room in ${step} takes it back, and denies nothing`, async () => {
      const world = new World()
      failing(world, step, new GatewayError('saturated', 'the disk is full'))
      const outcome = await applied(world)
      assert.deepEqual([outcome.state, outcome.reason], ['interrupted', `${step}: the disk is full`])
      assert.equal(world.memory.get('denied/digest-p1'), undefined)
      assertOld(world)
    })
  }

  test('patch path 22: when the old version fails the same checks, nothing is denied', async () => {
    const world = new World()
    world.checks.onRound = (round) => {
      if (round > 1) world.checks.bad.set('pipeline-moving', 'Kafka is away')
    }
    const outcome = await applied(world)
    assert.equal(outcome.state, 'inconclusive')
    assert.match(outcome.reason ?? '', /the old version fails its checks as well: pipeline-moving: Kafka is away/)
    assert.equal(world.memory.get('denied/digest-p1'), undefined)
    assertOld(world)
  })

  test('checks that fail already before it: nothing is begun', async () => {
    const world = new World()
    world.checks.bad.set('pipeline-moving', 'stands still')
    const runner = world.begin()
    assert.match((await world.end(runner.objection(acceptedPatch(), never))) ?? '', /fail already before it/)
    const outcome = await applied(world, never, runner)
    assert.deepEqual([outcome.state, outcome.step], ['interrupted', 'prepare'])
    assert.deepEqual(world.box.calls, ['prepare', 'prepare'])
    assert.deepEqual(world.outcomes, [])
  })

  test('a bake that three bad rounds in a row end, and one that outlives two', async () => {
    for (const [bad, state] of [
      [2, 'completed'],
      [3, 'failed'],
    ] as const) {
      // prettier-ignore
      const world = new World()
      // One round in PREPARE, two in VERIFY.
      world.checks.onRound = (round) => {
        if (round > 3 && round <= 3 + bad) world.checks.bad.set('pipeline-moving', 'stands still')
        else world.checks.bad.clear()
      }
      assert.equal((await applied(world)).state, state)
    }
  })

  test('a disk that is full at the end delays the outcome, and loses nothing', async () => {
    const world = new World()
    let refused = 0
    world.memory.fault = (changes) => {
      if ('outbound/p1' in changes && refused++ < 4) throw new GatewayError('saturated', 'the disk is full')
    }
    assert.equal((await applied(world)).state, 'completed')
    assert.equal(refused, 5)
  })

  test('what can not be taken back is broken, holds up other patches, and is tried again at the next start', async () => {
    const world = new World()
    world.checks.onRound = () => {
      if (world.box.running === 'p1') world.checks.bad.set('pipeline-moving', 'stands still')
      else world.checks.bad.clear()
    }
    failing(world, 'unflip', new GatewayError('fatal', 'read-only file system'))
    const runner = world.begin()
    const outcome = await applied(world, never, runner)
    assert.equal(outcome.state, 'broken')
    assert.equal(runner.state()?.broken, true)
    await assert.rejects(
      world.end(runner.apply(acceptedPatch({ id: 'p2' }), world.permit, never)),
      (error) => kindOf(error) === 'saturated',
    )
    assert.equal((await recovered(world))?.state, 'broken')
    assert.equal(world.outcomes.length, 1)
    world.kind.fault = undefined
    assert.equal((await recovered(world))?.state, 'failed')
    assertOld(world)
  })
})

describe('ends from outside', () => {
  for (const step of ['fetch', 'build', 'pre'] as const) {
    for (const reason of [lost, new Cancelled()]) {
      test(`patch path 2: ${reason.message} during ${step}: discarded`, async () => {
        const world = new World()
        const ending = new AbortController()
        world.kind.fault = (call) => {
          if (call === step) ending.abort(reason)
        }
        const outcome = await applied(world, ending.signal)
        assert.deepEqual([outcome.state, outcome.reason], ['interrupted', reason.message])
        assert.ok(!world.box.calls.includes('flip'))
        assert.equal(world.memory.get('attempts/digest-p1'), undefined)
        assertOld(world)
      })
    }
  }

  test('a lock that is lost past FLIP: the box looks on and finishes', async () => {
    for (const reason of [lost, new Cancelled()]) {
      const world = new World()
      const ending = new AbortController()
      world.kind.fault = (call) => {
        if (call === 'flip') ending.abort(reason)
      }
      assert.equal((await applied(world, ending.signal)).state, 'completed')
    }
  })

  test('patch path 9: a window or a lock that does not fit before FLIP: nothing is flipped', async () => {
    for (const question of ['fits', 'window'] as const) {
      const world = new World()
      world.permit.refusal = (asked, limitMs) =>
        asked === question && limitMs === 200 ? new GatewayError(question === 'fits' ? 'fenced' : 'saturated', 'too late') : undefined
      const outcome = await applied(world)
      assert.deepEqual([outcome.state, outcome.reason], ['interrupted', 'flip: too late'])
      assert.ok(!world.box.calls.includes('flip'))
      assertOld(world)
    }
  })

  test('a stop of the daemon leaves the journal; the next start goes on, and counts no attempt', async () => {
    for (const [step, state] of [
      ['fetch', 'interrupted'],
      ['activate', 'completed'],
      ['verify', 'completed'],
    ] as const) {
      // prettier-ignore
      const world = new World()
      const runner = world.begin()
      world.kind.fault = (call) => {
        if (call === step) runner.stop()
      }
      await assert.rejects(applied(world, never, runner), /the gateway stops/)
      assert.equal(runner.state()?.patch, 'p1')
      world.kind.fault = undefined
      const outcome = await recovered(world)
      assert.deepEqual([outcome?.state, outcome?.attempt], [state, 1])
      assert.equal(world.memory.get('attempts/digest-p1'), undefined)
    }
  })

  test('a stop after a cancel past FLIP is heard', async () => {
    const world = new World()
    const runner = world.begin()
    const ending = new AbortController()
    world.kind.fault = (call) => {
      if (call === 'flip') ending.abort(new Cancelled())
      if (call === 'verify') runner.stop()
    }
    await assert.rejects(applied(world, ending.signal, runner), /the gateway stops/)
  })

  test('patch path 12: a version that kills the daemon three times is taken back and denied', async () => {
    const world = new World()
    let runner: Runner = world.begin()
    failing(world, 'activate', new GatewayError('fatal', 'the daemon dies'))
    await assert.rejects(applied(world, never, runner), /the daemon dies/)
    for (let start = 0; start < 2; start++) {
      runner = world.begin()
      await assert.rejects(recovered(world, runner), /the daemon dies/)
    }
    const outcome = await recovered(world)
    assert.equal(outcome?.state, 'failed')
    assert.ok(world.memory.get('denied/digest-p1') !== undefined)
    assertOld(world)
  })
})

describe('what is remembered', () => {
  test('the floor of a channel only rises, and the history keeps 200', async () => {
    const world = new World()
    const runner = world.begin()
    await world.memory.write({ 'floor/limits': { sequence: 9, patch: 'p9' } })
    for (let number = 1; number <= 205; number++) {
      const key = `history/${String(number).padStart(12, '0')}`
      world.memory.stored.set(key, '{}')
    }
    await applied(world, never, runner)
    assert.deepEqual(world.memory.get('floor/limits'), { sequence: 9, patch: 'p9' })
    const history = [...world.memory.below('history/').keys()]
    assert.deepEqual([history.length, history.at(-1)], [200, 'history/000000000206'])
    await world.end(runner.apply(acceptedPatch({ id: 'p10', sequence: 10 }), world.permit, never))
    assert.deepEqual(world.memory.get('floor/limits'), { sequence: 10, patch: 'p10' })
  })

  test('an undo that may not start changes nothing; what is not applied can not be undone', async () => {
    const world = new World()
    const runner = world.begin()
    await assert.rejects(world.end(runner.undo('p1', world.permit, never)), (error) => kindOf(error) === 'rejected')
    await applied(world, never, runner)
    world.permit.refusal = () => new GatewayError('saturated', 'the window is shut')
    const outcome = await world.end(runner.undo('p1', world.permit, never))
    assert.ok(outcome !== 'killed')
    assert.deepEqual([outcome.state, outcome.reason, world.box.running], ['interrupted', 'the window is shut', 'p1'])
    assert.ok(world.memory.get('applied/p1') !== undefined)
    assert.equal(runner.state(), undefined)
  })

  test("the feed's checkpoint comes back; one that makes no sense is none", async () => {
    const memory = new FakeMemory()
    const checkpoint = new MemoryCheckpoint(memory)
    assert.equal(await checkpoint.read(), undefined)
    await checkpoint.write({ clusterId: 'c', revision: 5 })
    assert.deepEqual(await checkpoint.read(), { clusterId: 'c', revision: 5 })
    await memory.write({ 'feed/checkpoint': 'nonsense' })
    assert.equal(await checkpoint.read(), undefined)
  })
})
