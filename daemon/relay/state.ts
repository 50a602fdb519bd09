/** The relay's states, and what it tells of itself. */
import type { Clock } from '../clock.ts'
import { GatewayError } from '../errors.ts'
import { LANES, type Lane, type Log } from '../ports.ts'
import type { LinkFailure } from './failure.ts'
import { Meter } from './meter.ts'

/**
 * - `idle`: no broker is named; everything is buffered.
 * - `holding`: the wall clock can't be right, and records would leave with wrong times; or this box may not send.
 * - `opening`: a producer's life begins (InitProducerId), which fences and ends whatever hung.
 * - `reading-back`: committed positions are read, and the outbox drops what they cover.
 * - `ready`: nothing to send, or the next transaction is not due.
 * - `sending`: a transaction runs; its rows are protected.
 * - `recording`: the outbox is told what was committed, or sets dead letters aside.
 * - `backing-off`: Kafka failed; the next life begins after a wait.
 * - `fenced`: another gateway uses our id; the next life begins after a long wait.
 * - `alarmed`: a person must act; it is tried again slowly.
 * - `stopped`: nothing more is sent.
 */
export type RelayPhase =
  'idle' | 'holding' | 'opening' | 'reading-back' | 'ready' | 'sending' | 'recording' | 'backing-off' | 'fenced' | 'alarmed' | 'stopped'

export interface CurrentTransaction {
  readonly records: number
  readonly bytes: number
  /** Monotonic. */
  readonly startedMs: number
}

export interface RelayState {
  readonly phase: RelayPhase
  /** Why nothing flows, in plain words; absent while it flows, kept through all attempts until one succeeds. */
  readonly reason?: string
  /** The phase that met the reason. */
  readonly waitsIn?: RelayPhase
  readonly remedy?: string
  /** Wall ms since when the reason has stood; without a reason, since the phase began. */
  readonly sinceMs: number
  /** False until a life has begun and read its positions back for the first time since the start. */
  readonly heard: boolean
  /** Monotonic ms of the last progress: a committed transaction, or a look that found nothing to send. */
  readonly lastProgressMs: number
  /** After this long without progress and without a reason the relay is stuck. */
  readonly patienceMs: number
  /** A phase that waits for Kafka seldom takes longer than this. */
  readonly slowMs: number
  /** Since the start: records committed per lane, and their payload bytes. */
  readonly delivered: Readonly<Record<Lane, number>>
  readonly transactions: number
  readonly bytes: number
  readonly redeliveryPossible: number
  readonly deadLettered: number
  /** Of the last half minute. */
  readonly rates: { readonly messagesPerSecond: number; readonly bytesPerSecond: number }
  readonly currentTransaction: CurrentTransaction | undefined
  /** What the link carried when it was busy, before compression; 0 before the first transaction. */
  readonly uplinkBytesPerSecond: number
  /** Lanes that wait alone while others flow, and why. */
  readonly held: Readonly<Partial<Record<Lane, Held>>>
}

/** Why a lane waits for its topic. */
export interface Held {
  readonly reason: string
  readonly remedy: string | undefined
}

/** What one committed transaction brought. */
export interface Delivered {
  readonly lanes: Readonly<Partial<Record<Lane, number>>>
  readonly records: number
  readonly payloadBytes: number
  readonly redelivered: number
}

interface Trouble {
  /** The phase that met it. */
  readonly during: RelayPhase
  readonly reason: string
  readonly remedy: string | undefined
  /** Monotonic: the wall clock may be set while the trouble stands. */
  readonly sinceMs: number
}

const RATE_MS = 30_000

/** Keeps the figures; the loop writes, anyone reads. */
export class Board {
  readonly #clock: Clock
  readonly #log: Log
  #phase: RelayPhase = 'stopped'
  #phaseSinceMs: number
  #trouble: Trouble | undefined
  #heard = false
  #lastProgressMs: number
  #current: CurrentTransaction | undefined
  #held: Readonly<Partial<Record<Lane, Held>>> = {}
  readonly #delivered: Record<Lane, number> = { urgent: 0, normal: 0, deferred: 0, internal: 0 }
  #transactions = 0
  #bytes = 0
  #redelivered = 0
  #deadLettered = 0
  readonly #messageRate = new Meter(RATE_MS)
  readonly #byteRate = new Meter(RATE_MS)

