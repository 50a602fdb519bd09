import { createInterface, type Interface } from 'node:readline'
import { Writable } from 'node:stream'
import { printable } from '../text.ts'

/** Thrown when the technician gives up: Ctrl-C, or the end of input. */
export class GivenUp extends Error {}

/** Questions on a terminal. */
export class Talk {
  readonly #out: NodeJS.WriteStream
  readonly #lines: Interface
  readonly #gone: Promise<never>
  #isSecret = false

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
    // readline echoes what is typed to its output: for a password that goes nowhere.
    const echo = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        if (!this.#isSecret) this.#out.write(chunk)
        done()
      },
    })
    this.#lines = createInterface({ input: process.stdin, output: echo, terminal: true })
    this.#gone = new Promise((_resolve, reject) => {
      const giveUp = (): void => reject(new GivenUp('nothing was changed'))
      this.#lines.once('SIGINT', giveUp)
      this.#lines.once('close', giveUp)
    })
    this.#gone.catch(() => undefined)
  }

  say(text: string): void {
    this.#out.write(`${text}\n`)
  }

  /** What was typed; `otherwise` for nothing. */
  async ask(question: string, otherwise = ''): Promise<string> {
    const shown = otherwise === '' ? '' : ` [${printable(otherwise)}]`
    return (await this.#line(`${question}${shown}: `)).trim() || otherwise
  }

  async yes(question: string, otherwise: boolean): Promise<boolean> {
    const answer = (await this.ask(`${question} ${otherwise ? '[Y/n]' : '[y/N]'}`)).toLowerCase()
    return answer === '' ? otherwise : answer.startsWith('y')
  }

  async choose(question: string, options: readonly string[], otherwise: number): Promise<number> {
    this.say(question)
    for (const [index, option] of options.entries()) this.say(`  ${index + 1}  ${option}`)
    for (;;) {
      const chosen = Number(await this.ask('Number', String(otherwise + 1)))
      if (Number.isInteger(chosen) && chosen >= 1 && chosen <= options.length) return chosen - 1
      this.say(`Type a number from 1 to ${options.length}.`)
    }
  }

  /** Not shown while it is typed. */
  async secret(question: string): Promise<string> {
    this.#out.write(`${question} (not shown): `)
    this.#isSecret = true
    try {
      return await this.#line('')
    } finally {
      this.#isSecret = false
      this.#out.write('\n')
    }
  }

  close(): void {
    this.#lines.close()
  }

  #line(prompt: string): Promise<string> {
    return Promise.race([new Promise<string>((resolve) => this.#lines.question(prompt, resolve)), this.#gone])
  }
}
