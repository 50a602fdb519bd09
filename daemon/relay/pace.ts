/**
 * When the next transaction goes, how large it is, and how long it may take. Pure: times are monotonic ms.
 *
 * A transaction costs a fixed time (its round trips) and a time per byte (`link-cost.ts`); the size is what
 * fits the target duration. After a failure that took long the size is halved, down to one record, and the
 * timeouts grow: so a link of any speed is found, and a batch is never aborted and sent again for ever.
 */
import type { KafkaTimeouts } from '../ports.ts'
import { LinkCosts } from './link-cost.ts'
import { TRANSACTION_MAX_BYTES, TRANSACTION_MAX_EPOCHS, TRANSACTION_MAX_MESSAGES } from './settings.ts'

export interface PaceSettings {
  readonly maxBytes: number
  readonly lingerMs: number
  readonly perSecond: number
  /** Infinity is no limit. */
  readonly uplinkBytesPerSecond: number
}

/** What waits to be sent. */
export interface Waiting {
  readonly messages: number
  readonly bytes: number
  /** When the first of them was noticed. */
  readonly sinceMs: number
  /** The last transaction left some behind for want of room. */
  readonly cut: boolean
}

/** A transaction should not take longer than this, or than a multiple of its fixed cost if that is more. */
const TARGET_MS = 5_000
const TARGET_FIXED = 3
const TARGET_MOST_MS = 60_000
/**
 * The round trips of a transaction, in questions (for the facts of a topic, for positions), which take two or three
 * each: nine with the client that we use, and four for each further epoch. Seen at 1 s: 10.7 s to a question of 4 s.
 */
const QUESTIONS = 3
const EPOCH_QUESTIONS = 1
/** Slow start: the size after a start and after an outage, so that a fleet that comes back does not flood. */
const FIRST_BYTES = 256 * 1_024
const OUTAGE_MS = 30_000
/** Requests of a transaction, beside its records. */
const TRANSACTION_BYTES = 1_200
const WIRE_RATIO_LEAST = 0.02
/** A burst of the byte budget. */
const BURST_MS = 1_000
/** A transaction may use the budget of this time. */
const BUDGET_MS = 2_000
/** Weight of a new measurement. */
const FRESH = 0.3
const REQUEST_MS = { least: 30_000, most: 300_000 }
/** The broker's default limit is 15 min; an open transaction of a dead box stalls readers for this long. */
const TRANSACTION_MS = { least: 60_000, most: 600_000 }
const PATIENCE_MOST = 16
/** A failure after this part of a timeout is one of that timeout. */
const STRUCK_PART = 0.9

export class Pace {
  #settings: PaceSettings
  #sizeBytes = FIRST_BYTES
  readonly #costs = new LinkCosts()
  #goodput = 0
  #questionMs: number | undefined
  /** Multiplies the timeouts; grows while they are hit. */
  #patience = 1
  #lastStartMs = -Infinity
  #debtBytes = 0
  #debtAtMs = 0
  /** Bytes on the wire per byte before compression, as measured. */
  #wireRatio = 1

  constructor(settings: PaceSettings) {
    this.#settings = settings
  }

  configure(settings: PaceSettings): void {
    this.#settings = settings
  }

