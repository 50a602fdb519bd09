/** Kafka, as the relay needs it. */
import type { GatewayError } from '../errors.ts'
import type { EpochId, Lane } from './words.ts'

export interface KafkaRecord {
  readonly topic: string
  /** Chosen with `ProducerLife.partitionOf`. */
  readonly partition: number
  readonly key: string
  readonly value: Uint8Array
  readonly timestampMs: number
  readonly headers: readonly (readonly [string, string])[]
}

/** Next position to send, per epoch and lane index: what is committed as group offsets. */
export type Positions = ReadonlyMap<EpochId, ReadonlyMap<Lane, number>>

export interface TopicFacts {
  readonly partitions: number
  readonly maxMessageBytes: number
  /** `undefined` when the broker does not let us read it. */
  readonly cleanupPolicy: string | undefined
  readonly timestampType: string | undefined
}

export interface KafkaTimeouts {
  readonly requestMs: number
  readonly transactionMs: number
}

/** What went wrong with Kafka, and what is known of the transaction. */
export interface KafkaFailure extends GatewayError {
  /** `none`: it did not commit. `unknown`: only the committed positions tell. */
  readonly fate: 'none' | 'unknown'
  /** Set when the broker named the partition whose batch it refused. */
  readonly refused?: { readonly topic: string; readonly partition: number }
  /** A person must act (authorisation, missing topic, wrong set-up); it is retried slowly all the same. */
  readonly alarm: boolean
}

/**
 * One life of a producer, from InitProducerId to close. After any rejection of `transact` the life is dead:
 * close it and make a new one (its InitProducerId ends what hung).
 */
export interface ProducerLife {
  /** Bytes written to the sockets since the life began, after compression. */
  readonly sentBytes: number
  /** Rejects with a `KafkaFailure` (alarm) naming the topic and the command that mends it. */
  topicFacts(topic: string): Promise<TopicFacts>
  /** murmur2 of the key, as in the Java client. `topicFacts` of the topic must have been asked before. */
  partitionOf(topic: string, key: string): number
  /** Committed next positions; `undefined` for a lane that has none. Valid right after the life began. */
  committed(epoch: EpochId): Promise<ReadonlyMap<Lane, number>>
  /** Records and positions in one transaction. Resolves when committed. */
  transact(records: readonly KafkaRecord[], positions: Positions): Promise<void>
  /** Never rejects; at most about `timeoutMs`. */
  close(timeoutMs: number): Promise<void>
}

export interface Kafka {
  /** A new life; rejects with a `KafkaFailure`. Abort ends the wait. */
  begin(timeouts: KafkaTimeouts, signal: AbortSignal): Promise<ProducerLife>
}
