import type { Component } from '../component.ts'
import type { Intake, Source } from '../ports.ts'

/** A source as the supervisor sees it. */
export class SourceComponent implements Component {
  readonly name: string
  readonly #source: Source
  readonly #intake: Intake

  constructor(source: Source, intake: Intake) {
    this.name = `source ${source.name}`
    this.#source = source
    this.#intake = intake
  }

  start(signal: AbortSignal): Promise<void> {
    return this.#source.start(this.#intake, signal)
  }

  stop(deadlineMs: number): Promise<void> {
    return this.#source.stop(deadlineMs)
  }
}
