/**
 * A broken lock takes a holder's permission away while it may be at work, so nobody knows any more how many boxes work
 * under the scope: its rollouts pause in the same transaction, until an operator says that they may go on.
 */
import { Buffer } from 'node:buffer'
import type { Patch } from './document.ts'
import { breakLock, listLocks } from './lock-entries.ts'
import type { LockEntry } from './lock-entries.ts'
import type { Compare, Put } from './ports.ts'
import { keys } from './records.ts'
import type { Control } from './records.ts'
import type { Tools } from './wait.ts'

/** A patch that may start boxes under a scope. */
export interface ScopeUser {
  readonly patch: Pick<Patch, 'id' | 'rollout'>
  /** Its control lets it go on. */
  readonly isActive: boolean
  /** Mod revision of that control, 0 without one. */
  readonly revision: number
}

export interface Breaking {
  readonly entry: LockEntry
  readonly by: string
  readonly reason: string
  readonly users: readonly ScopeUser[]
}

export interface Broken {
  readonly entry: LockEntry
  /** Patches whose rollouts were paused with it. */
  readonly paused: readonly string[]
}

/** Undefined when the entry has gone, or a control changed meanwhile: look again. Rejects as `breakLock` does. */
export async function breakAndPause(
  tools: Tools,
  { entry, by, reason, users }: Breaking,
  signal: AbortSignal,
): Promise<Broken | undefined> {
  const mine = users.filter(({ patch }) => patch.rollout.concurrency.scope === entry.scope)
  const active = mine.filter(({ isActive }) => isActive)
  const control: Control = { schema: 1, state: 'paused', by, reason: `lock broken: ${reason}` }
  const value = Buffer.from(JSON.stringify(control))
  const also = active.map(({ patch }): Put => ({ put: keys.control(patch.id), value }))
  const compare = mine.map(({ patch, revision }): Compare => ({ key: keys.control(patch.id), mod: revision }))
  const order = { by, reason, atMs: tools.clock.wallMs(), also, compare }
  if (!(await breakLock(tools, entry, order, signal))) return undefined
  return { entry, paused: active.map(({ patch }) => patch.id) }
}

export type Found = { readonly entry: LockEntry } | { readonly refused: string }

/** `target`: a scope (its first entry, which holds it) or the key of one entry. */
export async function findEntry(tools: Pick<Tools, 'etcd'>, target: string, users: readonly ScopeUser[]): Promise<Found> {
  const all = await listLocks(tools)
  const named = all.find(({ key }) => key === target)
  if (named !== undefined) return { entry: named }
  const queue = all.filter(({ scope }) => scope === target)
  const [first, second] = queue
  if (first === undefined) return { refused: `no lock ${target} is held; \`edgectl lock ls\` shows those that are` }
  const places = Math.max(
    1,
    ...users.map(({ patch: { rollout } }) => (rollout.concurrency.scope === target ? rollout.concurrency.slots : 1)),
  )
  if (places === 1 || second === undefined) return { entry: first }
  return { refused: `the lock ${target} has ${places} places; name one of its entries by its key: \`edgectl lock ls\` shows them` }
}
