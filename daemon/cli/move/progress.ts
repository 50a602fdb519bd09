import { count } from '../text.ts'

const EVERY_MS = 250

/** One line that grows, on a terminal only, and not where the answer goes. */
export class Progress {
  readonly #verb: string
  #toldMs = 0
  #last = 0

  constructor(verb: string) {
    this.#verb = verb
  }

  tell(messages: number): void {
    this.#last = messages
    if (!process.stderr.isTTY) return
    const nowMs = performance.now()
    if (nowMs - this.#toldMs < EVERY_MS) return
    this.#toldMs = nowMs
    process.stderr.write(`\r${count(messages)} messages ${this.#verb} `)
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write(`\r${count(this.#last)} messages ${this.#verb}\n`)
  }
}