  constructor(clock: Clock, log: Log) {
    this.#clock = clock
    this.#log = log
    this.#phaseSinceMs = clock.monotonicMs()
    this.#lastProgressMs = clock.monotonicMs()
  }

  get phase(): RelayPhase {
    return this.#phase
  }

  get lastProgressMs(): number {
    return this.#lastProgressMs
  }

  enter(phase: RelayPhase): void {
    if (phase === this.#phase) return
    this.#phase = phase
    this.#phaseSinceMs = this.#clock.monotonicMs()
  }

  /** Kafka has answered all that must be known before something is sent. */
  heard(): void {
    this.#heard = true
  }

  /** Something stands in the way; said once, until it changes. */
  trouble(reason: string, remedy?: string, cause?: LinkFailure): void {
    if (this.#trouble?.reason === reason && this.#trouble.remedy === remedy) return
    const sinceMs = this.#trouble?.sinceMs ?? this.#clock.monotonicMs()
    this.#trouble = { during: this.#phase, reason, remedy, sinceMs }
    // What a port declared is said by the reason; a fault of our own program needs its stack.
    const err = cause?.cause instanceof GatewayError ? undefined : cause?.cause
    this.#log.warn({ reason, remedy, err }, 'forwarding to Kafka waits')
  }

  flowing(): void {
    if (this.#trouble !== undefined) this.#log.info({ was: this.#trouble.reason }, 'forwarding to Kafka goes on')
    this.#trouble = undefined
  }

  progress(): void {
    this.#lastProgressMs = this.#clock.monotonicMs()
  }

  begin(records: number, bytes: number): void {
    this.#current = { records, bytes, startedMs: this.#clock.monotonicMs() }
  }

  end(): void {
    this.#current = undefined
  }

  delivered(delivered: Delivered): void {
    for (const lane of LANES) this.#delivered[lane] += delivered.lanes[lane] ?? 0
    this.#transactions += 1
    this.#bytes += delivered.payloadBytes
    this.#redelivered += delivered.redelivered
    const nowMs = this.#clock.monotonicMs()
    this.#messageRate.add(delivered.records, nowMs)
    this.#byteRate.add(delivered.payloadBytes, nowMs)
    this.progress()
  }

  deadLettered(count: number): void {
    this.#deadLettered += count
    this.progress()
  }

  hold(held: Readonly<Partial<Record<Lane, Held>>>): void {
    for (const lane of LANES) {
      const { reason, remedy } = held[lane] ?? {}
      if (reason !== undefined && this.#held[lane]?.reason !== reason) this.#log.warn({ lane, reason, remedy }, 'a lane waits')
    }
    this.#held = held
  }

  /** `idleNow`: nothing is there to send, which is as good as progress. */
  state(idleNow: boolean, patience: { readonly slowMs: number; readonly patienceMs: number }, uplinkBytesPerSecond: number): RelayState {
    const nowMs = this.#clock.monotonicMs()
    const trouble = this.#trouble
    return {
      phase: this.#phase,
      ...(trouble === undefined ? {} : { reason: trouble.reason, waitsIn: trouble.during }),
      ...(trouble?.remedy === undefined ? {} : { remedy: trouble.remedy }),
      sinceMs: this.#clock.wallMs() - (nowMs - (trouble?.sinceMs ?? this.#phaseSinceMs)),
      heard: this.#heard,
      lastProgressMs: idleNow ? nowMs : this.#lastProgressMs,
      ...patience,
      delivered: { ...this.#delivered },
      transactions: this.#transactions,
      bytes: this.#bytes,
      redeliveryPossible: this.#redelivered,
      deadLettered: this.#deadLettered,
      rates: { messagesPerSecond: this.#messageRate.perSecond(nowMs), bytesPerSecond: this.#byteRate.perSecond(nowMs) },
      currentTransaction: this.#current,
      uplinkBytesPerSecond,
      held: this.#held,
    }
  }
}
