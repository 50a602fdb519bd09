import { SystemClock } from '../../../adapters/host/clock.ts'
import type { Log } from '../../ports.ts'

/** How the probes look: with which patience, and by which clock. */
export interface Ways {
  /** For one step over the network. */
  readonly timeoutMs: number
  readonly clock: SystemClock
  readonly log: Log
}

const silent = (): void => undefined

export function ways(timeoutMs = 5_000): Ways {
  return { timeoutMs, clock: new SystemClock(), log: { debug: silent, info: silent, warn: silent, error: silent } }
}
