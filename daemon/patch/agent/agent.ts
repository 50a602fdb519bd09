/**
 * The box's side of the patch path. From etcd to committed: `#step` looks and decides (`desk.ts`, `eligibility.ts`),
 * `#act` waits for the lock and passes the gate (`gate.ts`), the runner applies, and the result is told (`results.ts`,
 * or `untold.ts` when etcd was away). One patch at a time. Nothing here depends on an event: each step looks at all.
 */
import { sleep } from '../../clock.ts'
import type { Component } from '../../component.ts'
import { GatewayError, kindOf, messageOf } from '../../errors.ts'
import type { Log } from '../../ports.ts'
import { backoffMs } from '../backoff.ts'
import type { FeedConsumer } from '../feed.ts'
import type { LockOwner } from '../lock-entries.ts'
import type { FencingToken } from '../lock.ts'
import type { Memory } from '../memory.ts'
import type { View } from '../mirror.ts'
import type { Outcome, Windows } from '../kinds.ts'
import { Cancelled } from '../runner/life.ts'
import type { BoxKey } from '../signing.ts'
import { retrying } from '../wait.ts'
import type { Tools } from '../wait.ts'
import { Bell } from './bell.ts'
import { Desk } from './desk.ts'
import { cancellation } from './eligibility.ts'
import type { Action, Candidate } from './eligibility.ts'
import { takeTurn } from './gate.ts'
import type { GatePorts, Started, Turn } from './gate.ts'
import { lockLifeMs } from './lock-life.ts'
import type { Box, PatchReader, PatchRunner } from './needs.ts'
import type { Belonging } from './presence.ts'
import { endOf, tell } from './results.ts'
import { Tally } from './tally.ts'
import { troubleOf } from './state.ts'
import type { AgentState, Trouble } from './state.ts'
import { tellUntold } from './untold.ts'

export interface AgentPorts {
  readonly tools: Tools
  readonly memory: Memory
  readonly reader: PatchReader
  readonly runner: PatchRunner
  readonly windows: Windows
  readonly key: BoxKey
  readonly log: Log
  box(): Box
  /** One line, for `alive`. */
  verdict(): string
  /** A duplicate must not send anything. */
  onBelonging(belonging: Belonging): void
}

export interface AgentSettings {
  readonly owner: LockOwner
  /** sha256 of the board's number, hex. */
  readonly machine: string
  readonly ttlMs: number
}

interface Current {
  readonly action: Action
  /** Ends the turn: `Cancelled` on an operator's word, `fenced` when etcd's history is another one. */
  readonly give: AbortController
  begun: boolean
}

const RETRY_FIRST_MS = 500
const RETRY_MOST_MS = 60_000
/** Far above all that may keep the loop from moving: questions to etcd and to the box, each with a limit of its own. */
const HANGS_AFTER_MS = 3_600_000
/** A patch that waits for its lock lets others have a turn after this time. */
const TURN_PATIENCE_MS = 10 * 60_000

export class Agent implements Component, FeedConsumer {
  readonly name = 'patches'
  readonly ended: Promise<never>
  readonly #ports: AgentPorts
  readonly #gate: GatePorts
  readonly #desk: Desk
  readonly #bell: Bell
  readonly #stopping = new AbortController()
  /** Patches that waited long for their lock: others go first. */
  readonly #rested = new Set<string>()
  readonly #tally = new Tally()
  #die: (error: unknown) => void = () => undefined
  #running: Promise<void> | undefined
  #turn: Current | undefined
  #trouble: Trouble | undefined

