/** The status document: what `edgectl status --json`, the control socket and the status records say. */
import { deviceStatus, type DeviceFigures } from './device-figures.ts'
import { backlog, type RelayFigures, type Verdict } from './health.ts'
import type { ImportFigures, ImportTally } from './move/figures.ts'
import { patchStatus, type PatchFigures } from './patch-figures.ts'
import {
  LANES,
  type Counted,
  type DeviceLane,
  type Lane,
  type LedgerTotals,
  type OutboxState,
  type ShedReason,
  type SourceState,
} from './ports.ts'

/** Raised when a field changes its meaning or goes away; new fields do not raise it. */
export const STATUS_SCHEMA = 1

export interface IntakeFigures {
  readonly received: Counted
  readonly bySource: Readonly<Record<string, Counted>>
  readonly accepted: Readonly<Record<DeviceLane, Counted>>
  readonly shed: Readonly<Partial<Record<ShedReason, Counted>>>
  readonly faults: number
  readonly withoutMessageId: number
  readonly buckets: { readonly overflowed: number }
}

/** The relay as the status shows it. */
export interface RelayStatus extends RelayFigures {
  readonly delivered: Readonly<Record<Lane, number>>
  readonly transactions: number
  readonly bytes: number
  readonly redeliveryPossible: number
  readonly deadLettered: number
  readonly uplinkBytesPerSecond: number
}

export interface Identity {
  readonly pid: number
  readonly version: string
  readonly gateway: string
  readonly startedMs: number
}

/** What stands above the files of the box, apart from patches that are in force. */
export interface ConfigurationFigures {
  /** A technician's, until they end; secrets are hidden. */
  readonly overrides: readonly {
    readonly key: string
    readonly value: unknown
    readonly until: string
    readonly remainingSeconds: number
    readonly by: string
    readonly reason: string
  }[]
  /** Remembered, but not valid here. */
  readonly leftOut: readonly { readonly label: string; readonly reason: string }[]
  /** The last reload, until another one is taken; `undefined`: it was taken. */
  readonly refused?: { readonly reason: string; readonly atMs: number } | undefined
  /** What is wanted and not there yet: the page or the metrics, whose port is taken. */
  readonly waiting?: readonly {
    readonly name: string
    readonly reason: string
    readonly remedy: string | undefined
    readonly sinceMs: number
  }[]
}

/** All figures of one instant. */
export interface Snapshot {
  readonly identity: Identity
  readonly wallMs: number
  readonly monotonicMs: number
  readonly clockTrusted: boolean
  readonly verdict: Verdict
  readonly sources: readonly SourceState[]
  readonly intake: IntakeFigures
  readonly devices: DeviceFigures
  /** Over all starts, also what was dropped in the buffer (evicted, expired); at most a second old. */
  readonly ledger: Pick<LedgerTotals, 'shed' | 'lost' | 'exported'>
  /** By reason, at the door and in the buffer. */
  readonly shedSinceStart: Readonly<Partial<Record<ShedReason, Counted>>>
  readonly outbox: OutboxState
  readonly relay: RelayStatus
  readonly whenFull: Readonly<Record<DeviceLane, 'block' | 'drop-oldest'>>
  readonly configuration: ConfigurationFigures
  /** Undefined while no etcd is named. */
  readonly patches: PatchFigures | undefined
  /** Messages of other boxes, on their way through this one. */
  readonly imports?: readonly ImportFigures[]
  readonly importTally?: ImportTally | undefined
  readonly rates: {
    readonly inPerSecond: number
    readonly outPerSecond: number
    readonly shedPerSecond: number
    readonly growthBytesPerSecond: number
  }
}

export type StatusDocument = ReturnType<typeof statusDocument>

