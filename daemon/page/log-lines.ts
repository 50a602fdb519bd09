/** The gateway's own last log lines, for the page. */

const LINES_MAX = 400
/** A longer line is cut: its whole stands in the journal. */
const CHARACTERS_MAX = 2_000
const FIELDS_MAX = 1_000

export interface LogLine {
  /** Grows by one with each line. */
  readonly number: number
  readonly at: string
  readonly level: string
  readonly message: string
  /** The other fields as JSON; empty when there are none. */
  readonly fields: string
}

const LEVELS: Readonly<Record<number, string>> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' }

export class LogLines {
  readonly #lines: { readonly number: number; readonly text: string }[] = []
  #last = 0

  /** One line as the log writes it. It is taken apart only when somebody looks. */
  add(text: string): void {
    this.#last += 1
    this.#lines.push({ number: this.#last, text: text.slice(0, CHARACTERS_MAX) })
    if (this.#lines.length > LINES_MAX) this.#lines.shift()
  }

  get last(): number {
    return this.#last
  }

  /** Those after this number, the latest `most` of them; the oldest first. */
  after(number: number, most = LINES_MAX): readonly LogLine[] {
    return this.#lines
      .filter((line) => line.number > number)
      .slice(-most)
      .map((line) => parsed(line.number, line.text))
  }
}

function parsed(number: number, text: string): LogLine {
  try {
    const { level, time, msg, ...fields } = JSON.parse(text) as Record<string, unknown>
    const rest = JSON.stringify(fields)
    return {
      number,
      at: String(time),
      level: LEVELS[Number(level)] ?? 'info',
      message: String(msg ?? ''),
      fields: rest === '{}' ? '' : rest.slice(0, FIELDS_MAX),
    }
  } catch (error) {
    return { number, at: '', level: 'info', message: text, fields: `cut: ${error instanceof Error ? error.name : ''}` }
  }
}
