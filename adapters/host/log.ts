import { writeSync } from 'node:fs'
import pino from 'pino'
import type { Clock } from '../../daemon/clock.ts'
import type { Log } from '../../daemon/ports.ts'

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal'

/** sd-daemon(3): journald reads the priority from a `<N>` before the line. */
const JOURNAL_PRIORITY: Readonly<Record<number, string>> = { 20: '<7>', 30: '<6>', 40: '<4>', 50: '<3>', 60: '<2>' }
/** The same message more often than this within a window is counted, and said once at the window's end. */
const REPEATS_MAX = 10
const WINDOW_MS = 60_000
/** Messages are texts of the program, so there are few; the bound is for the case that one carries a name. */
const MESSAGES_MAX = 1_000

/** pino's JSON lines on stdout, with journald's priorities where journald reads them, repeated lines sampled. */
export class SystemLog implements Log {
  readonly #pino: pino.Logger
  readonly #clock: Clock
  readonly #seen = new Map<string, { readonly sinceMs: number; count: number }>()

  readonly #listeners = new Set<(line: string) => void>()

  constructor(level: LogLevel, clock: Clock) {
    this.#clock = clock
    this.#pino = pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, stdout(this.#listeners))
  }

  /** Called with each line that is written, without priority; returns the unsubscriber. */
  onLine(listener: (line: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Takes effect with the next line. */
  setLevel(level: LogLevel): void {
    this.#pino.level = level
  }

  debug(fields: object, message: string): void {
    this.#pino.debug(fields, message)
  }

  info(fields: object, message: string): void {
    if (this.#wanted(message)) this.#pino.info(fields, message)
  }

  warn(fields: object, message: string): void {
    if (this.#wanted(message)) this.#pino.warn(fields, message)
  }

  error(fields: object, message: string): void {
    if (this.#wanted(message)) this.#pino.error(fields, message)
  }

  #wanted(message: string): boolean {
    const now = this.#clock.monotonicMs()
    const entry = this.#seen.get(message)
    if (entry === undefined || now - entry.sinceMs > WINDOW_MS) {
      if (entry !== undefined && entry.count > REPEATS_MAX)
        this.#pino.warn({ times: entry.count - REPEATS_MAX }, `repeated and not shown: ${message}`)
      if (this.#seen.size >= MESSAGES_MAX) this.#seen.clear()
      this.#seen.set(message, { sinceMs: now, count: 1 })
      return true
    }
    entry.count += 1
    return entry.count <= REPEATS_MAX
  }
}

/** Written at once: the last lines before a crash are the ones that matter. */
function stdout(listeners: ReadonlySet<(line: string) => void>): pino.DestinationStream {
  const journal = process.env['JOURNAL_STREAM'] !== undefined
  const stream = {
    lastLevel: 30,
    [Symbol.for('pino.metadata')]: true,
    write(line: string): void {
      const prefix = journal ? (JOURNAL_PRIORITY[stream.lastLevel] ?? '<6>') : ''
      writeAll(prefix + line)
      for (const listener of listeners) listener(line)
    },
  }
  return stream
}

/** stdout may be a pipe that is full for a moment (EAGAIN), or gone (EPIPE); neither may end the daemon. */
function writeAll(text: string): void {
  let rest = Buffer.from(text)
  for (let attempt = 0; attempt < 100 && rest.length > 0; attempt += 1) {
    try {
      rest = rest.subarray(writeSync(1, rest))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
    }
  }
}
