/**
 * Judges a history of etcd: holders are the first N entries by create revision, and only a holder writes. It knows
 * nothing of how the lock waits, renews or retries.
 */
import { scopePrefix } from '../../daemon/patch/lock-entries.ts'

export interface LockEvent {
  readonly revision: number
  readonly type: 'put' | 'delete'
  readonly key: string
  readonly value: Uint8Array
}

export interface LockVerdict {
  /** In words; empty when the lock held what it promises. */
  readonly violations: readonly string[]
  /** Tokens in the order of their first write. */
  readonly writers: readonly number[]
  /** Tokens in the order of their entries. */
  readonly entered: readonly number[]
  /** Entries that are still there. */
  readonly left: readonly string[]
}

/** What a holder writes, in fenced transactions; the value is its token. */
export function registerKey(scope: string): string {
  return `register/${encodeURIComponent(scope)}`
}

export function judge(events: readonly LockEvent[], scope: string, slots: number): LockVerdict {
  const live = new Map<string, number>()
  const [violations, writers, entered]: [string[], Set<number>, number[]] = [[], new Set(), []]
  for (const group of byRevision(events)) {
    // A release deletes the entry and writes the result in one revision: the writer is judged by what stood before it.
    const holders = [...live.values()].sort((left, right) => left - right).slice(0, slots)
    for (const { type, key, value, revision } of group) {
      if (key === registerKey(scope)) {
        const token = Number(Buffer.from(value).toString())
        writers.add(token)
        if (!holders.includes(token)) violations.push(`revision ${revision}: ${token} wrote, holders were ${holders.join(', ') || 'none'}`)
      }
      if (!key.startsWith(scopePrefix(scope))) continue
      if (type === 'delete') live.delete(key)
      else if (live.has(key)) violations.push(`revision ${revision}: an entry was written twice`)
      else {
        live.set(key, revision)
        entered.push(revision)
      }
    }
  }
  return { violations, writers: [...writers], entered, left: [...live.keys()] }
}

function byRevision(events: readonly LockEvent[]): LockEvent[][] {
  const groups = new Map<number, LockEvent[]>()
  for (const event of events) groups.set(event.revision, [...(groups.get(event.revision) ?? []), event])
  return [...groups.values()]
}
