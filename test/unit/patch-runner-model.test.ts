/**
 * The runner is killed before and after each call to the box and to its memory, and again during the recovery; at the
 * end the box runs the old version or the new one, whole, and one outcome says which.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { GatewayError } from '../../daemon/errors.ts'
import type { Outcome } from '../../daemon/patch/kinds.ts'
import type { Runner } from '../../daemon/patch/runner/runner.ts'
import { acceptedPatch, World } from '../fakes/patch-world.ts'

const never = new AbortController().signal

interface Scene {
  readonly name: string
  /** Brings the world to where the scene begins. */
  readonly before?: (world: World) => Promise<void>
  readonly rig?: (world: World) => void
  readonly act: (world: World, runner: Runner) => Promise<Outcome | undefined>
  /** What an undisturbed run comes to. */
  readonly ends: Outcome['state']
  /** What a disturbed one may come to. */
  readonly mayEnd: readonly Outcome['state'][]
}

const apply = (world: World, runner: Runner): Promise<Outcome> => runner.apply(acceptedPatch(), world.permit, never)

function onlyOldIsGood(world: World): void {
  world.checks.onRound = () => {
    const isNew = world.box.running === 'p1'
    if (isNew) world.checks.bad.set('pipeline-moving', 'stands still')
    else world.checks.bad.delete('pipeline-moving')
  }
}

const SCENES: readonly Scene[] = [
  { name: 'a good patch', act: apply, ends: 'completed', mayEnd: ['completed', 'interrupted'] },
  { name: 'a patch whose checks fail', rig: onlyOldIsGood, act: apply, ends: 'failed', mayEnd: ['failed', 'interrupted'] },
  {
    name: 'a patch whose version does not run',
    rig: ({ kind }) => {
      kind.fault = (call) => {
        if (call === 'verify') throw new GatewayError('rejected', 'it says 1.0')
      }
    },
    act: apply,
    ends: 'failed',
    mayEnd: ['failed', 'interrupted'],
  },
  {
    name: 'an undo',
    before: async (world) => {
      assert.equal(((await world.end(apply(world, world.begin()))) as Outcome).state, 'completed')
      world.memory.stored.delete('history/000000000001')
      world.box.calls.length = 0
    },
    act: (world, runner) => runner.undo('p1', world.permit, never),
    ends: 'rolled-back',
    mayEnd: ['rolled-back'],
  },
]

async function worldOf(scene: Scene): Promise<World> {
  const world = new World()
  await scene.before?.(world)
  scene.rig?.(world)
  return world
}

/** The kill may have come before anything was begun: then nothing is known of it. */
function judge(scene: Scene, world: World, at: string): void {
  const { box, memory, outcomes } = world
  const isUndo = scene.name === 'an undo'
  const old = isUndo && outcomes.length === 0 ? 'p1' : 'old'
  assert.ok(outcomes.length <= 1, `${at}: ${outcomes.length} outcomes`)
  assert.equal(memory.get('journal/run'), undefined, `${at}: a journal is left`)
  const isNew = outcomes[0]?.state === 'completed' || old === 'p1'
  assert.deepEqual([box.linked, box.running], isNew ? ['p1', 'p1'] : ['old', 'old'], `${at}: ${outcomes[0]?.state ?? 'nothing begun'}`)
  assert.deepEqual([...box.leftovers], isNew ? ['p1'] : [], `${at}: left behind`)
  if (outcomes[0] === undefined) return
  assert.ok(scene.mayEnd.includes(outcomes[0].state), `${at}: ${outcomes[0].state}`)
  assert.deepEqual(memory.get('outbound/p1'), outcomes[0])
  assert.equal(memory.get('applied/p1') !== undefined, isNew, `${at}: applied`)
  assert.equal(memory.get('denied/digest-p1') !== undefined, outcomes[0].state === 'failed', `${at}: denied`)
  assertOrder(box.calls, outcomes[0].state, at)
}

function assertOrder(calls: readonly string[], state: Outcome['state'], at: string): void {
  let flips = 0
  for (const call of calls) {
    if (call === 'flip') flips++
    if (call === 'unflip') flips = 0
    assert.ok(flips <= 1, `${at}: two flips without one back between`)
  }
  if (state === 'completed') assert.ok(calls.lastIndexOf('verify') > calls.lastIndexOf('activate'), `${at}: success before it was verified`)
}

async function recovered(world: World, killAt?: number): Promise<Outcome | undefined | 'killed'> {
  const runner = world.begin(killAt)
  return world.end(runner.recover(never))
}

for (const scene of SCENES) {
  describe(scene.name, () => {
    test(`patch path 11, 13: undisturbed it ends as ${scene.ends}`, async () => {
      const world = await worldOf(scene)
      const outcome = await world.end(scene.act(world, world.begin()))
      assert.ok(typeof outcome === 'object')
      assert.equal(outcome.state, scene.ends, outcome.reason)
      judge(scene, world, 'undisturbed')
    })

    test('patch path 10, 20: killed at any moment, and once more during the recovery, it ends whole', async (t) => {
      let lives = 0
      for (let first = 0; ; first++) {
        let wasKilled = false
        for (let second = 0; ; second++) {
          const world = await worldOf(scene)
          wasKilled = (await world.end(scene.act(world, world.begin(first)))) === 'killed'
          if (!wasKilled) break
          const end = await recovered(world, second)
          if (end === 'killed') await recovered(world)
          lives++
          judge(scene, world, `kill at ${first}, then at ${second}`)
          if (end !== 'killed') break
        }
        if (!wasKilled) break
      }
      t.diagnostic(`${lives} pairs of kills`)
      assert.ok(lives > 100)
    })
  })
}
