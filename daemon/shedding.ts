/** What was shed since an instant, from totals that only grow. */
import type { Counted, LedgerTotals, ShedReason } from './ports.ts'

type Shed = LedgerTotals['shed']

/** Reasons that a limit of the operator's brings about; the others are faults of a message. */
const BY_LIMITS: readonly ShedReason[] = ['over-limit', 'buffer-full', 'evicted', 'expired']

export function shedSince(before: Shed, now: Shed): Partial<Record<ShedReason, Counted>> {
  const grown = Object.entries(now).flatMap(([reason, { messages, bytes }]) => {
    const was = before[reason as ShedReason] ?? { messages: 0, bytes: 0 }
    return messages === was.messages ? [] : [[reason, { messages: messages - was.messages, bytes: bytes - was.bytes }] as const]
  })
  return Object.fromEntries(grown)
}

export function droppedByLimits(shed: Shed): number {
  return BY_LIMITS.reduce((sum, reason) => sum + (shed[reason]?.messages ?? 0), 0)
}
