import { join } from 'node:path'
import { GatewayError } from '../../../daemon/errors.ts'
import type { Hook } from '../../../daemon/patch/document.ts'

/** Types, not interfaces, so that they are JSON to the compiler. */
export type PlannedHook = { readonly command: readonly string[]; readonly timeoutMs: number }
export type PlannedArtifact = {
  readonly url: string
  readonly sha256: string
  readonly bytes: number
  readonly unpack: 'tar' | 'none'
  readonly path: string
  readonly mode: number
}

/** All that the steps need, so that another program could carry them out. */
export type FilesPlan = {
  readonly patch: string
  readonly version: string
  readonly root: string
  /** Its name below `releases/`. */
  readonly release: string
  /** What `current` says now; null: there is none. */
  readonly previous: string | null
  readonly artifacts: readonly PlannedArtifact[]
  readonly owner: { readonly uid: number; readonly gid: number } | null
  readonly pre: PlannedHook | null
  readonly post: PlannedHook | null
  readonly rollback: PlannedHook | null
  readonly running: PlannedHook | null
  readonly units: readonly string[]
  /** Those of them that ran when the patch was looked at; the way back starts no others. */
  readonly active: readonly string[]
  readonly keep: number
}

/**
 * 128 bits of the digest. `releases/` and this are 41 bytes: a link of fewer than 60 lies in the inode itself (ext4), so
 * that no power cut can leave a link without its text.
 */
export function releaseName(digest: string): string {
  return digest.slice(0, 32)
}

export function planned(hook: Hook | undefined): PlannedHook | null {
  return hook === undefined ? null : { command: [...hook.command], timeoutMs: hook.timeoutMs }
}

export interface Paths {
  readonly current: string
  readonly releases: string
  readonly incoming: string
  readonly release: string
  readonly manifest: string
  /** While it is made or taken away. */
  readonly unfinished: string
  /** There from before the pre hook until the patch is committed or taken back. */
  readonly begun: string
  /** What `current` says when the release is in force. */
  readonly target: string
}

export function pathsOf(plan: Pick<FilesPlan, 'root' | 'release'>): Paths {
  const releases = join(plan.root, 'releases')
  const incoming = join(plan.root, '.incoming')
  return {
    current: join(plan.root, 'current'),
    releases,
    incoming,
    release: join(releases, plan.release),
    manifest: manifestPath(plan.root, `releases/${plan.release}`),
    unfinished: join(releases, `.${plan.release}.new`),
    begun: join(incoming, `${plan.release}.begun`),
    target: `releases/${plan.release}`,
  }
}

/** Of the release that `target` names, whether or not it is one of ours. */
export function manifestPath(root: string, target: string): string {
  return join(root, `${target}.manifest`)
}

export function incomingPath(plan: Pick<FilesPlan, 'root'>, artifact: Pick<PlannedArtifact, 'sha256'>): string {
  return join(plan.root, '.incoming', artifact.sha256)
}

export function rejected(message: string, remedy?: string): GatewayError {
  return new GatewayError('rejected', message, remedy === undefined ? {} : { remedy })
}
