/** From what stands in etcd to one typed view for each rollout. What nobody can read is left out, and said. */
import type { ControlView } from '../control.ts'
import type { KeyValue } from '../ports.ts'
import type { Patch } from '../document.ts'
import { keys } from '../records.ts'
import type { Failure, Result, RolloutState } from '../records.ts'
import type { Snapshot } from './snapshot.ts'
import { readCohort, readFailure, readPlace, readPublicKey, readResult, readState } from './values.ts'
import type { Place } from './values.ts'
import { isForeign } from './view.ts'
import type { FleetRollout, OtherRollout, SpecSeen } from './view.ts'

/** How a spec and a control become trusted; signatures are checked behind it. Neither ever throws. */
export interface RolloutReader {
  spec(entry: KeyValue): SpecSeen
  /** `slowedAt`: mod revision of the control that stood there when the rollout was paused; 0 when it is not. */
  control(patch: Patch, entry: KeyValue | undefined, slowedAt: number): ControlView
  /** Did the box with this public key (of its identity) sign this record? Absent: whoever looks believes all. */
  isSignedBy?(entry: KeyValue, publicKey: string): boolean
}

export interface FleetBox {
  readonly gateway: string
  readonly place: Place | undefined
  readonly alive: KeyValue | undefined
  /** By patch. The result is undefined where it is not believed; its revision counts all the same for who writes after it. */
  readonly results: ReadonlyMap<string, { readonly result: Result | undefined; readonly mod: number }>
}

export interface Fleet {
  readonly revision: number
  readonly boxes: ReadonlyMap<string, FleetBox>
  /** In the order in which they are decided: by channel and sequence. */
  readonly rollouts: readonly FleetRollout[]
  /** Of all patches, also of those whose spec has gone. */
  readonly others: ReadonlyMap<string, OtherRollout>
  /** Keys that were left out, and why. */
  readonly unreadable: ReadonlyMap<string, string>
}

const UNREAD: ControlView = { state: 'active', rollback: false, retry: 0, reason: '', signed: false, revision: 0, slowedAt: 0 }

export function readFleet({ revision, parts }: Snapshot, reader: RolloutReader): Fleet {
  const unreadable = new Map<string, string>()
  const boxes = readBoxes(parts.gateways, reader, unreadable)
  const byPatch = groupByPatch([parts.rollouts, parts.failures])
  const rollouts = [...parts.patches.values()].flatMap((entry) => {
    const id = /^patches\/([^/]+)\/spec$/.exec(entry.key)?.[1]
    if (id === undefined) return []
    const control = parts.patches.get(keys.control(id))
    return readRollout(id, entry, control, byPatch.get(id) ?? [], reader, unreadable) ?? []
  })
  return { revision, boxes, rollouts: rollouts.sort(inOrder), others: othersOf(rollouts, parts.rollouts), unreadable }
}

function inOrder(left: FleetRollout, right: FleetRollout): number {
  const place = ({ spec, id }: FleetRollout): readonly [string, number, string] =>
    'patch' in spec ? [spec.patch.channel, spec.patch.sequence, id] : ['', 0, id]
  const [one, other] = [place(left), place(right)]
  return compare(one[0], other[0]) || one[1] - other[1] || compare(one[2], other[2])
}

function compare(left: string, right: string): number {
  if (left === right) return 0
  return left < right ? -1 : 1
}

function groupByPatch(parts: readonly ReadonlyMap<string, KeyValue>[]): ReadonlyMap<string, KeyValue[]> {
  const groups = new Map<string, KeyValue[]>()
  for (const entry of parts.flatMap((part) => [...part.values()])) {
    const id = entry.key.split('/')[1] ?? ''
    const group = groups.get(id) ?? []
    groups.set(id, group)
    group.push(entry)
  }
  return groups
}

