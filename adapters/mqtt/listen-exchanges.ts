import type { OutboxWriter } from '../../daemon/ports.ts'

/** The durable half of QoS 2: ids that were stored with their message and wait for PUBREL. */
export type ExchangeStore = Pick<OutboxWriter, 'hasExchange' | 'releaseExchange'>

/**
 * - `new`: never seen, or complete: offer it.
 * - `pending`: offered, its fate not durable yet.
 * - `stored`: durable, PUBREL has not come: acknowledge it again.
 */
export type ExchangeState = 'new' | 'pending' | 'stored'

/** Ids waiting for PUBREL: a bound on memory and on the store, far above what a client in order reaches. */
export const OPEN_PER_SESSION_MAX = 16_384
const OPEN_MAX = 262_144

/**
 * QoS 2 of persistent sessions, across connections (MQTT 3.1.1 section 4.3.3, method A). An exchange is named
 * `<session>\0<packet id>`. It begins with the PUBLISH, is pending until the message's fate is durable, and ends when
 * its release, asked for by PUBREL, is durable: only then may the client use the packet id for another message.
 */
export class Exchanges {
  readonly #store: ExchangeStore
  readonly #pending = new Map<string, (() => void)[]>()
  readonly #releasing = new Map<string, (() => void)[]>()
  /** What this life of the daemon has begun and not released, by session, with the message's checksum. */
  readonly #open = new Map<string, Map<string, number>>()
  #openCount = 0

  constructor(store: ExchangeStore) {
    this.#store = store
  }

  stateOf(exchange: string): ExchangeState {
    if (this.#pending.has(exchange)) return 'pending'
    // After PUBREL the id is free for a new message: the store forgets the old one first, in order of submission.
    if (this.#releasing.has(exchange)) return 'new'
    return this.#store.hasExchange(exchange) ? 'stored' : 'new'
  }

  hasRoom(session: string): boolean {
    return this.#openCount < OPEN_MAX && (this.#open.get(session)?.size ?? 0) < OPEN_PER_SESSION_MAX
  }

  begin(session: string, exchange: string, checksum: number): void {
    this.#pending.set(exchange, [])
    const open = this.#open.get(session) ?? new Map<string, number>()
    this.#open.set(session, open)
    this.#openCount -= open.size
    open.set(exchange, checksum)
    this.#openCount += open.size
  }

  /** True when the exchange is known to hold another message; false too when it is of an earlier life of the daemon. */
  differs(session: string, exchange: string, checksum: number): boolean {
    const known = this.#open.get(session)?.get(exchange)
    return known !== undefined && known !== checksum
  }

  /** Calls `then` when the pending exchange is durable. */
  whenSettled(exchange: string, then: () => void): void {
    this.#pending.get(exchange)?.push(then)
  }

  settled(exchange: string): void {
    const waiting = this.#pending.get(exchange)
    this.#pending.delete(exchange)
    for (const then of waiting ?? []) then()
  }

  /** PUBREL: `done` when PUBCOMP may go out; at once for an id that is not known. */
  release(session: string, exchange: string, done: () => void): void {
    const releasing = this.#releasing.get(exchange)
    if (this.#pending.has(exchange)) this.whenSettled(exchange, () => this.release(session, exchange, done))
    else if (releasing !== undefined) releasing.push(done)
    else if (this.#store.hasExchange(exchange)) this.#forget(session, exchange, done)
    else {
      this.#close(session, exchange)
      done()
    }
  }

  /**
   * A clean connect ends the session before it (3.1.2.4): a packet id that it left open is free again. Only what
   * this life of the daemon has seen is found here; ids are not listed by the store.
   */
  discard(session: string): void {
    for (const exchange of [...(this.#open.get(session)?.keys() ?? [])]) this.release(session, exchange, () => undefined)
  }

  #forget(session: string, exchange: string, done: () => void): void {
    this.#releasing.set(exchange, [done])
    this.#store.releaseExchange(exchange, () => {
      const waiting = this.#releasing.get(exchange)
      this.#releasing.delete(exchange)
      if (!this.#pending.has(exchange)) this.#close(session, exchange)
      for (const then of waiting ?? []) then()
    })
  }

  #close(session: string, exchange: string): void {
    const open = this.#open.get(session)
    if (open?.delete(exchange) !== true) return
    this.#openCount--
    if (open.size === 0) this.#open.delete(session)
  }
}
