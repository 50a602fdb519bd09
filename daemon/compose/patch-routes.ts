/** Patches over the control socket: looked at, held, and their locks broken. */
import { parseSpan } from '../../config/dotted.ts'
import type { BrokenDocument, LocksDocument } from '../cli/patch-views.ts'
import type { Clock } from '../clock.ts'
import { GatewayError } from '../errors.ts'
import { answering } from './answering.ts'
import type { Memory } from '../patch/memory.ts'
import type { LockEntry } from '../patch/lock-entries.ts'
import type { Queues } from '../patch/queue.ts'
import type { Route, RouteRequest } from '../ports.ts'
import { HOLD_MAX_MS, type Holds } from './holds.ts'
import { historyDocument, holdDocument } from './patch-documents.ts'
import type { PatchDesk } from './patch-desk.ts'

export interface PatchSources {
  /** Throws with the reason when no patches come to this box. */
  readonly desk: () => PatchDesk
  readonly holds: Pick<Holds, 'set' | 'clear' | 'current'>
  readonly memory: Pick<Memory, 'read'>
  readonly clock: Pick<Clock, 'wallMs'>
}

const HISTORY_MAX = 200

export function patchRoutes(sources: PatchSources): readonly Route[] {
  const { desk, memory } = sources
  return [
    route('GET', '/patches', () => desk().patches()),
    route('GET', '/history', async ({ query }) => historyDocument(await memory.read('history/'), limitOf(query))),
    route('GET', '/patches/:id/why', async ({ params }) => (await desk().why(params['id'] ?? '')) ?? unknown(params['id'])),
    route('GET', '/locks', async () => locksDocument(await desk().queues())),
    route('POST', '/locks/break', async ({ query }) => breakLock(desk(), query)),
    route('GET', '/hold', () => held(sources)),
    route('POST', '/hold', ({ query }) => hold(sources, query)),
    route('POST', '/hold/clear', async ({ query }) => {
      if (!(await sources.holds.clear(query.get('by') ?? 'unknown'))) throw new GatewayError('rejected', 'patches are not held on this box')
      return held(sources)
    }),
  ]
}

function route(method: Route['method'], path: string, answer: (request: RouteRequest) => object | Promise<object>): Route {
  return answering({ method, path, answer })
}

function unknown(patch = ''): never {
  throw new GatewayError('rejected', `no patch ${patch} is known on this box`, { remedy: 'edgectl patches' })
}

async function hold(sources: PatchSources, query: URLSearchParams): Promise<object> {
  const forMs = parseSpan(query.get('for') ?? '', HOLD_MAX_MS)
  if (typeof forMs === 'string') throw new GatewayError('rejected', `--for: ${forMs}`)
  await sources.holds.set({ forMs, by: query.get('by') ?? 'unknown', reason: query.get('reason') ?? '' })
  return held(sources)
}

function held({ holds, clock }: PatchSources): object {
  return holdDocument(holds.current(), clock.wallMs())
}

async function breakLock(desk: PatchDesk, query: URLSearchParams): Promise<BrokenDocument> {
  const reason = (query.get('reason') ?? '').trim()
  if (reason === '') throw new GatewayError('rejected', 'say why with --reason: it is kept, and others read it')
  const { entry, paused } = await desk.breakLock(query.get('target') ?? '', query.get('by') ?? 'unknown', reason)
  const { scope, token, key } = entry
  return { schema: 1, broken: { scope, gateway: ownerOf(entry), token, key }, paused }
}

function locksDocument({ entries, open }: Queues): LocksDocument {
  const locks = entries.map((entry) => ({
    scope: entry.scope,
    place: entry.place,
    gateway: ownerOf(entry),
    token: entry.token,
    ...(entry.leaseMs !== undefined && { leaseSeconds: Math.round(entry.leaseMs / 1_000) }),
    key: entry.key,
  }))
  const order = [...locks].sort((left, right) =>
    left.scope === right.scope ? left.place - right.place : left.scope < right.scope ? -1 : 1,
  )
  const starts = open.map(({ patch, at, ...rest }) => ({ ...rest, ...(patch !== undefined && { patch }), ...(at !== undefined && { at }) }))
  return { schema: 1, locks: order, open: starts }
}

function ownerOf({ owner }: LockEntry): string {
  return owner?.gateway ?? 'something else than a gateway'
}

function limitOf(query: URLSearchParams): number {
  const limit = Number(query.get('limit') ?? 20)
  return Number.isSafeInteger(limit) && limit >= 0 ? Math.min(limit, HISTORY_MAX) : 20
}
