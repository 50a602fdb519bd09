/** One frame of `edgectl top`, cut to the terminal. */
import { duration } from '../health.ts'
import type { StatusDocument } from '../status.ts'
import { seen } from './devices.ts'
import type { DeviceRow, DevicesDocument } from './device-documents.ts'
import { TONES } from './status-view.ts'
import { colour, count, printable, size } from './text.ts'

export interface TopFigures {
  readonly status: StatusDocument | undefined
  readonly devices: DevicesDocument | undefined
  /** Why there are no newer ones. */
  readonly trouble: string | undefined
  readonly sort: string
}

const KEYS = 'q quit   order: r rate  s shed  l last seen  n name  x state'
const BAR = 16

/** At most `rows` lines of at most `columns` characters. */
export function topFrame(figures: TopFigures, columns: number, rows: number): readonly string[] {
  const { status, devices, trouble } = figures
  const head = [
    ...(trouble === undefined ? [] : [colour('red', cut(`NO ANSWER: ${trouble}`, columns))]),
    ...(status === undefined ? [] : headOf(status, columns)),
  ]
  const room = Math.max(0, rows - head.length - 3)
  const list =
    devices === undefined
      ? []
      : [colour('dim', cut(headerOf(columns), columns)), ...devices.devices.slice(0, room).map((row) => cut(rowOf(row, columns), columns))]
  const body = [...head, '', ...list].slice(0, Math.max(1, rows - 1))
  return [...body, colour('dim', cut(KEYS, columns))]
}

function headOf(status: StatusDocument, columns: number): readonly string[] {
  const { verdict, rates, buffer, devices, kafka } = status
  const state = verdict.state.toUpperCase()
  const share = buffer.maxBytes > 0 ? Math.min(1, buffer.usedBytes / buffer.maxBytes) : 0
  const full = buffer.fullInSeconds === undefined ? '' : `, full in ${duration(buffer.fullInSeconds * 1_000)}`
  const bar = '#'.repeat(Math.round(share * BAR)).padEnd(BAR, '.')
  const reason = kafka.reason === undefined ? '' : `: ${kafka.reason}`
  return [
    cut(`${state}: ${verdict.line}`, columns).replace(state, colour(TONES[verdict.state], colour('bold', state))),
    cut(
      ` ${status.gateway}  up ${duration(status.uptimeSeconds * 1_000)}  in ${rates.inPerSecond}/s  out ${rates.outPerSecond}/s  shed ${rates.shedPerSecond}/s`,
      columns,
    ),
    cut(` buffer [${bar}] ${size(buffer.usedBytes)} of ${size(buffer.maxBytes)}, ${count(buffer.messages)} waiting${full}`, columns),
    cut(` kafka ${kafka.state}${reason}`, columns),
    cut(` devices ${devices.online} online, ${devices.silent} silent, ${devices.offline} offline, ${devices.unknown} unknown`, columns),
  ]
}

/** What does not fit is left out from the right; the id takes what is left. */
const COLUMNS: readonly {
  readonly name: string
  readonly width: number
  readonly from: number
  readonly value: (row: DeviceRow) => string
}[] = [
  { name: 'state', width: 8, from: 0, value: ({ state }) => state },
  { name: 'in/s', width: 8, from: 0, value: ({ inPerSecond }) => String(inPerSecond) },
  { name: 'bytes/s', width: 9, from: 72, value: ({ bytesPerSecond }) => size(bytesPerSecond) },
  { name: 'shed', width: 8, from: 0, value: ({ shed }) => count(shed) },
  { name: 'deferred', width: 9, from: 84, value: ({ deferred }) => count(deferred) },
  { name: 'seen', width: 15, from: 56, value: (row) => seen(row) },
]

function headerOf(columns: number): string {
  return line('device', columns, (column) => column.name)
}

function rowOf(row: DeviceRow, columns: number): string {
  return line(row.device, columns, (column) => column.value(row))
}

function line(device: string, columns: number, value: (column: (typeof COLUMNS)[number]) => string): string {
  const shown = COLUMNS.filter(({ from }) => columns >= from)
  const rest = shown.reduce((sum, { width }) => sum + width + 1, 0)
  const name = Math.max(8, Math.min(40, columns - rest))
  return [cut(device, name).padEnd(name), ...shown.map((column) => cut(value(column), column.width).padStart(column.width))].join(' ')
}

function cut(text: string, width: number): string {
  const shown = printable(text)
  return shown.length <= width ? shown : `${shown.slice(0, Math.max(0, width - 1))}…`
}
