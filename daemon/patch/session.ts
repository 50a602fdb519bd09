/**
 * A session is a lease and its renewal, with a deadline of our own.
 *
 * etcd's word that a lease lives is always late, and a driver's `lost` event later still (2 × TTL of wall clock:
 * microsoft/etcd3 #155). So the deadline is counted here: boot time (it counts suspend, and no one sets it) from
 * *before* a renewal was sent, plus the TTL that the server returned, minus a margin. etcd counts from the receipt,
 * so our deadline is never the later one. What has passed stays passed: a late answer revives nothing.
 */
import { sleep } from '../clock.ts'
import type { Clock } from '../clock.ts'
import { GatewayError, messageOf } from '../errors.ts'
import type { Etcd, LeaseId } from './ports.ts'

export interface SessionOptions {
  /** Asked for; etcd rounds up to whole seconds and to twice its election timeout. */
  readonly ttlMs: number
}

export interface Session {
  readonly lease: LeaseId
  /** Aborts, with a `fenced` error as its reason, when the lease is known to be gone or may be. */
  readonly ended: AbortSignal
  /** ms until the deadline; 0 when it has passed. Boot time. */
  remainingMs(): number
  /** Throws the `fenced` error unless `limitMs` from now still lies before the deadline. */
  assertFits(limitMs: number): void
  /** Ends it from our side: no renewal any more. The lease is revoked, or expires by itself when etcd is away. Never rejects. */
  close(): Promise<void>
}

/** Clocks that run apart, and the time between a look at the deadline and the effect. */
function marginOf(ttlMs: number): number {
  return Math.max(ttlMs / 10, 200)
}

/** Rejects with an `EtcdFailure`; a lease that was granted all the same expires by itself. */
export async function openSession(etcd: Etcd, clock: Clock, options: SessionOptions): Promise<Session> {
  const sentMs = clock.bootMs()
  const { id, ttlMs } = await etcd.grantLease(options.ttlMs)
  const session = new LeaseSession(etcd, clock, id, ttlMs, sentMs)
  session.begin()
  return session
}

class LeaseSession implements Session {
  readonly lease: LeaseId
  readonly #etcd: Etcd
  readonly #clock: Clock
  readonly #end = new AbortController()
  readonly #closed = new AbortController()
  #ttlMs: number
  #deadlineMs: number
  #cancelAlarm = (): void => undefined
  #lastFailure: string | undefined

  constructor(etcd: Etcd, clock: Clock, lease: LeaseId, ttlMs: number, sentMs: number) {
    this.#etcd = etcd
    this.#clock = clock
    this.lease = lease
    this.#ttlMs = ttlMs
    this.#deadlineMs = sentMs + ttlMs - marginOf(ttlMs)
  }

  get ended(): AbortSignal {
    return this.#end.signal
  }

  begin(): void {
    this.#setAlarm()
    void this.#renewUntilEnd()
  }

  remainingMs(): number {
    const leftMs = this.#deadlineMs - this.#clock.bootMs()
    if (leftMs <= 0) this.#finish('its deadline passed without a renewal')
    return this.#end.signal.aborted ? 0 : leftMs
  }

  assertFits(limitMs: number): void {
    const leftMs = this.remainingMs()
    this.#end.signal.throwIfAborted()
    if (leftMs <= limitMs) throw fenced(`${Math.floor(leftMs)} ms are left before its deadline, ${limitMs} ms are needed`)
  }

  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return
    this.#closed.abort()
    const wasOver = this.#end.signal.aborted
    this.#finish('it was closed')
    const revoked = this.#etcd.revokeLease(this.lease).catch(() => undefined) // unrenewed, it expires by itself
    if (!wasOver) await revoked // otherwise etcd is most likely away, and whoever was fenced must know it now
  }

  async #renewUntilEnd(): Promise<void> {
    while (!this.#end.signal.aborted) {
      const waitMs = this.#lastFailure === undefined ? this.#ttlMs / 3 : this.#ttlMs / 15
      await sleep(this.#clock, waitMs, this.#end.signal)
      if (this.remainingMs() > 0) await this.#renew()
    }
  }

  async #renew(): Promise<void> {
    const sentMs = this.#clock.bootMs()
    try {
      const ttlMs = await this.#etcd.renewLease(this.lease, this.#ttlMs / 3)
      if (this.remainingMs() === 0) return
      if (ttlMs === undefined) return this.#finish('etcd no longer knows it')
      this.#lastFailure = undefined
      this.#ttlMs = ttlMs
      this.#deadlineMs = sentMs + ttlMs - marginOf(ttlMs)
      this.#setAlarm()
    } catch (error) {
      // The next attempt comes soon; what counts is the deadline, which stays where it was.
      this.#lastFailure = messageOf(error)
    }
  }

  /** The timer stands still while the machine sleeps, so it looks at boot time, and waits again if it must. */
  #setAlarm(): void {
    this.#cancelAlarm()
    const leftMs = this.remainingMs()
    if (leftMs > 0) this.#cancelAlarm = this.#clock.after(leftMs, () => this.#setAlarm())
  }

  #finish(why: string): void {
    if (this.#end.signal.aborted) return
    this.#cancelAlarm()
    this.#end.abort(fenced(this.#lastFailure === undefined ? why : `${why} (${this.#lastFailure})`))
  }
}

function fenced(why: string): GatewayError {
  return new GatewayError('fenced', `the lease is of no use any more: ${why}`)
}
