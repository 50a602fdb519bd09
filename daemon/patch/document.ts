/**
 * A patch as the flows see it: verified, parsed, with units. Times are ms, wall clock where the name says `At` or
 * where it is a date; sizes are bytes; fractions lie in 0..1. The form that people write is `config/patch/`.
 */
import type { Json, JsonObject } from './memory.ts'

export const PATCH_KINDS = ['config', 'files', 'device'] as const
export type PatchKind = (typeof PATCH_KINDS)[number]

interface PatchBase {
  readonly id: string
  readonly fleet: string
  /** Order and supersession are per channel. */
  readonly channel: string
  /** Only upward within the channel. */
  readonly sequence: number
  readonly notBefore: number | undefined
  readonly expires: number
  readonly target: Target
  /** Ids that must be applied here before. */
  readonly requires: readonly string[]
  readonly supersedes: readonly string[]
  readonly health: Health
  readonly rollout: RolloutPlan
  readonly window: Window | undefined
}

export interface ConfigPatch extends PatchBase {
  readonly kind: 'config'
  /** JSON merge patch (RFC 7396) on the settings as the file writes them. */
  readonly spec: JsonObject
}
export interface FilesPatch extends PatchBase {
  readonly kind: 'files'
  readonly spec: FilesSpec
}
export interface DevicePatch extends PatchBase {
  readonly kind: 'device'
  readonly spec: DeviceSpec
}
export type Patch = ConfigPatch | FilesPatch | DevicePatch

/** `all`, or every part that is given holds (sites and labels and gateways); `exclude` wins over everything. */
export interface Target {
  readonly all: boolean
  readonly sites: readonly string[]
  readonly labels: Readonly<Record<string, string>>
  readonly gateways: readonly string[]
  readonly exclude: readonly string[]
}

export interface Health {
  /** `pipeline-moving`, `unit:<name>` (systemd says active), `http:<url>` (answers 2xx). */
  readonly checks: readonly string[]
  /** So many good rounds in a row. */
  readonly consecutive: number
  readonly deadlineMs: number
  /** The checks go on so long after the first success; one round that fails three times in a row ends it. */
  readonly bakeMs: number
}

export interface RolloutPlan {
  readonly stages: readonly Stage[]
  readonly concurrency: { readonly scope: string; readonly slots: number }
  readonly maxFailures: number
  readonly onFailure: 'pause' | 'rollback-stage' | 'rollback-all'
}

/** How many boxes in all are to be in the rollout when this stage has begun, or which. */
export interface Stage {
  readonly size: { readonly count: number } | { readonly fraction: number } | { readonly labels: Readonly<Record<string, string>> }
  readonly bakeMs: number
  /** This part of the cohort must be done before the next stage. */
  readonly minDone: number
}

export interface Window {
  /** IANA name, or `site` for the box's own `gateway.timezone`. */
  readonly timezone: string
  readonly cron: string
  readonly durationMs: number
}

export interface FilesSpec {
  /** A name of `patches.roots`. */
  readonly root: string
  /** What the installed software calls itself; verified by `running`. */
  readonly version: string
  readonly artifacts: readonly Artifact[]
  /** User and group names or numbers for all files; undefined leaves the daemon's own. */
  readonly owner: { readonly user: string; readonly group: string } | undefined
  readonly hooks: Readonly<Partial<Record<'pre' | 'post' | 'rollback', Hook>>>
  /** Stopped before FLIP and started after it, in this order; each is in `patches.units`. */
  readonly units: readonly string[]
  /** Its output, trimmed, must equal `version`. */
  readonly running: Hook | undefined
  /** Old releases kept beside the current one. */
  readonly keep: number
  /** `replace`: a technician's local edits are overwritten; `hold` waits and says so. */
  readonly localEdits: 'hold' | 'replace'
}

export interface Artifact {
  readonly url: string
  /** 64 lower-case hex digits. */
  readonly sha256: string
  readonly bytes: number
  /** `tar` (plain, gzip or zstd by its first bytes) unpacks into `path`; `none` places the file at `path`. */
  readonly unpack: 'tar' | 'none'
  /** Relative to the release folder. */
  readonly path: string
  /** For `none`, for example 0o755; undefined is 0o644. */
  readonly mode: number | undefined
}

/** No shell: the first word is a file, absolute or inside the new release. */
export interface Hook {
  readonly command: readonly string[]
  readonly timeoutMs: number
}

export interface DeviceSpec {
  /** A pattern of device ids with `*` and `?`, as in `limits.overrides`. */
  readonly devices: string
  /** Name of the listener or connection that reaches the devices; undefined: all of them. */
  readonly source: string | undefined
  /** With `{device}`: one retained message for each device. Without: one for the group. */
  readonly topic: string
  readonly payload: Json
  /** Undefined: delivery to the broker is all that is asked for. */
  readonly acknowledge: Acknowledge | undefined
}

export interface Acknowledge {
  /** With `{device}`. The device answers with JSON: `{"patch": <id>, "ok": true | false, "reason"?: text}`. */
  readonly topic: string
  readonly deadlineMs: number
  /** This part of the devices that were online must have said ok. */
  readonly minDone: number
}
