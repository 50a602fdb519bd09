/**
 * Who fell silent and who returned, gathered: a switch that dies silences thousands at once, and that is one piece of
 * news. A record holds a count and a bounded list; the first leaves soon, the next ones at most once a minute.
 */

export interface News {
  readonly type: 'device-silent' | 'device-returned'
  readonly count: number
  readonly devices: readonly NewsLine[]
  readonly bySource: Readonly<Record<string, number>>
  /** Without the devices that no group names. */
  readonly byGroup: Readonly<Record<string, number>>
}

export interface NewsLine {
  readonly device: string
  readonly source: string
  readonly group: string | undefined
  /** ms since the last sign of life; undefined when nobody knows. */
  readonly silentMs: number | undefined
  readonly because?: 'no-traffic' | 'connection-lost'
}

export const LISTED_MAX = 50
const FIRST_AFTER_MS = 5_000
const EVERY_MS = 60_000

export class PresenceNews {
  readonly #silent = new Gathering('device-silent')
  readonly #returned = new Gathering('device-returned')

  silent(line: NewsLine, nowMs: number): void {
    this.#silent.add(line, nowMs)
  }

  returned(line: NewsLine, nowMs: number): void {
    this.#returned.add(line, nowMs)
  }

  /** What is to be told now. */
  due(nowMs: number): readonly News[] {
    return [this.#silent, this.#returned].flatMap((gathering) => (gathering.dueMs <= nowMs ? gathering.take(nowMs) : []))
  }

  /** All that has not been told yet. */
  rest(nowMs: number): readonly News[] {
    return [this.#silent, this.#returned].flatMap((gathering) => (gathering.dueMs < Infinity ? gathering.take(nowMs) : []))
  }
}

class Gathering {
  dueMs = Infinity
  readonly #type: News['type']
  #toldMs = -Infinity
  #count = 0
  #lines: NewsLine[] = []
  #bySource = new Map<string, number>()
  #byGroup = new Map<string, number>()

  constructor(type: News['type']) {
    this.#type = type
  }

  add(line: NewsLine, nowMs: number): void {
    if (this.#count === 0) this.dueMs = Math.max(nowMs + FIRST_AFTER_MS, this.#toldMs + EVERY_MS)
    this.#count++
    if (this.#lines.length < LISTED_MAX) this.#lines.push(line)
    this.#bySource.set(line.source, (this.#bySource.get(line.source) ?? 0) + 1)
    if (line.group !== undefined) this.#byGroup.set(line.group, (this.#byGroup.get(line.group) ?? 0) + 1)
  }

  take(nowMs: number): News {
    const news = {
      type: this.#type,
      count: this.#count,
      devices: this.#lines,
      bySource: Object.fromEntries(this.#bySource),
      byGroup: Object.fromEntries(this.#byGroup),
    }
    this.#toldMs = nowMs
    this.dueMs = Infinity
    this.#count = 0
    this.#lines = []
    this.#bySource = new Map()
    this.#byGroup = new Map()
    return news
  }
}
