/** Devices by state, as the status and the metrics say it. */
import type { Metric } from './ports.ts'

export interface DeviceFigures {
  readonly online: number
  readonly offline: number
  readonly silent: number
  /** Known from before the start, and not seen since. */
  readonly unknown: number
  /** Since the start. */
  readonly fellSilent: number
  readonly returned: number
  /** Forgotten to make room. */
  readonly evicted: number
  /** Messages of devices that found no room. */
  readonly untracked: number
}

export function deviceStatus({ online, offline, silent, unknown, evicted, untracked }: DeviceFigures) {
  return { online, offline, silent, unknown, evicted, untracked }
}

export function deviceMetrics({ online, offline, silent, unknown, ...totals }: DeviceFigures): readonly Metric[] {
  const states = Object.entries({ online, offline, silent, unknown }).map(([state, value]) => ({ labels: { state }, value }))
  const counter = (name: string, help: string, value: number): Metric => ({ name, type: 'counter', help, samples: [{ labels: {}, value }] })
  return [
    { name: 'devices', type: 'gauge', help: 'Devices that are known, by state', samples: states },
    counter('devices_fell_silent_total', 'Devices that fell silent since the start', totals.fellSilent),
    counter('devices_returned_total', 'Silent devices that returned since the start', totals.returned),
    counter('devices_evicted_total', 'Silent devices that were forgotten to make room', totals.evicted),
    counter('devices_untracked_messages_total', 'Messages of devices for which the table had no room', totals.untracked),
  ]
}
