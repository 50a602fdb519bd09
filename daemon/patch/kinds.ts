/**
 * What a kind of patch can do to the box. The runner calls these in order, with a journal record before each, and
 * after a crash calls again the one that was under way: each is idempotent. All that a step needs to know is in its
 * plan, which the runner keeps in the journal; so that a privileged executor can carry steps out later.
 */
import type { Patch } from './document.ts'
import type { Json } from './memory.ts'

/** Forward, in order. FLIP is the only commit point. */
export const STEPS = ['prepare', 'fetch', 'build', 'pre', 'flip', 'activate', 'verify', 'bake', 'commit'] as const
export type Step = (typeof STEPS)[number]

/** A patch that passed `admit`, with what identifies its bytes. */
export interface Accepted<P extends Patch = Patch> {
  readonly patch: P
  /** sha256 of the spec's bytes as they stand in etcd, hex. */
  readonly digest: string
  /** The signed payload itself, so that the box can read it again without etcd. */
  readonly payload: Uint8Array
  /** The signed envelope as it stands in etcd, for who must verify it again. */
  readonly envelope: Uint8Array
}

/**
 * Rejections: `rejected` is a fault of the patch (it fails), `transient` one of the surroundings (try again later,
 * bounded by attempts), `saturated` waits (no room, a technician's edits, a window), `fatal` ends the daemon.
 * Every step ends soon after `signal` aborts, and may then be called again or compensated.
 */
export interface Kind<P extends Patch = Patch, Plan extends Json = Json> {
  /** Looks, and changes nothing: schema against this box, room, allow-lists, local edits. */
  prepare(accepted: Accepted<P>, signal: AbortSignal): Promise<Plan>
  /** Brings what is needed into the box, beside what runs. Goes on where an earlier call ended. */
  fetch(plan: Plan, signal: AbortSignal): Promise<void>
  /** Makes the new version whole and durable, beside the old one. */
  build(plan: Plan, signal: AbortSignal): Promise<void>
  pre(plan: Plan, signal: AbortSignal): Promise<void>
  /** Atomic: before it returns or is cut off, the old version or the new one is in force, never a mixture. */
  flip(plan: Plan): Promise<void>
  /** The truth about FLIP, from the box itself and not from the journal. */
  isFlipped(plan: Plan): Promise<boolean>
  /** Makes what runs use the new version. */
  activate(plan: Plan, signal: AbortSignal): Promise<void>
  /** That the new version is what runs; repeated with the health checks. Rejects with `rejected` when it does not. */
  verify(plan: Plan, signal: AbortSignal): Promise<void>
  /** Cleans up after success; the old version is kept as far as an undo needs it. */
  commit(plan: Plan): Promise<void>
  /** Atomic, back to the old version. */
  unflip(plan: Plan): Promise<void>
  /** Makes what runs use the old version again. */
  reactivate(plan: Plan, signal: AbortSignal): Promise<void>
  /** Removes what a patch that did not succeed left behind. */
  discard(plan: Plan): Promise<void>
  /** How long each local effect may take at most: it starts only if that fits before the lock's deadline (G8). */
  limitMs(step: 'pre' | 'flip' | 'activate' | 'unflip' | 'reactivate', plan: Plan): number
  /** For kind `device`: how many devices confirmed, refused, stayed silent. */
  counts?(plan: Plan): Promise<{ readonly confirmed: number; readonly refused: number; readonly silent: number }>
}

export interface CheckResult {
  readonly name: string
  readonly ok: boolean
  /** Why not, in plain words. */
  readonly reason?: string
}

/** The health checks that patches name. */
export interface Checks {
  /** One round; never rejects. An unknown name is a failed check. */
  run(names: readonly string[], signal: AbortSignal): Promise<readonly CheckResult[]>
}

/** Maintenance windows; cron with the site's time zone and its DST. */
export interface Windows {
  /** ms until the window closes; 0 when it is shut. */
  remainingMs(window: { readonly timezone: string; readonly cron: string; readonly durationMs: number }, atMs: number): number
  /** Wall ms when it next opens; undefined: never. */
  opensMs(window: { readonly timezone: string; readonly cron: string; readonly durationMs: number }, atMs: number): number | undefined
}

/** The runner asks it before each step that changes something. Throws with the reason when the step may not start. */
export interface Permit {
  /** A `fenced` error when `limitMs` does not fit before the lock's deadline. */
  assertFits(limitMs: number): void
  /** A `saturated` error when the maintenance window does not stay open for `limitMs`. */
  assertWindow(limitMs: number): void
}

export interface Outcome {
  readonly patch: string
  readonly digest: string
  readonly state: 'completed' | 'failed' | 'inconclusive' | 'interrupted' | 'rolled-back' | 'broken'
  readonly step: Step
  readonly reason?: string
  readonly attempt: number
  readonly startedMs: number
  readonly finishedMs: number
  readonly devices?: { readonly confirmed: number; readonly refused: number; readonly silent: number }
}

/** Brings an artifact into a file of the box. */
export interface Downloads {
  /**
   * Resolves when `path` holds the artifact, durable and read back with the right sha256. Goes on where an earlier call
   * ended, also one of another life. Rejects with `rejected` (it is not to be had), `saturated` (no room) or `transient`.
   */
  fetch(
    artifact: { readonly url: string; readonly sha256: string; readonly bytes: number },
    path: string,
    signal: AbortSignal,
  ): Promise<void>
}

/** Asks a URL once; for health checks. */
export interface Probe {
  /** The HTTP status; follows no redirect. Rejects with `transient` when there was no answer within `timeoutMs`. */
  status(url: string, timeoutMs: number, signal: AbortSignal): Promise<number>
}
