/**
 * What goes into the next transaction. Pure.
 *
 * Lanes share the transaction by deficit round robin in bytes (Shreedhar and Varghese, 1995): at its turn a lane
 * gets its weight's quantum and sends while its credit lasts. Turn and credits outlive the transaction, so the
 * shares hold over time even if a transaction is as small as one record. Within a lane order is strict: the first
 * message that can't go now ends the lane's part.
 */
import type { EpochId, Lane, Stored } from '../ports.ts'

/** Where one message goes, as `Outlook.route` answers. */
export type Route =
  | {
      readonly kind: 'send'
      readonly topic: string
      readonly partition: number
      readonly bytes: number
      /** What the partition takes of one transaction. */
      readonly partitionMax: { readonly bytes: number; readonly messages: number }
    }
  /** Kafka would refuse it for good. */
  | { readonly kind: 'refuse'; readonly reason: string }
  /** Not now; the lane waits behind it. */
  | { readonly kind: 'hold' }

export interface Outlook {
  /** Messages of a lane that were read and not yet sent, oldest first. */
  readonly queues: Readonly<Record<Lane, readonly Stored[]>>
  readonly weights: Readonly<Record<Lane, number>>
  /** `epochs`: a lane moves on to a further epoch only while the transaction has fewer. */
  readonly limits: { readonly bytes: number; readonly messages: number; readonly epochs: number }
  /** The queue holds all that the lane has. */
  isWhole(lane: Lane): boolean
  route(lane: Lane, stored: Stored): Route
}

export interface PlannedRecord {
  readonly stored: Stored
  readonly topic: string
  readonly partition: number
  readonly bytes: number
}

export interface RefusedRecord {
  readonly stored: Stored
  readonly reason: string
}

/** The part of one lane: the first `taken` messages of its queue, sent or refused. */
export interface LanePart {
  readonly lane: Lane
  readonly taken: number
  readonly records: readonly PlannedRecord[]
  readonly refused: readonly RefusedRecord[]
  /** Highest position taken, per epoch, in order. */
  readonly ends: ReadonlyMap<EpochId, number>
}

export interface Plan {
  /** Lanes that take part; none is empty. */
  readonly parts: readonly LanePart[]
  /** Records to send, and their bytes. */
  readonly messages: number
  readonly bytes: number
  /** A limit ended it, and more could go at once. */
  readonly cut: boolean
  /** For the next plan, if this one is carried out. */
  readonly shares: Shares
}

/** Credits and turn of the round robin. */
export interface Shares {
  readonly turn: number
  /** The lane whose turn it is has had its quantum already. */
  readonly begun: boolean
  readonly credits: Readonly<Record<Lane, number>>
}

export const FIRST_SHARES: Shares = { turn: 0, begun: false, credits: { urgent: 0, internal: 0, normal: 0, deferred: 0 } }

/** The deferred lane is served last in each round: it drains when there is room. */
const TURNS = ['urgent', 'internal', 'normal', 'deferred'] as const
/** Bytes per unit of weight and round. */
const QUANTUM_BYTES = 4_096

export function planNext(outlook: Outlook, shares: Shares): Plan {
  const draft = new Draft(outlook, shares)
  draft.shareByWeight()
  draft.giveTheRest()
  return draft.plan()
}

/** One lane while the plan is drawn up. */
interface Track {
  readonly lane: Lane
  readonly queue: readonly Stored[]
  readonly weight: number
  credit: number
  taken: number
  /** Nothing more of this lane goes into this transaction. */
  closed: boolean
  /** Route of the queue's next message, kept over turns. */
  route: Route | undefined
  epoch: EpochId | undefined
  readonly records: PlannedRecord[]
  readonly refused: RefusedRecord[]
  readonly ends: Map<EpochId, number>
}

/** What a partition has got. */
interface Filled {
  messages: number
  bytes: number
}

class Draft {
  readonly #outlook: Outlook
  readonly #tracks: readonly Track[]
  readonly #epochs = new Set<EpochId>()
  readonly #partitions = new Map<string, Filled[]>()
  #turn: number
  #begun: boolean
  #taken = 0
  #messages = 0
  #bytes = 0
  #full = false
  #cut = false

