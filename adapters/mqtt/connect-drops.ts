/** The broker's own count of messages that it dropped: losses that no ledger of ours can see. */

/**
 * mosquitto's; for all its clients, published every `sys_interval` (10 s). A broker without it sends nothing.
 * EMQX and NanoMQ keep theirs elsewhere and refuse `$SYS` by default.
 */
export const DROPS_TOPIC = '$SYS/broker/publish/messages/dropped'

export interface DropsReading {
  readonly total: number
  /** Dropped since the reading before. */
  readonly rise: number
}

/** `former` is the reading before, of this broker; `undefined` for text that is no count. Pure. */
export function readDrops(payload: Uint8Array, former: number | undefined): DropsReading | undefined {
  const text = Buffer.from(payload).toString('latin1').trim()
  if (!/^\d{1,15}$/.test(text)) return undefined
  const total = Number(text)
  if (former === undefined) return { total, rise: 0 }
  // A lower count: the broker was started anew, and has dropped as many since.
  return { total, rise: total >= former ? total - former : total }
}
