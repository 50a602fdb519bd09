/**
 * A fair queue with N slots on plain etcd primitives: entries under one prefix, in the order of their create revision;
 * the first N hold. The create revision is the fencing token: every write compares it, since "I hold the lock" is true
 * only at the instant of the comparison (G8). Read `withLease` first, then downwards.
 */
import { sleep } from '../clock.ts'
import { GatewayError, kindOf } from '../errors.ts'
import { jittered } from './backoff.ts'
import { encodeOwner, entryKey, removeStale, scopePrefix, spansOf } from './lock-entries.ts'
import type { LockOwner } from './lock-entries.ts'
import type { Compare, Operation, Put, TransactionAnswer } from './ports.ts'
import { openSession } from './session.ts'
import type { Session } from './session.ts'
import { retrying, untilChange } from './wait.ts'
import type { Tools } from './wait.ts'

/** How many may hold at once. May change at any time: who holds keeps it, nobody is let in above the new count. */
export interface Slots {
  readonly count: number
  onChange(listener: () => void): () => void
}

export interface LockRequest {
  readonly scope: string
  readonly slots: Slots
  readonly owner: LockOwner
  readonly ttlMs: number
  /** The owner has taken out what its earlier lives left in the queues (`removeStale`): it is not read for that again. */
  readonly isSwept?: boolean
}

export interface FencingToken {
  /** Create revision of our entry; grows from holder to holder. */
  readonly revision: number
  /** Belongs into every transaction of the holder. */
  readonly compare: Compare
  remainingMs(): number
  /** Throws a `fenced` error unless an effect with this time limit ends before the deadline. Call it before each. */
  assertFits(limitMs: number): void
}

export interface Finished<T> {
  readonly value: T
  /** Written in the transaction that releases: all of it, or none. */
  readonly results?: readonly Put[]
  /** The work has released by itself, in a transaction that compared the token and deleted the entry. */
  readonly released?: boolean
}

export type Work<T> = (token: FencingToken, signal: AbortSignal) => Promise<Finished<T>>

/**
 * Waits for its turn, runs `work`, and releases. `signal` given to `work` aborts when the lock is lost (reason: a
 * `fenced` error) or when `stop` aborts. Rejects with what `work` rejected with; with a `fenced` error when the entry
 * was lost before the results were written; with the reason of `stop` while it waits; with an `EtcdFailure` that no
 * patience mends (`credentials`, `refused`). In every case nothing of ours stays in the queue: the lease is revoked,
 * and expires unrenewed when even that fails.
 */
export async function withLease<T>(tools: Tools, request: LockRequest, stop: AbortSignal, work: Work<T>): Promise<T> {
  const session = await retrying(tools, stop, () => openSession(tools.etcd, tools.clock, request))
  try {
    const patience = AbortSignal.any([stop, session.ended])
    const entry = await enqueue(tools, request, session, patience)
    await waitForTurn(tools, request, entry, patience)
    const { value, results = [], released = false } = await hold(tools, request, session, entry, stop, work)
    if (!released) await release(tools, session, entry, results)
    return value
  } finally {
    await session.close()
  }
}

interface Entry {
  readonly key: string
  readonly create: number
}

/** An attempt without an answer may have been committed: the next one, on the same lease, then finds its own entry. */
async function enqueue(tools: Tools, { scope, owner, isSwept }: LockRequest, { lease }: Session, patience: AbortSignal): Promise<Entry> {
  if (isSwept !== true) await retrying(tools, patience, () => removeStale(tools, scope, owner))
  const key = entryKey(scope, lease)
  return retrying(tools, patience, async () => {
    const answer = await tools.etcd.transact({
      compare: [{ key, create: 0 }],
      then: [{ put: key, value: encodeOwner(owner), lease }],
      otherwise: [{ get: key }],
    })
    const create = answer.succeeded ? answer.revision : answer.answers[0]?.entries[0]?.createRevision
    if (create === undefined) throw lost('its entry vanished while it was made')
    return { key, create }
  })
}

/** So many times the slots are read of those who stand before: enough to know how many of them must still go. */
const SIGHT = 2
/** Times the TTL of the lock, about: a hint may have been lost. Whoever has the lock, or is near it, looks more often. */
const LOOK_NEAR = 2
const LOOK_FAR = 4

/**
 * Resolves with ownership, proven by one linearizable read of the own entry and of those before it. A waiter sleeps until
 * so many of those that it saw have gone that it may be let in: each release wakes about one of them, not all.
 */
