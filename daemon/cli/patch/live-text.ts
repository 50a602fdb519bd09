/** Text that takes its own place again on a terminal. */
export class LiveText {
  readonly #out: NodeJS.WriteStream
  #lines = 0

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
  }

  /** False in a pipe or a file: there, a line for each change is of more use. */
  get redraws(): boolean {
    return this.#out.isTTY
  }

  show(text: string): void {
    const lines = text.split('\n').slice(0, Math.max(1, this.#out.rows - 1))
    const back = this.#lines > 0 ? `\u001b[${this.#lines}A\u001b[0J` : ''
    // Without wrapping: a line that takes two rows would be found again at the wrong place.
    this.#out.write(`${back}\u001b[?7l${lines.join('\n')}\n\u001b[?7h`)
    this.#lines = lines.length
  }
}
