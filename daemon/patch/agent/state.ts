/** What the agent says of itself. */
import { GatewayError, messageOf } from '../../errors.ts'
import { EtcdFailure } from '../ports.ts'
import type { RunnerState } from '../runner/journal.ts'
import type { Candidate, Why } from './eligibility.ts'
import type { Own } from './own.ts'
import type { Belonging } from './presence.ts'
import type { Tallied } from './tally.ts'

/** For `status`, `patches` and `why`. */
export interface AgentState {
  readonly belonging: Belonging
  readonly running: RunnerState | undefined
  /** The patch whose lock it waits for or holds. */
  readonly turn: string | undefined
  /** It has its turn, and has not begun yet. */
  readonly waitsForLock: boolean
  readonly why: readonly Why[]
  /** All patches that it knows, as it last saw them. */
  readonly candidates: readonly Candidate[]
  readonly own: Own
  readonly trouble: Trouble | undefined
  readonly tally: Tallied
  /** Its loop has not moved for so long, and waits for nothing outside; undefined while it moves. */
  readonly hangsForMs: number | undefined
}

/** Why it can't go on for now. */
export interface Trouble {
  readonly reason: string
  readonly remedy: string | undefined
  /** etcd does not let this box do what it must: no patience mends that. */
  readonly isRefused: boolean
}

export function troubleOf(error: unknown): Trouble {
  const isRefused = error instanceof EtcdFailure && (error.reason === 'credentials' || error.reason === 'refused')
  return { reason: messageOf(error), remedy: error instanceof GatewayError ? error.remedy : undefined, isRefused }
}
