import type { DeviceLane } from '../ports.ts'

/** What the relay can be told, at start and live. Sizes in bytes, times in ms. */
export interface RelaySettings {
  /** Header `gw` of each record. */
  readonly gatewayId: string
  /**
   * Delivers in the name of another box, which may live: who is fenced then waits for a short while that grows, so that
   * the two take turns, and neither is a fault.
   */
  readonly isGuest?: boolean
  /** Begins the names of the gateway's own topics: `<prefix>.positions`, `.events`, `.ledger`, `.dead-letter`. */
  readonly prefix: string
  /** A topic's name, or a template of topic parts such as `logs.{stream}`. */
  readonly topic: string
  /** Topics that a template may lead to; without meaning for a plain name. */
  readonly allowedTopics: readonly string[]
  /** `at-least-once`: no positions in Kafka; after a doubt the last transaction is sent again. */
  readonly delivery: 'exactly-once' | 'at-least-once'
  /** What to do while the wall clock can't be right: wait for it, or send with `clock: unsynced`. */
  readonly unsyncedClock: 'hold' | 'send'
  /** Bytes per second that may leave, plain size plus overhead; Infinity is no limit. */
  readonly uplinkBytesPerSecond: number
  readonly transaction: {
    /** Most bytes of a transaction, before compression; never above `TRANSACTION_MAX_BYTES`. */
    readonly maxBytes: number
    /** How long the first message waits for company. */
    readonly lingerMs: number
    /** Transactions per second while less than a full one waits. */
    readonly perSecond: number
  }
  /** Shares of the uplink. 0: only what the other lanes leave. */
  readonly weights: Readonly<Record<DeviceLane, number>>
}

/**
 * No transaction holds more, save for one record that alone is larger. The outbox keeps as much from eviction
 * after a start, when the fate of the last transaction is not known yet: the two bounds must be the same.
 */
export const TRANSACTION_MAX_MESSAGES = 10_000
export const TRANSACTION_MAX_BYTES = 4 * 1024 * 1024

/** Per partition: the client's own grouping gets slow with more (its cost is quadratic). */
export const PARTITION_MAX_MESSAGES = 2_000

/** Epochs in one transaction: each costs round trips of its own, for its group's positions. */
export const TRANSACTION_MAX_EPOCHS = 8
