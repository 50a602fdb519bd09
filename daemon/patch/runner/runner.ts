/**
 * Applies patches and takes them back, one at a time, whole or not at all (G7). Every method either ends in one durable
 * outcome, or rejects and leaves the journal, so that `recover` at the next start ends it.
 *
 * `signal` of a run: abort it with a `fenced` error when the lock is lost, with `Cancelled` on an operator's cancel, with
 * anything else when the daemon stops. A stop that may follow one of the first two comes through `stop()`.
 */
import type { Clock, Random } from '../../clock.ts'
import { GatewayError, kindOf, messageOf } from '../../errors.ts'
import type { Log } from '../../ports.ts'
import type { PatchKind } from '../document.ts'
import type { Accepted, Checks, Kind, Outcome, Permit } from '../kinds.ts'
import type { Json, Memory } from '../memory.ts'
import { isUnwell } from './health.ts'
import { Journal, stateOf } from './journal.ts'
import type { RunnerState } from './journal.ts'
import { beforeRetry, halted, Life, TRIES_MAX } from './life.ts'
import { ATTEMPTS_MAX, hasReached } from './run.ts'
import type { AppliedPatch, Cause, Run } from './run.ts'
import { Saga } from './saga.ts'

export interface RunnerParts {
  readonly memory: Memory
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly kinds: Readonly<Record<PatchKind, Kind>>
  readonly checks: Checks
}

/** At a start nothing may depend on etcd: what was begun is finished or taken back. */
const ALWAYS: Permit = { assertFits: () => undefined, assertWindow: () => undefined }
const ENDED = 'the gateway ended in the middle of it'

export class Runner {
  readonly #parts: RunnerParts
  readonly #journal: Journal
  readonly #stop = new AbortController()
  #isBusy = false

  constructor(parts: RunnerParts) {
    this.#parts = parts
    this.#journal = new Journal(parts.memory, parts.clock)
  }

