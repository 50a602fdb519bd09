/**
 * The one of the named hosts that decides. All of them stand in the queue of one lock; whoever is first decides until
 * it stops or its lease is gone. Read `#reign` first: look, decide, carry out, look again.
 */
import { sleep } from '../../clock.ts'
import type { Component } from '../../component.ts'
import { kindOf, messageOf } from '../../errors.ts'
import type { Log } from '../../ports.ts'
import { backoffMs, jittered } from '../backoff.ts'
import type { LockOwner } from '../lock-entries.ts'
import { withLease } from '../lock.ts'
import type { FencingToken } from '../lock.ts'
import { EtcdFailure } from '../ports.ts'
import { CONTROLLER_SCOPE, keys } from '../records.ts'
import type { RolloutPhase } from '../records.ts'
import { retrying, untilChange } from '../wait.ts'
import type { Tools } from '../wait.ts'
import { carryOut, giveUp } from './carry-out.ts'
import type { Reign } from './carry-out.ts'
import { decide } from './decide.ts'
import { readFleet } from './fleet.ts'
import type { Fleet, RolloutReader } from './fleet.ts'
import { readLocks } from './locks.ts'
import { Orphans } from './orphans.ts'
import { Retention } from './retention.ts'
import { findSilent } from './silence.ts'
import { takeSnapshot } from './snapshot.ts'
import type { Snapshot } from './snapshot.ts'
import { isGood } from './view.ts'
import type { RolloutView } from './view.ts'
import { scopeOf, Views } from './views.ts'

export interface ControllerSettings {
  readonly owner: LockOwner
  readonly ttlMs: number
  /** Looks by itself after about this time while a rollout is on its way. */
  readonly busyMs: number
  /** The same while there is none. */
  readonly idleMs: number
  /** From one look to the next at least: a thousand boxes must not cause a thousand looks. */
  readonly pauseMs: number
}

export const CONTROLLER_TIMES = { busyMs: 5_000, idleMs: 60_000, pauseMs: 250 } as const

export interface ControllerState {
  readonly state: 'starting' | 'waiting' | 'deciding' | 'clock not trusted' | 'failing'
  readonly reason?: string
}

/** They wait for gateways. */
const BUSY: ReadonlySet<RolloutPhase> = new Set(['waiting', 'running', 'rolling-back'])
const ONE_SLOT = { count: 1, onChange: () => () => undefined }
const RETRY_FIRST_MS = 500
const RETRY_MOST_MS = 10_000

export class RolloutController implements Component {
  readonly name = 'rollout controller'
  readonly #tools: Tools
  readonly #settings: ControllerSettings
  readonly #reader: RolloutReader
  readonly #log: Log
  readonly #stopping = new AbortController()
  /** Keys that nobody can read, by the mod revision that was told of. */
  readonly #told = new Map<string, string>()
  #running: Promise<void> | undefined
  /** Until the bake of some stage is over. */
  #nextDueMs = Infinity
  #state: ControllerState = { state: 'starting' }

  constructor(tools: Tools, settings: ControllerSettings, reader: RolloutReader, log: Log) {
    this.#tools = tools
    this.#settings = settings
    this.#reader = reader
    this.#log = log
  }

