/** What every open page is sent: the whole once, then what changed, at most once a second. */
import type { Clock } from '../clock.ts'
import type { StatusDocument } from '../status.ts'
import { History, STEP_MS, type Point } from './history.ts'
import type { LogLines } from './log-lines.ts'

const TICK_MS = 1_000
export const VIEWERS_MAX = 20
/** Of one second; the page says how many were left out. */
const LINES_A_TICK = 50

export interface FeedParts {
  readonly status: () => StatusDocument
  readonly lines: LogLines
  readonly clock: Clock
}

interface Section {
  readonly text: string
  /** Number of the tick that changed it. */
  readonly changed: number
}

/** Costs a look at the status every three seconds while nobody watches, and one each second for all who do. */
export class Feed {
  readonly #parts: FeedParts
  readonly #history = new History()
  readonly #sections = new Map<string, Section>()
  readonly #waiting = new Set<() => void>()
  #tick = 0
  #pointTick = 0
  #nextPointMs = 0
  #viewers = 0
  #cancel: (() => void) | undefined
  #stopped = false

  constructor(parts: FeedParts) {
    this.#parts = parts
  }

  start(): void {
    this.#turn()
  }

  stop(): void {
    this.#stopped = true
    this.#cancel?.()
    this.#wake()
  }

  get viewers(): number {
    return this.#viewers
  }

  /**
   * Server-sent events (WHATWG HTML section 9.2), for one page. It ends when `signal` aborts or the viewer may look no
   * more. A reader that is slow gets fewer events, each with all that changed since its last one.
   */
  async *events(mayLook: () => boolean, proof: string, signal: AbortSignal): AsyncGenerator<string, void, undefined> {
    if (this.#viewers >= VIEWERS_MAX) return yield `retry: 10000\nevent: full\ndata: ${VIEWERS_MAX}\n\n`
    this.#viewers += 1
    try {
      this.#look()
      let [seen, points, line] = [this.#tick, this.#pointTick, this.#parts.lines.last]
      yield `retry: 2000\n${event('hello', this.#whole(proof))}`
      while (!signal.aborted && !this.#stopped) {
        await this.#next(signal)
        if (!mayLook()) return yield event('over', '{}')
        const parts = [event('change', this.#since(seen)), ...this.#point(points), ...this.#lines(line)]
        ;[seen, points, line] = [this.#tick, this.#pointTick, this.#parts.lines.last]
        yield parts.join('')
      }
    } finally {
      this.#viewers -= 1
    }
  }

  #turn(): void {
    if (this.#stopped) return
    const now = this.#parts.clock.monotonicMs()
    if (this.#viewers > 0 || now >= this.#nextPointMs) this.#look()
    if (this.#viewers > 0) this.#wake()
    this.#cancel = this.#parts.clock.after(TICK_MS, () => this.#turn())
  }

  #look(): void {
    const status = this.#parts.status()
    this.#tick += 1
    const now = this.#parts.clock.monotonicMs()
    if (now >= this.#nextPointMs) {
      this.#nextPointMs = now + STEP_MS
      this.#pointTick = this.#tick
      this.#history.add(pointOf(status, now))
    }
    for (const [name, value] of Object.entries(status)) {
      const text = JSON.stringify(value) ?? 'null'
      if (this.#sections.get(name)?.text !== text) this.#sections.set(name, { text, changed: this.#tick })
    }
  }

  #since(tick: number): string {
    const changed = [...this.#sections].filter(([, section]) => section.changed > tick)
    return `{${changed.map(([name, { text }]) => `${JSON.stringify(name)}:${text}`).join(',')}}`
  }

  #whole(proof: string): string {
    return `{"proof":${JSON.stringify(proof)},"status":${this.#since(0)},"stepMs":${STEP_MS},"points":${JSON.stringify(this.#history.points())},"lines":${JSON.stringify(this.#parts.lines.after(0))}}`
  }

  #point(after: number): string[] {
    const point = this.#history.points().at(-1)
    return point === undefined || this.#pointTick <= after ? [] : [event('point', JSON.stringify(point))]
  }

  #lines(after: number): string[] {
    const { lines } = this.#parts
    if (lines.last <= after) return []
    const shown = lines.after(after, LINES_A_TICK)
    return [event('lines', JSON.stringify({ lines: shown, leftOut: lines.last - after - shown.length }))]
  }

  #next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiting.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      if (signal.aborted || this.#stopped) return resolve()
      this.#waiting.add(done)
      signal.addEventListener('abort', done)
    })
  }

  #wake(): void {
    for (const done of [...this.#waiting]) done()
  }
}

function pointOf({ at, rates, buffer }: StatusDocument, ms: number): Point {
  return {
    atMs: Date.parse(at),
    ms,
    in: rates.inPerSecond,
    out: rates.outPerSecond,
    shed: rates.shedPerSecond,
    backlog: buffer.messages,
    usedBytes: buffer.usedBytes,
  }
}

/** `text` is JSON, so that it has no line end. */
function event(name: string, text: string): string {
  return `event: ${name}\ndata: ${text}\n\n`
}
