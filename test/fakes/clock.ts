/**
 * A clock and a source of randomness that stand still until a test moves them.
 */
import type { Clock, Random } from '../../daemon/clock.ts'

interface Timer {
  readonly dueMs: number
  readonly fn: () => void
}

export interface FakeClockStart {
  readonly wallMs?: number
  readonly monotonicMs?: number
  readonly bootMs?: number
  readonly bootId?: string
  readonly wallTrusted?: boolean
}

export class FakeClock implements Clock {
  readonly bootId: string
  #wallMs: number
  #monotonicMs: number
  #bootMs: number
  #trusted: boolean
  readonly #timers = new Set<Timer>()

  constructor(start: FakeClockStart = {}) {
    this.#wallMs = start.wallMs ?? Date.UTC(2026, 10, 24, 12)
    this.#monotonicMs = start.monotonicMs ?? 10_000
    this.#bootMs = start.bootMs ?? 60_000
    this.#trusted = start.wallTrusted ?? true
    this.bootId = start.bootId ?? '6f1c1d5e-0000-4000-8000-000000000001'
  }

  wallMs(): number {
    return this.#wallMs
  }

  monotonicMs(): number {
    return this.#monotonicMs
  }

  bootMs(): number {
    return this.#bootMs
  }

  wallTrusted(): boolean {
    return this.#trusted
  }

  after(ms: number, fn: () => void): () => void {
    const timer = { dueMs: this.#monotonicMs + ms, fn }
    this.#timers.add(timer)
    return () => {
      this.#timers.delete(timer)
    }
  }

  /** All three clocks go on by `ms`; timers that fall due run in order, each at its own instant. */
  advance(ms: number): void {
    const endMs = this.#monotonicMs + ms
    for (let next = this.#nextUntil(endMs); next !== undefined; next = this.#nextUntil(endMs)) {
      this.#timers.delete(next)
      this.#moveTo(Math.max(next.dueMs, this.#monotonicMs))
      next.fn()
    }
    this.#moveTo(endMs)
  }

  /** The machine sleeps: wall and boot time go on, the monotonic clock stands still (as on Linux). */
  suspend(ms: number): void {
    this.#wallMs += ms
    this.#bootMs += ms
  }

  /** NTP or a person sets the wall clock. */
  setWall(wallMs: number, trusted = true): void {
    this.#wallMs = wallMs
    this.#trusted = trusted
  }

  get pendingTimers(): number {
    return this.#timers.size
  }

  #moveTo(monotonicMs: number): void {
    const step = monotonicMs - this.#monotonicMs
    this.#monotonicMs = monotonicMs
    this.#wallMs += step
    this.#bootMs += step
  }

  #nextUntil(endMs: number): Timer | undefined {
    let next: Timer | undefined
    for (const timer of this.#timers) {
      if (timer.dueMs <= endMs && (next === undefined || timer.dueMs < next.dueMs)) next = timer
    }
    return next
  }
}

/** Reproducible randomness (mulberry32). */
export class FakeRandom implements Random {
  #state: number

  constructor(seed = 1) {
    this.#state = seed >>> 0
  }

  unit(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }

  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => Math.floor(this.unit() * 256))
  }
}
