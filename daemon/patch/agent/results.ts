/**
 * What the box tells of a patch, signed, and once for each end. Only this box writes its results; each write compares
 * the one before, so that a second life of the same box, or a late answer, overwrites nothing.
 */
import type { Operation, Compare, Etcd, KeyValue } from '../ports.ts'
import { keys } from '../records.ts'
import type { Failure, OpenMarker, Result } from '../records.ts'
import { readFailure, readResult } from '../rollout/values.ts'
import type { BoxKey } from '../signing.ts'
import { Buffer } from 'node:buffer'
import type { Outcome } from '../kinds.ts'

export interface ResultPorts {
  readonly etcd: Etcd
  readonly key: BoxKey
  readonly gateway: string
}

export interface ResultSeen {
  readonly result: Result
  readonly mod: number
}

/** All that etcd holds of this box. Rejects with an `EtcdFailure`. */
export async function readResults({ etcd, gateway }: ResultPorts): Promise<Map<string, ResultSeen>> {
  const { entries } = await etcd.list({ prefix: keys.results(gateway) })
  return new Map(
    entries.flatMap((entry) => {
      const result = readResult(entry)
      return result === undefined ? [] : [[entry.key.slice(keys.results(gateway).length), { result, mod: entry.modRevision }] as const]
    }),
  )
}

export function encodeResult({ key }: ResultPorts, result: Result): Uint8Array {
  return key.signRecord(result)
}

/** How it ended, as the result says it; the numbers are those that it was started under. */
export function endOf(gateway: string, outcome: Outcome, { token, retry, attempt }: Pick<Result, 'token' | 'retry' | 'attempt'>): Result {
  const { patch, digest, state, step, reason, startedMs, finishedMs, devices } = outcome
  return {
    schema: 1,
    gateway,
    patch,
    digest,
    state,
    step,
    ...(reason !== undefined && { reason }),
    token,
    attempt,
    retry,
    startedAt: iso(startedMs),
    at: iso(finishedMs),
    ...(devices !== undefined && { devices }),
  }
}

export interface Telling {
  readonly result: Result
  /** Mod revision of the result that it follows; 0: there was none. */
  readonly before: number
  /** Where the open marker stands that goes with it. */
  readonly scope: string | undefined
  /** Token or binding. The write is void without them. */
  readonly compare: readonly Compare[]
  /** Deleted in the same transaction, for example the lock's entry. */
  readonly also: readonly Operation[]
}

export type Told = 'told' | 'void'

/**
 * One transaction: the result, the open marker's end, and for a failure the next free `failures/<patch>/<n>`, unless
 * the controller has counted this start as silent already. `void`: what it compares no longer holds, and it is not
 * written. Safe to repeat after a lost answer. Rejects with an `EtcdFailure`.
 */
export async function tell(ports: ResultPorts, telling: Telling): Promise<Told> {
  const { result, before, scope, compare, also } = telling
  const key = keys.result(ports.gateway, result.patch)
  const value = encodeResult(ports, result)
  for (;;) {
    const failure = await nextFailure(ports.etcd, result)
    const answer = await ports.etcd.transact({
      compare: [...compare, { key, mod: before }, ...(failure === undefined ? [] : [{ key: failure.key, create: 0 }])],
      then: [
        { put: key, value },
        ...(scope === undefined ? [] : [{ delete: keys.openBy(scope, ports.gateway) }]),
        ...(failure === undefined ? [] : [{ put: failure.key, value: failure.value }]),
        ...also,
      ],
      otherwise: [{ get: key }, ...(failure === undefined ? [] : [{ get: failure.key }])],
    })
    if (answer.succeeded) return 'told'
    const [found, taken] = answer.answers.map(({ entries }) => entries[0])
    if (isSame(found, value)) return 'told' // by an attempt whose answer was lost
    if (taken === undefined) return 'void'
  }
}

async function nextFailure(etcd: Etcd, { patch, state, reason, token, gateway, at }: Result) {
  if (state !== 'failed' && state !== 'broken') return undefined
  const { entries } = await etcd.list({ prefix: keys.failures(patch) })
  const counted = entries.some((entry) => {
    const failure = readFailure(entry)
    return failure?.gateway === gateway && failure.token === token
  })
  if (counted) return undefined
  const taken = new Set(entries.map(({ key }) => key))
  let number = 1
  while (taken.has(keys.failure(patch, number))) number += 1
  const failure: Failure = { schema: 1, gateway, kind: state, reason: reason ?? 'no reason is known', token, at }
  return { key: keys.failure(patch, number), value: Buffer.from(JSON.stringify(failure)) }
}

/** The marker of a start under this token. */
export function encodeMarker(marker: OpenMarker): Uint8Array {
  return Buffer.from(JSON.stringify(marker))
}

/** The token that somebody's marker names; 0 when nobody can read it, which no live entry has. */
export function markerToken(entry: KeyValue): number {
  return markerOf(entry).token
}

export interface MarkerSeen {
  readonly token: number
  readonly patch: string | undefined
  readonly at: string | undefined
}

export function markerOf({ value }: KeyValue): MarkerSeen {
  const text = (field: unknown): string | undefined => (typeof field === 'string' ? field : undefined)
  try {
    const { token, patch, at } = JSON.parse(Buffer.from(value).toString('utf8')) as Partial<OpenMarker>
    return { token: typeof token === 'number' ? token : 0, patch: text(patch), at: text(at) }
  } catch {
    return { token: 0, patch: undefined, at: undefined } // written by hand: it keeps others out until somebody removes it
  }
}

export function isSame(found: KeyValue | undefined, value: Uint8Array): boolean {
  return found !== undefined && Buffer.compare(found.value, value) === 0
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