function readBoxes(entries: Snapshot['parts']['gateways'], reader: RolloutReader, unreadable: Map<string, string>): Map<string, FleetBox> {
  const boxes = new Map<string, FleetBox & { results: Map<string, { result: Result | undefined; mod: number }> }>()
  for (const entry of entries.values()) {
    const [, gateway = '', what, patch, ...more] = entry.key.split('/')
    const box = boxes.get(gateway) ?? { gateway, place: undefined, alive: undefined, results: new Map() }
    boxes.set(gateway, box)
    if (what === 'alive' && patch === undefined) boxes.set(gateway, { ...box, alive: entry })
    else if (what === 'info' && patch === undefined) boxes.set(gateway, { ...box, place: noted(entry, readPlace(entry), unreadable) })
    else if (what === 'results' && patch !== undefined && more.length === 0) {
      const result = noted(entry, readResult(entry), unreadable)
      const doubt = result && doubtOf(entry, result, entries.get(keys.identity(gateway)), reader)
      if (doubt !== undefined) unreadable.set(entry.key, doubt)
      box.results.set(patch, { result: doubt === undefined ? result : undefined, mod: entry.modRevision })
    }
  }
  return boxes
}

/** A box speaks for itself alone: what another one wrote in its name must not open a stage. */
function doubtOf(entry: KeyValue, { gateway, patch }: Result, identity: KeyValue | undefined, reader: RolloutReader): string | undefined {
  if (entry.key !== keys.result(gateway, patch)) return `it is a result of ${gateway} on ${patch}`
  if (reader.isSignedBy === undefined) return undefined
  const publicKey = identity && readPublicKey(identity)
  if (publicKey === undefined) return 'there is no identity whose key could have signed it'
  return reader.isSignedBy(entry, publicKey) ? undefined : 'it is not signed by the box in whose name it stands'
}

function noted<T>({ key }: KeyValue, value: T | undefined, unreadable: Map<string, string>): T | undefined {
  if (value === undefined) unreadable.set(key, 'it is not what a gateway writes')
  return value
}

function readRollout(
  id: string,
  spec: KeyValue,
  control: KeyValue | undefined,
  entries: readonly KeyValue[],
  reader: RolloutReader,
  unreadable: Map<string, string>,
): FleetRollout | undefined {
  const stateEntry = entries.find(({ key }) => key === keys.rolloutState(id))
  const state = stateEntry && noted(stateEntry, readState(stateEntry), unreadable)
  // A state that nobody can read may have been `paused`: better to stand still than to begin anew.
  if (stateEntry !== undefined && state === undefined) return undefined
  const seen = reader.spec(spec)
  if (isForeign({ spec: seen, state }))
    unreadable.set(spec.key, 'its id belonged to another document, whose rollout began; push it under another id')
  const cohorts = new Map<number, readonly string[]>()
  const spoiled: string[] = []
  const failures = new Map<number, Failure | undefined>()
  for (const entry of entries) {
    const [part, , name, number] = entry.key.split('/')
    if (part === 'failures' && /^[1-9]\d{0,8}$/.test(name ?? '')) failures.set(Number(name), noted(entry, readFailure(entry), unreadable))
    if (part !== 'rollouts' || name !== 'cohorts' || !/^\d{1,4}$/.test(number ?? '')) continue
    const cohort = noted(entry, readCohort(entry), unreadable)
    if (cohort === undefined) spoiled.push(entry.key)
    else cohorts.set(Number(number), cohort)
  }
  const rest = { id, specMod: spec.modRevision, state, stateMod: stateEntry?.modRevision ?? 0, cohorts, spoiled, failures }
  return { ...rest, spec: seen, control: readControl(seen, control, state, reader) }
}

function readControl(spec: SpecSeen, entry: KeyValue | undefined, state: RolloutState | undefined, reader: RolloutReader): ControlView {
  if ('refused' in spec) return { ...UNREAD, revision: entry?.modRevision ?? 0 }
  return reader.control(spec.patch, entry, state?.phase === 'paused' ? (state.pausedAt ?? 0) : 0)
}

function othersOf(rollouts: readonly FleetRollout[], entries: ReadonlyMap<string, KeyValue>): ReadonlyMap<string, OtherRollout> {
  const others = new Map<string, OtherRollout>()
  for (const entry of entries.values()) {
    const id = /^rollouts\/([^/]+)\/state$/.exec(entry.key)?.[1]
    const state = id === undefined ? undefined : readState(entry)
    if (id === undefined || state === undefined) continue
    others.set(id, { id, channel: '', sequence: 0, supersedes: [], phase: state.phase, stage: state.stage })
  }
  for (const { id, spec, state } of rollouts) {
    if (!('patch' in spec)) continue
    const { channel, sequence, supersedes } = spec.patch
    others.set(id, { id, channel, sequence, supersedes, phase: state?.phase ?? 'waiting', stage: state?.stage ?? -1 })
  }
  return others
}