  /** What is under way, or broken; undefined when nothing is. */
  state(): RunnerState | undefined {
    return stateOf(this.#journal.run)
  }

  /** The daemon stops: what is under way ends soon, and its journal stays. */
  stop(): void {
    this.#stop.abort(halted())
  }

  /** At the start, before any other call. Undefined when nothing was under way. */
  recover(signal: AbortSignal): Promise<Outcome | undefined> {
    return this.#alone(async () => {
      const run = await this.#journal.load()
      if (run === undefined) return undefined
      this.#parts.log.warn({ patch: run.patch, step: run.point, attempt: run.attempt }, 'a patch was under way when the gateway ended')
      return this.#resume(run, new Life(signal, this.#stop.signal))
    })
  }

  /** Why `apply` had better wait, in one sentence; undefined when it would begin, or fail for good. Changes nothing. */
  async objection(accepted: Accepted, signal: AbortSignal): Promise<string | undefined> {
    const busy = this.#unfinished()
    if (busy !== undefined) return busy
    try {
      await this.#parts.kinds[accepted.patch.kind].prepare(accepted, signal)
    } catch (error) {
      if (kindOf(error) === 'fatal' || kindOf(error) === undefined) throw error
      // A fault of the patch itself must be told as its failure, and counted: `apply` does both.
      return kindOf(error) === 'rejected' ? undefined : withRemedy(error)
    }
    return this.#unwell(accepted, signal)
  }

  /** The longest effect that needs the lock to last, ms: at most so much before the lock's deadline it begins. */
  async longestMs(accepted: Accepted, signal: AbortSignal): Promise<number> {
    const kind = this.#parts.kinds[accepted.patch.kind]
    const plan = await kind.prepare(accepted, signal)
    return Math.max(kind.limitMs('pre', plan), kind.limitMs('flip', plan) + kind.limitMs('activate', plan))
  }

  /** The same for the undo of a committed patch; 0 when it is not applied here. */
  async longestUndoMs(patch: string): Promise<number> {
    const applied = await this.#journal.applied(patch)
    if (applied === undefined) return 0
    const kind = this.#parts.kinds[applied.kind]
    return kind.limitMs('unflip', applied.plan) + kind.limitMs('reactivate', applied.plan)
  }

  /** `retry`: number of the control that it is started under; a denial notes it. */
  apply(accepted: Accepted, permit: Permit, signal: AbortSignal, retry = 0): Promise<Outcome> {
    return this.#alone(async () => {
      await this.#assertFree()
      const life = new Life(signal, this.#stop.signal)
      const startedMs = this.#parts.clock.wallMs()
      const ready = await this.#prepare(accepted, life)
      if ('refusal' in ready) return this.#refuse(accepted, ready.refusal, startedMs, retry)
      const attempt = (await this.#journal.attempts(accepted.digest)) + 1
      const run = newRun(accepted, { plan: ready.plan, attempt, retry, startedMs })
      return this.#saga(run, permit, life).forward('fetch')
    })
  }

  /** Takes back a committed patch. Rejects with `rejected` when it is not applied here. */
  undo(patch: string, permit: Permit, signal: AbortSignal): Promise<Outcome> {
    return this.#alone(async () => {
      await this.#assertFree()
      const applied = await this.#journal.applied(patch)
      if (applied === undefined) throw new GatewayError('rejected', `${patch} is not applied on this box`)
      const life = new Life(signal, this.#stop.signal)
      const run = await this.#journal.write(undoRun(patch, applied, this.#parts.clock.wallMs()))
      return this.#undo(run, permit, life)
    })
  }

  async #undo(run: Run, permit: Permit, life: Life): Promise<Outcome> {
    const kind = this.#parts.kinds[run.kind]
    const saga = this.#saga(run, permit, life)
    try {
      life.early.throwIfAborted()
      const limitMs = kind.limitMs('unflip', run.plan) + kind.limitMs('reactivate', run.plan)
      permit.assertFits(limitMs)
      permit.assertWindow(limitMs)
    } catch (error) {
      return saga.giveUp(error)
    }
    return saga.back(ON_ORDER)
  }

  /** The box tells whether FLIP happened; the journal only tells what was meant. */
  async #resume(found: Run, life: Life): Promise<Outcome> {
    const counts = found.direction === 'forward' && !found.paused
    if (found.direction !== 'forward')
      return this.#saga({ ...found, paused: false }, ALWAYS, life).back(found.cause ?? { state: 'interrupted', reason: ENDED })
    const saga = this.#saga({ ...found, paused: false }, ALWAYS, life)
    const isDone = hasReached(found, 'commit')
    if (!isDone && !(await saga.isSurelyFlipped())) return saga.back({ state: 'interrupted', reason: `${found.step}: ${ENDED}` }, counts)
    const attempt = counts ? found.attempt + 1 : found.attempt
    const next = this.#saga(await this.#journal.write({ ...found, attempt, paused: false }), ALWAYS, life)
    if (isDone) return next.forward('commit')
    if (attempt > ATTEMPTS_MAX) return next.back({ state: 'failed', reason: `${found.step}: ${ENDED}, ${ATTEMPTS_MAX} times` })
    return next.forward(hasReached(found, 'verify') ? 'verify' : 'activate')
  }

  async #prepare(accepted: Accepted, life: Life): Promise<{ readonly plan: Json } | { readonly refusal: Cause }> {
    for (let tries = 1; ; tries++) {
      try {
        const plan = await this.#parts.kinds[accepted.patch.kind].prepare(accepted, life.early)
        const wrong = await this.#unwell(accepted, life.early)
        if (life.stopped) throw halted()
        const reason = life.objection ?? wrong
        return reason === undefined ? { plan } : { refusal: { state: 'interrupted', reason: `prepare: ${reason}` } }
      } catch (error) {
        if (life.stopped) throw halted()
        const refusal = life.objection === undefined ? refusalOf(error, tries) : { state: 'interrupted' as const, reason: life.objection }
        if (refusal !== undefined) return { refusal }
        await beforeRetry(this.#parts, tries, life.early)
      }
    }
  }

  async #unwell({ patch }: Accepted, signal: AbortSignal): Promise<string | undefined> {
    const { clock, checks } = this.#parts
    const wrong = await isUnwell({ clock, checks, health: patch.health, verify: undefined, signal })
    return wrong && `its health checks fail already before it: ${wrong}`
  }

  async #refuse({ patch, digest }: Accepted, { state, reason }: Cause, startedMs: number, retry: number): Promise<Outcome> {
    const finishedMs = this.#parts.clock.wallMs()
    const attempt = (await this.#journal.attempts(digest)) + 1
    const outcome: Outcome = { patch: patch.id, digest, state, step: 'prepare', reason, attempt, startedMs, finishedMs }
    await this.#journal.refuse(outcome, state === 'failed' ? this.#journal.denial(patch.id, digest, retry, reason) : {})
    return outcome
  }

  #saga(run: Run, permit: Permit, life: Life): Saga {
    const { clock, random, log, checks, kinds } = this.#parts
    return new Saga({ clock, random, log, checks, journal: this.#journal, kind: kinds[run.kind], permit, life }, run)
  }

  async #assertFree(): Promise<void> {
    await this.#journal.load()
    const busy = this.#unfinished()
    if (busy !== undefined) throw new GatewayError('saturated', busy, { remedy: 'Restart the gateway: it tries to end it once more.' })
  }

  #unfinished(): string | undefined {
    const { run } = this.#journal
    return run && (run.broken ? `${run.patch} could not be taken back` : `${run.patch} is under way`)
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isBusy) throw new Error('the runner was asked for a second run while one is under way')
    this.#isBusy = true
    try {
      return await work()
    } finally {
      this.#isBusy = false
    }
  }
}

