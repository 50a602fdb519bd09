import type { LedgerLine, LedgerTotals } from '../ports.ts'
import { colour, count, size, table } from './text.ts'

/** What `/ledger` and `edgectl ledger --json` say. */
export interface LedgerDocument {
  readonly schema: 1
  readonly totals: LedgerTotals
  readonly equation: { readonly holds: boolean; readonly difference: number }
  readonly devices: readonly LedgerLine[]
}

export function ledgerDocument(totals: LedgerTotals, devices: readonly LedgerLine[]): LedgerDocument {
  const difference = totals.received.messages - outcomes(totals)
  return { schema: 1, totals, equation: { holds: difference === 0, difference }, devices }
}

/** The right side of G4's equation, in messages. */
function outcomes(totals: LedgerTotals): number {
  const { delivered, buffered, inFlight, deadLettered, lost, exported } = totals
  return [delivered, buffered, inFlight, deadLettered, lost, exported].reduce((sum, part) => sum + part.messages, shedMessages(totals.shed))
}

function shedMessages(shed: LedgerTotals['shed']): number {
  return Object.values(shed).reduce((sum, part) => sum + part.messages, 0)
}

export function ledgerView(document: LedgerDocument): string {
  const { totals, equation } = document
  const verdict = equation.holds
    ? colour('green', 'every message is accounted for')
    : colour('red', `${count(equation.difference)} messages are not accounted for: report this`)
  const parts = [
    ['delivered', totals.delivered],
    ['buffered', totals.buffered],
    ['in flight', totals.inFlight],
    ['dead letters', totals.deadLettered],
    ['lost', totals.lost],
    ['exported', totals.exported],
  ] as const
  const sum = [...parts.map(([name, part]) => `${name} ${count(part.messages)}`), `shed ${count(shedMessages(totals.shed))}`].join(' + ')
  return [`received ${count(totals.received.messages)} = ${sum}`, verdict, '', reasons(totals), '', devices(document)].join('\n').trimEnd()
}

function reasons(totals: LedgerTotals): string {
  const rows = Object.entries(totals.shed).map(([reason, part]) => [reason, part.messages, size(part.bytes)])
  return rows.length === 0 ? 'nothing was shed' : table(['shed', 'messages', 'payload'], rows)
}

function devices(document: LedgerDocument): string {
  const exported = document.devices.some((line) => line.exported !== undefined)
  const rows = document.devices.map((line) => [
    short(line.device),
    short(line.stream),
    line.received.messages,
    line.delivered.messages,
    line.deadLettered.messages,
    shedMessages(line.shed),
    ...(exported ? [line.exported?.messages ?? 0] : []),
  ])
  const header = ['device', 'stream', 'received', 'delivered', 'dead letters', 'shed', ...(exported ? ['exported'] : [])]
  return rows.length === 0 ? '' : table(header, rows)
}

const NAME_MAX = 48

/** A device may have a name of 256 characters; the table must still fit a screen. */
function short(name: string): string {
  return name.length <= NAME_MAX ? name : `${name.slice(0, NAME_MAX - 1)}…`
}
