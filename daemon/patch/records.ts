/**
 * What stands in etcd under the fleet's prefix (DESIGN section 7): key names and JSON values. Values are one line of
 * JSON with a `schema` number, so that `etcdctl get` is readable. Times in values are RFC 3339 text, UTC, ms.
 */

export const keys = {
  patches: 'patches/',
  spec: (patch: string): string => `patches/${patch}/spec`,
  control: (patch: string): string => `patches/${patch}/control`,
  rollouts: 'rollouts/',
  rolloutState: (patch: string): string => `rollouts/${patch}/state`,
  cohort: (patch: string, stage: number): string => `rollouts/${patch}/cohorts/${stage}`,
  failures: (patch: string): string => `failures/${patch}/`,
  failure: (patch: string, number: number): string => `failures/${patch}/${number}`,
  gateways: 'gateways/',
  gateway: (id: string): string => `gateways/${id}/`,
  identity: (id: string): string => `gateways/${id}/identity`,
  /** The identity that an operator took from the id (`edgectl fleet release`): its key still proves the old `applied`. */
  released: (id: string): string => `gateways/${id}/released`,
  results: (id: string): string => `gateways/${id}/results/`,
  info: (id: string): string => `gateways/${id}/info`,
  alive: (id: string): string => `gateways/${id}/alive`,
  applied: (id: string): string => `gateways/${id}/applied`,
  result: (id: string, patch: string): string => `gateways/${id}/results/${patch}`,
  /**
   * Without a lease: who began under this scope and has not told how it ended. Written with the start, deleted with
   * the result or by the controller that classified it. While one stands here without an entry in the queue, no other
   * box of the scope starts.
   */
  open: (scope: string): string => `locks/${encodeURIComponent(scope)}~open/`,
  openBy: (scope: string, gateway: string): string => `locks/${encodeURIComponent(scope)}~open/${gateway}`,
  audit: (random: string): string => `audit/${random}`,
} as const

/** The lock of the elected controller. */
export const CONTROLLER_SCOPE = '~controller'

/**
 * `patches/<id>/control`: one of the words alone, or JSON. Unsigned it can only slow down or undo (`paused`,
 * `cancelled`, with or without `rollback`). What speeds up (`active` after a pause, `retry`) is a DSSE envelope, payload
 * type CONTROL_TYPE, by a key that could have signed the patch. Absent: `active`.
 */
export interface Control {
  readonly schema: 1
  readonly state: 'active' | 'paused' | 'cancelled'
  /** With `cancelled`: boxes that completed it undo it. */
  readonly rollback?: boolean
  /** Grows with each retry: denials and failures from before a lower number are forgiven. */
  readonly retry?: number
  /** Signed control names its patch, and the mod revision of the control that it answers (0: there was none). */
  readonly patch?: string
  readonly answers?: number
  /** Who and why, for the record. */
  readonly by?: string
  readonly reason?: string
}

export const PATCH_TYPE = 'application/vnd.edge-gateway.patch+json'
export const CONTROL_TYPE = 'application/vnd.edge-gateway.control+json'

export type RolloutPhase =
  | 'waiting' // verified, not begun: not before its time, requires another, or nobody is there
  | 'running'
  | 'paused'
  | 'completed' // in force for its target from now on
  | 'cancelled'
  | 'superseded'
  | 'expired'
  | 'refused' // not a patch of this fleet, or not well signed
  | 'rolling-back'
  | 'rolled-back'

/** `rollouts/<id>/state`: the controller's, written under its token. Changes at decisions only. */
export interface RolloutState {
  readonly schema: 1
  readonly patch: string
  /** sha256 of the spec's bytes, hex. */
  readonly digest: string
  readonly phase: RolloutPhase
  /** Index of the last opened stage; -1 before the first. */
  readonly stage: number
  /** In one sentence. */
  readonly reason: string
  readonly at: string
  /** The controller's fencing token and id. */
  readonly token: number
  readonly by: string
  /** Retry number of the control that it follows. */
  readonly retry: number
  /** The control (mod revision) that paused it: only a signed answer to it, or to a later one, resumes. */
  readonly pausedBy?: 'operator' | 'failures' | 'inconclusive' | 'lock broken'
  /** Mod revision of the control that stood there at the pause, 0 for none: what resumes answers this one or a later one. */
  readonly pausedAt?: number
  /** Mod revision of the control that resumed it last: results `inconclusive` from before it pause no more. */
  readonly resumed?: number
  /** While `rolling-back`: which boxes undo. */
  readonly undo?: 'stage' | 'all'
  /** Newest last, bounded. */
  readonly decisions: readonly Decision[]
}

