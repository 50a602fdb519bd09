/** What a look at the box finds. Pure: whoever looks hands in facts, and gets checks. */

/** In the order in which causes lead to effects. */
export const GROUPS = ['clock', 'config', 'versions', 'access', 'disk', 'mqtt', 'service', 'kafka', 'etcd', 'machine', 'gateway'] as const
export type Group = (typeof GROUPS)[number]

/** `skipped`: it says nothing, because something before it failed or because there is nothing to look at. */
export type CheckState = 'ok' | 'warn' | 'fail' | 'skipped'

export interface Check {
  readonly group: Group
  /** Unique within a walk: `kafka-1:9092 tls`. */
  readonly name: string
  readonly state: CheckState
  /** Plain words with figures; may hold what a peer said, so make it printable before it meets a terminal or a page. */
  readonly finding: string
  /** One command or one sentence. */
  readonly remedy?: string
  /** Name of the check that failed before this one. */
  readonly because?: string
}

/** Where the checks of one section are made. */
export class Findings {
  readonly #group: Group
  readonly #checks: Check[] = []

  constructor(group: Group) {
    this.#group = group
  }

  get checks(): readonly Check[] {
    return this.#checks
  }

  ok(name: string, finding: string): void {
    this.#add(name, 'ok', finding)
  }

  warn(name: string, finding: string, remedy?: string): void {
    this.#add(name, 'warn', finding, remedy)
  }

  fail(name: string, finding: string, remedy?: string): void {
    this.#add(name, 'fail', finding, remedy)
  }

  /** There is nothing to look at, or no right to: `why` in plain words. */
  skip(name: string, why: string): void {
    this.#add(name, 'skipped', why)
  }

  skipBecause(name: string, failed: string): void {
    this.#checks.push({ group: this.#group, name, state: 'skipped', finding: `because "${failed}" failed`, because: failed })
  }

  #add(name: string, state: CheckState, finding: string, remedy?: string): void {
    this.#checks.push({ group: this.#group, name, state, finding, ...(remedy !== undefined && { remedy }) })
  }
}

/** What to do first: the earliest failure, since the walk goes from causes to effects; without one the earliest warning. */
export function firstToFix(checks: readonly Check[]): Check | undefined {
  return checks.find(({ state }) => state === 'fail') ?? checks.find(({ state }) => state === 'warn')
}

/** 0: all is well, 1: something needs a look, 2: something is broken. */
export function exitOf(checks: readonly Check[]): 0 | 1 | 2 {
  if (checks.some(({ state }) => state === 'fail')) return 2
  return checks.some(({ state }) => state === 'warn') ? 1 : 0
}

/** All that a walk finds. */
export async function gathered(walk: AsyncIterable<Check>): Promise<readonly Check[]> {
  const checks: Check[] = []
  for await (const check of walk) checks.push(check)
  return checks
}
