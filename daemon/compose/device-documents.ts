import type { DeviceDocument, DeviceRow, DevicesDocument, RefusalDocument } from '../cli/device-documents.ts'
import type { Clock } from '../clock.ts'
import type { DeviceLimit } from '../ingest/admission.ts'
import { VERDICTS, type Presence } from '../ingest/presence.ts'
import { Ending, ENDINGS, STATES, State } from '../ingest/presence-table.ts'
import type { Refused } from '../ingest/refused-devices.ts'
import type { SourceState } from '../ports.ts'
import type { FoundDevices } from './device-query.ts'

type Now = Pick<Clock, 'monotonicMs' | 'wallMs'>

export function devicesDocument(presence: Presence, found: FoundDevices, sources: readonly SourceState[], clock: Now): DevicesDocument {
  const { table, counts, totals, maxDevices } = presence
  return {
    schema: 1,
    running: true,
    at: iso(clock.wallMs()),
    counts: {
      online: counts[State.ONLINE] ?? 0,
      offline: counts[State.OFFLINE] ?? 0,
      silent: counts[State.SILENT] ?? 0,
      unknown: counts[State.UNKNOWN] ?? 0,
    },
    known: table.size,
    maxDevices,
    evicted: totals.evicted,
    untracked: totals.untracked,
    unheard: unheardOf(sources),
    matched: found.matched,
    devices: found.slots.map((slot) => rowOf(presence, slot, clock)),
    ...(found.next === undefined ? {} : { next: found.next }),
  }
}

/** Sources that can't hear their devices now. */
function unheardOf(sources: readonly SourceState[]): DevicesDocument['unheard'] {
  return sources
    .filter(({ state }) => state !== 'up')
    .map(({ name, kind, state, reason, sinceMs }) => ({
      source: `${kind}.${name}`,
      state,
      ...(reason === undefined ? {} : { reason }),
      since: iso(sinceMs),
    }))
}

export function rowOf(presence: Presence, slot: number, clock: Now): DeviceRow {
  const { table, groups } = presence
  const nowMs = clock.monotonicMs()
  const group = table.group[slot] ?? 0
  const name = groups.nameOf(group)
  const silentAfterMs = groups.silentAfterMs(group)
  const connections = table.connections[slot] ?? 0
  const rates = presence.ratesOf(slot, nowMs)
  const heardMs = table.heardMs[slot] ?? 0
  const ageMs = nowMs - heardMs
  const last = VERDICTS[(table.verdict[slot] ?? 0) - 1]
  const limitedBy = ([undefined, 'device', 'global'] as const)[table.limitedBy[slot] ?? 0]
  return {
    device: table.ids[slot] ?? '',
    state: STATES[table.state[slot] ?? 0] ?? 'unknown',
    ...(Number.isFinite(ageMs) ? { lastSeen: iso(clock.wallMs() - ageMs), lastSeenSeconds: Math.round(ageMs / 1_000) } : {}),
    sinceStart: heardMs >= presence.startedMs,
    source: presence.sourceOf(slot),
    connected: connections > 0,
    connections,
    inPerSecond: round(rates.perSecond),
    bytesPerSecond: Math.round(rates.bytesPerSecond),
    messages: table.messages[slot] ?? 0,
    bytes: table.bytes[slot] ?? 0,
    shed: table.shed[slot] ?? 0,
    deferred: table.deferred[slot] ?? 0,
    ...(last === undefined ? {} : { last }),
    ...(limitedBy === undefined ? {} : { limitedBy }),
    ...(name === undefined ? {} : { group: name }),
    silentAfterSeconds: silentAfterMs === Infinity ? null : Math.round(silentAfterMs / 1_000),
  }
}

export interface DeviceFacts {
  readonly limit: DeviceLimit
  readonly deadLetters: number
  readonly refused: readonly Refused[]
}

export function deviceDocument(presence: Presence, slot: number, { limit, deadLetters, refused }: DeviceFacts, clock: Now): DeviceDocument {
  const { table } = presence
  const row = rowOf(presence, slot, clock)
  const linkSeconds = Math.round((clock.monotonicMs() - (table.linkMs[slot] ?? 0)) / 1_000)
  const ending = table.ending[slot] ?? 0
  return {
    schema: 1,
    running: true,
    at: iso(clock.wallMs()),
    ...row,
    limit: {
      name: limit.override ?? 'perDevice',
      messagesPerSecond: finite(limit.limit.messagesPerSecond),
      bytesPerSecond: finite(limit.limit.bytesPerSecond),
      burstSeconds: limit.limit.burstMs / 1_000,
      level: Math.round(limit.level * 100) / 100,
      globalLevel: Math.round(limit.globalLevel * 100) / 100,
      overLimit: limit.overLimit,
    },
    ...(row.connected ? { connectedFor: linkSeconds } : {}),
    ...(ending === Ending.NONE ? {} : { disconnected: { how: ENDINGS[ending] ?? 'lost', secondsAgo: linkSeconds } }),
    deadLetters,
    refusals: refused.map((one) => refusalDocument(one, clock)),
  }
}

export function refusalDocument({ kind, source, names, detail, count, lastMs }: Refused, clock: Now): RefusalDocument {
  const who = [...new Set(names.filter((name) => name !== ''))].join(', ')
  return { kind, source, who, detail, count, last: iso(clock.wallMs() - (clock.monotonicMs() - lastMs)) }
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null
}

/** Slow devices send one message in minutes: two digits that count. */
function round(value: number): number {
  return value >= 10 ? Math.round(value * 10) / 10 : Number(value.toPrecision(2))
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
