/**
 * Backpressure: when sources must stop pulling, and when they may go on.
 *
 * Two causes: too many messages or bytes between `offer` and `settle`, and an outbox without room. After the first
 * one, sources go on at three quarters of the limit, so that they don't stop and go with every message.
 */
import type { Source } from '../ports.ts'

type Held = Pick<Source, 'hold' | 'release'>

const GO_ON_SHARE = 0.75

export interface InFlightLimit {
  readonly messages: number
  readonly bytes: number
}

export class SourceHold {
  readonly #sources = new Set<Held>()
  #limit: InFlightLimit
  #messages = 0
  #bytes = 0
  #crowded = false
  #noRoom: string | undefined
  #reason: string | undefined

  constructor(limit: InFlightLimit) {
    this.#limit = limit
  }

  /** Why all sources are held; undefined while they are not. */
  get reason(): string | undefined {
    return this.#reason
  }

  /** True while the outbox has no room. */
  get roomless(): boolean {
    return this.#noRoom !== undefined
  }

  inFlight(): InFlightLimit {
    return { messages: this.#messages, bytes: this.#bytes }
  }

  add(source: Held): () => void {
    this.#sources.add(source)
    if (this.#reason !== undefined) source.hold(this.#reason)
    return () => {
      this.#sources.delete(source)
    }
  }

  configure(limit: InFlightLimit): void {
    this.#limit = limit
    this.#settle()
  }

  /** The outbox's own reason for standing, or undefined. */
  setRoom(blockedReason: string | undefined): void {
    this.#noRoom = blockedReason
    this.#settle()
  }

  took(bytes: number): void {
    this.#messages++
    this.#bytes += bytes
    if (!this.#crowded) this.#settle()
  }

  settled(bytes: number): void {
    this.#messages--
    this.#bytes -= bytes
    if (this.#crowded) this.#settle()
  }

  #settle(): void {
    const share = this.#crowded ? GO_ON_SHARE : 1
    this.#crowded = this.#messages >= this.#limit.messages * share || this.#bytes >= this.#limit.bytes * share
    const reason = this.#noRoom ?? (this.#crowded ? this.#crowdedReason() : undefined)
    if (reason === this.#reason) return
    this.#reason = reason
    for (const source of this.#sources) this.#tell(source)
  }

  /** The reason of now: a source that is released may offer at once, and crowd us again before the next one is told. */
  #tell(source: Held): void {
    if (this.#reason === undefined) source.release()
    else source.hold(this.#reason)
  }

  #crowdedReason(): string {
    return `more than ${this.#limit.messages} messages or ${this.#limit.bytes} bytes wait for the disk`
  }
}
