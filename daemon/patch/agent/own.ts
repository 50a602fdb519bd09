/** What the box itself remembers of patches, typed. Values that nobody can read are left out. */
import { Buffer } from 'node:buffer'
import type { Patch } from '../document.ts'
import type { Outcome } from '../kinds.ts'
import type { Json, JsonObject, Memory } from '../memory.ts'
import type { Applied } from '../records.ts'
import { HOLD, holdIn } from './hold.ts'
import type { Hold, HoldClock } from './hold.ts'
import type { PatchReader } from './needs.ts'

export interface AppliedHere {
  readonly patch: string
  readonly digest: string
  readonly channel: string
  readonly sequence: number
  readonly atMs: number
  /** Undefined when its payload can't be read any more. */
  readonly document: Patch | undefined
}

/**
 * An outcome that etcd does not have yet. What it was started under is absent after a crash: then the result in etcd
 * and the patch itself tell it.
 */
export interface Outbound extends Outcome {
  /** Where the open marker stands. */
  readonly scope?: string
  readonly token?: number
  readonly retry?: number
}

export interface Own {
  readonly applied: ReadonlyMap<string, AppliedHere>
  readonly floors: ReadonlyMap<string, { readonly sequence: number; readonly patch: string }>
  /** By digest. */
  readonly denied: ReadonlyMap<string, { readonly retry: number; readonly reason: string; readonly atMs: number }>
  /** Patches that were taken back on order. */
  readonly undone: ReadonlySet<string>
  /** What an earlier life of this id had in force: digest by patch. */
  readonly before: ReadonlyMap<string, string>
  /** Highest wall time that was ever believed, ms; 0 before. */
  readonly timeFloorMs: number
  readonly outbound: ReadonlyMap<string, Outbound>
  readonly hold: Hold | undefined
}

export const NOTHING: Own = {
  applied: new Map(),
  floors: new Map(),
  denied: new Map(),
  undone: new Set(),
  before: new Map(),
  timeFloorMs: 0,
  outbound: new Map(),
  hold: undefined,
}

/** Rejects as `Memory.read` does. */
export async function readOwn(memory: Pick<Memory, 'read'>, reader: Pick<PatchReader, 'stored'>, clock: HoldClock): Promise<Own> {
  const below = async <T>(prefix: string, typed: (value: JsonObject, name: string) => T | undefined): Promise<Map<string, T>> => {
    const found = new Map<string, T>()
    for (const [key, value] of await memory.read(prefix)) {
      const entry = isObject(value) ? typed(value, key.slice(prefix.length)) : undefined
      if (entry !== undefined) found.set(key.slice(prefix.length), entry)
    }
    return found
  }
  return {
    applied: await below('applied/', (value, patch) => toApplied(value, patch, reader)),
    floors: await below('floor/', ({ sequence, patch }) => ({ sequence: Number(sequence), patch: String(patch) })),
    denied: await below('denied/', ({ retry, reason, atMs }) => ({
      retry: Number(retry ?? 0),
      reason: String(reason ?? ''),
      atMs: Number(atMs ?? 0),
    })),
    undone: new Set((await below('undone/', () => true)).keys()),
    before: await below('before/', ({ digest }) => String(digest)),
    timeFloorMs: Number((await memory.read('time/floor')).get('time/floor') ?? 0) || 0,
    outbound: await below('outbound/', toOutbound),
    hold: holdIn(await memory.read(HOLD), clock),
  }
}

/** As `gateways/<id>/applied` states it, without its time. */
export function appliedRecord(own: Own): Pick<Applied, 'channels' | 'inForce'> {
  const superseded = new Set([...own.applied.values()].flatMap(({ document }) => document?.supersedes ?? []))
  const inForce = [...own.applied.values()]
    .filter(({ patch }) => !superseded.has(patch))
    .sort((left, right) => left.sequence - right.sequence || (left.patch < right.patch ? -1 : 1))
    .map(({ patch, digest, channel, sequence }) => ({ patch, digest, channel, sequence }))
  const channels = [...own.floors].sort(([left], [right]) => (left < right ? -1 : 1))
  return { channels: Object.fromEntries(channels), inForce }
}

function toApplied(value: JsonObject, patch: string, reader: Pick<PatchReader, 'stored'>): AppliedHere | undefined {
  const { digest, channel, sequence, payload, atMs } = value
  if (typeof digest !== 'string' || typeof channel !== 'string' || typeof sequence !== 'number') return undefined
  const document = typeof payload === 'string' ? reader.stored(Buffer.from(payload, 'base64')) : undefined
  return { patch, digest, channel, sequence, atMs: Number(atMs ?? 0), document }
}

const STATES: ReadonlySet<Json | undefined> = new Set(['completed', 'failed', 'inconclusive', 'interrupted', 'rolled-back', 'broken'])

function toOutbound(value: JsonObject): Outbound | undefined {
  return STATES.has(value['state']) && typeof value['digest'] === 'string' ? (value as unknown as Outbound) : undefined
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