  /** Begins, and does not wait for etcd. */
  async start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.#running = this.#run(this.#stopping.signal)
  }

  async stop(deadlineMs: number): Promise<void> {
    this.#stopping.abort()
    const ended = new AbortController()
    const leftMs = Math.max(0, deadlineMs - this.#tools.clock.monotonicMs())
    await Promise.race([this.#running?.finally(() => ended.abort()), sleep(this.#tools.clock, leftMs, ended.signal)])
  }

  state(): ControllerState {
    return this.#state
  }

  async #run(stop: AbortSignal): Promise<void> {
    const { owner, ttlMs } = this.#settings
    const request = { scope: CONTROLLER_SCOPE, slots: ONE_SLOT, owner, ttlMs }
    for (let failures = 0; !stop.aborted; failures++) {
      this.#state = { state: 'waiting', reason: 'another controller decides, or etcd is away' }
      try {
        await withLease(this.#tools, request, stop, async (token, signal) => {
          failures = 0
          await this.#reign(token, signal)
          return { value: undefined }
        })
      } catch (error) {
        if (!stop.aborted) this.#noteFailure(error)
      }
      await sleep(this.#tools.clock, backoffMs(failures, RETRY_FIRST_MS, RETRY_MOST_MS, this.#tools.random), stop)
    }
  }

  #noteFailure(error: unknown): void {
    this.#state = { state: 'failing', reason: messageOf(error) }
    const isUsual = kindOf(error) === 'fenced' || kindOf(error) === 'transient'
    if (isUsual) this.#log.warn({ reason: messageOf(error) }, 'this controller decides no more, and stands in the queue again')
    else this.#log.error({ err: error }, 'this controller failed, and stands in the queue again')
  }

  async #reign(token: FencingToken, signal: AbortSignal): Promise<void> {
    const reign = { token: token.revision, compare: token.compare, by: this.#settings.owner.gateway }
    const views = new Views(this.#tools.clock)
    const orphans = new Orphans(this.#tools.clock)
    const retention = new Retention(this.#tools.clock)
    this.#log.info({ token: token.revision }, 'this controller decides')
    let snapshot: Snapshot | undefined
    while (!signal.aborted) {
      snapshot = await retrying(this.#tools, signal, () => takeSnapshot(this.#tools.etcd, snapshot))
      const fleet = readFleet(snapshot, this.#reader)
      this.#tell(fleet)
      const isTrusted = this.#tools.clock.wallTrusted()
      this.#noteClock(isTrusted)
      if (isTrusted && (await this.#decideAll(reign, views, fleet, signal))) continue
      await this.#clear(orphans, reign, snapshot, signal)
      if (isTrusted) await this.#forget(retention, reign, snapshot, signal)
      await this.#wait(snapshot, fleet, signal)
    }
    signal.throwIfAborted()
  }

  #noteClock(isTrusted: boolean): void {
    const before = this.#state.state
    this.#state = isTrusted
      ? { state: 'deciding' }
      : { state: 'clock not trusted', reason: 'the clock of this controller is not to be believed: it decides nothing' }
    if (!isTrusted && before !== 'clock not trusted') {
      this.#log.error({}, 'the clock of this controller is not to be believed, so it decides nothing: set the time')
    }
  }

  /** True when something was written, or may have been: then the view is an old one. */
  async #decideAll(reign: Reign, views: Views, fleet: Fleet, signal: AbortSignal): Promise<boolean> {
    const scopes = fleet.rollouts.flatMap((rollout) => scopeOf(rollout) ?? [])
    const locks = await retrying(this.#tools, signal, () => readLocks(this.#tools.etcd, scopes))
    this.#nextDueMs = Infinity
    for (const view of views.look(fleet, locks)) {
      signal.throwIfAborted()
      if (await this.#decideOne(reign, view)) return true
      this.#nextDueMs = Math.min(this.#nextDueMs, bakeLeftMs(view) ?? Infinity)
    }
    return false
  }

  async #decideOne(reign: Reign, view: RolloutView): Promise<boolean> {
    const silent = findSilent(view)
    const move = silent === undefined ? decide(view) : undefined
    if (silent === undefined && move === undefined) return false
    try {
      const { etcd } = this.#tools
      const isDone = silent === undefined ? move && (await carryOut(etcd, reign, view, move)) : await giveUp(etcd, reign, view, silent)
      const said = silent === undefined ? move?.decided : `give ${silent.gateway} up`
      const fields = { patch: view.id, because: move?.because ?? silent?.failure?.reason, revision: view.revision }
      if (isDone) this.#log.info(fields, `rollout: ${said}`)
      else await this.#pause() // what it rests on has changed meanwhile, or the token is dead: then the signal says so
    } catch (error) {
      if (!(error instanceof EtcdFailure) || error.reason !== 'unavailable') throw error
      await this.#pause() // carried out or not: the next look shows it
    }
    return true
  }

  async #clear(orphans: Orphans, reign: Reign, { parts }: Snapshot, signal: AbortSignal): Promise<void> {
    const led = new Set([...parts.patches.keys()].flatMap((key) => /^patches\/([^/]+)\/spec$/.exec(key)?.[1] ?? []))
    const removed = await retrying(this.#tools, signal, () => orphans.clear(this.#tools.etcd, reign, led))
    for (const key of removed)
      this.#log.warn({ key }, 'a patch was cleared away while a gateway had it open; others need not wait for that any more')
  }

  /** A role that may not delete these keys must not keep the rollouts from being led. */
  async #forget(retention: Retention, reign: Reign, snapshot: Snapshot, signal: AbortSignal): Promise<void> {
    try {
      const removed = await retention.clear(this.#tools.etcd, reign, snapshot)
      if (removed > 0) this.#log.info({ removed }, 'old results and audit records were removed from etcd')
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof EtcdFailure)) throw error
      this.#log.warn({ reason: messageOf(error) }, 'old results and audit records stay in etcd for now')
    }
  }

  #pause(): Promise<void> {
    return sleep(this.#tools.clock, this.#settings.pauseMs, this.#stopping.signal)
  }

  async #wait({ revision }: Snapshot, fleet: Fleet, signal: AbortSignal): Promise<void> {
    const isBusy = fleet.rollouts.some(({ state }) => state !== undefined && BUSY.has(state.phase))
    const { busyMs, idleMs, pauseMs } = this.#settings
    await sleep(this.#tools.clock, pauseMs, signal)
    const prefixes = [keys.patches, keys.rollouts, 'failures/', ...(isBusy ? [keys.gateways] : [])]
    const targets = prefixes.map((prefix) => ({ prefix }))
    const mostMs = Math.min(jittered(isBusy ? busyMs : idleMs, this.#tools.random), this.#nextDueMs)
    await untilChange(this.#tools, { targets, revision: revision + 1, mostMs }, signal)
  }

  #tell(fleet: Fleet): void {
    for (const key of this.#told.keys()) if (!fleet.unreadable.has(key)) this.#told.delete(key)
    for (const [key, why] of fleet.unreadable) {
      if (this.#told.get(key) === why) continue
      this.#told.set(key, why)
      this.#log.error({ key, why }, `etcd holds something at ${key} that is of no use: ${why}. It is ignored; put it right or delete it`)
    }
  }
}

function bakeLeftMs(view: RolloutView): number | undefined {
  if (!isGood(view) || view.state === undefined || view.facts.doneForMs === undefined) return undefined
  const leftMs = (view.spec.patch.rollout.stages[view.state.stage]?.bakeMs ?? 0) - view.facts.doneForMs
  return leftMs > 0 ? leftMs : undefined // over: what it waits for now is something else
}
