/** What is told of imports: a line in the log, an event, and counts since the start. */
import type { Clock } from '../../clock.ts'
import type { ImportTally } from '../../move/figures.ts'
import type { Counted, Log } from '../../ports.ts'
import type { ImportNote } from './folder.ts'

export interface ImportNewsParts {
  readonly clock: Clock
  readonly log: Log
  /** Tells the events topic. */
  readonly report: (type: string, document: object) => void
}

export class ImportNews {
  readonly #parts: ImportNewsParts
  #taken: Counted = { messages: 0, bytes: 0 }
  #delivered: Counted = { messages: 0, bytes: 0 }

  constructor(parts: ImportNewsParts) {
    this.#parts = parts
  }

  taken(note: ImportNote): void {
    this.#taken = plus(this.#taken, { messages: note.messages, bytes: note.bytes ?? 0 })
    this.#parts.log.info(fieldsOf(note), 'an import is taken in, and delivered from now on')
    this.#report('imported', note)
  }

  delivered(note: ImportNote, deadLetters: number): void {
    this.#parts.log.info({ ...fieldsOf(note), deadLetters }, 'an import is delivered')
    this.#report('import-delivered', note, { deadLetters })
  }

  dropped(note: ImportNote): void {
    const { id, gateway, deadLetters = 0 } = note
    this.#parts.log.warn({ export: id, gateway, messages: deadLetters }, 'dead letters of an import were dropped')
    this.#report('import-dropped', note, { deadLetters })
  }

  /** A delivery has ended, for now or for good: what it committed to Kafka. */
  ended(committed: Counted): void {
    this.#delivered = plus(this.#delivered, committed)
  }

  /** `running`: what the delivery that runs has committed. */
  tally(running: Counted | undefined): ImportTally {
    return { taken: this.#taken, delivered: running === undefined ? this.#delivered : plus(this.#delivered, running) }
  }

  #report(type: string, note: ImportNote, more: object = {}): void {
    const { clock, report } = this.#parts
    report(type, { schema: 1, type, at: new Date(clock.wallMs()).toISOString(), ...fieldsOf(note), bytes: note.bytes, ...more })
  }
}

/** Whose messages they are stands in `of`: `gateway` in a record is the box that tells. */
function fieldsOf({ id, gateway, messages }: ImportNote): { readonly export: string; readonly of: string; readonly messages: number } {
  return { export: id, of: gateway, messages }
}

function plus(a: Counted, b: Counted): Counted {
  return { messages: a.messages + b.messages, bytes: a.bytes + b.bytes }
}
