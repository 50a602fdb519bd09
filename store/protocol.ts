/** What the main thread and the worker that owns the database say to each other. */
import type {
  Advance,
  Counted,
  DeadLetter,
  EpochId,
  EpochState,
  ForeignEpoch,
  Gap,
  Lane,
  LaneState,
  LedgerLine,
  ShedReason,
} from '../daemon/ports.ts'
import type { ErrorKind } from '../daemon/errors.ts'
import type { GroupFacts } from './frames.ts'
import type { OutboxSettings } from './settings.ts'

/** The clocks at the moment of a request; the worker has none of its own. */
export interface Now {
  readonly wallMs: number
  readonly trusted: boolean
  readonly bootMs: number
}

/** `duplicate`: shed, but its acknowledgement must not overtake the message that it repeats. */
export type ChunkKind = Lane | 'shed' | 'duplicate'

export interface WireGroup {
  readonly facts: GroupFacts
  readonly frames: Uint8Array
}

/** What one commit brings for one lane. All of it becomes durable in one transaction. */
export interface WireChunk {
  readonly id: number
  readonly kind: ChunkKind
  readonly groups: readonly WireGroup[]
  /** What was received, as `encodeReceipts` writes it. */
  readonly receipts: Uint8Array
  readonly exchanges: readonly string[]
  /** 16 bytes each. */
  readonly messageIds: Uint8Array | undefined
}

export interface CommitRequest {
  readonly kind: 'commit'
  readonly id: number
  readonly chunks: readonly WireChunk[]
  /** Exchanges to forget; `releaseId` is among the stored ids once they are. */
  readonly releases: readonly string[]
  readonly releaseId: number
  readonly now: Now
}

/** Messages of another box that follow one another in a lane. */
export interface ForeignGroup {
  readonly lane: Lane
  readonly epoch: EpochId
  readonly first: number
  readonly facts: GroupFacts
  readonly frames: Uint8Array
}

/** Requests that are answered by value. */
export type Question =
  | { readonly kind: 'read'; readonly lane: Lane; readonly position: number; readonly maxBytes: number }
  | { readonly kind: 'advance'; readonly advances: readonly Advance[]; readonly letters: readonly DeadLetter[]; readonly now: Now }
  | { readonly kind: 'epochs' }
  | { readonly kind: 'totals' }
  | { readonly kind: 'lines'; readonly limit: number }
  | { readonly kind: 'letters'; readonly limit: number }
  | { readonly kind: 'letter'; readonly letter: number }
  | { readonly kind: 'retry'; readonly letter: number; readonly now: Now }
  | { readonly kind: 'drop'; readonly letter: number }
  | { readonly kind: 'remember'; readonly changes: readonly Rewrite[] }
  | { readonly kind: 'recall'; readonly prefix: string }
  | { readonly kind: 'close-epoch'; readonly next: EpochId }
  | { readonly kind: 'peek'; readonly lane: Lane; readonly position: number; readonly maxBytes: number }
  | { readonly kind: 'move-out'; readonly ends: readonly Advance[] }
  | { readonly kind: 'bring-in'; readonly epochs: readonly ForeignEpoch[]; readonly groups: readonly ForeignGroup[] }
  | { readonly kind: 'gaps' }
  | { readonly kind: 'copy'; readonly directory: string }
  | { readonly kind: 'stop'; readonly now: Now }

export type Request =
  | CommitRequest
  | { readonly kind: 'ask'; readonly id: number; readonly question: Question }
  | { readonly kind: 'protect'; readonly ends: readonly { readonly lane: Lane; readonly position: number }[] }
  | { readonly kind: 'unprotect' }
  | { readonly kind: 'keep'; readonly ends: readonly { readonly lane: Lane; readonly position: number }[] }
  | { readonly kind: 'configure'; readonly settings: OutboxSettings }
  | { readonly kind: 'tick'; readonly now: Now }

