/**
 * The values of `records.ts` to bytes and back. Whoever reads them takes nothing for granted: they may be of another
 * release, written by hand, or by someone who should not.
 */
import type { Alive, Applied, Cohort, Control, Failure, Identity, Info, Result, RolloutState } from './records.ts'
import { flag, instant, listOf, mapOf, matching, Misshapen, oneOf, orNull, type Reader, record, text, whole } from './shape.ts'

export type Decoded<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string }

/** etcd takes 1.5 MiB for a whole request; a cohort of 10,000 boxes is the largest value. */
const VALUE_BYTES_MAX = 1024 * 1024
export const CONTROL_BYTES_MAX = 16 * 1024
const GATEWAYS_MAX = 20_000
const DECISIONS_MAX = 1_000

const schema = oneOf(1)
const reason = text(4_096)
const gateway = matching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, 'id of a box')
const patch = matching(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'id of a patch')
const digest = matching(/^[0-9a-f]{64}$/, 'sha256 in hex')
const count = whole(0)

const stageCounts = record({ cohort: count, done: count, applying: count, failed: count, inconclusive: count, pending: count })
const decision = record({ at: instant, decided: reason, because: reason, stage: whole(-1), revision: count, counts: stageCounts })

const rolloutState: Reader<RolloutState> = record(
  {
    ...{ schema, patch, digest, reason, token: count, by: text(256), retry: count, at: instant, stage: whole(-1) },
    phase: oneOf(
      'waiting',
      'running',
      'paused',
      'completed',
      'cancelled',
      'superseded',
      'expired',
      'refused',
      'rolling-back',
      'rolled-back',
    ),
    decisions: listOf(decision, DECISIONS_MAX),
  },
  { pausedBy: oneOf('operator', 'failures', 'inconclusive', 'lock broken'), undo: oneOf('stage', 'all') },
)

const control: Reader<Control> = record(
  { schema, state: oneOf('active', 'paused', 'cancelled') },
  { rollback: flag, retry: count, patch, answers: count, by: text(256), reason },
)

const cohort: Reader<Cohort> = record({ schema, at: instant, gateways: listOf(gateway, GATEWAYS_MAX) })

const result: Reader<Result> = record(
  {
    ...{ schema, gateway, patch, digest, token: count, attempt: count, retry: count, at: instant },
    state: oneOf('refused', 'applying', 'completed', 'failed', 'inconclusive', 'interrupted', 'rolled-back', 'broken'),
  },
  { step: text(64), reason, startedAt: instant, devices: record({ confirmed: count, refused: count, silent: count }) },
)

const failure: Reader<Failure> = record({ schema, gateway, kind: oneOf('failed', 'silent', 'broken'), reason, token: count, at: instant })

const identity: Reader<Identity> = record({
  ...{ schema, gateway, machine: text(128), at: instant },
  publicKey: matching(/^[A-Za-z0-9+/]{43}=$/, 'public key in base64'),
})

const info: Reader<Info> = record(
  {
    ...{ schema, gateway, site: orNull(text(256)), labels: mapOf(text(256), 64), fleet: orNull(text(256)) },
    ...{ timezone: text(64), version: text(64), controller: flag, at: instant },
  },
  { hold: record({ until: instant, by: text(256), reason }) },
)

const alive: Reader<Alive> = record({ schema, at: instant, clockTrusted: flag, verdict: text(1_024) })

const applied: Reader<Applied> = record({
  ...{ schema, gateway, at: instant },
  channels: mapOf(record({ sequence: whole(1), patch }), 1_000),
  inForce: listOf(record({ patch, digest, channel: text(63), sequence: whole(1) }), 5_000),
})

function decoder<T>(reader: Reader<T>, bytesMax: number): (bytes: Uint8Array) => Decoded<T> {
  return (bytes) => {
    if (bytes.length > bytesMax) return { ok: false, reason: `${bytes.length} bytes are too many; at most ${bytesMax}` }
    try {
      return { ok: true, value: reader(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)), '') }
    } catch (error) {
      if (error instanceof Misshapen) return { ok: false, reason: error.message }
      return { ok: false, reason: 'it is no JSON in UTF-8' }
    }
  }
}

/** Never throw. A signature at the end is passed over: who needs it verifies the bytes first. */
export const readRolloutState = decoder(rolloutState, VALUE_BYTES_MAX)
export const readControl = decoder(control, CONTROL_BYTES_MAX)
export const readCohort = decoder(cohort, VALUE_BYTES_MAX)
export const readResult = decoder(result, 16 * 1024)
export const readFailure = decoder(failure, 16 * 1024)
export const readIdentity = decoder(identity, 4 * 1024)
export const readInfo = decoder(info, 64 * 1024)
export const readAlive = decoder(alive, 4 * 1024)
export const readApplied = decoder(applied, VALUE_BYTES_MAX)

/** One line of JSON. Signed ones (result, applied) go through `BoxKey.signRecord` instead. */
export function encode(value: RolloutState | Control | Cohort | Failure | Identity | Info | Alive | Result | Applied): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}
