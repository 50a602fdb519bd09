/** All that the agent looks at, brought up to date and decided on: own memory, etcd's view, rollouts, own results. */
import { sleep } from '../../clock.ts'
import { kindOf, messageOf } from '../../errors.ts'
import { backoffMs, jittered } from '../backoff.ts'
import { removeStale } from '../lock-entries.ts'
import type { LockOwner } from '../lock-entries.ts'
import type { View } from '../mirror.ts'
import type { KeyValue } from '../ports.ts'
import { ALIVE_EVERY_MS, keys } from '../records.ts'
import type { AgentPorts } from './agent.ts'
import { decide, waiting } from './eligibility.ts'
import type { Action, Candidate, Decided, Why } from './eligibility.ts'
import { appliedRecord, NOTHING, readOwn } from './own.ts'
import type { Own } from './own.ts'
import { Presence } from './presence.ts'
import { readResults } from './results.ts'
import type { ResultPorts, ResultSeen } from './results.ts'
import { Rollouts } from './rollouts.ts'
import { candidatesOf, idsOf } from './sight.ts'

export interface Looked {
  readonly candidates: readonly Candidate[]
  readonly results: ReadonlyMap<string, ResultSeen>
  readonly decided: Decided
}

/** The time that is kept over restarts moves in such steps: each is a write to the disk. */
const TIME_STEP_MS = 3_600_000
const BEAT_RETRY_MS = 10_000

/** Between two looks whether a patch could begin here: a box that has just started is seldom ready, and soon is. */
const UNREADY_FIRST_MS = 5_000
const UNREADY_MOST_MS = 60_000

export class Desk {
  readonly presence: Presence
  readonly rollouts: Rollouts
  readonly #ports: AgentPorts
  readonly #telling: ResultPorts & { readonly owner: LockOwner }
  view: View | undefined
  own: Own = NOTHING
  why: ReadonlyMap<string, Why> = new Map()
  /** etcd's revision of the view that was looked at last. */
  #lookedAt = 0
  /** Of the last look. */
  candidates: readonly Candidate[] = []
  /** Monotonic ms when `alive` is due. */
  beatAtMs = 0
  /**
   * Monotonic ms of the last sign of the agent's loop. While it rests, waits for a lock or a bake, or tries etcd again, it
   * beats every ALIVE_EVERY_MS or sooner.
   */
  movedMs: number
  #results: ReadonlyMap<string, ResultSeen> | undefined
  #told = ''
  /** What an earlier life left in the queues has been taken out. */
  #isSwept = false
  /** What speaks against a start in this box's present state, by patch, until a wall time; and how often it did. */
  readonly #unready = new Map<string, { readonly because: string; readonly untilMs: number; readonly times: number }>()