  /** Most bytes of the next transaction; one record may always go. */
  sizeBytes(): number {
    const budget = Math.max(1, (this.#settings.uplinkBytesPerSecond * BUDGET_MS) / 1_000 / this.#wireRatio)
    return Math.min(this.#sizeBytes, this.#mostBytes(), budget)
  }

  /** Most epochs of the next transaction, so that their round trips take no more than half of the target. */
  epochs(): number {
    return clamp(Math.floor(TARGET_MS / 2 / (EPOCH_QUESTIONS * (this.#questionMs ?? 0))), 1, TRANSACTION_MAX_EPOCHS)
  }

  /** How long the next transaction has to wait from now; 0 when it is due. */
  delayMs(nowMs: number, waiting: Waiting): number {
    return Math.max(0, this.#budgetMs(nowMs), this.#isFull(waiting) ? 0 : this.#companyMs(nowMs, waiting))
  }

  /** A transaction begins now. */
  started(nowMs: number, bytes: number): void {
    this.#lastStartMs = nowMs
    if (this.#settings.uplinkBytesPerSecond === Infinity) return
    this.#debtBytes = this.#debtAt(nowMs) + bytes * this.#wireRatio + TRANSACTION_BYTES
    this.#debtAtMs = nowMs
  }

  /** A transaction of `bytes` took `wireBytes` on the wire: what was charged for it is put right. */
  metered(bytes: number, wireBytes: number): void {
    if (this.#settings.uplinkBytesPerSecond !== Infinity) {
      this.#debtBytes = Math.max(0, this.#debtBytes + wireBytes - bytes * this.#wireRatio - TRANSACTION_BYTES)
    }
    const ratio = Math.max(0, wireBytes - TRANSACTION_BYTES) / Math.max(1, bytes)
    this.#wireRatio += FRESH * (clamp(ratio, WIRE_RATIO_LEAST, 2) - this.#wireRatio)
  }

  committed(bytes: number, durationMs: number): void {
    this.#patience = Math.max(1, this.#patience / 2)
    this.#costs.add(bytes, durationMs)
    this.#goodput += FRESH * (bytes / Math.max(1, durationMs) - this.#goodput)
    if (bytes >= this.sizeBytes() / 2) this.#resize(bytes)
  }

  /** If it failed after so long that a timeout must have struck, its size or the timeouts are to blame. */
  failed(bytes: number, durationMs: number, timeouts: KafkaTimeouts): void {
    const slow = durationMs > Math.min(this.targetMs(), timeouts.requestMs * STRUCK_PART)
    if (!slow) return
    this.#sizeBytes = Math.max(1, Math.min(this.#sizeBytes, Math.max(1, bytes)) / 2)
    this.#patience = Math.min(PATIENCE_MOST, this.#patience * 2)
  }

  /** A question was answered after this long. The first of a life may include its connections, so less counts at once. */
  asked(ms: number): void {
    const known = this.#questionMs ?? ms
    this.#questionMs = Math.min(ms, known + FRESH * (ms - known))
    this.#costs.expectFixed(QUESTIONS * this.#questionMs)
  }

  /** A producer's life began, `outageMs` after the last one was of use. */
  resumed(outageMs: number): void {
    if (outageMs > OUTAGE_MS) this.#sizeBytes = Math.min(this.#sizeBytes, FIRST_BYTES)
  }

  /** For the next producer's life: generous multiples of what is expected. */
  timeouts(): KafkaTimeouts {
    const { fixedMs, msPerByte } = this.#costs.cost()
    const sendingMs = this.sizeBytes() * msPerByte
    const requestMs = clamp(4 * (sendingMs + fixedMs / QUESTIONS) * this.#patience, REQUEST_MS.least * this.#patience, REQUEST_MS.most)
    const transactionMs = clamp(4 * (sendingMs + fixedMs) * this.#patience, 2 * requestMs, TRANSACTION_MS.most)
    return { requestMs: Math.floor(requestMs), transactionMs: Math.ceil(transactionMs) }
  }

  /** How long a transaction should take at most. */
  targetMs(): number {
    return clamp(TARGET_FIXED * this.#costs.cost().fixedMs, TARGET_MS, TARGET_MOST_MS)
  }

  /** What transactions carried while they ran, before compression; 0 before the first. */
  bytesPerSecond(): number {
    return this.#goodput * 1_000
  }

  #mostBytes(): number {
    return Math.max(1, Math.min(this.#settings.maxBytes, TRANSACTION_MAX_BYTES))
  }

  /** At most double, so that one lucky measurement does not overshoot; less at once if the link got slower. */
  #resize(bytes: number): void {
    const { fixedMs, msPerByte } = this.#costs.cost()
    const fitting = Math.max(0, this.targetMs() - fixedMs) / msPerByte
    this.#sizeBytes = clamp(fitting, 1, Math.min(this.#mostBytes(), 2 * Math.max(this.#sizeBytes, bytes)))
  }

  #isFull(waiting: Waiting): boolean {
    return waiting.cut || waiting.messages >= TRANSACTION_MAX_MESSAGES || waiting.bytes >= this.sizeBytes()
  }

  #companyMs(nowMs: number, waiting: Waiting): number {
    const lingerEndMs = waiting.sinceMs + this.#settings.lingerMs
    return Math.max(lingerEndMs, this.#lastStartMs + 1_000 / this.#settings.perSecond) - nowMs
  }

  #budgetMs(nowMs: number): number {
    const rate = this.#settings.uplinkBytesPerSecond
    return rate === Infinity ? 0 : ((this.#debtAt(nowMs) - (rate * BURST_MS) / 1_000) * 1_000) / rate
  }

  #debtAt(nowMs: number): number {
    return Math.max(0, this.#debtBytes - ((nowMs - this.#debtAtMs) * this.#settings.uplinkBytesPerSecond) / 1_000)
  }
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value))
}
