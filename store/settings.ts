import type { DeviceLane } from '../daemon/ports.ts'

/** `block` withholds acknowledgements when the buffer is full; `drop-oldest` sheds the lane's oldest groups. */
export type WhenFull = 'block' | 'drop-oldest'

/** What the outbox can be told, at start and live. Sizes in bytes, times in ms. */
export interface OutboxSettings {
  /** Limit of the used pages of `outbox.db`. `auto`: min(2 GiB, 25 % of the disk). */
  readonly maxBytes: number | 'auto'
  /** Intake stands while the file would have to grow and less than this would stay free on the disk. */
  readonly minFreeBytes: number
  /** Messages older than this are shed as `expired`; Infinity keeps them for ever. */
  readonly maxAgeMs: number
  readonly lanes: Readonly<Record<DeviceLane, { readonly whenFull: WhenFull }>>
  /** A commit leaves after `maxDelayMs`, or when `maxBytes` of payload wait. `auto`: by the kind of disk. */
  readonly commit: { readonly maxDelayMs: number | 'auto'; readonly maxBytes: number }
  /** Message ids are remembered this long, and this many of them. */
  readonly dedupe: { readonly windowMs: number; readonly maxIds: number } | undefined
  /** (device, stream) pairs with a ledger line of their own; the rest is folded into `other`. */
  readonly ledgerMaxDevices: number
}