  constructor(ports: AgentPorts, { owner, machine, ttlMs }: AgentSettings) {
    const { tools, key, windows } = ports
    this.#ports = ports
    this.#bell = new Bell(tools.clock)
    this.#desk = new Desk(ports, { etcd: tools.etcd, key, gateway: owner.gateway, owner }, machine)
    const binding = (): ReturnType<GatePorts['binding']> => this.#desk.presence.compare
    this.#gate = { etcd: tools.etcd, key, gateway: owner.gateway, tools, windows, owner, ttlMs, binding }
    this.ended = new Promise((_, reject) => (this.#die = reject))
    this.ended.catch(() => undefined) // the supervisor may look later than it dies
  }

  /** Ready at once: neither etcd nor a patch under way is waited for. */
  async start(signal: AbortSignal): Promise<void> {
    await this.#desk.presence.recall()
    signal.throwIfAborted()
    this.#running = this.#run(this.#stopping.signal).catch((error: unknown) => this.#die(error))
  }

  /** What is under way is left to the journal: the next start finishes it or takes it back. */
  async stop(deadlineMs: number): Promise<void> {
    this.#ports.runner.stop()
    this.#stopping.abort()
    const { clock } = this.#ports.tools
    const ended = new AbortController()
    const leftMs = Math.max(0, deadlineMs - clock.monotonicMs())
    await Promise.race([this.#running?.finally(() => ended.abort()), sleep(clock, leftMs, ended.signal)])
  }

  reconcile(view: View): Promise<void> {
    this.#desk.view = view
    this.#bell.ring()
    return Promise.resolve()
  }

  /** Revisions mean something else now: nothing begins on what was known, and a turn that holds a token is over. */
  reset(why: string): Promise<void> {
    this.#desk.forget()
    this.#turn?.give.abort(new GatewayError('fenced', `etcd was restored or replaced: ${why}`))
    this.#bell.ring()
    return Promise.resolve()
  }

  /** Something that it looks at has changed: a hold, the settings. */
  lookAgain(): void {
    this.#bell.ring()
  }

  state(): AgentState {
    const { presence, why, own, candidates, movedMs } = this.#desk
    const stillMs = this.#ports.tools.clock.monotonicMs() - movedMs
    return {
      belonging: presence.belonging,
      running: this.#ports.runner.state(),
      turn: this.#turn?.action.candidate.id,
      waitsForLock: this.#turn?.begun === false,
      why: [...why.values()],
      candidates,
      own,
      trouble: this.#trouble,
      tally: this.#tally.now(),
      hangsForMs: stillMs > HANGS_AFTER_MS ? stillMs : undefined,
    }
  }

  // ------------------------------------------------------------- the loop

  async #run(signal: AbortSignal): Promise<void> {
    await this.#recover(signal)
    const { clock, random } = this.#ports.tools
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.#step(signal)
        this.#trouble = undefined
        failures = -1
      } catch (error) {
        if (signal.aborted) break
        this.#note(error)
        await sleep(clock, backoffMs(failures, RETRY_FIRST_MS, RETRY_MOST_MS, random), signal)
      }
    }
    this.#desk.rollouts.unwatch()
  }

  async #recover(signal: AbortSignal): Promise<void> {
    const over = new AbortController()
    const beating = this.#desk.keepBeating(AbortSignal.any([over.signal, signal]))
    try {
      const outcome = await this.#ports.runner.recover(signal)
      if (outcome === undefined) return
      this.#tally.ended(outcome.state)
      this.#ports.log.info({ ...outcome }, `patch ${outcome.patch}: ${outcome.state} after a restart`)
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      over.abort()
      await beating
    }
  }

