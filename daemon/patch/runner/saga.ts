/**
 * One run from step to step, and back. Before each effect stands a record in the journal; a kill between any two calls
 * leaves a state that `recover` of the runner can finish. Read `forward` first, then `back`.
 */
import { GatewayError, kindOf, messageOf } from '../../errors.ts'
import type { Log } from '../../ports.ts'
import { STEPS } from '../kinds.ts'
import type { Checks, Kind, Outcome, Permit, Step } from '../kinds.ts'
import { becomesGood, staysGood } from './health.ts'
import type { Look } from './health.ts'
import type { Journal } from './journal.ts'
import { beforeRetry, halted, TRIES_MAX } from './life.ts'
import type { Life, Time } from './life.ts'
import { ATTEMPTS_MAX, hasReached } from './run.ts'
import type { Cause, Point, Run } from './run.ts'

export interface SagaParts extends Time {
  readonly log: Log
  readonly checks: Checks
  readonly journal: Journal
  readonly kind: Kind
  readonly permit: Permit
  readonly life: Life
}

/** A step that ends the way forward for a reason that is known. */
class TurnBack extends Error {
  readonly why: Cause

  constructor(state: Cause['state'], reason: string) {
    super(reason)
    this.why = { state, reason }
  }
}

/** A compensation that did not succeed. */
class Broken extends Error {}

export class Saga {
  readonly #parts: SagaParts
  #run: Run

  constructor(parts: SagaParts, run: Run) {
    this.#parts = parts
    this.#run = run
  }

