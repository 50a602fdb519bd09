/**
 * From the lock to the result: the only way in which a patch starts on this box. Read `takeTurn` first.
 *
 * Expiry frees a place in the queue, not the permission: whoever began and has not told how it ended left an open
 * marker, and nobody of the scope starts until the box itself or the controller has taken it away (G9).
 */
import { GatewayError } from '../../errors.ts'
import { jittered } from '../backoff.ts'
import type { Patch } from '../document.ts'
import type { Outcome, Permit, Windows } from '../kinds.ts'
import { scopePrefix } from '../lock-entries.ts'
import type { LockOwner } from '../lock-entries.ts'
import { withLease } from '../lock.ts'
import type { FencingToken } from '../lock.ts'
import type { Compare } from '../ports.ts'
import { keys } from '../records.ts'
import type { Result } from '../records.ts'
import { retrying, untilChange } from '../wait.ts'
import type { Tools } from '../wait.ts'
import type { Action, Apply } from './eligibility.ts'
import { encodeMarker, encodeResult, isSame, markerToken } from './results.ts'
import type { ResultPorts } from './results.ts'

export interface GatePorts extends ResultPorts {
  readonly tools: Tools
  readonly windows: Windows
  readonly owner: LockOwner
  readonly ttlMs: number
  /** The binding of the id to this box. */
  binding(): Compare | undefined
}

export interface Turn {
  readonly patch: Patch
  /** Of the lock. */
  readonly ttlMs: number
  /** True: others' open markers keep it waiting. An undo goes ahead in any case. */
  readonly waitsForOpen: boolean
  /** Looks at etcd anew, now that the lock is held. Undefined: no longer. */
  again(): Promise<Action | undefined>
  /** The gate is passed: it begins. From here on only `signal` stops it. */
  began(): void
  run(start: Started, permit: Permit, signal: AbortSignal): Promise<Outcome>
  /** Ends the hold: tells the outcome and gives the lock back in one transaction, if the token still stands. */
  told(outcome: Outcome, start: Started, token: FencingToken): Promise<void>
}

/** What its result in etcd says after the gate. */
export interface Started {
  readonly token: number
  readonly retry: number
  readonly attempt: number
  readonly resultMod: number
}

/** How long a closed gate is looked at again while the lock is held. */
const GATE_LOOKS = 5

/**
 * Waits for the lock, passes the gate, runs, tells. Resolves with the outcome, or `undefined` when the patch may no
 * longer start. Rejects as `withLease` does; when `run` had an outcome by then, `told` has kept it.
 */
export function takeTurn(ports: GatePorts, turn: Turn, stop: AbortSignal): Promise<Outcome | undefined> {
  const { scope, slots } = turn.patch.rollout.concurrency
  const request = { scope, slots: { count: slots, onChange: () => () => undefined }, owner: ports.owner, ttlMs: turn.ttlMs, isSwept: true }
  return withLease(ports.tools, request, stop, async (token, signal) => {
    const start = await passGate(ports, turn, token, signal)
    if (start === undefined) return { value: undefined }
    turn.began()
    const outcome = await turn.run(start, permitOf(ports, turn, token), signal)
    await turn.told(outcome, start, token)
    return { value: outcome, released: true }
  })
}

async function passGate(ports: GatePorts, turn: Turn, token: FencingToken, signal: AbortSignal): Promise<Started | undefined> {
  if (turn.waitsForOpen) await untilNothingIsOpen(ports, turn.patch.rollout.concurrency.scope, signal)
  for (let look = 0; look < GATE_LOOKS; look++) {
    const action = await turn.again()
    if (action === undefined) return undefined
    const { control, result } = action.candidate
    const numbers = { token: token.revision, retry: control.retry }
    if (action.do === 'undo') return { ...numbers, attempt: result?.result.attempt ?? 1, resultMod: result?.mod ?? 0 }
    const resultMod = await open(ports, action, token, signal)
    if (resultMod !== undefined) return { ...numbers, attempt: action.attempt, resultMod }
  }
  return undefined
}

