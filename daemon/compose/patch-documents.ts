/** Answers on patches that the daemon and the files of a stopped one give alike. */
import type { HistoryDocument, HoldDocument, PatchesDocument, PatchRow } from '../cli/patch-views.ts'
import type { AgentState } from '../patch/agent/state.ts'
import type { Candidate, Why } from '../patch/agent/eligibility.ts'
import type { Hold } from '../patch/agent/hold.ts'
import { appliedRecord, type AppliedHere, type Own } from '../patch/agent/own.ts'
import type { Json, JsonObject } from '../patch/memory.ts'
import type { RunnerState } from '../patch/runner/journal.ts'

/** What is known without etcd, and without a look. */
export interface Remembered {
  readonly own: Own
  /** By patch. */
  readonly denied: ReadonlyMap<string, string>
  readonly running: Pick<RunnerState, 'patch' | 'step' | 'direction' | 'attempt' | 'broken' | 'since'> | undefined
}

type Seen = Pick<AgentState, 'candidates' | 'why' | 'turn' | 'waitsForLock'>

export function patchesDocument(remembered: Remembered, seen?: Seen): PatchesDocument {
  const { own, denied, running } = remembered
  const why = new Map(seen?.why.map((one) => [one.patch, one]))
  const candidates = new Map(seen?.candidates.map((one) => [one.id, one]))
  const ids = [
    ...candidates.keys(),
    ...own.applied.keys(),
    ...denied.keys(),
    ...own.undone,
    ...(running === undefined ? [] : [running.patch]),
  ]
  const rows = [...new Set(ids)].map((id) => rowOf(id, remembered, candidates.get(id), why.get(id), seen))
  return { schema: 1, running: seen !== undefined, patches: rows.sort(inOrder) }
}

function inOrder(left: PatchRow, right: PatchRow): number {
  const [a, b] = [left.channel ?? '~', right.channel ?? '~']
  if (a !== b) return a < b ? -1 : 1
  return (left.sequence ?? Infinity) - (right.sequence ?? Infinity) || (left.patch < right.patch ? -1 : 1)
}

function rowOf(
  patch: string,
  remembered: Remembered,
  candidate: Candidate | undefined,
  why: Why | undefined,
  seen: Seen | undefined,
): PatchRow {
  const applied = remembered.own.applied.get(patch)
  const document = candidate?.patch ?? applied?.document
  const result = candidate?.result?.result
  const rollout = candidate?.rollout?.state
  return {
    patch,
    kind: document?.kind,
    channel: document?.channel ?? applied?.channel,
    sequence: document?.sequence ?? applied?.sequence,
    inForce: appliedRecord(remembered.own).inForce.some((one) => one.patch === patch),
    ...standingOf(patch, remembered, applied, why, seen),
    ...(why?.untilMs !== undefined && { until: iso(why.untilMs) }),
    ...(applied !== undefined && { since: iso(applied.atMs) }),
    ...(result !== undefined && { result: result.state, attempt: result.attempt }),
    ...(rollout !== undefined && { rollout: rollout.phase, stage: rollout.stage }),
  }
}

/** What happens now outranks what was decided before. */
function standingOf(
  patch: string,
  { own, denied, running }: Remembered,
  applied: AppliedHere | undefined,
  why: Why | undefined,
  seen: Seen | undefined,
): Pick<PatchRow, 'state' | 'because'> {
  if (running?.patch === patch) return runningRow(running, seen !== undefined)
  if (seen?.turn === patch && seen.waitsForLock) return { state: 'waiting', because: 'it waits for its lock' }
  if (why !== undefined) return { state: why.standing, because: why.because }
  if (applied !== undefined) return { state: 'in force', because: `it is in force here since ${iso(applied.atMs)}` }
  if (own.undone.has(patch)) return { state: 'over', because: 'it was taken back on order' }
  return { state: 'stopped', because: `it failed here (${denied.get(patch) ?? 'no reason was kept'})` }
}

function runningRow(
  { step, direction, attempt, broken, since }: NonNullable<Remembered['running']>,
  isLive: boolean,
): Pick<PatchRow, 'state' | 'because'> {
  const again = isLive ? 'a restart of the gateway tries once more' : 'the next start of the gateway tries once more'
  if (broken) return { state: 'broken', because: `it could not be taken back: a person is needed; ${again}` }
  const at = `step ${step} since ${iso(since)}, attempt ${attempt}`
  if (!isLive) return { state: 'running', because: `it was under way when the gateway ended: ${at}; the next start ends it` }
  return { state: 'running', because: direction === 'forward' ? `it runs: ${at}` : `it is taken back: ${at}` }
}

/** The newest first. */
export function historyDocument(history: ReadonlyMap<string, Json>, limit: number): HistoryDocument {
  const runs = [...history].flatMap(([key, value]) => (isObject(value) ? [runOf(Number(key.split('/')[1]), value)] : []))
  return { schema: 1, runs: runs.reverse().slice(0, limit) }
}

function runOf(
  number: number,
  { patch, state, step, reason, attempt, startedMs, finishedMs, devices }: JsonObject,
): HistoryDocument['runs'][number] {
  const [beganMs, endedMs] = [Number(startedMs), Number(finishedMs)]
  return {
    number,
    patch: String(patch),
    outcome: String(state),
    step: String(step),
    ...(typeof reason === 'string' && { reason }),
    attempt: Number(attempt ?? 1),
    startedAt: iso(beganMs),
    finishedAt: iso(endedMs),
    seconds: Math.max(0, Math.round((endedMs - beganMs) / 1_000)),
    ...(isObject(devices) && { devices: devices as unknown as NonNullable<HistoryDocument['runs'][number]['devices']> }),
  }
}

export function holdDocument(hold: Hold | undefined, nowMs: number): HoldDocument {
  if (hold === undefined) return { schema: 1 }
  const { untilMs, by, reason } = hold
  return { schema: 1, hold: { until: iso(untilMs), remainingSeconds: Math.max(0, Math.round((untilMs - nowMs) / 1_000)), by, reason } }
}

/** Reasons by patch, out of `denied/<digest>`. */
export function deniedIn(memory: ReadonlyMap<string, Json>): ReadonlyMap<string, string> {
  return new Map(
    [...memory.values()].flatMap((one) => (isObject(one) ? [[String(one['patch']), String(one['reason'] ?? '')] as const] : [])),
  )
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A time that nobody can tell must not end the answer. */
function iso(ms: number): string {
  return Number.isFinite(ms) && Math.abs(ms) < 8e15 ? new Date(ms).toISOString() : 'unknown'
}
