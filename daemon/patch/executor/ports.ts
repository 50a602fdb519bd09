/** What the executor carries out, and the steps by name. */
import type { FilesPatch } from '../document.ts'
import type { Accepted } from '../kinds.ts'
import type { Json } from '../memory.ts'

export const EXECUTED = ['build', 'pre', 'flip', 'isFlipped', 'activate', 'verify', 'commit', 'unflip', 'reactivate', 'discard'] as const
export type Executed = (typeof EXECUTED)[number]

/** As `Kind`, but that artifacts are brought. Plans are its own, and opaque. */
export interface Installation<Plan extends Json = Json> {
  prepare(accepted: Accepted<FilesPatch>, signal: AbortSignal): Promise<Plan>
  /** sha256 of those that must still be brought. */
  missing(plan: Plan): Promise<readonly string[]>
  receive(plan: Plan, sha256: string, bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>
  /** Why the configuration forbids it now; undefined when it does not. */
  forbids(plan: Plan): string | undefined
  build(plan: Plan, signal: AbortSignal): Promise<void>
  pre(plan: Plan, signal: AbortSignal): Promise<void>
  flip(plan: Plan): Promise<void>
  isFlipped(plan: Plan): Promise<boolean>
  activate(plan: Plan, signal: AbortSignal): Promise<void>
  verify(plan: Plan, signal: AbortSignal): Promise<void>
  commit(plan: Plan): Promise<void>
  unflip(plan: Plan): Promise<void>
  reactivate(plan: Plan, signal: AbortSignal): Promise<void>
  discard(plan: Plan): Promise<void>
}
