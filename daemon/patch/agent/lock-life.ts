import { kindOf } from '../../errors.ts'
import type { Action } from './eligibility.ts'
import type { PatchRunner } from './needs.ts'

/** Right before a renewal, 2/3 of a lock's life less its margin are left; the longest effect must fit into half of it. */
const LIFE_OF_LOCK = 2

/** `leastMs`, or longer where an effect of this patch may take longer: otherwise it could never begin. */
export async function lockLifeMs(runner: PatchRunner, action: Action, leastMs: number, signal: AbortSignal): Promise<number> {
  const longestMs = action.do === 'apply' ? runner.longestMs(action.accepted, signal) : runner.longestUndoMs(action.candidate.id)
  return Math.max(leastMs, LIFE_OF_LOCK * (await longestMs.catch(unlessRejected)))
}

/** What a patch has wrong is told by its attempt. */
function unlessRejected(error: unknown): number {
  if (kindOf(error) === undefined || kindOf(error) === 'fatal') throw error
  return 0
}
