/**
 * What the controller says about the patches that matter here: the state of each rollout, and whether a cohort names
 * this box. Cheap while nothing happens: one small answer tells that nothing changed below `rollouts/`.
 */
import { Buffer } from 'node:buffer'
import { rewrittenSince } from '../mirror.ts'
import type { Etcd, Hint, KeyValue, Place } from '../ports.ts'
import { keys } from '../records.ts'
import type { RolloutState } from '../records.ts'
import { readCohort, readState } from '../rollout/values.ts'

export interface RolloutSeen {
  readonly state: RolloutState
  readonly mod: number
}

type Seen = Place & { readonly count: number }

/** With an open watch that says nothing: a hint may have been lost, and what is not watched may have changed. */
const LOOK_MS = 15 * 60_000
/** At most so many keys are watched; the others are seen at the next look. */
const WATCHED_MAX = 16
/** etcd refuses more than 128 operations in one transaction. */
const READ_AT_ONCE = 100

export class Rollouts {
  readonly #etcd: Etcd
  readonly #gateway: string
  readonly #states = new Map<string, RolloutSeen>()
  /** The stage whose cohort names this box; cohorts never change, but somebody may clear them away. */
  readonly #cohorts = new Map<string, number>()
  /** Wall ms of the first cohort. */
  readonly #began = new Map<string, number>()
  /** Cohorts that were read: `<patch>/<stage>`. */
  readonly #read = new Set<string>()
  #known = new Set<string>()
  #seen: Seen | undefined
  #watched = ''
  /** Monotonic ms: up to then a watch without a hint is believed. */
  #freshUntilMs = 0
  #endWatch: (() => void) | undefined

  readonly #onEnded: () => void

  /** `onEnded`: the watch broke off, and whatever was known of etcd may be another one's. */
  constructor(etcd: Etcd, gateway: string, onEnded: () => void) {
    this.#etcd = etcd
    this.#gateway = gateway
    this.#onEnded = onEnded
  }

  state(patch: string): RolloutSeen | undefined {
    return this.#states.get(patch)
  }

  cohort(patch: string): number | undefined {
    return this.#cohorts.get(patch)
  }

  /** When its first cohort was frozen, by the controller's clock. */
  beganMs(patch: string): number | undefined {
    return this.#began.get(patch)
  }

  /**
   * Brings these patches up to date: asks for nothing while the watch is silent, since every `alive` of each box would
   * cost twice. Whoever starts on it compares it (`gate.ts`). Rejects with an `EtcdFailure`.
   */
  async refresh(patches: ReadonlySet<string>, nowMs: number): Promise<void> {
    const isHeard = this.#endWatch !== undefined || patches.size === 0
    if (isHeard && nowMs < this.#freshUntilMs && [...patches].every((patch) => this.#known.has(patch))) return
    this.#freshUntilMs = nowMs + LOOK_MS // not later: a hint that comes meanwhile takes it away
    try {
      await this.#bring(patches)
    } catch (error) {
      this.lookAgain()
      throw error
    }
  }

  async #bring(patches: ReadonlySet<string>): Promise<void> {
    const { stale, seen } = await this.#stale(patches)
    for (let first = 0; first < stale.length; first += READ_AT_ONCE) await this.#readStates(stale.slice(first, first + READ_AT_ONCE))
    this.#seen = seen // not before they were read: what changed up to there would not be looked at again
    this.#known = new Set(patches)
    for (const patch of patches) await this.#readCohorts(patch)
  }

  /** What was known is of another history. */
  forget(): void {
    this.#states.clear()
    this.#forgetCohorts()
    this.#known = new Set()
    this.#seen = undefined
    this.lookAgain()
    this.unwatch()
  }

  /** Hints of changes of these patches' states, the first ones first. Stays open until the patches change. */
  watch(patches: readonly string[], onHint: () => void): void {
    const targets = patches.slice(0, WATCHED_MAX).map((patch) => ({ key: keys.rolloutState(patch) }))
    const wanted = targets.map(({ key }) => key).join()
    if (wanted === this.#watched && this.#endWatch !== undefined) return
    this.unwatch()
    if (targets.length === 0 || this.#seen === undefined) return
    this.#watched = wanted
    const heard = (hint: Hint): void => {
      this.lookAgain()
      if (hint === 'ended') {
        this.#endWatch = undefined
        this.#onEnded()
      }
      onHint()
    }
    this.#endWatch = this.#etcd.watch(targets, this.#seen.revision + 1, heard)
  }

  /** The next `refresh` asks etcd, whatever the watch says. */
  lookAgain(): void {
    this.#freshUntilMs = 0
  }

  unwatch(): void {
    this.#endWatch?.()
    this.#endWatch = undefined
  }

  /** One read of the state and of all cohorts up to its stage, when a start depends on it. */
  async look(patch: string): Promise<RolloutSeen | undefined> {
    await this.#readStates([patch])
    await this.#readCohorts(patch)
    return this.#states.get(patch)
  }

  #forgetCohorts(): void {
    this.#cohorts.clear()
    this.#began.clear()
    this.#read.clear()
  }

  /** Whose states must be read: the new ones, and those that changed. A deletion shows in the count: then all. */
  async #stale(patches: ReadonlySet<string>): Promise<{ readonly stale: readonly string[]; readonly seen: Seen }> {
    const before = this.#seen
    const found = await this.#etcd.list({
      prefix: keys.rollouts,
      keysOnly: true,
      ...(before !== undefined && { minMod: before.revision + 1 }),
    })
    const seen = { clusterId: found.clusterId, revision: found.revision, count: found.count }
    const created = found.entries.filter(({ createRevision }) => createRevision > (before?.revision ?? 0)).length
    if (before === undefined || rewrittenSince(before, found) !== undefined || before.count + created !== found.count) {
      this.#forgetCohorts()
      return { stale: [...patches], seen }
    }
    const changed = new Set(found.entries.map(({ key }) => key.split('/')[1]))
    return { stale: [...patches].filter((patch) => changed.has(patch) || !this.#known.has(patch)), seen }
  }

  async #readStates(patches: readonly string[]): Promise<void> {
    if (patches.length === 0) return
    const { answers } = await this.#etcd.transact({ compare: [], then: patches.map((patch) => ({ get: keys.rolloutState(patch) })) })
    for (const [index, patch] of patches.entries()) {
      const seen = toSeen(answers[index]?.entries[0])
      if (seen === undefined) this.#states.delete(patch)
      else this.#states.set(patch, seen)
    }
  }

  async #readCohorts(patch: string): Promise<void> {
    const stage = this.#states.get(patch)?.state.stage ?? -1
    for (let number = 0; number <= stage && !this.#cohorts.has(patch); number++) {
      const name = keys.cohort(patch, number)
      if (this.#read.has(name)) continue
      const { answers } = await this.#etcd.transact({ compare: [], then: [{ get: name }] })
      const entry = answers[0]?.entries[0]
      if (entry === undefined) continue
      this.#read.add(name)
      if (number === 0) this.#began.set(patch, atOf(entry))
      if (readCohort(entry)?.includes(this.#gateway) === true) this.#cohorts.set(patch, number)
    }
  }
}

function atOf({ value }: KeyValue): number {
  const at = /"at":"([^"]{20,30})"/.exec(Buffer.from(value).toString('utf8'))?.[1]
  return Date.parse(at ?? '') || 0
}

function toSeen(entry: KeyValue | undefined): RolloutSeen | undefined {
  const state = entry && readState(entry)
  return entry && state && { state, mod: entry.modRevision }
}
