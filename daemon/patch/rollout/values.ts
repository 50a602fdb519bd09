/** JSON values out of etcd, where anybody may have written anything: typed, or `undefined`. Each is parsed once. */
import { Buffer } from 'node:buffer'
import type { KeyValue } from '../ports.ts'
import type { Alive, Failure, Result, ResultState, RolloutPhase, RolloutState } from '../records.ts'

type Fields = Readonly<Record<string, unknown>>

const parsed = new WeakMap<KeyValue, Fields | undefined>()

const PHASES: Readonly<Record<RolloutPhase, true>> = {
  waiting: true,
  running: true,
  paused: true,
  completed: true,
  cancelled: true,
  superseded: true,
  expired: true,
  refused: true,
  'rolling-back': true,
  'rolled-back': true,
}
const RESULTS: Readonly<Record<ResultState, true>> = {
  refused: true,
  applying: true,
  completed: true,
  failed: true,
  inconclusive: true,
  interrupted: true,
  'rolled-back': true,
  broken: true,
}

function fieldsOf(entry: KeyValue): Fields | undefined {
  if (!parsed.has(entry)) parsed.set(entry, parse(entry.value))
  return parsed.get(entry)
}

function parse(value: Uint8Array): Fields | undefined {
  try {
    const json: unknown = JSON.parse(Buffer.from(value).toString('utf8'))
    return typeof json === 'object' && json !== null && !Array.isArray(json) ? (json as Fields) : undefined
  } catch {
    return undefined // whoever asks says so, with the key
  }
}

function isCount(value: unknown, least = 0): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least
}

export function readState(entry: KeyValue): RolloutState | undefined {
  const fields = fieldsOf(entry)
  if (fields === undefined || !Object.hasOwn(PHASES, String(fields['phase']))) return undefined
  const isWhole =
    typeof fields['patch'] === 'string' &&
    typeof fields['digest'] === 'string' &&
    typeof fields['reason'] === 'string' &&
    isCount(fields['stage'], -1) &&
    isCount(fields['retry']) &&
    Array.isArray(fields['decisions'])
  return isWhole ? (fields as unknown as RolloutState) : undefined
}

export function readCohort(entry: KeyValue): readonly string[] | undefined {
  const gateways: unknown = fieldsOf(entry)?.['gateways']
  if (!Array.isArray(gateways)) return undefined
  return gateways.every((one: unknown) => typeof one === 'string') ? [...new Set(gateways)] : undefined
}

export function readFailure(entry: KeyValue): Failure | undefined {
  const fields = fieldsOf(entry)
  return typeof fields?.['gateway'] === 'string' && isCount(fields['token']) ? (fields as unknown as Failure) : undefined
}

export function readResult(entry: KeyValue): Result | undefined {
  const fields = fieldsOf(entry)
  if (fields === undefined || !Object.hasOwn(RESULTS, String(fields['state']))) return undefined
  const isWhole = typeof fields['digest'] === 'string' && isCount(fields['token']) && isCount(fields['retry'])
  return isWhole ? (fields as unknown as Result) : undefined
}

export interface Place {
  readonly site: string | null
  readonly labels: Readonly<Record<string, string>>
}

export function readPlace(entry: KeyValue): Place | undefined {
  const { site, labels } = fieldsOf(entry) ?? {}
  if (site !== null && typeof site !== 'string') return undefined
  if (typeof labels !== 'object' || labels === null || Array.isArray(labels)) return undefined
  return Object.values(labels).every((value) => typeof value === 'string') ? { site, labels: labels as Place['labels'] } : undefined
}

/** Wall ms that the box states and believes in; undefined when it does not, or nobody can read it. */
export function readAliveAt(entry: KeyValue): number | undefined {
  const fields = fieldsOf(entry) as Partial<Alive> | undefined
  const atMs = typeof fields?.at === 'string' ? Date.parse(fields.at) : NaN
  return fields?.clockTrusted === true && Number.isFinite(atMs) ? atMs : undefined
}

export function readOwner(entry: KeyValue): string | undefined {
  const gateway: unknown = fieldsOf(entry)?.['gateway']
  return typeof gateway === 'string' ? gateway : undefined
}

/** The patch of an open marker. */
export function readMarked(entry: KeyValue): string | undefined {
  const patch: unknown = fieldsOf(entry)?.['patch']
  return typeof patch === 'string' ? patch : undefined
}

/** Of an identity. */
export function readPublicKey(entry: KeyValue): string | undefined {
  const key: unknown = fieldsOf(entry)?.['publicKey']
  return typeof key === 'string' ? key : undefined
}
