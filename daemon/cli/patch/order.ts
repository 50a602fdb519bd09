/** Orders about one patch: pause, cancel and rollback unsigned, resume and retry signed. */
import { controlOf, type ControlView } from '../../patch/control.ts'
import { encode, readControl } from '../../patch/codec.ts'
import { GatewayError } from '../../errors.ts'
import type { KeyValue } from '../../patch/ports.ts'
import { readSpec } from '../../patch/admit.ts'
import type { Patch } from '../../patch/document.ts'
import { type Control, keys, type RolloutState } from '../../patch/records.ts'
import { readState } from '../../patch/rollout/values.ts'
import { auditOf, type FleetLink } from '../fleet-link.ts'
import { printable } from '../text.ts'
import { only, type Write, writeInView } from './written.ts'

/** What stood in etcd at one revision. */
export interface Seen {
  readonly revision: number
  readonly patch: Patch
  readonly spec: KeyValue
  readonly control: KeyValue | undefined
  readonly view: ControlView
  readonly state: RolloutState | undefined
  readonly failures: number
}

export interface Ordered {
  readonly schema: 1
  readonly patch: string
  readonly action: string
  /** False: it was so already. */
  readonly changed: boolean
  readonly text: string
}

export interface Plan {
  /** `undefined`: `text` says that it is so already. */
  readonly value: Uint8Array | undefined
  readonly text: string
}

const ID = /^[a-z0-9][a-z0-9._-]{0,127}$/i

/** Rejects with `rejected` when there is no such patch, with an `EtcdFailure`, or with what `plan` throws. */
export async function order(
  link: FleetLink,
  patch: string,
  action: string,
  reason: string | undefined,
  plan: (seen: Seen) => Plan,
): Promise<Ordered> {
  if (!ID.test(patch)) throw new GatewayError('rejected', `${printable(JSON.stringify(patch))} is no id of a patch`)
  const audit = auditOf(action, { patch, ...(reason === undefined ? {} : { reason }) })
  return writeInView(
    link,
    () => look(link, patch),
    (seen) => {
      const { value, text } = plan(seen)
      const answer = { schema: 1 as const, patch, action, changed: value !== undefined, text }
      return value === undefined ? { answer } : { answer, write: writeOf(seen, value, audit) }
    },
  )
}

function writeOf({ spec, control, patch }: Seen, value: Uint8Array, audit: Write['audit']): Write {
  const key = keys.control(patch.id)
  return {
    compare: [
      { key, mod: control?.modRevision ?? 0 },
      { key: spec.key, mod: spec.modRevision },
    ],
    then: [{ put: key, value }],
    audit,
  }
}

async function look({ etcd, trust }: FleetLink, id: string): Promise<Seen> {
  const reads = [{ get: keys.spec(id) }, { get: keys.control(id) }, { get: keys.rolloutState(id) }]
  const { revision, answers } = await etcd.transact({
    compare: [],
    then: [...reads, { list: { prefix: keys.failures(id), keysOnly: true, limit: 1 } }],
  })
  const [spec, control, stateEntry] = answers.map(({ entries }) => only(entries))
  if (spec === undefined) throw unknownPatch(id)
  const read = readSpec(spec, trust.envelopes, trust.documents)
  if ('refused' in read) throw new GatewayError('rejected', `every gateway refuses ${id}: ${printable(read.refused)}`)
  const state = stateOf(id, stateEntry)
  const slowedAt = state?.phase === 'paused' ? (state.pausedAt ?? 0) : 0
  const view = controlOf(control, { patch: read.patch, envelopes: trust.envelopes, scopes: trust.scopes, slowedAt })
  return { revision, patch: read.patch, spec, control, view, state, failures: answers[3]?.count ?? 0 }
}

export function unknownPatch(id: string): GatewayError {
  return new GatewayError('rejected', `there is no patch ${printable(id)} in etcd`, { remedy: '`edgectl patch status` lists them' })
}

function stateOf(id: string, entry: KeyValue | undefined): RolloutState | undefined {
  if (entry === undefined) return undefined
  const state = readState(entry)
  if (state !== undefined) return state
  throw new GatewayError('rejected', `${keys.rolloutState(id)} in etcd can't be read: it is not what a controller writes`, {
    remedy: 'put it right or delete it in etcd; until then no controller decides anything about this patch',
  })
}

/** Unsigned: it can only slow down or undo. */
export function unsigned(state: 'paused' | 'cancelled', by: string, reason: string | undefined, rollback = false): Uint8Array {
  const control: Control = { schema: 1, state, ...(rollback ? { rollback } : {}), by, ...(reason === undefined ? {} : { reason }) }
  return encode(control)
}

/** What the control in etcd says by its own word, believed or not. */
export function wordOf({ control }: Seen): Pick<Control, 'state' | 'rollback'> | undefined {
  if (control === undefined) return undefined
  const text = new TextDecoder().decode(control.value.subarray(0, 64)).trim()
  if (text === 'paused' || text === 'cancelled' || text === 'active') return { state: text }
  const read = readControl(control.value)
  return read.ok ? read.value : undefined
}
