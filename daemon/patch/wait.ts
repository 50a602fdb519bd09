/** The two ways to wait that the lock and the feed share. */
import { sleep } from '../clock.ts'
import type { Clock, Random } from '../clock.ts'
import { backoffMs } from './backoff.ts'
import { EtcdFailure } from './ports.ts'
import type { Etcd, WatchTarget } from './ports.ts'

export interface Tools {
  readonly etcd: Etcd
  readonly clock: Clock
  readonly random: Random
}

const FIRST_WAIT_MS = 50
const LONGEST_WAIT_MS = 1_000
/** A watch that ends at once, again and again, must not turn into a storm of reads. */
const AFTER_ENDED_MS = 500

/**
 * Repeats `attempt` while etcd does not answer. Rejects with any other failure, and with the signal's reason as soon
 * as it aborts, also in the middle of an attempt: that one's fate is then unknown.
 */
export async function retrying<T>({ clock, random }: Tools, signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  for (let failures = 0; ; failures++) {
    signal.throwIfAborted()
    try {
      return await unlessAborted(signal, attempt())
    } catch (error) {
      if (signal.aborted || !(error instanceof EtcdFailure) || error.reason !== 'unavailable') throw error
      await sleep(clock, backoffMs(failures, FIRST_WAIT_MS, LONGEST_WAIT_MS, random), signal)
    }
  }
}

function unlessAborted<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error)
    signal.addEventListener('abort', abort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

export interface Awaited {
  readonly targets: readonly WatchTarget[]
  /** Changes from here on count. */
  readonly revision: number
  /** Look again after this time in any case: a hint may have been lost. */
  readonly mostMs: number
  /** Asked at each hint with all keys that changed so far: false waits on. By default any change is enough. */
  readonly enough?: (changed: ReadonlySet<string>) => boolean
  /** One more cause to wake. Returns its end. */
  readonly also?: (wake: () => void) => () => void
}

/** Resolves when it is time to look again, or when `signal` aborts. Never rejects. */
export function untilChange({ etcd, clock, random }: Tools, awaited: Awaited, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const ends: (() => void)[] = []
    const wake = (): void => {
      signal.removeEventListener('abort', wake)
      for (const end of ends.splice(0)) end()
      resolve()
    }
    signal.addEventListener('abort', wake, { once: true })
    ends.push(clock.after(awaited.mostMs, wake))
    if (awaited.also !== undefined) ends.push(awaited.also(wake))
    const changed = new Set<string>()
    const end = etcd.watch(awaited.targets, awaited.revision, (hint, keys = []) => {
      for (const key of keys) changed.add(key)
      if (hint === 'changed') return awaited.enough?.(changed) === false ? undefined : wake()
      ends.push(clock.after(backoffMs(0, AFTER_ENDED_MS, AFTER_ENDED_MS, random), wake))
    })
    ends.push(end)
  })
}
