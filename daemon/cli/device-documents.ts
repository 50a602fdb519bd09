/** What the daemon says of devices, and what the files say while it is down. */
import type { PresenceState } from '../ingest/presence-table.ts'

export interface DeviceRow {
  readonly device: string
  readonly state: PresenceState
  readonly lastSeen?: string
  readonly lastSeenSeconds?: number
  readonly sinceStart: boolean
  readonly source?: string
  readonly connected: boolean
  readonly connections: number
  readonly inPerSecond: number
  readonly bytesPerSecond: number
  readonly messages: number
  readonly bytes: number
  readonly shed: number
  readonly deferred: number
  readonly last?: string
  readonly limitedBy?: 'device' | 'global'
  readonly group?: string
  readonly silentAfterSeconds: number | null
}

export interface DevicesDocument {
  readonly schema: 1
  readonly running: boolean
  readonly at: string
  readonly counts: Readonly<Record<PresenceState, number>>
  readonly known: number
  readonly maxDevices: number
  readonly evicted: number
  readonly untracked: number
  readonly unheard: readonly { readonly source: string; readonly state: string; readonly reason?: string; readonly since?: string }[]
  readonly matched: number
  readonly devices: readonly DeviceRow[]
  readonly next?: string
}

export interface RefusalDocument {
  readonly kind: string
  readonly source: string
  readonly who: string
  readonly detail: string
  readonly count: number
  readonly last: string
}

export interface DeviceDocument extends DeviceRow {
  readonly schema: 1
  readonly running: boolean
  readonly at: string
  readonly limit?: {
    readonly name: string
    readonly messagesPerSecond: number | null
    readonly bytesPerSecond: number | null
    readonly burstSeconds: number
    readonly level: number
    readonly globalLevel: number
    readonly overLimit: 'defer' | 'shed'
  }
  readonly connectedFor?: number
  readonly disconnected?: { readonly how: string; readonly secondsAgo: number }
  readonly deadLetters: number
  readonly refusals: readonly RefusalDocument[]
}

export interface DeviceWhyDocument {
  readonly schema: 1
  readonly running: boolean
  readonly device: string
  readonly state: PresenceState | 'never-seen'
  readonly sentence: string
  readonly remedy?: string
  readonly similar?: readonly string[]
  readonly refusals?: readonly RefusalDocument[]
}

/** One line of a tail. */
export interface TailLine {
  readonly at?: string
  readonly device?: string
  readonly stream?: string
  readonly topic?: string
  readonly source?: string
  readonly qos?: number
  readonly bytes?: number
  readonly verdict?: string
  readonly limitedBy?: string
  readonly will?: true
  readonly retained?: true
  readonly payloadBase64?: string
  readonly payloadCut?: true
  readonly skipped?: number
  readonly alive?: true
}