  constructor(ports: AgentPorts, telling: ResultPorts & { readonly owner: LockOwner }, machine: string) {
    const { tools, memory, key, log } = ports
    this.#ports = ports
    this.movedMs = tools.clock.monotonicMs()
    this.#telling = telling
    this.rollouts = new Rollouts(tools.etcd, telling.gateway, () => this.#doubt())
    this.presence = new Presence(
      {
        etcd: tools.etcd,
        clock: tools.clock,
        memory,
        key,
        log,
        box: () => ports.box(),
        verdict: () => ports.verdict(),
        onChange: (belonging) => ports.onBelonging(belonging),
      },
      machine,
    )
  }

  /** First contact, `alive` when it is time, `info` and `applied` when they changed. Rejects with an `EtcdFailure`. */
  async beat(): Promise<void> {
    const { clock, random } = this.#ports.tools
    this.movedMs = clock.monotonicMs()
    this.own = await readOwn(this.#ports.memory, this.#ports.reader, clock)
    const tells = JSON.stringify([appliedRecord(this.own), this.own.hold, this.#ports.box()])
    const isDue = clock.monotonicMs() >= this.beatAtMs || tells !== this.#told
    if (!isDue && (this.presence.belonging.kind === 'duplicate' || this.presence.compare !== undefined)) return
    await this.presence.meet(this.own)
    if (this.presence.compare !== undefined) await this.#sweep()
    await this.#keepTime()
    this.#told = tells
    this.beatAtMs = clock.monotonicMs() + jittered(ALIVE_EVERY_MS, random)
  }

  /** While a patch of an earlier life is ended, which may bake for hours: the fleet must not take this box for lost. */
  async keepBeating(signal: AbortSignal): Promise<void> {
    const { clock } = this.#ports.tools
    while (!signal.aborted) {
      await this.beat().catch((error: unknown) => {
        if (kindOf(error) === undefined || kindOf(error) === 'fatal') throw error
      })
      await sleep(clock, Math.max(BEAT_RETRY_MS, this.beatAtMs - clock.monotonicMs()), signal)
    }
  }

  async look(view: View): Promise<Looked> {
    const { tools, reader, windows } = this.#ports
    this.movedMs = tools.clock.monotonicMs()
    if (view.revision !== this.#lookedAt) this.rollouts.lookAgain()
    this.#lookedAt = view.revision
    await this.rollouts.refresh(idsOf(view.entries, this.own), tools.clock.monotonicMs())
    const results = (this.#results ??= await readResults(this.#telling))
    const clock = { wallMs: tools.clock.wallMs(), trusted: tools.clock.wallTrusted(), floorMs: this.own.timeFloorMs }
    const sources = { box: this.#ports.box(), reader, own: this.own, results, rollouts: this.rollouts, clock }
    const candidates = candidatesOf(view.entries, sources)
    const decided = this.#withoutUnready(decide({ candidates, own: this.own, nowMs: clock.wallMs, windows }), clock.wallMs)
    this.why = decided.why
    this.candidates = candidates
    return { candidates, results, decided }
  }

  /** With the lock held, from etcd itself: control, rollout and own result as the gate will compare them. */
  async again({ do: what, candidate: { id } }: Action): Promise<Action | undefined> {
    const view = this.view
    if (view === undefined) return undefined
    const [control, spec] = [keys.control(id), keys.spec(id)]
    const known = view.entries.get(spec)
    // A spec may be large: it is read again only if it is another one.
    const news = { list: { prefix: spec, minMod: (known?.modRevision ?? 0) + 1 } }
    const { answers } = await this.#ports.tools.etcd.transact({ compare: [], then: [{ get: control }, news] })
    const entries = new Map(view.entries)
    replace(entries, control, answers[0]?.entries[0])
    replace(entries, spec, answers[1]?.entries[0] ?? (answers[1]?.count === 0 ? undefined : known))
    await this.rollouts.look(id)
    this.wrote()
    const { decided } = await this.look({ ...view, entries })
    return decided.actions.find((action) => action.do === what && action.candidate.id === id)
  }

  /** It is looked at again soon, and seldom once that was so often: each look runs the patch's checks. */
  notReady(patch: string, because: string): void {
    const { clock, random } = this.#ports.tools
    const times = this.#unready.get(patch)?.times ?? 0
    const untilMs = clock.wallMs() + backoffMs(times, UNREADY_FIRST_MS, UNREADY_MOST_MS, random)
    this.#unready.set(patch, { because, untilMs, times: times + 1 })
  }

  /** Own results in etcd are, or may be, others now. */
  wrote(): void {
    this.#results = undefined
  }

  /** etcd's history is another one. */
  forget(): void {
    this.view = undefined
    this.wrote()
    this.rollouts.forget()
    this.presence.forget()
    this.#ports.reader.forget()
  }

  /** A watch that ended may hide that etcd came back from a backup: what it holds of this box is read anew. */
  #doubt(): void {
    this.wrote()
    this.presence.doubt()
    this.beatAtMs = 0
  }

  #withoutUnready({ actions, why }: Decided, nowMs: number): Decided {
    const left = new Map(why)
    const waits = new Set<string>()
    for (const [patch, { because, untilMs }] of this.#unready) {
      if (why.get(patch)?.standing !== 'next') this.#unready.delete(patch)
      // A clock that was set back must not stretch the wait.
      else if (untilMs > nowMs && untilMs <= nowMs + UNREADY_MOST_MS) {
        waits.add(patch)
        left.set(patch, { patch, ...waiting(because, untilMs) })
      }
    }
    return { actions: actions.filter(({ candidate }) => !waits.has(candidate.id)), why: left }
  }

  /** Otherwise the others wait for a dead life's entry until its lease has expired. */
  async #sweep(): Promise<void> {
    if (this.#isSwept) return
    await removeStale(this.#ports.tools, undefined, this.#telling.owner)
    this.#isSwept = true
  }

  async #keepTime(): Promise<void> {
    const { tools, memory, log } = this.#ports
    const nowMs = tools.clock.wallMs()
    if (!tools.clock.wallTrusted() || nowMs < this.own.timeFloorMs + TIME_STEP_MS) return
    await memory.write({ 'time/floor': nowMs }).catch((error: unknown) => log.debug({ err: messageOf(error) }, 'the time was not kept'))
  }
}

function replace(entries: Map<string, KeyValue>, key: string, entry: KeyValue | undefined): void {
  if (entry === undefined) entries.delete(key)
  else entries.set(key, entry)
}
