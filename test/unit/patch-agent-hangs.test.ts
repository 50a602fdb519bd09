/** The agent's loop shows that it moves, whatever it may wait for; and that it does not when a promise of ours never settles. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { entryKey } from '../../daemon/patch/lock-entries.ts'
import { FakeClock, FakeRandom } from '../fakes/clock.ts'
import { FakeEtcd } from '../fakes/etcd.ts'
import { AgentRig, FakeFleet } from '../fakes/patch-agent.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'
import { patchFor, plan } from '../fakes/rollout.ts'

const HOUR_MS = 3_600_000
const STEP_MS = 30_000

class StuckMemory extends FakeMemory {
  isStuck = false

  override read(prefix: string): ReturnType<FakeMemory['read']> {
    return this.isStuck ? new Promise(() => undefined) : super.read(prefix)
  }
}

async function rig(t: TestContext) {
  const clock = new FakeClock()
  const etcd = new FakeEtcd(clock)
  const memory = new StuckMemory()
  const box = new AgentRig('gw-1', { etcd, clock, random: new FakeRandom(1) }, { memory, clock })
  await box.start()
  t.after(() => {
    const stopping = box.stop()
    clock.advance(60_000)
    return memory.isStuck ? undefined : stopping
  })
  const hangs = new Set<number>()
  const pass = async (ms: number): Promise<void> => {
    for (const endMs = clock.monotonicMs() + ms; clock.monotonicMs() < endMs; clock.advance(STEP_MS)) {
      for (let turns = 0; turns < 25; turns++) await turn()
      const { hangsForMs } = box.agent.state()
      if (hangsForMs !== undefined) hangs.add(hangsForMs)
    }
  }
  await pass(STEP_MS)
  return { clock, etcd, memory, box, pass, hangs }
}

test('it moves while it has nothing to do, and while etcd is away for hours', async (t) => {
  const { etcd, box, pass, hangs } = await rig(t)
  await pass(3 * HOUR_MS)
  etcd.verdict = () => 'lost-request'
  await pass(3 * HOUR_MS)
  assert.ok(box.agent.state().trouble !== undefined)
  etcd.verdict = () => 'denied'
  await pass(3 * HOUR_MS)
  assert.deepEqual([...hangs], [])
})

test('it moves while it waits for its lock for hours, which another box has', async (t) => {
  const { clock, etcd, box, pass, hangs } = await rig(t)
  const fleet = new FakeFleet(etcd)
  const other = await etcd.grantLease(100 * HOUR_MS)
  await etcd.transact({
    compare: [],
    then: [{ put: entryKey('plant', other.id), value: Buffer.from('{"gateway":"gw-2","life":"1"}'), lease: other.id }],
  })
  const health = { checks: [], consecutive: 1, deadlineMs: 3_000, bakeMs: 0 }
  const rollout = plan({ concurrency: { scope: 'plant', slots: 1 } })
  const patch = patchFor('july', { expires: clock.wallMs() + 100 * HOUR_MS, health, rollout })
  await fleet.push(patch)
  await fleet.open(patch, ['gw-1'])
  await pass(3 * HOUR_MS)
  assert.equal(box.agent.state().waitsForLock, true)
  assert.deepEqual([...hangs], [])
})

test('it hangs when something of its own never answers, and says so after an hour and not before', async (t) => {
  const { memory, pass, box, hangs } = await rig(t)
  memory.isStuck = true
  await pass(HOUR_MS - 10 * STEP_MS)
  assert.deepEqual([...hangs], [])
  await pass(20 * STEP_MS)
  assert.ok((box.agent.state().hangsForMs ?? 0) > HOUR_MS)
})
