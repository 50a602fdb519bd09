/** What can end a run from outside, and how a step is tried again. */
import { sleep } from '../../clock.ts'
import type { Clock, Random } from '../../clock.ts'
import { GatewayError, kindOf } from '../../errors.ts'
import { backoffMs } from '../backoff.ts'

/** The abort reason that means: an operator cancelled the patch. Any other, but a `fenced` error, is the daemon's stop. */
export class Cancelled extends Error {
  constructor(message = 'the patch was cancelled') {
    super(message)
    this.name = 'Cancelled'
  }
}

export const TRIES_MAX = 3
const BACKOFF_FIRST_MS = 1_000
const BACKOFF_MOST_MS = 30_000

export interface Time {
  readonly clock: Clock
  readonly random: Random
}

/**
 * Two signals of one run. Before FLIP anything ends it: stop, cancel, a lost lock. Past FLIP only the stop does: looking
 * needs no lock, and the box must not stay in the middle.
 */
export class Life {
  readonly early: AbortSignal
  readonly late: AbortSignal
  readonly #given: AbortSignal

  constructor(given: AbortSignal, stop: AbortSignal) {
    const stopped = new AbortController()
    const tell = (): void => (isOrder(given.reason) ? undefined : stopped.abort(given.reason))
    if (given.aborted) tell()
    else given.addEventListener('abort', tell, { once: true })
    this.#given = given
    this.early = AbortSignal.any([given, stop])
    this.late = AbortSignal.any([stopped.signal, stop])
  }

  get stopped(): boolean {
    return this.late.aborted
  }

  /** Why the run must not flip any more; undefined while it may. */
  get objection(): string | undefined {
    if (!this.#given.aborted) return undefined
    return this.#given.reason instanceof Error ? this.#given.reason.message : 'the run was ended'
  }
}

/** The two aborts that leave the daemon running. */
function isOrder(reason: unknown): boolean {
  return reason instanceof Cancelled || kindOf(reason) === 'fenced'
}

/** The daemon stops: the journal stays, and the next start goes on. */
export function halted(): GatewayError {
  return new GatewayError('transient', 'the gateway stops; the patch goes on at its next start')
}

/** The wait before the next try. Resolves early when `signal` aborts. */
export function beforeRetry({ clock, random }: Time, failures: number, signal: AbortSignal): Promise<void> {
  return sleep(clock, backoffMs(failures, BACKOFF_FIRST_MS, BACKOFF_MOST_MS, random), signal)
}