  /** Looks, tells what etcd does not know, and acts; or waits until it is worth a look again. */
  async #step(signal: AbortSignal): Promise<void> {
    await this.#desk.beat()
    const binding = this.#desk.presence.compare
    const { view } = this.#desk
    if (binding === undefined || view === undefined) return this.#rest([], signal)
    const { candidates, results, decided } = await this.#desk.look(view)
    const nowMs = (): number => this.#ports.tools.clock.wallMs()
    const untold = { own: this.#desk.own, candidates, results, binding }
    if (await tellUntold({ ...this.#gate, memory: this.#ports.memory, nowMs }, untold)) return this.#desk.wrote()
    const action = this.#choose(decided.actions)
    if (action === undefined) return this.#rest(candidates, signal)
    if (await this.#isReady(action, signal)) await this.#act(action, signal)
  }

  #choose(actions: readonly Action[]): Action | undefined {
    const fresh = actions.find(({ candidate }) => !this.#rested.has(candidate.id))
    if (fresh === undefined) this.#rested.clear()
    return fresh ?? actions[0]
  }

  /** Before the lock, so that a box that can't begin keeps no other waiting. */
  async #isReady(action: Action, signal: AbortSignal): Promise<boolean> {
    if (action.do === 'undo') return true
    const because = await this.#ports.runner.objection(action.accepted, signal)
    if (because === undefined) return true
    // What is wrong with the patch itself is told by an attempt; what is wrong with the box passes.
    this.#desk.notReady(action.candidate.id, because)
    return false
  }

  /** Until the feed, a rollout, a hold or the time says that it is worth a look. */
  async #rest(candidates: readonly Candidate[], signal: AbortSignal): Promise<void> {
    const { clock } = this.#ports.tools
    const { why, own, rollouts, beatAtMs } = this.#desk
    const active = candidates.filter(({ id }) => why.get(id)?.standing === 'waiting' || why.get(id)?.standing === 'next')
    const inForce = candidates.filter(({ id }) => own.applied.has(id)).reverse()
    rollouts.watch([...new Set([...active, ...inForce].map(({ id }) => id))], () => this.#bell.ring())
    const waits = [...why.values()].flatMap(({ untilMs }) => (untilMs === undefined ? [] : [untilMs - clock.wallMs()]))
    await this.#bell.next(Math.max(100, Math.min(beatAtMs - clock.monotonicMs(), ...waits)), signal)
  }

  #note(error: unknown): void {
    if (kindOf(error) === undefined || kindOf(error) === 'fatal') throw error
    const trouble = troubleOf(error)
    if (trouble.reason !== this.#trouble?.reason) this.#ports.log.warn({ err: error }, `patches wait: ${trouble.reason}`)
    this.#trouble = trouble
    this.#desk.wrote()
  }

  // ------------------------------------------------------------- one turn

  async #act(action: Action, signal: AbortSignal): Promise<void> {
    const { id } = action.candidate
    const patch = action.do === 'apply' ? action.accepted.patch : action.patch
    if (patch === undefined) throw new GatewayError('transient', `${id} can't be taken back: what was applied can't be read any more`)
    const current: Current = { action, give: new AbortController(), begun: false }
    const over = new AbortController()
    this.#turn = current
    this.#tally.queued()
    const watching = this.#watch(current, AbortSignal.any([over.signal, signal]))
    try {
      const ttlMs = await lockLifeMs(this.#ports.runner, action, this.#gate.ttlMs, signal)
      await takeTurn(this.#gate, { ...this.#turnOf(current, patch), ttlMs }, AbortSignal.any([current.give.signal, signal]))
    } catch (error) {
      if (error !== current.give.signal.reason || current.begun) throw error
    } finally {
      over.abort()
      await watching
      this.#turn = undefined
      this.#desk.wrote()
    }
  }

  #turnOf(current: Current, patch: Turn['patch']): Omit<Turn, 'ttlMs'> {
    const { runner } = this.#ports
    const { action } = current
    const { id } = action.candidate
    return {
      patch,
      waitsForOpen: action.do === 'apply',
      again: () => this.#desk.again(action),
      began: () => {
        current.begun = true
        this.#rested.delete(id)
      },
      run: (start, permit, signal) =>
        action.do === 'apply' ? runner.apply(action.accepted, permit, signal, start.retry) : runner.undo(id, permit, signal),
      told: (outcome, start, token) => {
        if (action.do === 'apply' || outcome.state !== 'interrupted')
          return this.#tell(outcome, start, token, patch.rollout.concurrency.scope)
        // It is in force as before: nothing has ended that could be told.
        this.#desk.notReady(id, `it was not taken back yet: ${outcome.reason ?? ''}`)
        return Promise.resolve()
      },
    }
  }

  /** Kept first, so that a crash or a lost lock loses nothing; what can't be told now, the next step tells. */
  async #tell(outcome: Outcome, start: Started, token: FencingToken, scope: string): Promise<void> {
    const { memory, tools, log } = this.#ports
    const name = `outbound/${outcome.patch}`
    this.#tally.ended(outcome.state)
    await memory.write({ [name]: { ...outcome, scope, token: start.token, retry: start.retry } })
    log.info({ patch: outcome.patch, state: outcome.state, reason: outcome.reason }, `patch ${outcome.patch}: ${outcome.state}`)
    const binding = this.#desk.presence.compare
    const compare = [token.compare, ...(binding === undefined ? [] : [binding])]
    const also = [{ delete: token.compare.key }]
    const telling = { result: endOf(this.#gate.gateway, outcome, start), before: start.resultMod, scope, compare, also }
    const lost = new AbortController()
    const cancel = tools.clock.after(token.remainingMs(), () => lost.abort(new GatewayError('fenced', 'the lock was lost')))
    try {
      if ((await retrying(tools, lost.signal, () => tell(this.#gate, telling))) === 'told') await memory.write({ [name]: undefined })
    } catch (error) {
      if (kindOf(error) === undefined || kindOf(error) === 'fatal') throw error
      log.warn({ patch: outcome.patch, err: messageOf(error) }, 'the result is kept, and told when etcd answers again')
    } finally {
      cancel()
    }
  }

  /** While it waits, the patch may lose its reason to start, or its patience; while it runs, it may be cancelled. */
  async #watch(current: Current, signal: AbortSignal): Promise<void> {
    const { clock } = this.#ports.tools
    const sinceMs = clock.monotonicMs()
    this.#desk.rollouts.watch([current.action.candidate.id], () => this.#bell.ring())
    while (!signal.aborted) {
      await this.#bell.next(Math.max(100, Math.min(this.#desk.beatAtMs - clock.monotonicMs(), TURN_PATIENCE_MS)), signal)
      if (signal.aborted) return
      try {
        const why = await this.#objection(current, clock.monotonicMs() - sinceMs)
        if (why !== undefined) current.give.abort(new Cancelled(why))
      } catch (error) {
        if (kindOf(error) === undefined) throw error
        await sleep(clock, RETRY_FIRST_MS, signal) // etcd is away: the lease decides
      }
    }
  }

  async #objection({ action, begun }: Current, forMs: number): Promise<string | undefined> {
    await this.#desk.beat()
    const { view, why } = this.#desk
    if (view === undefined) return undefined
    const { id } = action.candidate
    const { candidates, decided } = await this.#desk.look(view)
    if (begun) return action.do === 'apply' ? cancellation(candidates.find((candidate) => candidate.id === id)) : undefined
    const isWanted = decided.actions.some((other) => other.do === action.do && other.candidate.id === id)
    if (!isWanted) return why.get(id)?.because ?? 'it has gone'
    if (forMs < TURN_PATIENCE_MS || decided.actions.length < 2) return undefined
    this.#rested.add(id)
    return 'it waited long for its lock: another patch has its turn'
  }
}