  /** Rejects when the daemon stops or has to end; the journal then stays for the next start. */
  async forward(from: Step): Promise<Outcome> {
    try {
      for (const step of STEPS.slice(STEPS.indexOf(from))) await this.#take(step)
    } catch (error) {
      if (this.#parts.life.stopped && kindOf(error) !== 'fatal') return this.#pause()
      return this.back(this.#causeOf(error), isUsedUp(error))
    }
    return this.#finish('completed', undefined)
  }

  /** Takes back what was done, as far as it was done, and finishes. Needs no lock: the old version is the safe one. */
  async back(why: Cause, counts = false): Promise<Outcome> {
    const cause: Cause =
      counts && this.#run.attempt >= ATTEMPTS_MAX
        ? { state: 'failed', reason: `${why.reason} (attempt ${this.#run.attempt} of ${ATTEMPTS_MAX})` }
        : why
    const direction = this.#run.direction === 'undo' ? 'undo' : 'back'
    try {
      await this.#note({ direction, cause, point: 'unflip', phase: 'begin', tries: 0 })
      const verdict = await this.#restore(cause)
      return await this.#finish(verdict.state, verdict.reason, counts)
    } catch (error) {
      if (this.#parts.life.stopped && kindOf(error) !== 'fatal') return this.#pause()
      if (!(error instanceof Broken)) throw error
      this.#parts.log.error({ patch: this.#run.patch, reason: error.message }, 'a patch could not be taken back: a person is needed')
      return this.#finish('broken', `${cause.reason}; then it could not be taken back: ${error.message}`)
    }
  }

  /** As the box says; false also when it does not say: the way back then finds it broken. */
  async isSurelyFlipped(): Promise<boolean> {
    try {
      return await this.#isFlipped()
    } catch (error) {
      if (error instanceof Broken) return false
      throw error
    }
  }

  /** The end of an undo that has changed nothing yet. */
  async giveUp(error: unknown): Promise<Outcome> {
    if (this.#parts.life.stopped) return this.#pause()
    if (kindOf(error) === 'fatal') throw error
    return this.#finish('interrupted', this.#parts.life.objection ?? messageOf(error))
  }

  async #take(step: Step): Promise<void> {
    const { kind, life, permit } = this.#parts
    const { plan } = this.#run
    const limit = (name: 'pre' | 'flip' | 'activate'): number => kind.limitMs(name, plan)
    switch (step) {
      case 'prepare':
        return
      case 'fetch':
        return this.#try(step, () => kind.fetch(plan, life.early))
      case 'build':
        return this.#try(step, () => kind.build(plan, life.early))
      case 'pre':
        return this.#try(step, () => {
          permit.assertFits(limit('pre'))
          permit.assertWindow(limit('pre') + limit('flip') + limit('activate'))
          return kind.pre(plan, life.early)
        })
      case 'flip':
        return this.#try(step, () => {
          // With FLIP the box is bound to activate as well.
          permit.assertFits(limit('flip') + limit('activate'))
          permit.assertWindow(limit('flip') + limit('activate'))
          return kind.flip(plan)
        })
      case 'activate':
        return this.#try(step, () => {
          permit.assertFits(limit('activate'))
          return kind.activate(plan, life.late)
        })
      case 'verify':
        return this.#watch(step, becomesGood)
      case 'bake':
        return this.#watch(step, staysGood)
      case 'commit':
        return this.#commit()
    }
  }

  /** Transient failures are tried again, each with a record of its own. */
  async #try(step: Step, effect: () => Promise<void>): Promise<void> {
    for (let tries = 1; ; tries++) {
      this.#assertMay(step)
      await this.#begin(step, tries)
      try {
        this.#assertMay(step)
        await effect()
        return await this.#save({ phase: 'done' })
      } catch (error) {
        if (kindOf(error) !== 'transient' || tries >= TRIES_MAX || this.#parts.life.stopped) throw error
        this.#parts.log.warn({ patch: this.#run.patch, step, err: error }, 'a step of a patch failed, and is tried again')
        await beforeRetry(this.#parts, tries, this.#signal(step))
      }
    }
  }

  async #watch(step: 'verify' | 'bake', watch: (look: Look) => Promise<string | undefined>): Promise<void> {
    await this.#begin(step, 1)
    const { kind } = this.#parts
    const wrong = await watch(this.#look((signal) => kind.verify(this.#run.plan, signal)))
    if (this.#parts.life.stopped) throw halted()
    if (wrong !== undefined) throw new TurnBack('failed', `${step}: ${wrong}`)
    await this.#save({ phase: 'done' })
  }

  /** The patch has succeeded: what goes wrong from here on is only untidy. */
  async #commit(): Promise<void> {
    const { kind, log } = this.#parts
    await this.#note({ point: 'commit', step: 'commit', phase: 'begin', tries: 1 })
    if (this.#run.attempt > ATTEMPTS_MAX) return
    try {
      await kind.commit(this.#run.plan)
    } catch (error) {
      if (kindOf(error) === 'fatal') throw error
      log.warn({ patch: this.#run.patch, err: error }, 'a patch is in force, but what it made superfluous could not be removed')
    }
  }

  async #restore(cause: Cause): Promise<{ readonly state: Outcome['state']; readonly reason: string }> {
    const { kind, life } = this.#parts
    const { plan } = this.#run
    if (await this.#isFlipped()) await this.#compensate('unflip', () => kind.unflip(plan))
    if (!hasReached(this.#run, 'pre')) {
      await this.#compensate('discard', () => kind.discard(plan))
      return cause
    }
    await this.#compensate('reactivate', () => kind.reactivate(plan, life.late))
    const verdict = cause.state === 'interrupted' ? cause : await this.#recheck(cause)
    await this.#compensate('discard', () => kind.discard(plan))
    return verdict
  }

  /** Do the same checks pass on the old version? If not, it was not the patch that broke them. */
  async #recheck(cause: Cause): Promise<{ readonly state: Outcome['state']; readonly reason: string }> {
    await this.#note({ point: 'recheck', phase: 'begin' })
    const wrong = await becomesGood(this.#look(undefined))
    if (this.#parts.life.stopped) throw halted()
    if (wrong === undefined) return cause
    const reason = `${cause.reason}; the old version fails its checks as well: ${wrong}`
    return { state: cause.state === 'failed' ? 'inconclusive' : cause.state, reason }
  }

  #isFlipped(): Promise<boolean> {
    return this.#insist(() => this.#parts.kind.isFlipped(this.#run.plan))
  }

  async #compensate(point: Point, effect: () => Promise<void>): Promise<void> {
    await this.#insist(effect, (tries) => this.#note({ point, phase: 'begin', tries }))
    await this.#note({ phase: 'done' })
  }

  /** Whatever the error: there is no other way than to try again. */
  async #insist<T>(effect: () => Promise<T>, before?: (tries: number) => Promise<void>): Promise<T> {
    for (let tries = 1; ; tries++) {
      await before?.(tries)
      try {
        return await effect()
      } catch (error) {
        if (this.#parts.life.stopped) throw halted()
        if (tries >= TRIES_MAX) throw new Broken(messageOf(error), { cause: error })
        this.#parts.log.warn({ patch: this.#run.patch, err: error }, 'taking a patch back failed, and is tried again')
        await beforeRetry(this.#parts, tries, this.#parts.life.late)
      }
    }
  }

  #look(verify: Look['verify']): Look {
    return { clock: this.#parts.clock, checks: this.#parts.checks, health: this.#run.health, verify, signal: this.#parts.life.late }
  }

  #signal(step: Step): AbortSignal {
    return isPastFlip(step) ? this.#parts.life.late : this.#parts.life.early
  }

  #assertMay(step: Step): void {
    if (this.#parts.life.stopped) throw halted()
    const objection = isPastFlip(step) ? undefined : this.#parts.life.objection
    if (objection !== undefined) throw new TurnBack('interrupted', objection)
  }

  #causeOf(error: unknown): Cause {
    if (error instanceof TurnBack) return error.why
    const kind = kindOf(error)
    if (kind === 'fatal') throw error
    const objection = hasReached(this.#run, 'flip') ? undefined : this.#parts.life.objection
    if (objection !== undefined) return { state: 'interrupted', reason: objection }
    if (kind === undefined) throw error
    const isFault = kind === 'rejected' || (kind === 'transient' && hasReached(this.#run, 'flip'))
    return { state: isFault ? 'failed' : 'interrupted', reason: `${this.#run.step}: ${messageOf(error)}` }
  }

  async #begin(step: Step, tries: number): Promise<void> {
    await this.#save({ step, point: step, phase: 'begin', tries })
  }

  async #save(change: Partial<Run>): Promise<void> {
    const sinceMs = change.point === undefined || change.point === this.#run.point ? this.#run.sinceMs : this.#parts.clock.wallMs()
    this.#run = await this.#parts.journal.write({ ...this.#run, ...change, sinceMs })
  }

  /** On the way back a full disk must not hold up: the box itself tells a recovery how far it is. */
  async #note(change: Partial<Run>): Promise<void> {
    try {
      await this.#save(change)
    } catch (error) {
      if (kindOf(error) !== 'saturated') throw error
      this.#run = { ...this.#run, ...change }
      this.#parts.log.warn({ patch: this.#run.patch, err: error }, 'the journal of a patch can not be written')
    }
  }

  async #pause(): Promise<never> {
    await this.#note({ paused: true })
    throw halted()
  }

  /** The outcome must not get lost for want of room: it waits for it. */
  async #finish(state: Outcome['state'], reason: string | undefined, counts = false): Promise<Outcome> {
    const { patch, digest, step, attempt, startedMs } = this.#run
    const devices = await this.#counts()
    const facts = { patch, digest, state, step, attempt, startedMs, finishedMs: this.#parts.clock.wallMs() }
    const outcome: Outcome = { ...facts, ...(reason !== undefined && { reason }), ...(devices !== undefined && { devices }) }
    for (let failures = 0; ; failures++) {
      try {
        await this.#parts.journal.finish(this.#run, outcome, counts)
        return outcome
      } catch (error) {
        if (kindOf(error) !== 'saturated') throw error
        if (this.#parts.life.stopped) throw halted()
        await beforeRetry(this.#parts, failures, this.#parts.life.late)
      }
    }
  }

  async #counts(): Promise<Outcome['devices']> {
    try {
      return await this.#parts.kind.counts?.(this.#run.plan)
    } catch (error) {
      this.#parts.log.warn({ patch: this.#run.patch, err: error }, 'the devices of a patch could not be counted')
      return undefined
    }
  }
}

function isPastFlip(step: Step): boolean {
  return STEPS.indexOf(step) > STEPS.indexOf('flip')
}

/** Surroundings that stay bad are given up after some runs, or a dead link would be tried for ever. */
function isUsedUp(error: unknown): boolean {
  return error instanceof GatewayError && error.kind === 'transient'
}
