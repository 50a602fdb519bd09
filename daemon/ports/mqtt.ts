/** MQTT sources, and the settings that they carry to devices. */
import type { ShedReason } from './words.ts'

/** A PUBLISH received, not yet ours. */
export interface Delivery {
  /** Name of the listener or connection in the config. */
  readonly source: string
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos: 0 | 1 | 2
  readonly retained: boolean
  /** A last will: the broker publishes it because its device has gone. */
  readonly will?: true
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

/** What a listener knows of its password file after it has looked again. */
export interface PasswordsTaken {
  readonly file: string
  readonly users: number
  /** Connections that were closed, since their password is not in the file any more. */
  readonly cut: number
  /** Why the file can't be used; what was in force stays. */
  readonly fault?: string
}

/** An MQTT source. Ready (`start` resolved) means that it listens, or that it began to connect. */
export interface Source {
  readonly name: string
  /** Carries settings to its devices. */
  readonly devices?: DevicePublisher
  /** Open connections of a device; a listener knows. */
  connectionsOf?(device: string): number
  start(intake: Intake, signal: AbortSignal): Promise<void>
  /** Stop pulling, keep connections for a while, then close them unacknowledged and refuse new ones. Idempotent. */
  hold(reason: string): void
  release(): void
  state(): SourceState
  /** Looks at the password file now instead of within two seconds; `undefined` for a source that has none. */
  rereadPasswords?(): Promise<PasswordsTaken | undefined>
  /** Stops intake at once, keeps connections until `deadlineMs` so that settled deliveries are acknowledged. */
  stop(deadlineMs: number): Promise<void>
}

/** Why a device's connection is over: it said so, it or the network failed, or the gateway closed it for its own reasons. */
export type DeviceEnding = 'goodbye' | 'lost' | 'gateway'

/** Told by a listener what it learns of devices beside their messages. Never throws, never waits. */
export interface DeviceLinks {
  /** `proven`: by a password or a certificate. Without one it is the client id, as the device chose it. */
  connected(source: string, device: string, proven: boolean): void
  /** Called when the connection counts no more in `connectionsOf`. */
  disconnected(source: string, device: string, how: DeviceEnding): void
  /** A connect was refused; `names` are those that it gave, `detail` says why in words. */
  turnedAway(source: string, names: readonly string[], detail: string): void
}

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
