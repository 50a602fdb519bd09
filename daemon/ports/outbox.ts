/** Outbox, ledger and dead letters: what the store keeps. */
import type { DeviceLane, Envelope, EpochId, InternalRecord, Lane, ShedReason } from './words.ts'

/** One decided delivery: accepted into a lane, or shed. */
export interface Entry {
  /** For a shed one `payload` may be empty; `bytes` counts. */
  readonly envelope: Envelope
  readonly verdict: { readonly lane: DeviceLane } | { readonly shed: ShedReason }
  /** Payload bytes as received (differs from `envelope.payload.length` when truncated). */
  readonly bytes: number
  readonly qos: 0 | 1 | 2
  readonly exchange?: string
  /** 16 bytes, hash of device and message id; durable for the dedupe window. */
  readonly messageId?: Uint8Array
  /**
   * Called once the transaction that holds the entry is fsynced. One that is shed as `duplicate` settles no earlier
   * than all that was submitted before it.
   */
  settle(): void
}

export interface StoredEnvelope {
  readonly epoch: EpochId
  readonly position: number
  readonly envelope: Envelope
}
export interface StoredInternal {
  readonly epoch: EpochId
  readonly position: number
  readonly internal: InternalRecord
}
export type Stored = StoredEnvelope | StoredInternal

/** Delivered up to and including `position` of `epoch` in `lane`. */
export interface Advance {
  readonly lane: Lane
  readonly epoch: EpochId
  readonly position: number
}

/** A record that Kafka refuses for good; `reason` in plain words. */
export interface DeadLetter {
  readonly lane: Lane
  readonly epoch: EpochId
  readonly position: number
  readonly reason: string
}

export interface LaneState {
  readonly messages: number
  readonly bytes: number
  /** Highest position with all below done; 0 at first. */
  readonly watermark: number
  /** Highest position ever given; 0 at first. */
  readonly highest: number
  /** Wall ms at receipt of the oldest message; undefined when empty. */
  readonly oldestMs: number | undefined
  /** True while entries of this lane wait for room. */
  readonly blocked: boolean
}

/** What a person must know of the buffer: a salvage and its losses, a disk that is no disk. */
export interface OutboxNotice {
  readonly text: string
  /** Wall ms. */
  readonly atMs: number
}

export interface OutboxState {
  readonly lanes: Readonly<Record<Lane, LaneState>>
  readonly usedBytes: number
  readonly maxBytes: number
  readonly freeDiskBytes: number
  /** Entries submitted and not yet durable. */
  readonly inFlight: { readonly messages: number; readonly bytes: number }
  /** Why intake stands, in plain words; undefined while there is room. */
  readonly blockedReason: string | undefined
  /** `undefined` until the first append of this start. */
  readonly epoch: EpochId | undefined
  readonly commits: number
  readonly deadLetters: number
  /** Of this start; the last 20, newest last. Each is one object as long as it is listed. */
  readonly notices: readonly OutboxNotice[]
}

export interface EpochState {
  readonly epoch: EpochId
  readonly bootId: string
  readonly createdMs: number
  /** Wall ms of the last advance or creation; tells whether the broker may have forgotten our positions. */
  readonly touchedMs: number
  /** Lanes that still hold messages of this epoch, with first and last position. */
  readonly lanes: Partial<Record<Lane, { readonly first: number; readonly last: number }>>
}

export interface OutboxWriter {
  /** Never throws, never waits. Entries of one lane become durable in the order of submission. */
  submit(entry: Entry): void
  submitInternal(record: InternalRecord): void
  /** Exchanges of QoS 2, from submission until their release; loaded at start. A repeat is stored once. */
  hasExchange(exchange: string): boolean
  /** Forget the exchange durably, then call `done` (PUBCOMP may go out). */
  releaseExchange(exchange: string, done: () => void): void
  /** Message ids of the dedupe window. True if `id` was submitted or stored within it. */
  seen(id: Uint8Array): boolean
  state(): OutboxState
  /** Called after each change of `blockedReason`. Returns the unsubscriber. */
  onRoomChange(listener: () => void): () => void
}

export interface OutboxReader {
  /**
   * Messages after `position`, dense, in order, one epoch at most, up to `maxBytes` of payload (but at least
   * one message if there is one) and 10,000 messages. An answer ends before a gap (evicted rows, dead letters);
   * the next one begins behind it. Empty when the lane has nothing more.
   *
   * What was handed out is protected from eviction and expiry, until `advanceTo` passes it or `unprotect`.
   */
  readAfter(lane: Lane, position: number, maxBytes: number): Promise<readonly Stored[]>
  /**
   * Rows up to here may be in an undecided transaction: they are neither evicted nor expired, until `advanceTo`
   * passes them or `unprotect`. After a start the same holds for what the last transaction of the life before can
   * have held, until the first `advanceTo` or `unprotect`.
   */
  protect(ends: readonly { readonly lane: Lane; readonly position: number }[]): void
  /** Nothing read so far may still commit: it must be read again before it is sent. */
  unprotect(): void
  /**
   * One transaction: dead letters set aside first, then rows up to the watermarks deleted and counted as
   * delivered. Only rows of the named epoch; what is there no more changes nothing. Resolves when fsynced; on a
   * full disk that is when there is room again. Dead letters of the `internal` lane are dropped.
   */
  advanceTo(advances: readonly Advance[], deadLetters: readonly DeadLetter[]): Promise<void>
  /** Oldest first. */
  epochs(): Promise<readonly EpochState[]>
  state(): OutboxState
  /** Called when a lane has something new to read. Returns the unsubscriber. */
  onAppend(listener: () => void): () => void
}

export interface Counted {
  readonly messages: number
  readonly bytes: number
}

/** Totals of G4: received = delivered + buffered + inFlight + deadLettered + shed + lost + exported. */
export interface LedgerTotals {
  readonly received: Counted
  readonly delivered: Counted
  readonly buffered: Counted
  readonly inFlight: Counted
  readonly deadLettered: Counted
  readonly shed: Readonly<Partial<Record<ShedReason, Counted>>>
  /** Losses stated by a salvage of a corrupt file. */
  readonly lost: Counted
  readonly exported: Counted
}

export interface LedgerLine {
  /** `other` holds the devices that were folded. */
  readonly device: string
  readonly stream: string
  readonly received: Counted
  readonly delivered: Counted
  readonly deadLettered: Counted
  readonly shed: Readonly<Partial<Record<ShedReason, Counted>>>
  /** Absent when nothing of it ever was. */
  readonly exported?: Counted
}

export interface Ledger {
  totals(): Promise<LedgerTotals>
  /** Sorted by shed messages, then received, descending. */
  lines(limit: number): Promise<readonly LedgerLine[]>
}

export interface StoredDeadLetter {
  readonly id: number
  readonly epoch: EpochId
  readonly lane: Lane
  readonly position: number
  readonly atMs: number
  readonly reason: string
  readonly envelope: Envelope
}

export interface DeadLetters {
  list(limit: number): Promise<readonly StoredDeadLetter[]>
  show(id: number): Promise<StoredDeadLetter | undefined>
  /** Back into its lane with a new position; false when there is no such id. */
  retry(id: number): Promise<boolean>
  /** Counted as shed `dead-letter-dropped`; false when there is no such id. */
  drop(id: number): Promise<boolean>
}