async function waitForTurn(tools: Tools, request: LockRequest, entry: Entry, patience: AbortSignal): Promise<void> {
  for (;;) {
    const slots = request.slots.count
    const sight = SIGHT * Math.max(1, slots)
    const { revision, answers } = await look(tools, entry, patience, { prefix: scopePrefix(request.scope), most: sight })
    const ahead = answers[0]?.entries ?? []
    if (ahead.length < slots) return
    // Changed while etcd was asked, when nobody listened yet.
    if (request.slots.count !== slots) continue
    const names = new Set(ahead.map(({ key }) => key))
    const mustGo = ahead.length - slots + 1
    const mostMs = jittered((ahead.length < sight ? LOOK_NEAR : LOOK_FAR) * request.ttlMs, tools.random)
    const awaited = {
      targets: [{ key: entry.key }, ...spansOf([...names])],
      revision: revision + 1,
      mostMs,
      enough: (changed: ReadonlySet<string>) => changed.has(entry.key) || [...changed].filter((key) => names.has(key)).length >= mustGo,
      also: (wake: () => void): (() => void) => request.slots.onChange(wake),
    }
    await untilChange(tools, awaited, patience)
    patience.throwIfAborted()
  }
}

interface Ahead {
  readonly prefix: string
  readonly most: number
}

/** Throws a `fenced` error when the own entry has gone. The answer holds the entries before it, the nearest ones. */
async function look(tools: Tools, { key, create }: Entry, signal: AbortSignal, ahead?: Ahead): Promise<TransactionAnswer> {
  const query = ahead && {
    list: { prefix: ahead.prefix, keysOnly: true, maxCreate: create - 1, youngestFirst: true, limit: ahead.most },
  }
  // etcd serves a transaction without writes linearizably, unless each of its reads says `serializable`.
  const then: readonly Operation[] = [query ?? { get: key }]
  const answer = await retrying(tools, signal, () => tools.etcd.transact({ compare: [{ key, create }], then }))
  if (!answer.succeeded) throw lost('its entry is gone: the lease expired or was revoked, or somebody broke the lock')
  return answer
}

async function hold<T>(
  tools: Tools,
  request: LockRequest,
  session: Session,
  entry: Entry,
  stop: AbortSignal,
  work: Work<T>,
): Promise<Finished<T>> {
  const broken = new AbortController()
  const finished = new AbortController()
  const fence = AbortSignal.any([session.ended, broken.signal])
  const token: FencingToken = {
    revision: entry.create,
    compare: entry,
    remainingMs: () => (broken.signal.aborted ? 0 : session.remainingMs()),
    assertFits(limitMs) {
      broken.signal.throwIfAborted()
      session.assertFits(limitMs)
    },
  }
  const guarding = guard(tools, request, entry, AbortSignal.any([fence, finished.signal]), broken)
  try {
    return await work(token, AbortSignal.any([fence, stop]))
  } finally {
    finished.abort()
    await guarding
  }
}

/** A broken lock leaves the lease alive, so no renewal tells the holder: it watches its own entry as well. */
async function guard(tools: Tools, request: LockRequest, entry: Entry, until: AbortSignal, broken: AbortController): Promise<void> {
  while (!until.aborted) {
    const mostMs = jittered(LOOK_NEAR * request.ttlMs, tools.random)
    try {
      const { revision } = await look(tools, entry, until)
      await untilChange(tools, { targets: [entry], revision: revision + 1, mostMs }, until)
    } catch (error) {
      if (until.aborted) return
      if (kindOf(error) === 'fenced') return broken.abort(error)
      await sleep(tools.clock, jittered(request.ttlMs / 2, tools.random), until) // not let in just now: then the lease isn't renewed either, and ends the hold
    }
  }
}

/**
 * One transaction: compare the token, delete the entry, put the results. Without an answer it is sent again; if the
 * entry has gone by then, the results tell whose doing that was.
 */
async function release(tools: Tools, session: Session, { key, create }: Entry, results: readonly Put[]): Promise<void> {
  let attempts = 0
  const attempt = async (): Promise<void> => {
    attempts += 1
    const answer = await tools.etcd.transact({
      compare: [{ key, create }],
      then: [{ delete: key }, ...results],
      otherwise: results.map(({ put }) => ({ get: put })),
    })
    if (answer.succeeded || (attempts > 1 && isWritten(answer, create, results))) return
    throw lost('its entry was gone before the release; no result was written')
  }
  await retrying(tools, session.ended, attempt).catch((error: unknown) => {
    if (error !== session.ended.reason || attempts === 0) throw error
    throw lost('etcd did not answer the release; whether the result was written is not known', error)
  })
}

/** By us, or at least while we held: whoever else may write the same keys compares the same token. */
function isWritten({ answers }: TransactionAnswer, create: number, results: readonly Put[]): boolean {
  return results.every(({ value }, index) => {
    const found = answers[index]?.entries[0]
    return found !== undefined && found.modRevision > create && equal(found.value, value)
  })
}

function equal(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index])
}

function lost(why: string, cause?: unknown): GatewayError {
  return new GatewayError('fenced', `the lock is lost: ${why}`, { cause })
}
