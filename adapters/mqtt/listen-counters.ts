import type { Clock } from '../../daemon/clock.ts'
import type { Log } from '../../daemon/ports.ts'

/** Why a connect was refused. Bounded: it is a metric label. */
export const REFUSALS = [
  'max-connections',
  'connects-per-second',
  'held',
  'stopping',
  'bad-credentials',
  'bad-client-id',
  'client-id-taken',
  'protocol-version',
] as const
export type Refusal = (typeof REFUSALS)[number]

/** Why a connection ended. */
export const ENDINGS = [
  'disconnect',
  'peer-closed',
  'keepalive',
  'connect-timeout',
  'not-mqtt',
  'protocol-error',
  'tls-error',
  'taken-over',
  'revoked',
  'held',
  'slow-reader',
  'over-budget',
  'refused',
  'stopped',
] as const
export type Ending = (typeof ENDINGS)[number]

export interface ListenCounters {
  readonly connects: number
  readonly refused: Readonly<Record<Refusal, number>>
  readonly ended: Readonly<Record<Ending, number>>
  /** PUBLISH packets offered to the intake, wills included. */
  readonly offered: number
  /** PUBLISH packets that joined one that was pending or stored already. */
  readonly joined: number
}

const LINE_EVERY_MS = 10_000

/** Counts by reason, and writes at most one line per reason in ten seconds, with the number that it stands for. */
export class Tally {
  connects = 0
  offered = 0
  joined = 0
  readonly #refused = zeros(REFUSALS)
  readonly #ended = zeros(ENDINGS)
  readonly #lines = new Map<string, { atMs: number; unsaid: number }>()
  readonly #clock: Clock
  readonly #log: Log
  readonly #listener: string

  constructor(listener: string, clock: Clock, log: Log) {
    this.#listener = listener
    this.#clock = clock
    this.#log = log
  }

  refuse(reason: Refusal, detail: string, peer: string): void {
    this.#refused[reason]++
    this.#say(`refused ${reason}`, { peer, refusal: reason }, `a connect was refused: ${detail}`)
  }

  end(reason: Ending, detail: string | undefined, peer: string): void {
    this.#ended[reason]++
    if (detail !== undefined) this.#say(`ended ${reason}`, { peer, ending: reason }, `a connection was closed: ${detail}`)
  }

  warn(key: string, fields: object, message: string): void {
    this.#say(key, fields, message)
  }

  view(): ListenCounters {
    const { connects, offered, joined } = this
    return { connects, refused: { ...this.#refused }, ended: { ...this.#ended }, offered, joined }
  }

  #say(key: string, fields: object, message: string): void {
    const nowMs = this.#clock.monotonicMs()
    const line = this.#lines.get(key)
    if (line !== undefined && nowMs - line.atMs < LINE_EVERY_MS) {
      line.unsaid++
      return
    }
    this.#log.warn({ listener: this.#listener, ...fields, alsoUnsaid: line?.unsaid ?? 0 }, message)
    this.#lines.set(key, { atMs: nowMs, unsaid: 0 })
  }
}

function zeros<Name extends string>(names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>
}
