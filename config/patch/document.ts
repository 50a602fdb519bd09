/**
 * A patch after parsing: durations and instants in ms, sizes in bytes, fractions in 0..1. The flows have the same
 * shape under `daemon/patch/document.ts`, where each member is described; a test holds the two together.
 */
import type { Json, JsonObject } from '../merge.ts'

interface PatchBase {
  readonly id: string
  readonly fleet: string
  readonly channel: string
  readonly sequence: number
  readonly notBefore: number | undefined
  readonly expires: number
  readonly target: PatchTarget
  readonly requires: readonly string[]
  readonly supersedes: readonly string[]
  readonly health: {
    readonly checks: readonly string[]
    readonly consecutive: number
    readonly deadlineMs: number
    readonly bakeMs: number
  }
  readonly rollout: PatchRollout
  readonly window: { readonly timezone: string; readonly cron: string; readonly durationMs: number } | undefined
}

export type Patch = PatchBase &
  (
    | { readonly kind: 'config'; readonly spec: JsonObject }
    | { readonly kind: 'files'; readonly spec: FilesSpec }
    | { readonly kind: 'device'; readonly spec: DeviceSpec }
  )

export interface PatchTarget {
  readonly all: boolean
  readonly sites: readonly string[]
  readonly labels: Readonly<Record<string, string>>
  readonly gateways: readonly string[]
  readonly exclude: readonly string[]
}

export interface PatchRollout {
  readonly stages: readonly PatchStage[]
  readonly concurrency: { readonly scope: string; readonly slots: number }
  readonly maxFailures: number
  readonly onFailure: 'pause' | 'rollback-stage' | 'rollback-all'
}

export interface PatchStage {
  readonly size: { readonly count: number } | { readonly fraction: number } | { readonly labels: Readonly<Record<string, string>> }
  readonly bakeMs: number
  readonly minDone: number
}

export interface FilesSpec {
  readonly root: string
  readonly version: string
  readonly artifacts: readonly PatchArtifact[]
  readonly owner: { readonly user: string; readonly group: string } | undefined
  readonly hooks: Readonly<Partial<Record<'pre' | 'post' | 'rollback', PatchHook>>>
  readonly units: readonly string[]
  readonly running: PatchHook | undefined
  readonly keep: number
  readonly localEdits: 'hold' | 'replace'
}

export interface PatchArtifact {
  readonly url: string
  readonly sha256: string
  readonly bytes: number
  readonly unpack: 'tar' | 'none'
  readonly path: string
  readonly mode: number | undefined
}

export interface PatchHook {
  readonly command: readonly string[]
  readonly timeoutMs: number
}

export interface DeviceSpec {
  readonly devices: string
  readonly source: string | undefined
  readonly topic: string
  readonly payload: Json
  readonly acknowledge: { readonly topic: string; readonly deadlineMs: number; readonly minDone: number } | undefined
}
