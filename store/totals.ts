/** The durable side of the ledger's equation: everything that is not in flight. */
import { DEVICE_LANES, LANES, type Counted } from '../daemon/ports.ts'
import type { LedgerBook } from './ledger-book.ts'
import { DEAD_LETTERED, DELIVERED, EXPORTED, LOST, RECEIVED } from './ledger-codec.ts'
import type { DurableTotals } from './protocol.ts'

/** The gateway's own records are no part of it. */
export function totalsOf({ totals, lanes }: LedgerBook): DurableTotals {
  const buffered = { messages: 0, bytes: 0 }
  for (const lane of DEVICE_LANES) {
    const held = lanes[LANES.indexOf(lane)]
    buffered.messages += held?.messages ?? 0
    buffered.bytes += held?.bytes ?? 0
  }
  const copy = (code: number): Counted => ({ ...totals.get(code) })
  return {
    received: copy(RECEIVED),
    delivered: copy(DELIVERED),
    deadLettered: copy(DEAD_LETTERED),
    exported: copy(EXPORTED),
    lost: copy(LOST),
    shed: totals.shed(),
    buffered,
  }
}
