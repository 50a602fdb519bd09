/** Why a patch is where it is, in one sentence. */
import type { PatchRow, WhyDocument } from '../cli/patch-views.ts'
import { duration } from '../health.ts'
import type { OpenStart, QueuedEntry, Queues } from '../patch/queue.ts'

export interface WhyQuestion {
  readonly row: PatchRow
  readonly running: boolean
  readonly nowMs: number
  /** While it waits for its lock. */
  readonly wait?: LockWait | undefined
  /** The patch that has its turn, if that is another one. */
  readonly turn?: string | undefined
  /** What it was decided on may be old, or nothing starts: why. */
  readonly caveats: readonly string[]
}

export interface LockWait {
  readonly scope: string
  readonly slots: number
  /** Whose entry is ours. */
  readonly gateway: string
  readonly life: string
  readonly queues: Queues | { readonly unknown: string }
}

export function whyDocument(question: WhyQuestion): WhyDocument {
  const { row, running, caveats } = question
  const sentence = [`${row.patch}: ${wordsOf(question)}`, ...caveats].join('; but ')
  return { schema: 1, running, patch: row.patch, state: row.state, sentence }
}

function wordsOf({ row, wait, turn, nowMs }: WhyQuestion): string {
  if (wait !== undefined) return lockWords(wait, nowMs)
  if (row.state === 'next' && turn !== undefined) return `${row.because} as soon as ${turn}, which has its turn, is done`
  const leftMs = row.until === undefined ? 0 : Date.parse(row.until) - nowMs
  if (leftMs <= 0) return row.because
  // Without a time in it the sentence names no end: then it is only looked at again.
  const isTold = /\d{4}-\d\d-\d\dT/.test(row.because)
  return `${row.because} (${isTold ? '' : 'looked at again '}in ${duration(leftMs)})`
}

function lockWords({ scope, slots, gateway, life, queues }: LockWait, nowMs: number): string {
  if ('unknown' in queues) return `it waits for the lock ${scope}; who is ahead of it can not be told: ${queues.unknown}`
  const own = queues.entries.find(({ owner }) => owner?.gateway === gateway && owner.life === life)
  const ahead = queues.entries.filter(({ token }) => own === undefined || token < own.token)
  if (ahead.length < slots) return heldWords(scope, queues, gateway, nowMs)
  const holders = ahead.slice(0, slots).map(holderWords).join(', ')
  const more = ahead.length - slots
  const others = more === 0 ? 'it is next' : `${more} more ${more === 1 ? 'is' : 'are'} ahead of it`
  return `it waits for the lock ${scope}, held by ${holders}; ${others}`
}

/** `gw-2 (its lease has 12 s left, unless it renews it)` */
function holderWords({ owner, key, leaseMs }: QueuedEntry): string {
  const lease = leaseMs === undefined ? 'its lease has gone' : `its lease has ${duration(leaseMs)} left, unless it renews it`
  return `${owner?.gateway ?? key} (${lease})`
}

function heldWords(scope: string, { entries, open }: Queues, gateway: string, nowMs: number): string {
  const alive = new Set(entries.map(({ token }) => token))
  const unknown = open.filter((one) => one.gateway !== gateway && !alive.has(one.token))
  if (unknown.length === 0) return `it has the lock ${scope}, and is about to start`
  return `it has the lock ${scope}, and waits until it is known how ${unknown.map((one) => startWords(one, nowMs)).join(', ')} ended`
}

/** `2026-11-limits on gw-2, which began 3 min ago and is silent,` */
function startWords({ gateway, patch = 'a patch', at }: OpenStart, nowMs: number): string {
  const beganMs = Date.parse(at ?? '')
  const when = Number.isNaN(beganMs) ? '' : ` ${duration(nowMs - beganMs)} ago`
  return `${patch} on ${gateway}, which began${when} and is silent,`
}
