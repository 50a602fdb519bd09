/**
 * What Kafka has of each epoch. Read in each producer's life before an epoch's first transaction in it: since
 * InitProducerId nobody else can have written for us, so what is read is final.
 */
import type { Clock } from '../clock.ts'
import type { Advance, EpochId, EpochState, Lane } from '../ports.ts'
import { TRANSACTION_MAX_BYTES, TRANSACTION_MAX_MESSAGES } from './settings.ts'

/** Kafka keeps committed offsets of a group without members for 7 days (`offsets.retention.minutes`). */
const KEPT_MS = 6 * 24 * 3_600_000
/** A time further ahead than this shows that a clock was wrong. */
const AHEAD_MS = 3_600_000

/** Messages of one lane that may be in Kafka already: as many as one transaction can hold, from `first` on. */
interface DoubtRange {
  readonly first: number
  end: number
  countedTo: number
  bytes: number
}

export class ReadBack {
  readonly #clock: Clock
  /** Epochs that were there at the start: what was in doubt before is not known. */
  readonly #inherited = new Set<EpochId>()
  /** Boot time at which the first transaction in doubt of an epoch began. */
  readonly #doubtSince = new Map<EpochId, number>()
  readonly #ranges = new Map<string, DoubtRange>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  inherit(epochs: readonly EpochState[]): void {
    for (const { epoch } of epochs) this.#inherited.add(epoch)
  }

  /** A transaction that holds messages of the epoch begins. */
  begun(epoch: EpochId): void {
    if (!this.#doubtSince.has(epoch)) this.#doubtSince.set(epoch, this.#clock.bootMs())
  }

  /** The transaction's fate is known, and the outbox knows it. */
  decided(epoch: EpochId): void {
    this.#doubtSince.delete(epoch)
    this.#inherited.delete(epoch)
  }

  /** How far the lanes of an epoch may advance by `committed` (next positions). Notes what stays in doubt. */
  read(state: EpochState, committed: ReadonlyMap<Lane, number>): readonly Advance[] {
    const advances: Advance[] = []
    const expired = this.#mayBeForgotten(state)
    for (const [lane, span] of Object.entries(state.lanes) as [Lane, { first: number; last: number }][]) {
      const next = committed.get(lane)
      // A restored backup may be behind what Kafka has of the same epoch: beyond its last message are other epochs.
      const position = Math.min((next ?? 0) - 1, span.last)
      if (position >= span.first) advances.push({ lane, epoch: state.epoch, position })
      if (next === undefined && expired) this.#doubt(lane, state.epoch, span.first, span.first + TRANSACTION_MAX_MESSAGES)
    }
    this.decided(state.epoch)
    return advances
  }

  /** `at-least-once`: what a transaction in doubt held is sent again. */
  resend(lane: Lane, epoch: EpochId, first: number, last: number): void {
    const known = this.#ranges.get(`${lane}/${epoch}`)
    this.#doubt(lane, epoch, Math.min(first, known?.first ?? first), Math.max(last + 1, known?.end ?? 0))
  }

  /** Must this message be marked? Asked in order of positions; asked again it says the same. */
  isDoubtful(lane: Lane, epoch: EpochId, position: number, bytes: number): boolean {
    if (this.#ranges.size === 0) return false
    const range = this.#ranges.get(`${lane}/${epoch}`)
    if (range === undefined || position < range.first || position >= range.end) return false
    if (position > range.countedTo) {
      range.countedTo = position
      range.bytes += bytes
      if (range.bytes > TRANSACTION_MAX_BYTES && position > range.first) range.end = position
    }
    return position < range.end
  }

  /** The lane is decided up to `position`. */
  passed(lane: Lane, position: number): void {
    for (const [key, range] of this.#ranges) {
      if (key.startsWith(`${lane}/`) && range.end <= position + 1) this.#ranges.delete(key)
    }
  }

  #doubt(lane: Lane, epoch: EpochId, first: number, end: number): void {
    this.#ranges.set(`${lane}/${epoch}`, { first, end, countedTo: first - 1, bytes: 0 })
  }

  #mayBeForgotten({ epoch, touchedMs }: EpochState): boolean {
    if (this.#inherited.has(epoch)) {
      const age = this.#clock.wallMs() - touchedMs
      return !this.#clock.wallTrusted() || age > KEPT_MS || age < -AHEAD_MS
    }
    const sinceMs = this.#doubtSince.get(epoch)
    return sinceMs !== undefined && this.#clock.bootMs() - sinceMs > KEPT_MS
  }
}