/** Open markers of other boxes whose token no longer stands in the queue. The lock is kept: nobody else starts either. */
async function untilNothingIsOpen({ tools, gateway, ttlMs }: GatePorts, scope: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const { revision, entries } = await retrying(tools, signal, () => tools.etcd.list({ prefix: keys.open(scope) }))
    const markers = entries.filter(({ key }) => key !== keys.openBy(scope, gateway))
    if (await areAlive(tools, scope, markers.map(markerToken), signal)) return
    const awaited = { targets: [{ prefix: keys.open(scope) }], revision: revision + 1, mostMs: jittered(ttlMs, tools.random) }
    await untilChange(tools, awaited, signal)
    signal.throwIfAborted()
  }
}

/**
 * Whether each of these tokens stands in the queue. It may be a long one; but whoever began was let in, so only few stand
 * before the youngest of them. One that went since the markers were read took its marker along: the next look tells.
 */
async function areAlive(tools: Tools, scope: string, tokens: readonly number[], signal: AbortSignal): Promise<boolean> {
  if (tokens.length === 0) return true
  const query = { prefix: scopePrefix(scope), keysOnly: true, maxCreate: Math.max(...tokens) }
  const { entries } = await retrying(tools, signal, () => tools.etcd.list(query))
  const alive = new Set(entries.map(({ createRevision }) => createRevision))
  return tokens.every((token) => alive.has(token))
}

/**
 * The start itself: nothing that it rests on has changed, and one failure more than allowed does not exist. Returns the
 * mod revision of our result, or undefined when the gate is shut.
 */
async function open(ports: GatePorts, action: Apply, token: FencingToken, signal: AbortSignal): Promise<number | undefined> {
  const { tools, gateway } = ports
  const { candidate, accepted, attempt } = action
  const { id, patch } = { id: candidate.id, patch: accepted.patch }
  const at = new Date(tools.clock.wallMs()).toISOString()
  const retry = candidate.control.retry
  const result: Result = {
    schema: 1,
    gateway,
    patch: id,
    digest: accepted.digest,
    state: 'applying',
    token: token.revision,
    attempt,
    retry,
    startedAt: at,
    at,
  }
  const key = keys.result(gateway, id)
  const value = encodeResult(ports, result)
  const marker = encodeMarker({ schema: 1, gateway, patch: id, token: token.revision, at })
  return retrying(tools, signal, async () => {
    const answer = await tools.etcd.transact({
      compare: [
        token.compare,
        ...bindingOf(ports),
        { key: keys.control(id), mod: candidate.control.revision },
        { key: keys.rolloutState(id), mod: candidate.rollout?.mod ?? 0 },
        { key: keys.failure(id, patch.rollout.maxFailures + 1), create: 0 },
        { key, mod: candidate.result?.mod ?? 0 },
      ],
      then: [
        { put: key, value },
        { put: keys.openBy(patch.rollout.concurrency.scope, gateway), value: marker },
      ],
      otherwise: [{ get: key }],
    })
    if (answer.succeeded) return answer.revision
    const found = answer.answers[0]?.entries[0]
    return isSame(found, value) ? found?.modRevision : undefined // an earlier attempt got through, its answer did not
  })
}

function bindingOf(ports: GatePorts): readonly Compare[] {
  const binding = ports.binding()
  if (binding === undefined) throw new GatewayError('fenced', 'this box may not write to etcd: its id is not bound to it')
  return [binding]
}

/** An undo is ordered, and does not wait for a window. */
function permitOf({ windows, tools }: GatePorts, { patch, waitsForOpen }: Turn, token: FencingToken): Permit {
  return {
    assertFits: (limitMs) => token.assertFits(limitMs),
    assertWindow(limitMs) {
      if (patch.window === undefined || !waitsForOpen) return
      const leftMs = windows.remainingMs(patch.window, tools.clock.wallMs())
      if (leftMs > 0 && leftMs >= limitMs) return
      const why = leftMs === 0 ? 'the maintenance window is shut' : `the maintenance window shuts in ${Math.floor(leftMs / 1_000)} s`
      throw new GatewayError('saturated', `${why}, and the step may take ${Math.ceil(limitMs / 1_000)} s`)
    },
  }
}
