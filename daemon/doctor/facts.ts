/** What the probes find, as the judgement takes it. Absent: it was not asked, or nobody tells. Times are ms, sizes bytes. */

/** One step of a look at something outside: it worked, or it says why not. */
export type Step<Found extends object = object> =
  | ({ readonly ok: true; readonly ms: number } & Found)
  /** `code` is Node's or OpenSSL's, such as ECONNREFUSED; `ETIMEDOUT` also for our own limit. */
  | { readonly ok: false; readonly ms: number; readonly code: string; readonly words: string }

/** Steps after the one that failed are absent; so is `dns` for an address. */
export interface Reach {
  readonly host: string
  readonly port: number
  readonly dns?: Step<{ readonly addresses: readonly string[] }>
  readonly tcp?: Step<{ readonly address: string }>
  readonly tls?: Step<TlsFound>
}

export interface TlsFound {
  readonly protocol: string
  /** OpenSSL's code of what is wrong with the certificate; absent when it is trusted and for this name. */
  readonly fault?: string
  readonly subject: string
  readonly issuer: string
  /** Names that the certificate is for, as it writes them. */
  readonly names: string
  readonly validFromMs: number
  readonly validToMs: number
}

export interface FileFound {
  readonly path: string
  /** Absent when there is none, or no right to look. */
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly isFolder?: boolean
  readonly bytes?: number
  /** By whoever asks. */
  readonly readable: boolean
  readonly writable: boolean
  /** Node's code, such as ENOENT or EACCES. */
  readonly code?: string
}

export interface CertificateFound {
  readonly path: string
  readonly subject?: string
  readonly names?: string
  readonly validFromMs?: number
  readonly validToMs?: number
  /** Absent when no key was named, or it can't be read. */
  readonly keyMatches?: boolean
  /** Why the file, or its key, can't be used. */
  readonly fault?: string
}

export interface ClockFound {
  readonly wallMs: number
  /** Not earlier than this release was made. */
  readonly plausible: boolean
  /** By the kernel, as systemd tells it; absent when nobody says. */
  readonly synchronised?: boolean
  /** A service that keeps the time is set up. */
  readonly service?: boolean
  /** A clock that goes on without power. */
  readonly rtc: boolean
  /** Seconds of the battery clock. */
  readonly rtcMs?: number
}

export interface PortOwner {
  readonly uid: number
  /** Known only of one's own programs, and to root. */
  readonly pid?: number
  readonly program?: string
}

export interface UnitFound {
  readonly load: string
  readonly active: string
  readonly sub: string
  /** `enabled`, `disabled`, `static`…; empty when unknown. */
  readonly enabled: string
  readonly restarts: number
  /** Why it ended: `exit-code`, `watchdog`, `oom-kill`…; `success` otherwise. */
  readonly result: string
  readonly exitStatus: number
}

export interface DiskFound {
  /** The folder itself, or its nearest parent that exists. */
  readonly folder: string
  readonly totalBytes: number
  readonly freeBytes: number
  /** 0 where the file system has no fixed number. */
  readonly inodes: number
  readonly inodesFree: number
  readonly fileSystem?: string
  readonly device?: string
  readonly readOnly?: boolean
  /** `eMMC or SD card`, `NVMe`, `SSD`, `spinning disk`… */
  readonly kind?: string
  /** By the whole disk since the boot. */
  readonly writtenBytes?: number
  readonly life?: Life
}

/** JEDEC JESD84-B51: life_time counts in tenths (1 is 0 to 10 % used, 11 is beyond), pre_eol_info is 1 normal, 2 warning, 3 urgent. */
export interface Life {
  /** Of the two kinds of cells the one that is worse, as the percentage that is used up at most. */
  readonly usedPercentMost: number
  readonly preEndOfLife?: number
}

export interface SyncFound {
  readonly times: number
  readonly p50Ms: number
  readonly p99Ms: number
}

export interface MachineFound {
  readonly kernel: string
  readonly uptimeSeconds: number
  readonly cpus: number
  /** Of the last five minutes. */
  readonly load: number
  readonly memoryBytes: number
  readonly availableBytes: number
  readonly swapBytes: number
  readonly swapFreeBytes: number
  /** The hottest zone. */
  readonly celsius?: number
  /** Raspberry Pi's firmware: bit 0 too little voltage now, bit 2 throttled now, bits 16 and 18 the same since the boot. */
  readonly throttled?: number
}

export interface BrokerTry {
  readonly accepted: boolean
  /** Why not, in plain words. */
  readonly fault?: string
  /** CONNACK's code, when the broker answered with one. */
  readonly code?: number
  /** Filters that it does not let us subscribe to. */
  readonly refused: readonly string[]
  /** As the broker tells under `$SYS`, where it does. */
  readonly version?: string
  readonly dropped?: number
}

export interface Asked {
  readonly fault?: string
  readonly remedy?: string
  /** `credentials`, `unavailable`… as the port names them. */
  readonly reason?: string
}

export interface EndpointTry {
  /** A linearizable read below the fleet's prefix. */
  readonly read: Asked & { readonly ms: number; readonly clusterId?: string }
  /** Rights to what the box reads and writes; empty when nothing could be asked. */
  readonly rights: readonly (Asked & { readonly what: string })[]
  /** Theirs minus ours, ms, to about a second; absent when the server did not tell the time. */
  readonly clockAheadMs?: number
}

export interface NamedBroker {
  readonly id: number
  readonly host: string
  readonly port: number
}

export interface NamedTopic {
  readonly topic: string
  /** Kafka's error code; 0 is none. */
  readonly code: number
  readonly partitions: number
  readonly leaderless: number
  /** Bits of `RIGHT`; absent when the broker does not tell. */
  readonly rights?: number
}

export interface ClusterAnswer {
  readonly clusterId: string
  readonly brokers: readonly NamedBroker[]
  readonly topics: readonly NamedTopic[]
}

export interface BrokerLogin {
  /** Why it does not let us in. */
  readonly fault?: string
  readonly remedy?: string
  /** ms from the first byte to the end of the login. */
  readonly ms: number
  readonly cluster?: ClusterAnswer
  /** Kafka 4.0 took versions 0 to 3 of Fetch away (KIP-896), so an older one is known by those. */
  readonly beforeKafka4?: boolean
}

export interface Rights {
  /** Kafka's words, or absent when we have the right to look at it. */
  readonly group?: string
  readonly transactionalId?: string
}

export interface TopicSettingsFound {
  readonly topic: string
  readonly maxMessageBytes?: number
  readonly cleanupPolicy?: string
}

export interface ClusterLook {
  readonly fault?: string
  readonly rights: Rights
  readonly settings: readonly TopicSettingsFound[]
}
