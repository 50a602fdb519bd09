/**
 * Every interface that the flows need from the outside. Adapters and the store implement them and see nothing
 * else of the daemon; `compose.ts` is the one place that wires them.
 *
 * Shapes: times are ms, sizes bytes, rates per second, unless a name says otherwise.
 */
import type { GatewayError } from './errors.ts'

// ---------------------------------------------------------------- words shared by the whole log path

/** Lanes that devices' messages travel in; each is strictly first in, first out within an epoch. */
export const DEVICE_LANES = ['urgent', 'normal', 'deferred'] as const
/** All lanes; the index is the partition of `<prefix>.positions` that holds the lane's position. */
export const LANES = ['urgent', 'normal', 'deferred', 'internal'] as const
export type DeviceLane = (typeof DEVICE_LANES)[number]
export type Lane = (typeof LANES)[number]

/** 16 lower-case hex digits, drawn at the first append of each daemon start. */
export type EpochId = string

/** Why a message was shed. Bounded: it is a metric label and a ledger key. */
export const SHED_REASONS = [
  'over-limit', // the device's or the global bucket was empty and `overLimit` is `shed`
  'oversize', // payload above `limits.maxMessageBytes`, or packet above the listener's limit
  'malformed-topic', // matches no pattern, is not valid UTF-8, or has an empty device part
  'not-own-topic', // the device published under another device's name
  'unknown-device', // not in the file of `limits.knownDevices`
  'retained', // a retained message while `retained: ignore`
  'duplicate', // a message id seen within the dedupe window, or a DUP of a delivery already durable
  'buffer-full', // QoS 0 while the buffer blocks
  'evicted', // `drop-oldest` made room
  'expired', // older than `buffer.maxAge`
  'dead-letter-dropped', // an operator dropped it
] as const
export type ShedReason = (typeof SHED_REASONS)[number]

/** Our durable record of one accepted message. */
export interface Envelope {
  /** Kafka key; as received, never normalised. */
  readonly device: string
  /** Value of the `{stream}` part, else the name of the topic pattern. */
  readonly stream: string
  /** MQTT topic as received. */
  readonly topic: string
  /** Further named parts of the pattern, in pattern order; for topic templates. */
  readonly parts?: Readonly<Record<string, string>>
  readonly payload: Uint8Array
  /** Wall clock at receipt, and whether it was trusted then. */
  readonly receivedMs: number
  readonly clockTrusted: boolean
  /** Boot time at receipt; comparable within the epoch's boot id. */
  readonly bootMs: number
  readonly contentType?: string
  readonly traceparent?: string
  /** MQTT 5 user properties, in order. */
  readonly userProperties?: readonly (readonly [string, string])[]
}

/** A record of the gateway's own; travels in the `internal` lane under the same positions. */
export interface InternalRecord {
  readonly destination: 'events' | 'ledger' | 'dead-letter'
  readonly key: string
  readonly value: Uint8Array
  readonly headers: readonly (readonly [string, string])[]
  readonly receivedMs: number
}

// ---------------------------------------------------------------- MQTT sources

/** A PUBLISH received, not yet ours. */
export interface Delivery {
  /** Name of the listener or connection in the config. */
  readonly source: string
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos: 0 | 1 | 2
  readonly retained: boolean
  /** Who the device proved to be (`mqtt.listen` with authentication); it may publish only as itself, unless `speaksForOthers`. */
  readonly identity?: string
  /** The listener's access list lets it publish to this topic, whichever device that names. */
  readonly speaksForOthers?: true
  /** QoS 2 in `mqtt.listen`: `<client id>\0<packet id>`, stored with the message until PUBREL. */
  readonly exchange?: string
  /** Set by the source when it already knows that this can't be accepted; `bytes` is the size before truncation. */
  readonly refused?: { readonly reason: ShedReason; readonly bytes: number }
  readonly contentType?: string
  readonly userProperties?: readonly (readonly [string, string])[]
  /**
   * Called exactly once, when the fate is durable: the source may now acknowledge, on the same connection or
   * not at all. Never called for a delivery that is abandoned at a stop. Never throws.
   */
  settle(): void
}

/** Where sources hand over what they received. `offer` never throws and never waits. */
export interface Intake {
  offer(delivery: Delivery): void
}

