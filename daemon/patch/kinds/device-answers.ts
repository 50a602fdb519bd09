/** What devices said to one patch: kept durably before it is acknowledged, in chunks, so that an answer costs no rewrite of all. */
import type { Memory, MemoryChanges } from '../memory.ts'

const ANSWERS = 'device-answers/'
const REFUSALS_MAX = 100
const REASON_MAX = 200
/** As many devices as a listener has connections by default. */
const ANSWERING_MAX = 20_000

type Answer = readonly [device: string, ok: boolean, reason: string]

export interface AnswerCounts {
  readonly confirmed: number
  readonly refused: number
  readonly silent: number
}

export class AnswerBook {
  readonly #memory: Memory
  readonly #prefix: string
  readonly #answers = new Map<string, Answer>()
  /** Undefined until the patch was flipped. */
  #expected: ReadonlySet<string> | undefined
  /** As they were at the commit; later ones do not change the result that was reported. */
  #final: AnswerCounts | undefined
  #chunks = 0
  #unwritten: Answer[] = []
  #due: Promise<void> | undefined
  #writing: Promise<void> = Promise.resolve()

  constructor(memory: Memory, patch: string) {
    this.#memory = memory
    this.#prefix = `${ANSWERS}${patch}/`
  }

  async load(): Promise<this> {
    for (const [key, value] of await this.#memory.read(this.#prefix)) {
      const name = key.slice(this.#prefix.length)
      if (name === 'expected') this.#expected = new Set(value as unknown as readonly string[])
      else if (name === 'final') this.#final = value as unknown as AnswerCounts
      else {
        for (const answer of value as unknown as readonly Answer[]) this.#answers.set(answer[0], answer)
        this.#chunks = Math.max(this.#chunks, Number(name) + 1)
      }
    }
    return this
  }

  /** Who is online when the settings become wanted: written in that very transaction, or a crash would forget them. */
  expect(devices: readonly string[]): MemoryChanges {
    const expected = devices.slice(0, ANSWERING_MAX)
    this.#expected = new Set(expected)
    return { [`${this.#prefix}expected`]: expected }
  }

  /** Resolves when it would survive a power cut. The last answer of a device is the one that counts. */
  async add(device: string, ok: boolean, reason: string): Promise<void> {
    const known = this.#answers.get(device)
    if (known === undefined && this.#answers.size >= ANSWERING_MAX) return
    const answer: Answer = [device, ok, reason.slice(0, REASON_MAX)]
    this.#answers.set(device, answer)
    if (this.#final !== undefined) return
    this.#unwritten.push(answer)
    // Those that come during one write share the next.
    this.#due ??= this.#writeNext()
    await this.#due
  }

  refusals(): readonly { readonly device: string; readonly reason: string }[] {
    const refused = [...this.#answers.values()].filter(([, ok]) => !ok)
    return refused.slice(0, REFUSALS_MAX).map(([device, , reason]) => ({ device, reason }))
  }

  counts(): AnswerCounts {
    if (this.#final !== undefined) return this.#final
    const confirmed = [...this.#answers.values()].filter(([, ok]) => ok).length
    const silent = [...(this.#expected ?? [])].filter((device) => !this.#answers.has(device)).length
    return { confirmed, refused: this.#answers.size - confirmed, silent }
  }

  /** Of those that were expected. */
  share(): { readonly confirmed: number; readonly expected: number } {
    const expected = [...(this.#expected ?? [])]
    return { confirmed: expected.filter((device) => this.#answers.get(device)?.[1] === true).length, expected: expected.length }
  }

  /** Names give way to numbers: what is in force for years must not hold a list of all devices. */
  async close(): Promise<void> {
    const final = this.counts()
    const known = [...(await this.#memory.read(this.#prefix)).keys()]
    const gone = Object.fromEntries(known.map((key) => [key, undefined]))
    await this.#memory.write({ ...gone, [`${this.#prefix}final`]: { ...final } })
    this.#final = final
  }

  async forget(): Promise<void> {
    const known = [...(await this.#memory.read(this.#prefix)).keys()]
    if (known.length > 0) await this.#memory.write(Object.fromEntries(known.map((key) => [key, undefined])))
  }

  async #writeNext(): Promise<void> {
    await this.#writing
    const answers = this.#unwritten
    this.#unwritten = []
    this.#due = undefined
    const key = `${this.#prefix}${String(this.#chunks++).padStart(6, '0')}`
    this.#writing = this.#memory.write({ [key]: answers })
    await this.#writing
  }
}
