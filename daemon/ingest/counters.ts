/**
 * What the intake counts since the start, for metrics. No label depends on a device's wishes: sources, lanes and reasons
 * are all from fixed sets.
 *
 * `received` is counted before a message is looked at: the left side of G4's equation, apart from the outcomes.
 */
import type { Counted, DeviceLane, ShedReason } from '../ports.ts'
import type { Admission, Judgement } from './admission.ts'

export interface IngestCounters {
  readonly received: Counted
  readonly bySource: Readonly<Record<string, Counted>>
  readonly accepted: Readonly<Record<DeviceLane, Counted>>
  readonly shed: Readonly<Partial<Record<ShedReason, Counted>>>
  /** Messages above a limit, deferred or shed, by the bucket that was empty. */
  readonly overLimit: { readonly device: number; readonly global: number }
  /** Messages without an id while ids are configured. */
  readonly withoutMessageId: number
  /** Faults of our own while looking at a message; it was accepted all the same. */
  readonly faults: number
  readonly inFlight: Counted
  /** Why the sources are held; undefined while they are not. */
  readonly held: string | undefined
  readonly buckets: ReturnType<Admission['bucketState']>
}

interface Tally {
  messages: number
  bytes: number
}

export class Counters {
  readonly #received: Tally = { messages: 0, bytes: 0 }
  readonly #bySource = new Map<string, Tally>()
  readonly #accepted: Record<DeviceLane, Tally> = { urgent: nothing(), normal: nothing(), deferred: nothing() }
  readonly #shed = new Map<ShedReason, Tally>()
  readonly #overLimit = { device: 0, global: 0 }
  #withoutMessageId = 0
  #faults = 0

  received(source: string, bytes: number): void {
    add(this.#received, bytes)
    add(tallyOf(this.#bySource, source), bytes)
  }

  decided({ verdict, limitedBy }: Judgement, bytes: number): void {
    add('lane' in verdict ? this.#accepted[verdict.lane] : tallyOf(this.#shed, verdict.shed), bytes)
    if (limitedBy !== undefined) this.#overLimit[limitedBy]++
  }

  missingId(): void {
    this.#withoutMessageId++
  }

  fault(): void {
    this.#faults++
  }

  snapshot(now: Pick<IngestCounters, 'inFlight' | 'held' | 'buckets'>): IngestCounters {
    return {
      received: { ...this.#received },
      bySource: copies(this.#bySource),
      accepted: { urgent: { ...this.#accepted.urgent }, normal: { ...this.#accepted.normal }, deferred: { ...this.#accepted.deferred } },
      shed: copies(this.#shed),
      overLimit: { ...this.#overLimit },
      withoutMessageId: this.#withoutMessageId,
      faults: this.#faults,
      ...now,
    }
  }
}

function nothing(): Tally {
  return { messages: 0, bytes: 0 }
}

function add(tally: Tally, bytes: number): void {
  tally.messages++
  tally.bytes += bytes
}

function tallyOf<Key>(tallies: Map<Key, Tally>, key: Key): Tally {
  let tally = tallies.get(key)
  if (tally === undefined) tallies.set(key, (tally = nothing()))
  return tally
}

function copies<Key extends string>(tallies: ReadonlyMap<Key, Tally>): Record<Key, Counted> {
  return Object.fromEntries([...tallies].map(([key, tally]) => [key, { ...tally }])) as Record<Key, Counted>
}
