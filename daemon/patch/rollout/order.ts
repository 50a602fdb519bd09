/** What one rollout has to do with others, and with the time. */
import { phaseOf, stageOf } from './view.ts'
import type { GoodView, OtherRollout } from './view.ts'

/** A newer patch of the channel that names this one and is on its way, or in force. */
export function successorOf({ id, spec: { patch }, others }: GoodView): string | undefined {
  const isSuccessor = (other: OtherRollout): boolean =>
    other.channel === patch.channel &&
    other.sequence > patch.sequence &&
    other.supersedes.includes(id) &&
    (other.phase === 'running' || other.phase === 'completed')
  return [...others.values()].find(isSuccessor)?.id
}

/** Why it may not start, or go on, now; no times and no counts in it, since each change is written down. */
export function hindrance(view: GoodView): string | undefined {
  const { patch } = view.spec
  if (patch.notBefore !== undefined && view.facts.nowMs < patch.notBefore) {
    return `it is not to begin before ${new Date(patch.notBefore).toISOString()}`
  }
  const required = patch.requires.find((id) => !isDone(id, view.others))
  if (required !== undefined) return `it requires ${required}, which is ${view.others.get(required)?.phase ?? 'not known'}`
  const other = [...view.others.values()].find((one) => isInTheWay(view, one))
  return other && `${other.id} of the same channel is ${other.phase} and comes first`
}

/** It was completed, or what superseded it was: its own place stays taken. */
function isDone(id: string, others: GoodView['others'], behind: readonly string[] = []): boolean {
  const one = others.get(id)
  if (one?.phase === 'completed') return true
  return [...others.values()].some(
    (other) =>
      other.supersedes.includes(id) &&
      // Without its document a rollout's channel is not known.
      other.channel === (one?.channel || other.channel) &&
      !behind.includes(other.id) &&
      isDone(other.id, others, [...behind, id]),
  )
}

/** One rollout at a time in a channel; what this patch supersedes gives way. */
function isInTheWay(view: GoodView, other: OtherRollout): boolean {
  const { patch } = view.spec
  if (other.channel !== patch.channel || patch.supersedes.includes(other.id)) return false
  if (other.phase === 'rolling-back') return true
  if (other.phase === 'running') return !isOnItsWay(view) || other.sequence < patch.sequence
  return other.phase === 'paused' && other.stage >= 0 && other.sequence < patch.sequence
}

function isOnItsWay(view: GoodView): boolean {
  return phaseOf(view) === 'running' && stageOf(view) >= 0
}
