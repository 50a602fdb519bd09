/** A healthy box at one instant, for what is computed from snapshots. */
import type { VerdictInput } from '../../daemon/health.ts'
import { LANES, type Lane, type LaneState, type OutboxState, type SourceState } from '../../daemon/ports.ts'
import type { RelayStatus, Snapshot } from '../../daemon/status.ts'

export const NOW_MS = Date.UTC(2026, 10, 24, 12)

export function outboxState(change: Partial<OutboxState> = {}, lanes: Partial<Record<Lane, Partial<LaneState>>> = {}): OutboxState {
  const empty: LaneState = { messages: 0, bytes: 0, watermark: 0, highest: 0, oldestMs: undefined, blocked: false }
  return {
    lanes: Object.fromEntries(LANES.map((lane) => [lane, { ...empty, ...lanes[lane] }])) as Record<Lane, LaneState>,
    usedBytes: 65_536,
    maxBytes: 2 * 1024 ** 3,
    freeDiskBytes: 20 * 1024 ** 3,
    inFlight: { messages: 0, bytes: 0 },
    blockedReason: undefined,
    epoch: '0123456789abcdef',
    commits: 10,
    deadLetters: 0,
    notices: [],
    ...change,
  }
}

export function relayStatus(change: Partial<RelayStatus> = {}): RelayStatus {
  return {
    phase: 'ready',
    sinceMs: NOW_MS - 60_000,
    lastProgressMs: 100_000,
    patienceMs: 60_000,
    delivered: { urgent: 0, normal: 0, deferred: 0, internal: 0 },
    transactions: 0,
    bytes: 0,
    redeliveryPossible: 0,
    deadLettered: 0,
    uplinkBytesPerSecond: 0,
    ...change,
  }
}

export function sourceState(change: Partial<SourceState> = {}): SourceState {
  return { name: 'lan', kind: 'listen', state: 'up', sinceMs: NOW_MS - 60_000, connections: 1, notices: [], ...change }
}

export function verdictInput(change: Partial<VerdictInput> = {}): VerdictInput {
  return {
    wallMs: NOW_MS,
    monotonicMs: 100_000,
    phase: 'running',
    sources: [sourceState()],
    outbox: outboxState(),
    lastCommitMs: 100_000,
    relay: relayStatus(),
    dropped: 0,
    ...change,
  }
}

export function snapshot(change: Partial<Snapshot> = {}): Snapshot {
  return {
    identity: { pid: 42, version: '1.2.3', gateway: 'gw-001', startedMs: NOW_MS - 3_600_000 },
    wallMs: NOW_MS,
    monotonicMs: 100_000,
    clockTrusted: true,
    verdict: { state: 'ok', line: 'all delivered' },
    sources: [sourceState()],
    intake: {
      received: { messages: 5, bytes: 500 },
      bySource: { lan: { messages: 5, bytes: 500 } },
      accepted: { urgent: { messages: 1, bytes: 100 }, normal: { messages: 3, bytes: 300 }, deferred: { messages: 0, bytes: 0 } },
      shed: { oversize: { messages: 1, bytes: 100 } },
      faults: 0,
      withoutMessageId: 0,
      buckets: { overflowed: 0 },
    },
    devices: { online: 3, offline: 0, silent: 1, unknown: 0, fellSilent: 1, returned: 0, evicted: 0, untracked: 0 },
    shedSinceStart: { oversize: { messages: 1, bytes: 100 } },
    whenFull: { urgent: 'block', normal: 'block', deferred: 'drop-oldest' },
    ledger: { shed: { oversize: { messages: 1, bytes: 100 } }, lost: { messages: 0, bytes: 0 }, exported: { messages: 0, bytes: 0 } },
    configuration: { overrides: [], leftOut: [] },
    patches: undefined,
    outbox: outboxState(),
    relay: relayStatus(),
    rates: { inPerSecond: 1.26, outPerSecond: 1, shedPerSecond: 0, growthBytesPerSecond: 0 },
    ...change,
  }
}