/** Frames `from` to `to` (exclusive) of a group whose first position is `first`. */
export interface WireSlice {
  readonly first: number
  readonly from: number
  readonly to: number
  readonly frames: Uint8Array
  /** Nobody else holds the frames: they may be handed over. */
  readonly handedOver: boolean
}

export interface ReadAnswer {
  readonly epoch: EpochId
  readonly slices: readonly WireSlice[]
}

export interface DurableTotals {
  readonly received: Counted
  readonly delivered: Counted
  readonly buffered: Counted
  readonly deadLettered: Counted
  readonly shed: Readonly<Partial<Record<ShedReason, Counted>>>
  readonly lost: Counted
  readonly exported: Counted
}

export interface WireLetter {
  readonly id: number
  readonly epoch: EpochId
  readonly lane: Lane
  readonly position: number
  readonly atMs: number
  readonly reason: string
  /** A group of one frame. */
  readonly frame: Uint8Array
}

export interface WorkerState {
  readonly lanes: Readonly<Record<Lane, LaneState>>
  readonly usedBytes: number
  readonly maxBytes: number
  readonly freeDiskBytes: number
  readonly blockedReason: string | undefined
  readonly epoch: EpochId | undefined
  readonly commits: number
  readonly deadLetters: number
  /** Records of the gateway's own that were dropped since the start. */
  readonly droppedInternal: number
}

/** Ids that were stored within the dedupe window, oldest first; `ageMs` at the start. */
export interface StoredIds {
  readonly ageMs: number
  readonly ids: Uint8Array
}

export interface Notice {
  readonly level: 'info' | 'warn' | 'error'
  readonly text: string
}

/** Of the patch path's memory: key and JSON text. */
export type Remembered = readonly [key: string, text: string]
/** Without a text the key is deleted. */
export type Rewrite = readonly [key: string, text: string | undefined]

/** Of a `fatal` report: the worker has ended with it. */
export interface WireError {
  readonly kind: ErrorKind
  readonly message: string
  readonly remedy: string | undefined
}

export type Report =
  | {
      readonly kind: 'ready'
      readonly state: WorkerState
      readonly exchanges: readonly string[]
      readonly ids: readonly StoredIds[]
      readonly notices: readonly Notice[]
    }
  | {
      readonly kind: 'committed'
      readonly id: number
      readonly stored: readonly number[]
      readonly spent: readonly ArrayBuffer[]
      readonly state: WorkerState
    }
  | { readonly kind: 'stored'; readonly stored: readonly number[]; readonly spent: readonly ArrayBuffer[]; readonly state: WorkerState }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown; readonly state: WorkerState }
  | { readonly kind: 'notice'; readonly notice: Notice }
  | { readonly kind: 'ticked'; readonly state: WorkerState }
  | { readonly kind: 'fatal'; readonly error: WireError }

export interface WorkerStart {
  readonly directory: string
  readonly settings: OutboxSettings
  readonly epoch: EpochId
  readonly bootId: string
  readonly now: Now
  /** A command that opens the store while the daemon is down sets nothing aside: that is the daemon's start. */
  readonly whenDamaged?: 'mend' | 'refuse'
}

export type Answers = {
  read: ReadAnswer | undefined
  advance: undefined
  epochs: readonly EpochState[]
  totals: DurableTotals
  lines: readonly LedgerLine[]
  letters: readonly WireLetter[]
  letter: WireLetter | undefined
  retry: boolean
  drop: boolean
  /** Why nothing was changed; undefined when all of it is durable. */
  remember: WireError | undefined
  recall: readonly Remembered[]
  'close-epoch': readonly EpochState[]
  peek: ReadAnswer | undefined
  'move-out': boolean
  'bring-in': undefined
  gaps: readonly Gap[]
  /** Why there is no copy; undefined when it is complete. */
  copy: WireError | undefined
  stop: undefined
}
