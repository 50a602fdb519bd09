/** What the box's side of the patch path needs of the parts around it. */
import type { Trusted } from '../admit.ts'
import type { ControlView } from '../control.ts'
import type { Patch } from '../document.ts'
import type { Accepted, Outcome, Permit } from '../kinds.ts'
import type { KeyValue } from '../ports.ts'
import type { Identity, Info } from '../records.ts'
import type { RunnerState } from '../runner/journal.ts'
import type { KeyScope } from '../signing.ts'

/** This box, as patches aim at it and as the fleet sees it. */
export type Box = Omit<Info, 'schema' | 'hold' | 'at'>

/** What binds the id to this box: key and board. */
export type OwnIdentity = Pick<Identity, 'publicKey' | 'machine'>

/** Signatures are checked behind it; none of it ever throws. */
export interface PatchReader {
  spec(entry: KeyValue): Trusted | { readonly refused: string }
  control(entry: KeyValue | undefined, patch: Patch): ControlView
  /** A payload that was verified when it was applied. */
  stored(payload: Uint8Array): Patch | undefined
  scopes(): ReadonlyMap<string, KeyScope>
  /** etcd's revisions mean something else now. */
  forget(): void
}

/** The runner as its owner uses it: `daemon/patch/runner/runner.ts`. */
export interface PatchRunner {
  recover(signal: AbortSignal): Promise<Outcome | undefined>
  objection(accepted: Accepted, signal: AbortSignal): Promise<string | undefined>
  longestMs(accepted: Accepted, signal: AbortSignal): Promise<number>
  longestUndoMs(patch: string): Promise<number>
  apply(accepted: Accepted, permit: Permit, signal: AbortSignal, retry?: number): Promise<Outcome>
  undo(patch: string, permit: Permit, signal: AbortSignal): Promise<Outcome>
  state(): RunnerState | undefined
  stop(): void
}
