/** What follows when Kafka refuses a transaction because of what is in it. */
import type { Lane } from '../ports.ts'
import type { LinkFailure } from './failure.ts'
import type { Plan, PlannedRecord } from './plan.ts'
import { isFresh } from './record-time.ts'
import { Refusals } from './refusals.ts'
import { alarm } from './topics.ts'

/** A record as it was sent. */
export interface Sent extends PlannedRecord {
  readonly lane: Lane
  readonly timestampMs: number
}

/** So many records of one topic, one after the other, are more than poison: something is wrong with the topic. */
const IN_A_ROW_MAX = 20

export class Blame {
  readonly refusals = new Refusals()
  /** Records that are to blame, and why, until they are set aside. */
  readonly #condemned = new Map<string, string>()
  /** Records of a lane up to here whose time Kafka did not take. */
  readonly #sendTimeTo = new Map<Lane, number>()
  readonly #inARow = new Map<string, number>()

  /** Takes note. Returns the failure to go on with: an alarm where a person must act. */
  refused(failure: LinkFailure, sent: readonly Sent[], wallMs: number): LinkFailure {
    const where = failure.refused
    const suspects =
      where === undefined ? sent : sent.filter(({ topic, partition }) => topic === where.topic && partition === where.partition)
    if (failure.aboutTime) return this.#refusedTime(failure, suspects, wallMs)
    const [culprit] = suspects
    if (culprit === undefined || !this.refusals.refused(where, suspects.length)) return failure
    this.#condemned.set(`${culprit.lane}/${culprit.stored.position}`, failure.message)
    return this.#tooMany(failure, culprit.topic)
  }

  /** Why this record must not be sent again. */
  reasonAgainst(lane: Lane, position: number): string | undefined {
    return this.#condemned.size === 0 ? undefined : this.#condemned.get(`${lane}/${position}`)
  }

  /** Kafka gets the time of sending for this record. */
  needsSendTime(lane: Lane, position: number): boolean {
    return position <= (this.#sendTimeTo.get(lane) ?? 0)
  }

  /** The lane is decided up to `position`. */
  passed(lane: Lane, position: number): void {
    if ((this.#sendTimeTo.get(lane) ?? Infinity) <= position) this.#sendTimeTo.delete(lane)
    for (const key of this.#condemned.keys()) {
      const [of, at] = key.split('/')
      if (of === lane && Number(at) <= position) this.#condemned.delete(key)
    }
  }

  committed(plan: Plan): void {
    if (this.#inARow.size > 0) for (const { records } of plan.parts) for (const { topic } of records) this.#inARow.delete(topic)
    if (!this.refusals.searching) return
    this.refusals.committed(undefined, plan.messages)
    for (const { count, ...where } of perPartition(plan)) this.refusals.committed(where, count)
  }

  /** All that were not of now go again with the time of sending; if that is refused too, the clock is wrong. */
  #refusedTime(failure: LinkFailure, suspects: readonly Sent[], wallMs: number): LinkFailure {
    const odd = suspects.filter((record) => !isFresh(record.timestampMs, wallMs))
    for (const { lane, stored } of odd) this.#sendTimeTo.set(lane, Math.max(stored.position, this.#sendTimeTo.get(lane) ?? 0))
    if (odd.length > 0) return failure
    return alarm(
      `Kafka refuses the times of our records: the clock of this box (${new Date(wallMs).toISOString()}) is far from the broker's`,
      "set the clock of this box, or the broker's; `timedatectl` shows it",
    )
  }

  #tooMany(failure: LinkFailure, topic: string): LinkFailure {
    const count = (this.#inARow.get(topic) ?? 0) + 1
    this.#inARow.set(topic, count)
    if (count <= IN_A_ROW_MAX) return failure
    return alarm(
      `Kafka refuses one record after the other of the topic "${topic}" (${failure.message}); they are set aside slowly`,
      'look at `edgectl dead-letters`, and at the settings of the topic',
    )
  }
}

function perPartition(plan: Plan): Iterable<{ readonly topic: string; readonly partition: number; readonly count: number }> {
  const counts = new Map<string, { topic: string; partition: number; count: number }>()
  for (const { topic, partition } of plan.parts.flatMap(({ records }) => records)) {
    const known = counts.get(`${topic}/${partition}`)
    if (known === undefined) counts.set(`${topic}/${partition}`, { topic, partition, count: 1 })
    else known.count += 1
  }
  return counts.values()
}