const ON_ORDER: Cause = { state: 'rolled-back', reason: 'undone on order' }

/** Undefined: try again. */
function refusalOf(error: unknown, tries: number): Cause | undefined {
  const kind = kindOf(error)
  if (kind === undefined || kind === 'fatal') throw error
  if (kind === 'transient' && tries < TRIES_MAX) return undefined
  return { state: kind === 'rejected' ? 'failed' : 'interrupted', reason: `prepare: ${withRemedy(error)}` }
}

/** A person reads it where nothing else of the error is told. */
function withRemedy(error: unknown): string {
  const remedy = error instanceof GatewayError ? error.remedy : undefined
  return remedy === undefined ? messageOf(error) : `${messageOf(error)}; ${remedy}`
}

const FRESH = { phase: 'begin', tries: 0, cause: null, paused: false, broken: false } as const

function newRun(accepted: Accepted, facts: Pick<Run, 'plan' | 'attempt' | 'retry' | 'startedMs'>): Run {
  const { id, kind, channel, sequence, health } = accepted.patch
  const { checks, consecutive, deadlineMs, bakeMs } = health
  return {
    ...FRESH,
    ...facts,
    patch: id,
    digest: accepted.digest,
    kind,
    channel,
    sequence,
    health: { checks, consecutive, deadlineMs, bakeMs },
    payload: Buffer.from(accepted.payload).toString('base64'),
    direction: 'forward',
    step: 'prepare',
    point: 'prepare',
    sinceMs: facts.startedMs,
  }
}

function undoRun(patch: string, applied: AppliedPatch, nowMs: number): Run {
  const { digest, kind, channel, sequence, health, payload, plan } = applied
  const facts = { patch, digest, kind, channel, sequence, health, payload, plan, retry: 0, attempt: 1, startedMs: nowMs, sinceMs: nowMs }
  return { ...FRESH, ...facts, cause: ON_ORDER, direction: 'undo', step: 'commit', point: 'unflip' }
}
