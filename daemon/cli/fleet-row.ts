/** What stands in etcd about one gateway, judged: what its own key has signed is believed, the rest is marked. */
import { verifyRecord } from '../../adapters/signing/box-key.ts'
import { readAlive, readApplied, readIdentity, readInfo, readResult } from '../patch/codec.ts'
import type { KeyValue } from '../patch/ports.ts'
import { ALIVE_WITHIN_MS, type Applied, type Info, type Result } from '../patch/records.ts'

export interface GatewayRow {
  readonly gateway: string
  /** `unknown`: its clock is not set, or it never said that it is alive. */
  readonly state: 'online' | 'offline' | 'unknown'
  readonly lastSeen: string | null
  readonly verdict: string | null
  readonly version: string | null
  readonly site: string | null
  readonly labels: Readonly<Record<string, string>>
  readonly fleet: string | null
  readonly controller: boolean
  readonly hold: Info['hold'] | null
  /** As its own key has signed. */
  readonly inForce: readonly string[]
  /** Last result of each patch, as its own key has signed. */
  readonly results: Readonly<Record<string, Pick<Result, 'state' | 'at'> & { readonly reason?: string }>>
  /** What can't be believed or read, and why; empty when all is well. */
  readonly doubts: readonly string[]
}

/** Values of one gateway, by the part of the key behind its id. */
export type GatewayParts = ReadonlyMap<string, KeyValue>

export function rowOf(gateway: string, parts: GatewayParts, nowMs: number): GatewayRow {
  const doubts: string[] = []
  const publicKey = identityOf(gateway, parts, doubts)
  const info = decoded(parts, 'info', readInfo, doubts)
  const applied = signed(gateway, parts.get('applied'), 'applied', publicKey, readApplied, doubts)
  const results = [...parts].flatMap(([part, entry]) => {
    if (!part.startsWith('results/')) return []
    const result = signed(gateway, entry, part, publicKey, readResult, doubts)
    if (result === undefined) return []
    if (`results/${result.patch}` === part) return [[result.patch, shortOf(result)] as const]
    doubts.push(`${part} is the result of ${result.patch}`)
    return []
  })
  return {
    gateway,
    ...presenceOf(parts, nowMs, doubts),
    ...placeOf(info),
    inForce: (applied?.inForce ?? []).map(({ patch }: Applied['inForce'][number]) => patch),
    results: Object.fromEntries(results),
    doubts,
  }
}

function placeOf(info: Info | undefined): Pick<GatewayRow, 'version' | 'site' | 'labels' | 'fleet' | 'controller' | 'hold'> {
  const { version = null, site = null, labels = {}, fleet = null, controller = false, hold = null } = info ?? {}
  return { version, site, labels, fleet, controller, hold }
}

function shortOf({ state, at, reason }: Result): GatewayRow['results'][string] {
  return { state, at, ...(reason === undefined ? {} : { reason }) }
}

function identityOf(gateway: string, parts: GatewayParts, doubts: string[]): string | undefined {
  if (!parts.has('identity')) return void doubts.push('it has no identity (it was released, or never was here)')
  const identity = decoded(parts, 'identity', readIdentity, doubts)
  if (identity === undefined || identity.gateway === gateway) return identity?.publicKey
  return void doubts.push(`its identity is that of ${identity.gateway}`)
}

function presenceOf(parts: GatewayParts, nowMs: number, doubts: string[]): Pick<GatewayRow, 'state' | 'lastSeen' | 'verdict'> {
  const alive = decoded(parts, 'alive', readAlive, doubts)
  if (alive === undefined) return { state: 'unknown', lastSeen: null, verdict: null }
  const { at, verdict, clockTrusted } = alive
  if (!clockTrusted) return { state: 'unknown', lastSeen: null, verdict }
  const isOnline = Math.abs(nowMs - Date.parse(at)) < ALIVE_WITHIN_MS
  return { state: isOnline ? 'online' : 'offline', lastSeen: at, verdict }
}

type Decode<T> = (bytes: Uint8Array) => { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string }

function decoded<T>(parts: GatewayParts, part: string, decode: Decode<T>, doubts: string[]): T | undefined {
  const entry = parts.get(part)
  if (entry === undefined) return undefined
  const read = decode(entry.value)
  if (read.ok) return read.value
  return void doubts.push(`${part} can't be read: ${read.reason}`)
}

/** Only what the gateway of that name has signed counts as its word. */
function signed<T extends { readonly gateway: string }>(
  gateway: string,
  entry: KeyValue | undefined,
  part: string,
  publicKey: string | undefined,
  decode: Decode<T>,
  doubts: string[],
): T | undefined {
  if (entry === undefined) return undefined
  if (publicKey === undefined) return void doubts.push(`${part} can't be verified: no public key is known`)
  const verified = verifyRecord(entry.value, publicKey)
  if ('refused' in verified) return void doubts.push(`${part} is not verified: ${verified.refused}`)
  const read = decode(entry.value)
  if (!read.ok) return void doubts.push(`${part} can't be read: ${read.reason}`)
  if (read.value.gateway === gateway) return read.value
  return void doubts.push(`${part} was written by ${read.value.gateway}`)
}
