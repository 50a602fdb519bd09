import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Clock, Random } from '../../daemon/clock.ts'

/** No wall clock can be right that is earlier than the day this release was made. Raised with each release. */
const RELEASED_MS = Date.UTC(2026, 10, 1)
/** How often the monotonic clock is held against the kernel's uptime, which also counts suspend. */
const RESYNC_MS = 1_000

/** The machine's clocks. Linux: `/proc/uptime` counts suspend, Node's monotonic clock does not. */
export class SystemClock implements Clock {
  readonly bootId: string
  #skewMs = 0
  #syncedAt = Number.NEGATIVE_INFINITY

  constructor() {
    this.bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  }

  wallMs(): number {
    return Date.now()
  }

  monotonicMs(): number {
    return performance.now()
  }

  bootMs(): number {
    const now = performance.now()
    if (now - this.#syncedAt >= RESYNC_MS) {
      this.#skewMs = Number(readFileSync('/proc/uptime', 'utf8').split(' ', 1)[0]) * 1_000 - now
      this.#syncedAt = now
    }
    return now + this.#skewMs
  }

  wallTrusted(): boolean {
    return Date.now() >= RELEASED_MS
  }

  after(ms: number, fn: () => void): () => void {
    const timer = setTimeout(fn, Math.max(0, ms))
    timer.unref()
    return () => clearTimeout(timer)
  }
}

export const systemRandom: Random = {
  unit: () => Math.random(),
  bytes: (count) => randomBytes(count),
}
