/** Judges a rollout by etcd's history alone. It knows nothing of how decisions are made. */
import { Buffer } from 'node:buffer'
import type { RolloutPlan } from '../../daemon/patch/document.ts'
import { keys } from '../../daemon/patch/records.ts'
import type { Cohort, Result, RolloutState } from '../../daemon/patch/records.ts'

export interface HistoryEvent {
  readonly revision: number
  readonly type: 'put' | 'delete'
  readonly key: string
  readonly value: Uint8Array
}

export interface RolloutVerdict {
  readonly violations: readonly string[]
  readonly states: readonly RolloutState[]
  readonly starts: number
  readonly failures: number
}

export function judgeRollout(events: readonly HistoryEvent[], id: string, plan: RolloutPlan): RolloutVerdict {
  const judge = new Judge(id, plan)
  const groups = new Map<number, HistoryEvent[]>()
  for (const event of events) groups.set(event.revision, [...(groups.get(event.revision) ?? []), event])
  for (const group of groups.values()) judge.see(group)
  return judge
}

class Judge implements RolloutVerdict {
  readonly violations: string[] = []
  readonly states: RolloutState[] = []
  starts = 0
  readonly #id: string
  readonly #plan: RolloutPlan
  readonly #cohorts: (readonly string[])[] = []
  readonly #results = new Map<string, Result['state']>()
  readonly #failed = new Set<string>()

  constructor(id: string, plan: RolloutPlan) {
    this.#id = id
    this.#plan = plan
  }

  get failures(): number {
    return this.#failed.size
  }

  see(group: readonly HistoryEvent[]): void {
    // The state stands on what was there before its own transaction.
    for (const event of group) if (event.key === keys.rolloutState(this.#id)) this.#seeState(event)
    for (const event of group) this.#seeOther(event)
  }

  #seeState({ value, revision }: HistoryEvent): void {
    const state = JSON.parse(Buffer.from(value).toString()) as RolloutState
    const before = this.states.at(-1)
    this.states.push(state)
    const kept = before?.decisions ?? []
    const isNext =
      state.decisions.length === kept.length + 1 && kept.every((one, index) => one.revision === state.decisions[index]?.revision)
    if (!isNext && kept.length < 30) this.violations.push(`${revision}: a decision was lost, or made twice`)
    if (state.token < (before?.token ?? 0)) this.violations.push(`${revision}: an older controller decided`)
    if (before !== undefined && before.phase === state.phase && before.stage === state.stage && before.reason === state.reason) {
      this.violations.push(`${revision}: ${state.phase} in stage ${state.stage} was decided twice`)
    }
    if (state.stage > (before?.stage ?? -1)) this.#seeOpening(state, revision)
  }

  #seeOpening({ stage }: RolloutState, revision: number): void {
    if (stage > this.#cohorts.length) this.violations.push(`${revision}: a stage was left out`)
    if (this.#failed.size > this.#plan.maxFailures) this.violations.push(`${revision}: a stage was opened in spite of the failures`)
    for (const [number, cohort] of this.#cohorts.slice(0, stage).entries()) {
      const states = cohort.map((gateway) => this.#results.get(gateway))
      const done = states.filter((one) => one === 'completed').length
      const begun = states.filter((one) => one !== undefined).length
      const needed = Math.max(
        1,
        (this.#plan.stages[number]?.minDone ?? 1) * begun,
        Math.min(0.5, this.#plan.stages[number]?.minDone ?? 1) * cohort.length,
      )
      if (done < needed)
        this.violations.push(`${revision}: stage ${stage} was opened when ${done} of ${needed} of stage ${number} were done`)
      if (states.includes('applying') && !cohort.some((gateway) => this.#failed.has(gateway))) {
        this.violations.push(`${revision}: stage ${stage} was opened while one of stage ${number} applied`)
      }
    }
  }

  #seeOther({ key, type, value, revision }: HistoryEvent): void {
    const [part, owner = '', name] = key.split('/')
    if (part === 'rollouts' && owner === this.#id && name === 'cohorts') {
      if (this.#cohorts[Number(key.split('/')[3])] !== undefined) this.violations.push(`${revision}: ${key} was written twice`)
      this.#cohorts[Number(key.split('/')[3])] = (JSON.parse(Buffer.from(value).toString()) as Cohort).gateways
    }
    if (part === 'failures' && owner === this.#id && type === 'put')
      this.#failed.add((JSON.parse(Buffer.from(value).toString()) as { gateway: string }).gateway)
    if (part !== 'gateways' || name !== 'results' || key.split('/')[3] !== this.#id) return
    const { state } = JSON.parse(Buffer.from(value).toString()) as Result
    this.#results.set(owner, state)
    if (state === 'applying') this.#seeStart(owner, revision)
  }

  #seeStart(gateway: string, revision: number): void {
    this.starts += 1
    const stage = this.#cohorts.findIndex((cohort) => cohort.includes(gateway))
    if (stage < 0 || stage > (this.states.at(-1)?.stage ?? -1)) this.violations.push(`${revision}: ${gateway} began before its stage`)
    if (this.#failed.size > this.#plan.maxFailures) this.violations.push(`${revision}: ${gateway} began in spite of the failures`)
  }
}
