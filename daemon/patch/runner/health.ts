/** Rounds of looking: until the new version is good, through the bake, and at the old version afterwards. */
import { sleep } from '../../clock.ts'
import type { Clock } from '../../clock.ts'
import { kindOf, messageOf } from '../../errors.ts'
import type { CheckResult, Checks } from '../kinds.ts'
import type { Run } from './run.ts'

/** A check that fails so often in a row ends the bake. */
const BAD_ROUNDS_MAX = 3
const INTERVAL_LEAST_MS = 1_000
const INTERVAL_MOST_MS = 10_000
/** One round of checks that hang. */
const ROUND_MS = 30_000

export interface Look {
  readonly clock: Clock
  readonly checks: Checks
  readonly health: Run['health']
  /** That the version in question is the one that runs; undefined when only the checks count. */
  readonly verify: ((signal: AbortSignal) => Promise<void>) | undefined
  readonly signal: AbortSignal
}

/** Undefined when `consecutive` rounds in a row were good before the deadline; else what was wrong last. */
export async function becomesGood(look: Look): Promise<string | undefined> {
  const { clock, health, signal } = look
  const deadlineMs = clock.bootMs() + health.deadlineMs
  let wrong = 'no round of checks ended in time'
  for (let good = 0; ;) {
    const bad = await round(look, Math.max(INTERVAL_LEAST_MS, deadlineMs - clock.bootMs()))
    good = bad.length === 0 ? good + 1 : 0
    if (good >= Math.max(1, health.consecutive)) return undefined
    if (bad.length > 0) wrong = inWords(bad)
    if (signal.aborted) return wrong
    if (clock.bootMs() >= deadlineMs)
      return good > 0 ? `only ${good} of ${health.consecutive} rounds in a row were good, before that: ${wrong}` : wrong
    await sleep(clock, intervalMs(health.deadlineMs), signal)
  }
}

/** Undefined when the version was still good at the end of the bake. Boot time counts, so a suspended box bakes on. */
export async function staysGood(look: Look): Promise<string | undefined> {
  const { clock, health, signal } = look
  const endMs = clock.bootMs() + health.bakeMs
  const inRow = new Map<string, number>()
  while (!signal.aborted) {
    const bad = await round(look, ROUND_MS)
    const names = new Set(bad.map(({ name }) => name))
    for (const name of inRow.keys()) if (!names.has(name)) inRow.delete(name)
    for (const name of names) inRow.set(name, (inRow.get(name) ?? 0) + 1)
    const ended = bad.filter(({ name }) => (inRow.get(name) ?? 0) >= BAD_ROUNDS_MAX)
    if (ended.length > 0) return `${inWords(ended)}, ${BAD_ROUNDS_MAX} times in a row`
    if (clock.bootMs() >= endMs && bad.length === 0) return undefined
    await sleep(clock, Math.max(INTERVAL_LEAST_MS, Math.min(INTERVAL_MOST_MS, endMs - clock.bootMs())), signal)
  }
  return 'the bake was cut short'
}

/** What is wrong just now; empty when all is well. One that hangs is cut off at the limit, and is wrong. */
async function round(look: Look, limitMs: number): Promise<readonly CheckResult[]> {
  const limit = new AbortController()
  const cancel = look.clock.after(limitMs, () => limit.abort(new Error('no answer in time')))
  const signal = AbortSignal.any([look.signal, limit.signal])
  try {
    const running = await whatRuns(look, signal)
    const results = await look.checks.run(look.health.checks, signal)
    return [...running, ...results.filter(({ ok }) => !ok)]
  } finally {
    cancel()
  }
}

async function whatRuns(look: Look, signal: AbortSignal): Promise<readonly CheckResult[]> {
  try {
    await look.verify?.(signal)
    return []
  } catch (error) {
    if (kindOf(error) === 'fatal' || (kindOf(error) === undefined && !signal.aborted)) throw error
    return [{ name: 'running version', ok: false, reason: messageOf(error) }]
  }
}

/** One round, now, of the checks alone; undefined when all pass. */
export async function isUnwell(look: Look): Promise<string | undefined> {
  const bad = await round(look, ROUND_MS)
  return bad.length === 0 ? undefined : inWords(bad)
}

function intervalMs(deadlineMs: number): number {
  return Math.max(INTERVAL_LEAST_MS, Math.min(INTERVAL_MOST_MS, deadlineMs / 20))
}

function inWords(bad: readonly CheckResult[]): string {
  return bad.map(({ name, reason }) => (reason === undefined ? `${name} fails` : `${name}: ${reason}`)).join('; ')
}