export function statusDocument(snapshot: Snapshot) {
  const { identity, verdict, outbox } = snapshot
  return {
    schema: STATUS_SCHEMA,
    ...identity,
    startedMs: undefined,
    startedAt: iso(identity.startedMs),
    uptimeSeconds: Math.round((snapshot.wallMs - identity.startedMs) / 1_000),
    at: iso(snapshot.wallMs),
    clockTrusted: snapshot.clockTrusted,
    verdict: {
      state: verdict.state,
      line: verdict.line,
      reason: verdict.reason,
      remedy: verdict.remedy,
      since: verdict.sinceMs === undefined ? undefined : iso(verdict.sinceMs),
    },
    rates: {
      inPerSecond: round(snapshot.rates.inPerSecond),
      outPerSecond: round(snapshot.rates.outPerSecond),
      shedPerSecond: round(snapshot.rates.shedPerSecond),
    },
    received: snapshot.intake.received,
    shed: snapshot.shedSinceStart,
    devices: deviceStatus(snapshot.devices),
    sources: snapshot.sources.map((source) => sourceStatus(source, snapshot)),
    lanes: Object.fromEntries(LANES.map((lane) => [lane, laneStatus(lane, snapshot)])),
    whenFull: snapshot.whenFull,
    buffer: {
      messages: backlog(outbox),
      usedBytes: outbox.usedBytes,
      maxBytes: outbox.maxBytes,
      freeDiskBytes: outbox.freeDiskBytes,
      oldestAgeSeconds: oldestAge(snapshot),
      fullInSeconds: fullIn(snapshot),
      blockedReason: outbox.blockedReason,
      inFlight: outbox.inFlight,
      deadLetters: outbox.deadLetters,
      epoch: outbox.epoch,
      notices: outbox.notices.map((notice) => ({ text: notice.text, at: iso(notice.atMs) })),
    },
    kafka: kafkaStatus(snapshot),
    configuration: {
      overrides: snapshot.configuration.overrides,
      leftOut: snapshot.configuration.leftOut.map(({ label, reason }) => ({ label, reason })),
      refused: snapshot.configuration.refused && {
        reason: snapshot.configuration.refused.reason,
        at: iso(snapshot.configuration.refused.atMs),
      },
      waiting: (snapshot.configuration.waiting ?? []).map(({ sinceMs, ...rest }) => ({ ...rest, since: iso(sinceMs) })),
    },
    patches: snapshot.patches && patchStatus(snapshot.patches),
    imports: snapshot.imports ?? [],
  }
}

function sourceStatus(source: SourceState, snapshot: Snapshot) {
  return {
    name: source.name,
    kind: source.kind,
    state: source.state,
    reason: source.reason,
    since: iso(source.sinceMs),
    connections: source.connections,
    refused: source.refused,
    answers: source.answers,
    received: snapshot.intake.bySource[source.name] ?? { messages: 0, bytes: 0 },
    notices: source.notices.map((notice) => ({ text: notice.text, count: notice.count, last: iso(notice.lastMs) })),
  }
}

function laneStatus(lane: Lane, snapshot: Snapshot) {
  const state = snapshot.outbox.lanes[lane]
  return {
    messages: state.messages,
    bytes: state.bytes,
    watermark: state.watermark,
    highest: state.highest,
    oldestAgeSeconds: age(state.oldestMs, snapshot.wallMs),
    blocked: state.blocked,
    delivered: snapshot.relay.delivered[lane],
  }
}

function kafkaStatus(snapshot: Snapshot) {
  const { relay } = snapshot
  return {
    state: relay.phase,
    reason: relay.reason,
    remedy: relay.remedy,
    since: iso(relay.sinceMs),
    lastProgressAgeSeconds: Math.round((snapshot.monotonicMs - relay.lastProgressMs) / 1_000),
    transactions: relay.transactions,
    bytes: relay.bytes,
    uplinkBytesPerSecond: Math.round(relay.uplinkBytesPerSecond),
    redeliveryPossible: relay.redeliveryPossible,
    deadLettered: relay.deadLettered,
  }
}

function oldestAge(snapshot: Snapshot): number | undefined {
  const oldest = LANES.flatMap((lane) => snapshot.outbox.lanes[lane].oldestMs ?? [])
  return oldest.length === 0 ? undefined : age(Math.min(...oldest), snapshot.wallMs)
}

/** What leaves within this time is the relay's breath, and not growth. */
const FRESH_SECONDS = 60

/** `undefined` unless the buffer grows. */
function fullIn(snapshot: Snapshot): number | undefined {
  if (snapshot.relay.reason === undefined && (oldestAge(snapshot) ?? 0) < FRESH_SECONDS) return undefined
  const growth = snapshot.rates.growthBytesPerSecond
  const room = snapshot.outbox.maxBytes - snapshot.outbox.usedBytes
  return growth < 1 ? undefined : Math.max(0, Math.round(room / growth))
}

function age(atMs: number | undefined, nowMs: number): number | undefined {
  return atMs === undefined ? undefined : Math.max(0, Math.round((nowMs - atMs) / 1_000))
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
