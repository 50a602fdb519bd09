/**
 * What operators and boxes write (`records.ts`) to bytes and back, strictly: it may be of another release, written by
 * hand, or by someone who should not. What controllers write is read in `rollout/values.ts`.
 */
import type { Alive, Applied, Control, Identity, Info, Result } from './records.ts'
import { flag, instant, listOf, mapOf, matching, Misshapen, oneOf, orNull, type Reader, record, text, whole } from './shape.ts'

export type Decoded<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string }

/** etcd takes 1.5 MiB for a whole request. */
const VALUE_BYTES_MAX = 1024 * 1024
export const CONTROL_BYTES_MAX = 16 * 1024

const schema = oneOf(1)
const reason = text(4_096)
const gateway = matching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, 'id of a box')
const patch = matching(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'id of a patch')
const digest = matching(/^[0-9a-f]{64}$/, 'sha256 in hex')
const count = whole(0)

const control: Reader<Control> = record(
  { schema, state: oneOf('active', 'paused', 'cancelled') },
  { rollback: flag, retry: count, patch, answers: count, by: text(256), reason },
)

const result: Reader<Result> = record(
  {
    ...{ schema, gateway, patch, digest, token: count, attempt: count, retry: count, at: instant },
    state: oneOf('refused', 'applying', 'completed', 'failed', 'inconclusive', 'interrupted', 'rolled-back', 'broken'),
  },
  { step: text(64), reason, startedAt: instant, devices: record({ confirmed: count, refused: count, silent: count }) },
)

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
export const readControl = decoder(control, CONTROL_BYTES_MAX)
export const readResult = decoder(result, 16 * 1024)
export const readIdentity = decoder(identity, 4 * 1024)
export const readInfo = decoder(info, 64 * 1024)
export const readAlive = decoder(alive, 4 * 1024)
export const readApplied = decoder(applied, VALUE_BYTES_MAX)

/** One line of JSON. Signed ones (result, applied) go through `BoxKey.signRecord` instead. */
export function encode(value: Control | Identity | Info | Alive | Result | Applied): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}
