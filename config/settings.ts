import type { DedupeFrom } from './schema/buffer.ts'
import type { SeverityFrom } from './schema/limits.ts'
import type { Endpoint, HostPort } from './schema/scalars.ts'
import type { TopicPattern } from './schema/topic.ts'

export type { DedupeFrom, Endpoint, HostPort, SeverityFrom, TopicPattern }

/**
 * What the program runs on: the last of three stages (fragment → merged input → validated settings).
 *
 * Everything is decided: defaults are filled in, names are resolved, and what depends on each other fits. Units
 * stand last in the names (`…Ms`, `…Fraction`); `bytes` are bytes, `PerSecond` is a rate. `unlimited` is
 * Infinity. What is not configured is `undefined`. Secrets are paths of files.
 */
export interface Settings {
  readonly gateway: GatewaySettings
  readonly mqtt: {
    readonly listen: Readonly<Record<string, ListenerSettings>>
    readonly connect: Readonly<Record<string, ConnectionSettings>>
    readonly topics: Readonly<Record<string, TopicSettings>>
  }
  readonly limits: LimitSettings
  readonly buffer: BufferSettings
  readonly ledger: { readonly maxDevices: number }
  readonly presence: PresenceSettings
  /** `undefined`: nothing is forwarded, all is buffered. */
  readonly kafka: KafkaSettings | undefined
  /** `undefined`: there are no patches. */
  readonly etcd: EtcdSettings | undefined
  readonly patches: PatchSettings
  /** Also serves /healthz and /readyz; `undefined` is off. */
  readonly metrics: { readonly listen: HostPort | undefined }
  readonly page: PageSettings
  readonly control: { readonly socket: string }
  readonly log: { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' }
  readonly shutdown: { readonly drainMs: number }
}

export interface PageSettings {
  /** `undefined` is off. */
  readonly listen: HostPort | undefined
  /** `undefined` only on loopback: whoever is on the box may look and act. */
  readonly passwordFile: string | undefined
  readonly tls: Pick<ServerTlsSettings, 'cert' | 'key'> | undefined
  /** Names of the machine that a browser may ask for, beside its own and addresses. */
  readonly hosts: readonly string[]
}

export interface GatewaySettings {
  readonly id: string
  readonly site: string | undefined
  readonly timezone: string
  readonly labels: Readonly<Record<string, string>>
  readonly fleet: string | undefined
  readonly dataDir: string
}

export interface ListenerSettings {
  readonly url: Endpoint
  /** Present exactly if `url.secure`. */
  readonly tls: ServerTlsSettings | undefined
  readonly auth: AuthSettings
  readonly maxConnections: number
  readonly connectsPerSecond: number
  readonly maxKeepaliveMs: number
  readonly inFlightPerConnection: { readonly messages: number; readonly bytes: number }
}

/** Without `passwordFile` the client certificate alone proves who the device is. */
export type AuthSettings =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'required'
      readonly passwordFile: string | undefined
      readonly aclFile: string | undefined
      readonly deviceFrom: 'username' | 'clientId' | 'commonName'
    }

/** Paths of PEM files. */
export interface ServerTlsSettings {
  readonly cert: string
  readonly key: string
  readonly ca: string | undefined
  readonly crl: string | undefined
  readonly requireClientCert: boolean
}

/** Paths of PEM files; `cert` and `key` are both there or both absent. Without `ca` the system's authorities count. */
export interface ClientTlsSettings {
  readonly ca: string | undefined
  readonly cert: string | undefined
  readonly key: string | undefined
}

export interface ConnectionSettings {
  /** One or more; all of the same scheme. */
  readonly urls: readonly Endpoint[]
  readonly clientId: string
  readonly protocolVersion: 4 | 5
  readonly sessionExpiryMs: number
  readonly receiveMaximum: number
  readonly keepaliveMs: number
  readonly username: string | undefined
  readonly passwordFile: string | undefined
  /** Present exactly if the URLs are mqtts. */
  readonly tls: ClientTlsSettings | undefined
  readonly retained: 'ignore' | 'accept'
}

export interface TopicSettings extends TopicPattern {
  readonly qos: 0 | 1 | 2
  /** Names of the connections that subscribe to it. */
  readonly sources: readonly string[]
}

export interface BucketSettings {
  readonly messagesPerSecond: number
  readonly bytesPerSecond: number
  /** Capacity of the bucket, as a time at the full rate. */
  readonly burstMs: number
}