export interface SourceState {
  readonly name: string
  readonly kind: 'listen' | 'connect'
  readonly state: 'up' | 'connecting' | 'held' | 'refusing' | 'down'
  /** Why, in plain words; present unless `up`. */
  readonly reason?: string
  /** Wall ms of the last change of `state`. */
  readonly sinceMs: number
  readonly connections: number
  /** Connects refused since the start, by reason; a listener has them. */
  readonly refused?: Readonly<Record<string, number>>
  /** Messages since the start that were answers of devices to their settings: not log messages, so in no ledger. */
  readonly answers?: { readonly taken: number; readonly refused: number }
  /** Losses that this source learnt of but no ledger of ours can count (a broker's own drops, a lost session). */
  readonly notices: readonly { readonly text: string; readonly count: number; readonly lastMs: number }[]
}

/** An MQTT source. Ready (`start` resolved) means that it listens, or that it began to connect. */
export interface Source {
  readonly name: string
  /** Carries settings to its devices. */
  readonly devices?: DevicePublisher
  start(intake: Intake, signal: AbortSignal): Promise<void>
  /** Stop pulling, keep connections for a while, then close them unacknowledged and refuse new ones. Idempotent. */
  hold(reason: string): void
  release(): void
  state(): SourceState
  /** Stops intake at once, keeps connections until `deadlineMs` so that settled deliveries are acknowledged. */
  stop(deadlineMs: number): Promise<void>
}

// ---------------------------------------------------------------- settings for devices

/** The device fills one whole level: its topic is `before`, its id, `after`. */
export interface DeviceTopic {
  readonly before: string
  readonly after: string
}

/** What devices are to find, at whatever time they subscribe. */
export interface DeviceSetting {
  readonly topic: string
  readonly payload: Uint8Array
  /** Whom it is for; undefined for a group, which reads one topic together. */
  readonly device: string | undefined
}

/** What a device says to its settings. It is no log message: neither admission nor the ledger sees it. */
export interface DeviceAnswer {
  readonly source: string
  readonly device: string
  readonly payload: Uint8Array
}

/** One for each MQTT source; works before the source has started and while it is away. */
export interface DevicePublisher {
  /** Name of the listener or connection. */
  readonly source: string
  /**
   * A retained message, QoS 1, in place of the one before on this topic. Resolves when the broker has acknowledged it;
   * a listener of our own keeps it in memory, so it is told again at each start. Rejects with `transient` (no
   * connection, abort), `saturated` (the listener holds too many) or `rejected` (the broker refuses it).
   */
  publish(setting: DeviceSetting, signal: AbortSignal): Promise<void>
  /** Nothing is retained on this topic any more; rejects as `publish` does. */
  clear(topic: string, signal: AbortSignal): Promise<void>
  /**
   * Messages on these topics come here and not to the intake, until the returned function is called. They are
   * acknowledged when `take` has resolved; when it rejects, never on this connection, so that they come again.
   */
  listenFor(topic: DeviceTopic, take: (answer: DeviceAnswer) => Promise<void>): () => void
  /** Devices that are connected (a listener), or whose messages came in the last 15 to 30 min (a connection). */
  online(): readonly string[]
  /** Called with each device that comes online. Returns the unsubscriber. */
  onOnline(listener: (device: string) => void): () => void
}

// ---------------------------------------------------------------- outbox and ledger (store/)

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

// ---------------------------------------------------------------- Kafka

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

// ---------------------------------------------------------------- log

/** Structured log; pino has this shape. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

// ---------------------------------------------------------------- control socket and metrics

export interface RouteRequest {
  /** Values of the `:name` parts of the path. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
}

/** A JSON or plain-text answer; anything else that a route returns is sent as JSON with status 200. */
export interface Reply {
  readonly status: number
  readonly body: string | object
}

export interface Route {
  readonly method: 'GET' | 'POST'
  /** `/dead-letters/:id/retry` */
  readonly path: string
  run(request: RouteRequest): Promise<Reply> | Reply
}

export interface MetricSample {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** One metric family in Prometheus' sense; the name has no `edge_gateway_` prefix. */
export interface Metric {
  readonly name: string
  readonly type: 'counter' | 'gauge'
  readonly help: string
  readonly samples: readonly MetricSample[]
}
