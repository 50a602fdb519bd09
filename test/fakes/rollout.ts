/** Views made by hand, and what a test needs to play a fleet. */
import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { controlOf } from '../../daemon/patch/control.ts'
import type { ConfigPatch, RolloutPlan } from '../../daemon/patch/document.ts'
import type { Control, Failure, Result, RolloutState } from '../../daemon/patch/records.ts'
import type { RolloutReader } from '../../daemon/patch/rollout/fleet.ts'
import type { BoxView, Facts, GoodView, OtherRollout } from '../../daemon/patch/rollout/view.ts'

export const NOW_MS = Date.UTC(2026, 10, 24, 12)
const DAY_MS = 86_400_000

export function plan(changes: Partial<RolloutPlan> = {}): RolloutPlan {
  return {
    stages: [
      { size: { count: 1 }, bakeMs: 60_000, minDone: 1 },
      { size: { fraction: 0.5 }, bakeMs: 0, minDone: 1 },
      { size: { fraction: 1 }, bakeMs: 0, minDone: 0.9 },
    ],
    concurrency: { scope: 'plant', slots: 2 },
    maxFailures: 0,
    onFailure: 'pause',
    ...changes,
  }
}

export function patchFor(id: string, changes: Partial<ConfigPatch> = {}): ConfigPatch {
  return {
    id,
    kind: 'config',
    fleet: 'acme',
    channel: 'limits',
    sequence: 1,
    notBefore: undefined,
    expires: NOW_MS + 30 * DAY_MS,
    target: { all: true, sites: [], labels: {}, gateways: [], exclude: [] },
    requires: [],
    supersedes: [],
    health: { checks: [], consecutive: 1, deadlineMs: 30_000, bakeMs: 10_000 },
    rollout: plan(),
    window: undefined,
    spec: {},
    ...changes,
  }
}

export function box(gateway: string, changes: Partial<BoxView> = {}): BoxView {
  return { gateway, site: 'plant-7', labels: {}, online: true, result: undefined, resultMod: 0, markerMod: 0, isQueued: false, ...changes }
}

export function result(gateway: string, state: Result['state'], changes: Partial<Result> = {}): Result {
  return { schema: 1, gateway, patch: 'p', digest: 'd', state, token: 7, attempt: 1, retry: 0, at: '', ...changes }
}

/** A box with a result. */
export function told(gateway: string, state: Result['state'], changes: Partial<BoxView> = {}): BoxView {
  return box(gateway, { result: result(gateway, state), resultMod: 50, ...changes })
}

export function failure(gateway: string, changes: Partial<Failure> = {}): Failure {
  return { schema: 1, gateway, kind: 'failed', reason: 'its checks failed', token: 7, at: '', ...changes }
}

export function stateOf(phase: RolloutState['phase'], stage: number, changes: Partial<RolloutState> = {}): RolloutState {
  const base = { schema: 1, patch: 'p', digest: 'd', reason: '', at: '', token: 3, by: 'c', retry: 0, decisions: [] } as const
  return { ...base, phase, stage, ...changes }
}

export interface ViewParts {
  readonly patch?: Partial<ConfigPatch>
  readonly rollout?: Partial<RolloutPlan>
  readonly control?: Control & { readonly mod?: number; readonly signed?: boolean }
  readonly state?: RolloutState
  readonly cohorts?: readonly (readonly string[])[]
  readonly failures?: readonly Failure[]
  readonly boxes?: readonly BoxView[]
  readonly others?: readonly OtherRollout[]
  readonly facts?: Partial<Facts>
}

export function viewFrom(parts: ViewParts): GoodView {
  const { mod = 0, signed = false, ...control } = parts.control ?? { schema: 1, state: 'active' }
  const entry = { key: 'patches/p/control', value: encode({ ...control, signed }), createRevision: mod, modRevision: mod }
  return {
    id: 'p',
    revision: 100,
    spec: { patch: patchFor('p', { rollout: plan(parts.rollout), ...parts.patch }), digest: 'd' },
    specMod: 2,
    control: plainReader.control(patchFor('p'), mod === 0 ? undefined : entry, parts.state?.pausedAt ?? 0),
    state: parts.state,
    stateMod: parts.state === undefined ? 0 : 90,
    cohorts: new Map((parts.cohorts ?? []).entries()),
    spoiled: [],
    failures: new Map((parts.failures ?? []).map((one, index) => [index + 1, one])),
    boxes: new Map((parts.boxes ?? []).map((one) => [one.gateway, one])),
    others: new Map((parts.others ?? []).map((one) => [one.id, one])),
    facts: { nowMs: NOW_MS, doneForMs: undefined, absentForMs: new Map(), ...parts.facts },
  }
}

export function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

export function digestOf(value: Uint8Array): string {
  return createHash('sha256').update(value).digest('hex')
}

/** Specs as plain JSON. Controls as real ones, but a field `signed` stands for the signature. */
export const plainReader: RolloutReader = {
  spec({ value }) {
    try {
      return { patch: JSON.parse(Buffer.from(value).toString()) as ConfigPatch, digest: digestOf(value) }
    } catch (error) {
      return { refused: String(error), digest: digestOf(value) }
    }
  },
  control(patch, entry, slowedAt) {
    const text = entry === undefined ? '' : Buffer.from(entry.value).toString()
    const isSigned = text.includes('"signed":true')
    // The payload, and a word that `controlOf` knows an envelope by.
    const value = isSigned ? Buffer.from(`"payloadType"${text}`) : entry?.value
    const payload = Buffer.from(JSON.stringify({ ...(isSigned && (JSON.parse(text) as object)), signed: undefined, patch: patch.id }))
    return controlOf(entry && value && { ...entry, value }, {
      patch,
      slowedAt,
      envelopes: { open: () => ({ payload, keys: ['ops'] }) },
      scopes: new Map([['ops', { kinds: ['config'], sites: 'all' }]]),
    })
  },
}