  constructor(outlook: Outlook, shares: Shares) {
    this.#outlook = outlook
    this.#turn = shares.turn
    this.#begun = shares.begun
    this.#tracks = TURNS.map((lane) => ({
      lane,
      queue: outlook.queues[lane],
      weight: outlook.weights[lane],
      credit: shares.credits[lane],
      taken: 0,
      closed: outlook.queues[lane].length === 0,
      route: undefined,
      epoch: undefined,
      records: [],
      refused: [],
      ends: new Map(),
    }))
  }

  shareByWeight(): void {
    while (!this.#full && this.#tracks.some((track) => !track.closed && track.weight > 0)) {
      const track = this.#tracks[this.#turn]
      if (track !== undefined && !track.closed && track.weight > 0) {
        if (!this.#begun) track.credit += track.weight * QUANTUM_BYTES
        this.#begun = true
        this.#serve(track, false)
        if (this.#full) return
      }
      this.#turn = (this.#turn + 1) % TURNS.length
      this.#begun = false
    }
  }

  giveTheRest(): void {
    for (const track of this.#tracks) {
      if (!this.#full && !track.closed) this.#serve(track, true)
    }
  }

  plan(): Plan {
    const credits = { urgent: 0, internal: 0, normal: 0, deferred: 0 }
    // A lane that has nothing to send saves no credit, or it could burst past the others later.
    for (const track of this.#tracks) {
      const isEmpty = track.taken === track.queue.length && this.#outlook.isWhole(track.lane)
      credits[track.lane] = isEmpty ? 0 : track.credit
    }
    return {
      parts: this.#tracks.filter((track) => track.taken > 0),
      messages: this.#messages,
      bytes: this.#bytes,
      cut: this.#cut,
      shares: { turn: this.#turn, begun: this.#begun, credits },
    }
  }

  #serve(track: Track, free: boolean): void {
    while (!track.closed && !this.#full) {
      const stored = track.queue[track.taken]
      if (stored === undefined || !this.#admitsEpoch(track, stored.epoch)) {
        track.closed = true
        return
      }
      const route = (track.route ??= this.#outlook.route(track.lane, stored))
      if (route.kind === 'hold') track.closed = true
      else if (this.#taken >= this.#outlook.limits.messages) this.#full = this.#cut = true
      else if (route.kind === 'refuse') this.#take(track, stored, () => track.refused.push({ stored, reason: route.reason }))
      else if (!free && route.bytes > track.credit) return
      else this.#send(track, stored, route, free)
    }
  }

  #send(track: Track, stored: Stored, route: Extract<Route, { kind: 'send' }>, free: boolean): void {
    const { topic, partition, bytes, partitionMax } = route
    // The first record goes whatever its size: a limit below it would stop the lane for ever.
    if (this.#messages > 0 && this.#bytes + bytes > this.#outlook.limits.bytes) {
      this.#full = this.#cut = true
      return
    }
    const filled = this.#filled(topic, partition)
    if (filled.messages > 0 && (filled.bytes + bytes > partitionMax.bytes || filled.messages >= partitionMax.messages)) {
      track.closed = this.#cut = true
      return
    }
    filled.messages += 1
    filled.bytes += bytes
    this.#messages += 1
    this.#bytes += bytes
    if (!free) track.credit -= bytes
    this.#take(track, stored, () => track.records.push({ stored, topic, partition, bytes }))
  }

  #take(track: Track, stored: Stored, note: () => void): void {
    note()
    track.ends.set(stored.epoch, stored.position)
    track.taken += 1
    track.route = undefined
    this.#taken += 1
  }

  #admitsEpoch(track: Track, epoch: EpochId): boolean {
    if (track.epoch === epoch) return true
    // The head of each lane may always go, or a long old epoch of one lane would starve the others.
    if (track.epoch !== undefined && !this.#epochs.has(epoch) && this.#epochs.size >= this.#outlook.limits.epochs) {
      this.#cut = true
      return false
    }
    this.#epochs.add(epoch)
    track.epoch = epoch
    return true
  }

  #filled(topic: string, partition: number): Filled {
    let partitions = this.#partitions.get(topic)
    if (partitions === undefined) this.#partitions.set(topic, (partitions = []))
    return (partitions[partition] ??= { messages: 0, bytes: 0 })
  }
}