export interface OverrideSettings extends BucketSettings {
  readonly name: string
  /** A pattern of device ids with `*` (any characters) and `?` (one). */
  readonly devices: string
}

export interface LimitSettings {
  readonly global: BucketSettings
  readonly perDevice: BucketSettings
  /** Sorted by name; what an entry leaves open is taken from `perDevice`. The most specific pattern wins. */
  readonly overrides: readonly OverrideSettings[]
  readonly overLimit: 'defer' | 'shed'
  readonly severity: {
    readonly from: SeverityFrom
    /** In lower case; compare in lower case. For syslog, numbers are replaced by keywords. Without meaning for a pattern. */
    readonly urgent: readonly string[]
    readonly reserveFraction: number
  }
  /** `undefined`: every device is known. */
  readonly knownDevices: { readonly file: string } | undefined
  readonly maxMessageBytes: number
  /** Largest PUBLISH packet that can hold a message of `maxMessageBytes` (longest topic, MQTT 3.1.1). */
  readonly maxPacketBytes: number
  readonly inFlight: { readonly messages: number; readonly bytes: number }
}

export interface LaneSettings {
  readonly weight: number
  readonly whenFull: 'block' | 'drop-oldest'
}

export interface BufferSettings {
  /** `auto` is already resolved. */
  readonly maxBytes: number
  readonly minFreeBytes: number
  readonly maxAgeMs: number
  readonly lanes: Readonly<Record<'urgent' | 'normal' | 'deferred', LaneSettings>>
  readonly commit: { readonly maxDelayMs: number | 'auto'; readonly maxBytes: number }
  readonly dedupe: { readonly from: DedupeFrom; readonly windowMs: number; readonly maxIds: number }
}

export interface PresenceSettings {
  /** `off` is Infinity. */
  readonly silentAfterMs: number
  readonly maxDevices: number
  /** `devices`: a pattern of device ids with `*` and `?`; the most specific one wins. */
  readonly groups: Readonly<Record<string, { readonly devices: string; readonly silentAfterMs: number }>>
}

export interface KafkaSettings {
  readonly brokers: readonly HostPort[]
  /** A name, or a template of topic parts such as `logs.{stream}`. */
  readonly topic: string
  /** Parts that the template uses; empty for a fixed topic. */
  readonly topicParts: readonly string[]
  /** Where records may go; for a fixed topic just that one. */
  readonly allowedTopics: readonly string[]
  readonly prefix: string
  readonly delivery: 'exactly-once' | 'at-least-once'
  readonly compression: 'gzip' | 'none'
  readonly uplinkBytesPerSecond: number
  readonly transaction: { readonly maxBytes: number; readonly lingerMs: number; readonly perSecond: number }
  readonly unsyncedClock: 'hold' | 'send'
  readonly tls: ClientTlsSettings | undefined
  readonly sasl: SaslSettings | undefined
}

export type SaslSettings =
  | { readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; readonly username: string; readonly passwordFile: string }
  | { readonly mechanism: 'oauthbearer'; readonly token: { readonly file: string } | TokenRequestSettings }

/** OAuth 2 client credentials (RFC 6749 section 4.4). */
export interface TokenRequestSettings {
  readonly url: string
  readonly clientId: string
  readonly clientSecretFile: string
  readonly scope: string | undefined
}

export interface EtcdSettings {
  readonly endpoints: readonly Endpoint[]
  readonly prefix: string
  readonly tls: ClientTlsSettings | undefined
  readonly username: string | undefined
  readonly passwordFile: string | undefined
}

export interface TrustedKeySettings {
  /** 32 bytes in base64. */
  readonly ed25519: string
  readonly kinds: readonly ('config' | 'files' | 'device')[]
  readonly sites: 'all' | readonly string[]
}

export interface PatchSettings {
  readonly controller: boolean
  readonly trustedKeys: Readonly<Record<string, TrustedKeySettings>>
  readonly lockTtlMs: number
  readonly roots: Readonly<Record<string, string>>
  readonly units: readonly string[]
  /** Who changes roots; `ifThere`: only where the socket exists. `undefined`: the daemon itself. */
  readonly executor: { readonly socket: string; readonly ifThere: boolean } | undefined
  /** For the executor: `undefined`, the root's owner or the patch's. */
  readonly hookUser: string | undefined
}