export interface Decision {
  readonly at: string
  readonly decided: string
  readonly because: string
  readonly stage: number
  /** etcd's revision of the view that it was decided on: the same view gives the same decision. */
  readonly revision: number
  readonly counts: StageCounts
}

export interface StageCounts {
  readonly cohort: number
  readonly done: number
  readonly applying: number
  readonly failed: number
  readonly inconclusive: number
  readonly pending: number
}

/** `rollouts/<id>/cohorts/<stage>`: create-only. Only those who were not in an earlier stage. */
export interface Cohort {
  readonly schema: 1
  readonly at: string
  readonly gateways: readonly string[]
}

export type ResultState =
  | 'refused' // bad for this box; nothing was tried
  | 'applying'
  | 'completed'
  | 'failed' // tried and taken back
  | 'inconclusive' // taken back, and the old version fails its checks as well: nothing is denied
  | 'interrupted' // taken back or never flipped, through no fault of the patch (lock lost, cancelled, window closed)
  | 'rolled-back' // completed once, undone on order
  | 'broken' // could not be taken back: a person is needed

/** `gateways/<id>/results/<patch>`; ends with `"signature"`, by the box's key over the bytes before it. */
export interface Result {
  readonly schema: 1
  readonly gateway: string
  readonly patch: string
  readonly digest: string
  readonly state: ResultState
  /** Last step reached. */
  readonly step?: string
  readonly reason?: string
  /** Of the lock that it was started under; 0 for those that never started. */
  readonly token: number
  readonly attempt: number
  /** Retry number of the control that it was started under. */
  readonly retry: number
  readonly startedAt?: string
  readonly at: string
  /** Devices that confirmed, refused or stayed silent, for kind `device`. */
  readonly devices?: { readonly confirmed: number; readonly refused: number; readonly silent: number }
}

/** `locks/<scope>~open/<gateway>`: it began, under this token, and has not told yet how it ended. */
export interface OpenMarker {
  readonly schema: 1
  readonly gateway: string
  readonly patch: string
  readonly token: number
  readonly at: string
}

/** `failures/<patch>/<n>`, n from 1 without gaps: create-only. */
export interface Failure {
  readonly schema: 1
  readonly gateway: string
  /** `silent`: it began and has not been heard of since; found by the controller. */
  readonly kind: 'failed' | 'silent' | 'broken'
  readonly reason: string
  readonly token: number
  readonly at: string
}

/** `gateways/<id>/identity`: create-only. */
export interface Identity {
  readonly schema: 1
  readonly gateway: string
  /** ed25519, 32 bytes, base64. */
  readonly publicKey: string
  /** sha256 of the board's serial number, else of the machine id; hex. */
  readonly machine: string
  readonly at: string
}

/** `gateways/<id>/info`: changes seldom. */
export interface Info {
  readonly schema: 1
  readonly gateway: string
  readonly site: string | null
  readonly labels: Readonly<Record<string, string>>
  readonly fleet: string | null
  readonly timezone: string
  readonly version: string
  readonly controller: boolean
  /** Until when a technician holds patches back; absent when not. */
  readonly hold?: { readonly until: string; readonly by: string; readonly reason: string }
  readonly at: string
}

/** `gateways/<id>/alive`: rewritten every ALIVE_EVERY_MS, without a lease. */
export interface Alive {
  readonly schema: 1
  readonly at: string
  /** False: `at` is not to be believed. */
  readonly clockTrusted: boolean
  readonly verdict: string
}
export const ALIVE_EVERY_MS = 5 * 60_000
/** A box whose `alive` did not change for this long is offline. */
export const ALIVE_WITHIN_MS = 12.5 * 60_000

/** `gateways/<id>/applied`: what is in force here, and the floor for each channel; signed like a result. */
export interface Applied {
  readonly schema: 1
  readonly gateway: string
  readonly channels: Readonly<Record<string, { readonly sequence: number; readonly patch: string }>>
  /** Committed and not superseded or undone, in the order of their sequences. */
  readonly inForce: readonly { readonly patch: string; readonly digest: string; readonly channel: string; readonly sequence: number }[]
  readonly at: string
}
