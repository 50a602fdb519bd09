/** Losses and oddities that a broker made us learn of: in words, counted, one line per kind. */
import type { Clock } from '../../daemon/clock.ts'
import type { Log, SourceState } from '../../daemon/ports.ts'

export type NoticeKind =
  | 'session-lost' // the broker no longer had our session
  | 'broker-drops' // its own counter of dropped messages rose
  | 'taken-over' // another client used our client id
  | 'client-id-changed' // the session of the former id stays behind
  | 'qos-lowered' // a subscription is granted at QoS 0
  | 'expiry-lowered' // the broker keeps the session for less time than asked

export type Notice = SourceState['notices'][number]

export class Notices {
  readonly #name: string
  readonly #clock: Clock
  readonly #log: Log
  readonly #notices = new Map<NoticeKind, Notice>()

  constructor(name: string, clock: Clock, log: Log) {
    this.#name = name
    this.#clock = clock
    this.#log = log
  }

  /** `words` gets the total so far. */
  add(kind: NoticeKind, count: number, words: (total: number) => string): void {
    const total = (this.#notices.get(kind)?.count ?? 0) + count
    const text = words(total)
    this.#notices.set(kind, { text, count: total, lastMs: this.#clock.wallMs() })
    this.#log.warn({ source: this.#name, notice: kind, count: total }, text)
  }

  list(): readonly Notice[] {
    return [...this.#notices.values()]
  }
}
