import assert from 'node:assert/strict'
import { it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import type { ConfigPatch } from '../../daemon/patch/document.ts'
import type { Etcd } from '../../daemon/patch/ports.ts'
import { keys } from '../../daemon/patch/records.ts'
import { RolloutController } from '../../daemon/patch/rollout/controller.ts'
import { FakeClock, FakeRandom } from '../fakes/clock.ts'
import { FakeEtcd } from '../fakes/etcd.ts'
import { judgeRollout } from '../fakes/rollout-judge.ts'
import type { RolloutVerdict } from '../fakes/rollout-judge.ts'
import { PlayedBox } from '../fakes/rollout-fleet.ts'
import { encode, patchFor, plainReader, plan } from '../fakes/rollout.ts'

/** What becomes of a box once it is let in. */

type Fate = 'ok' | 'fails' | 'vanishes'

interface Story {
  readonly fates: readonly Fate[]
  /** These are never online. */
  readonly away: readonly boolean[]
  readonly slots: number
  readonly maxFailures: number
  readonly seed: number
  /** The elected controller is killed after so many of its calls, again and again; 0: never. */
  readonly killAfter: number
  /** So many of 100 answers are lost, and as many requests. */
  readonly lost: number
}

const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const STEP_MS = 1_000
const MOST_KILLS = 8

/** After `kill` no call has an effect, and no answer comes back. What was on its way may still arrive. */
function mortal(etcd: Etcd, mostCalls: number, onDeath: () => void): Etcd {
  let calls = 0
  const never = new Promise<never>(() => undefined)
  return new Proxy(etcd, {
    get: (target, name) => {
      const member = Reflect.get(target, name, target) as (...given: unknown[]) => unknown
      if (name === 'watch') return (...given: unknown[]) => member.apply(target, given)
      return (...given: unknown[]) => {
        calls += 1
        if (mostCalls === 0 || calls < mostCalls) return member.apply(target, given)
        if (calls > mostCalls) return never
        onDeath()
        if (mostCalls % 2 === 0) void (member.apply(target, given) as Promise<unknown>).catch(() => undefined)
        return never
      }
    },
  })
}

class Play {
  readonly clock = new FakeClock()
  readonly etcd = new FakeEtcd(this.clock)
  readonly random: FakeRandom
  readonly patch: ConfigPatch
  readonly boxes: { readonly box: PlayedBox; readonly fate: Fate; readonly isAway: boolean; left: number }[]
  readonly #story: Story
  #controllers: RolloutController[] = []
  #born = 0

  constructor(story: Story) {
    this.#story = story
    this.random = new FakeRandom(story.seed)
    const { slots, maxFailures } = story
    this.patch = patchFor('p', { rollout: plan({ concurrency: { scope: 'plant', slots }, maxFailures }) })
    this.boxes = story.fates.map((fate, index) => {
      const box = new PlayedBox(this.etcd, `gw-${index}`, this.patch)
      return { box, fate, isAway: story.away[index] === true, left: 0 }
    })
  }

  async begin(): Promise<void> {
    for (const { box, isAway } of this.boxes) await box.register(isAway ? 0 : this.clock.wallMs())
    await this.etcd.transact({ compare: [], then: [{ put: keys.spec('p'), value: encode(this.patch) }] })
    await this.startController()
    await this.startController()
    this.etcd.verdict = () => {
      const draw = this.random.unit() * 100
      if (draw < this.#story.lost) return 'lost-response'
      return draw < 2 * this.#story.lost ? 'lost-request' : 'pass'
    }
  }

  async startController(): Promise<void> {
    const name = `controller-${++this.#born}`
    // Who takes over begins to count anew, so at some time one must live.
    const most = this.#story.killAfter === 0 || this.#born > MOST_KILLS ? 0 : 20 + this.#story.killAfter * this.#born
    const etcd = mortal(this.etcd, most, () => void this.startController())
    const settings = { owner: { gateway: name, life: name }, ttlMs: 5_000, busyMs: 2_000, idleMs: 5_000, pauseMs: 100 }
    const controller = new RolloutController({ etcd, clock: this.clock, random: this.random }, settings, plainReader, SILENT)
    this.#controllers.push(controller)
    await controller.start(new AbortController().signal)
  }

  /** One second: boxes that are there say so, begin, and end. Their own calls are not disturbed. */
  async step(second: number): Promise<void> {
    for (const one of this.boxes) if (!one.isAway) await this.#act(one, second)
    for (let left = 0; left < STEP_MS; left += 100) {
      this.clock.advance(100)
      for (let round = 0; round < 4; round++) await turn()
    }
  }

  async #act(one: Play['boxes'][number], second: number): Promise<void> {
    const verdict = this.etcd.verdict
    this.etcd.verdict = () => 'pass'
    if (second % 120 === 0) await one.box.beAlive(this.clock.wallMs())
    if (one.box.isHolding) {
      if (--one.left <= 0) await (one.fate === 'vanishes' ? one.box.vanish() : one.box.end(one.fate === 'ok' ? 'completed' : 'failed'))
    } else if ((await one.box.begin()) !== undefined) one.left = 1 + Math.floor(this.random.unit() * 5)
    this.etcd.verdict = verdict
  }

  verdict(): RolloutVerdict {
    return judgeRollout(this.etcd.events, 'p', this.patch.rollout)
  }

  async end(): Promise<void> {
    for (const controller of this.#controllers) {
      const stopped = controller.stop(this.clock.monotonicMs() + 1)
      this.clock.advance(10)
      await stopped
    }
  }
}

/** Until it has come to rest, or `mostSeconds` have passed. */
async function play(story: Story, mostSeconds: number): Promise<RolloutVerdict> {
  const stage = new Play(story)
  await stage.begin()
  try {
    for (let second = 1; second <= mostSeconds; second++) {
      await stage.step(second)
      const phase = stage.verdict().states.at(-1)?.phase
      if (phase === 'completed' || phase === 'paused') break
    }
    for (let second = 1; second <= 20; second++) await stage.step(second)
    return stage.verdict()
  } finally {
    await stage.end()
  }
}

const stories = fc.record({
  fates: fc.array(fc.constantFrom<Fate>('ok', 'ok', 'ok', 'ok', 'ok', 'fails', 'vanishes'), { minLength: 4, maxLength: 8 }),
  away: fc
    .array(
      fc.boolean().map((one) => one),
      { minLength: 8, maxLength: 8 },
    )
    .map((list) => list.map((one, index) => one && index < 1)),
  slots: fc.integer({ min: 1, max: 3 }),
  maxFailures: fc.integer({ min: 0, max: 2 }),
  seed: fc.integer({ min: 1, max: 1e6 }),
  killAfter: fc.constantFrom(0, 0, 7, 12, 19),
  lost: fc.constantFrom(0, 0, 3),
})

it(
  'whatever boxes and controllers do, no box begins that should not, and no decision is lost or made twice',
  { timeout: 120_000 },
  async () => {
    const property = fc.asyncProperty(stories, async (story) => {
      const verdict = await play(story, 900)
      assert.deepEqual(verdict.violations, [])
      const last = verdict.states.at(-1)?.phase
      const bad = story.fates.filter((fate, index) => fate !== 'ok' && story.away[index] !== true).length
      if (bad === 0) assert.equal(last, 'completed', JSON.stringify(verdict.states.at(-1)))
      if (verdict.failures > story.maxFailures) assert.equal(last, 'paused')
      assert.ok(verdict.failures <= story.maxFailures + story.slots, `${verdict.failures} failed`)
      assert.ok(last === 'completed' || last === 'paused', `it never came to rest: ${JSON.stringify(verdict.states.at(-1))}`)
    })
    await fc.assert(property, { numRuns: 40 })
  },
)
