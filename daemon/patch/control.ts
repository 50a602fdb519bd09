/**
 * What an operator has ordered for one patch. Whoever can write to etcd can slow a patch down or have it taken back;
 * only a trusted key can speed it up. What can't be understood is taken for a pause: somebody wanted something.
 */
import { CONTROL_BYTES_MAX, readControl } from './codec.ts'
import type { Patch } from './document.ts'
import type { KeyValue } from './ports.ts'
import { type Control, CONTROL_TYPE } from './records.ts'
import type { Envelopes, KeyScope } from './signing.ts'
import { outOfScope } from './target.ts'

export interface ControlView {
  readonly state: Control['state']
  /** With `cancelled`: boxes that completed it undo it. */
  readonly rollback: boolean
  /** Only a signed control has one; 0 otherwise. */
  readonly retry: number
  /** Why it is not active, as a sentence; empty when it is. */
  readonly reason: string
  readonly signed: boolean
  /** Mod revision of the control that says so; 0 without one. */
  readonly revision: number
  /**
   * To be remembered, and given back as `slowedAt`: mod revision of the newest control that slowed the patch down. A
   * signed control that answers an older one is a replay.
   */
  readonly slowedAt: number
}

export interface ControlContext {
  readonly patch: Patch
  readonly envelopes: Envelopes
  readonly scopes: ReadonlyMap<string, KeyScope>
  /** `slowedAt` of the last view; 0 at first, and after etcd has come back from a backup. */
  readonly slowedAt: number
}

/** `entry`: the control as it stands in etcd, undefined when there is none. Never throws. */
export function controlOf(entry: KeyValue | undefined, context: ControlContext): ControlView {
  if (entry === undefined) return withoutControl(context.slowedAt)
  const text = new TextDecoder().decode(entry.value.subarray(0, CONTROL_BYTES_MAX)).trim()
  const word = WORDS.find((known) => known === text)
  if (word !== undefined) return unsigned(entry, { schema: 1, state: word }, context)
  const control = readControl(entry.value)
  if (control.ok) return unsigned(entry, control.value, context)
  return text.includes('"payloadType"') ? signed(entry, context) : paused(entry, `its control cannot be read (${control.reason})`)
}

const WORDS = ['active', 'paused', 'cancelled'] as const

/** Taking a pause away by deleting it would speed up without a signature. */
function withoutControl(slowedAt: number): ControlView {
  const view = { rollback: false, retry: 0, signed: false, revision: 0, slowedAt }
  if (slowedAt === 0) return { ...view, state: 'active', reason: '' }
  return { ...view, state: 'paused', reason: 'its pause was deleted without a signature; resume it with `edgectl patch resume`' }
}

function unsigned(entry: KeyValue, control: Control, { patch, slowedAt }: ControlContext): ControlView {
  const revision = entry.modRevision
  const view = { retry: 0, signed: false, revision }
  const first = slowedAt === 0 && entry.createRevision === revision
  if (control.state === 'active') {
    if (first && (control.retry ?? 0) === 0) return { ...view, state: 'active', rollback: false, reason: '', slowedAt }
    return paused(entry, `only a signed control makes it go on; \`edgectl patch resume ${patch.id} --key FILE\``)
  }
  const rollback = control.state === 'cancelled' && control.rollback === true
  return { ...view, state: control.state, rollback, reason: sentence(control), slowedAt: revision }
}

function sentence({ state, by, reason }: Control): string {
  return `it was ${state}${by === undefined ? '' : ` by ${by}`}${reason === undefined ? '' : `: ${reason}`}`
}

function paused(entry: KeyValue, reason: string): ControlView {
  const revision = entry.modRevision
  return { state: 'paused', rollback: false, retry: 0, reason, signed: false, revision, slowedAt: revision }
}

function signed(entry: KeyValue, context: ControlContext): ControlView {
  const opened = context.envelopes.open(entry.value, CONTROL_TYPE)
  if ('refused' in opened) return paused(entry, `its control is not believed: ${opened.refused}`)
  const control = readControl(opened.payload)
  if (!control.ok) return paused(entry, `its signed control cannot be read (${control.reason})`)
  const wrong = outOfScope(context.patch, opened.keys, context.scopes) ?? unfit(control.value, entry, context)
  if (wrong !== undefined) return paused(entry, `its control is not believed: ${wrong}`)
  const { state, rollback = false, retry = 0 } = control.value
  const view = { state, rollback: state === 'cancelled' && rollback, retry, signed: true, revision: entry.modRevision }
  if (state === 'active') return { ...view, reason: '', slowedAt: context.slowedAt }
  return { ...view, reason: sentence(control.value), slowedAt: entry.modRevision }
}

/** A signature is good for one patch, and what speeds it up for the control that it was made in view of. */
function unfit({ patch, state, answers }: Control, entry: KeyValue, { patch: { id }, slowedAt }: ControlContext): string | undefined {
  if (patch !== id) return `it was signed for ${patch ?? 'no patch'}`
  if (answers === undefined) return 'it does not say which control it answers'
  if (answers >= entry.modRevision) return `it answers revision ${answers}, which came later`
  if (state !== 'active') return undefined
  // A reader that has just started knows of no pause; but a control was there when this one took its place.
  const earlier = entry.createRevision === entry.modRevision ? 0 : entry.createRevision
  const newest = Math.max(slowedAt, earlier)
  return answers < newest ? `it answers revision ${answers}, and there has been another control since (${newest})` : undefined
}
