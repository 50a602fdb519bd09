/** A box whose runner can be killed before and after each call to its ports, with a clock that goes on by itself. */
import { setImmediate as turn } from 'node:timers/promises'
import type { ConfigPatch } from '../../daemon/patch/document.ts'
import type { Accepted, Kind, Outcome } from '../../daemon/patch/kinds.ts'
import { Runner } from '../../daemon/patch/runner/runner.ts'
import { FakeClock, FakeRandom } from './clock.ts'
import { FakeBox, FakeChecks, FakeKind, FakePermit } from './patch-kind.ts'
import { FakeMemory } from './patch-memory.ts'
import { silent } from './store-rig.ts'

export function acceptedPatch(changes: Partial<ConfigPatch> = {}): Accepted<ConfigPatch> {
  const patch: ConfigPatch = {
    kind: 'config',
    id: 'p1',
    fleet: 'fleet',
    channel: 'limits',
    sequence: 7,
    notBefore: undefined,
    expires: Date.UTC(2030, 0),
    target: { all: true, sites: [], labels: {}, gateways: [], exclude: [] },
    requires: [],
    supersedes: [],
    health: { checks: ['pipeline-moving'], consecutive: 2, deadlineMs: 3_000, bakeMs: 2_000 },
    rollout: { stages: [], concurrency: { scope: 's', slots: 1 }, maxFailures: 1, onFailure: 'pause' },
    window: undefined,
    spec: {},
    ...changes,
  }
  return { patch, digest: `digest-${patch.id}`, payload: Buffer.from(JSON.stringify({ id: patch.id })), envelope: Buffer.alloc(0) }
}

export class World {
  readonly memory = new FakeMemory()
  readonly box = new FakeBox()
  readonly clock = new FakeClock()
  readonly random = new FakeRandom(3)
  kind = new FakeKind(this.box)
  checks = new FakeChecks()
  permit = new FakePermit()
  /** Calls to ports in this life so far; two moments each. */
  moments = 0
  #dies = Promise.withResolvers<'killed'>()
  #isAlive = true
  #killAt = Infinity

  /** A new life of the daemon; it dies at the given moment: an even one is before a call's effect, an odd one after it. */
  begin(killAt = Infinity): Runner {
    this.moments = 0
    this.#killAt = killAt
    this.#isAlive = true
    this.#dies = Promise.withResolvers()
    const kind = this.#mortal(this.kind) as unknown as Kind
    const { clock, random } = this
    return new Runner({
      memory: this.#mortal(this.memory),
      clock,
      random,
      log: silent,
      kinds: { config: kind, files: kind, device: kind },
      checks: this.#mortal(this.checks),
    })
  }

  /** Lets time pass until the run ends or the daemon is killed. */
  async end<T>(run: Promise<T>): Promise<T | 'killed'> {
    let isOver = false
    const over = Promise.race([run, this.#dies.promise]).finally(() => (isOver = true))
    over.catch(() => undefined)
    while (!isOver) {
      for (let turns = 0; turns < 3 && !isOver; turns++) await turn()
      if (!isOver) this.clock.advance(500)
    }
    return over
  }

  get outcomes(): Outcome[] {
    return [...this.memory.below('history/').values()] as unknown as Outcome[]
  }

  #mortal<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const member = Reflect.get(target, name, target) as unknown
        if (typeof member !== 'function' || name === 'limitMs') return member
        return async (...given: unknown[]) => {
          await this.#pass()
          try {
            return await (member as (...all: unknown[]) => unknown).apply(target, given)
          } finally {
            await this.#pass()
          }
        }
      },
    })
  }

  /** Never returns in a life that is over. */
  async #pass(): Promise<void> {
    if (this.#isAlive && this.moments++ === this.#killAt) {
      this.#isAlive = false
      this.#dies.resolve('killed')
    }
    if (!this.#isAlive) await new Promise(() => undefined)
  }
}
