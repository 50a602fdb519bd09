/**
 * Exports, one at a time: closes the epoch, gives out what is closed, and lets it go once the file is known to be whole.
 *
 * The order is what makes a crash harmless. The file is complete and verified before `take`; `take` notes the decision
 * durably, then the rows go in bounded transactions, and a start goes on with what is left. Until the rows are gone the
 * box may deliver them itself: positions in Kafka tell an importer, and the other way round.
 */
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { GatewayError, kindOf, messageOf } from '../errors.ts'
import type { JsonObject, Memory } from '../patch/memory.ts'
import { LANES, type Advance, type EpochState, type Lane, type Log, type OutboxMoves } from '../ports.ts'
import { EXPORT_FORMAT, type ExportHead, type ExportSum } from './file.ts'
import { messageLine } from './lines.ts'

export interface ExportFilter {
  /** All, if it is empty. */
  readonly lanes: readonly Lane[]
  readonly epochs: readonly string[]
}

/** What the file says of itself once it is whole. */
export interface ExportFacts extends ExportSum {
  readonly files: readonly string[]
  /** Of the last part; each holds the digest of the one before. */
  readonly sha256: string
}

/** Durable, below `exports/`. `moving`: decided, rows are still on their way out. */
export interface ExportNote extends ExportFacts {
  readonly id: string
  readonly state: 'moving' | 'done'
  readonly at: string
  readonly gateway: string
  readonly ends: readonly Advance[]
}

export interface ExportDeskParts {
  readonly moves: OutboxMoves
  readonly memory: Memory
  readonly clock: Clock
  readonly log: Log
  readonly version: string
  readonly draw: () => string
  /** What the export's head says of the box. */
  readonly origin: () => Pick<ExportHead, 'gateway' | 'prefix' | 'topic' | 'allowedTopics'>
  /** Tells the events topic. */
  readonly report: (type: string, document: object) => void
  /** The relay waits meanwhile, or each message would go both ways. */
  readonly hold: (why: { readonly reason: string; readonly remedy: string } | undefined) => void
}

const PREFIX = 'exports/'
const NOTES_MAX = 100
const READ_BYTES = 512 * 1024
/** A command that has gone must not keep the relay waiting. */
const IDLE_MS = 120_000

interface Current {
  readonly id: string
  readonly ends: readonly Advance[]
  readonly epochs: readonly EpochState[]
  cancelIdle: () => void
}

export class ExportDesk implements Component {
  readonly name = 'exports'
  readonly ended: Promise<never>
  readonly #parts: ExportDeskParts
  #current: Current | undefined
  #beginning = false
  readonly #unwritten = new Map<string, ExportNote>()
  #moving: Promise<void> = Promise.resolve()
  #stopping = false
  #die: (error: unknown) => void = () => undefined

  constructor(parts: ExportDeskParts) {
    this.#parts = parts
    this.ended = new Promise((_, reject) => {
      this.#die = reject
    })
    this.ended.catch(() => undefined)
  }

  /** Goes on with exports that were decided before a crash. */
  async start(_signal: AbortSignal): Promise<void> {
    const open = (await this.notes()).filter(({ state }) => state === 'moving')
    for (const note of open) this.#move(note)
  }

  async stop(): Promise<void> {
    this.#stopping = true
    this.#end()
    await this.#moving
  }

  /** The head of the export's first part; `id` names the export from now on. */
  async begin(filter: ExportFilter): Promise<ExportHead> {
    if (this.#current !== undefined || this.#beginning) throw refused('another export is under way', 'wait for it, or end that command')
    this.#beginning = true
    this.#parts.hold({ reason: 'an export is under way', remedy: 'wait until `edgectl export` has ended' })
    try {
      const epochs = (await this.#parts.moves.closeEpoch()).filter(({ epoch }) => wanted(filter.epochs, epoch))
      const ends = endsOf(epochs, filter.lanes)
      if (isNothing(ends, filter)) throw refused('there is nothing to export', 'edgectl buffer shows what waits, by lane and epoch')
      const id = this.#parts.draw()
      this.#current = { id, ends, epochs, cancelIdle: () => undefined }
      this.#parts.moves.keep(ends)
      this.#touch(this.#current)
      return this.#head(this.#current)
    } catch (error) {
      this.#parts.hold(undefined)
      throw error
    } finally {
      this.#beginning = false
    }
  }

  /** All its messages as lines, some at a time, each piece ending with a line's end. */
  async *lines(id: string): AsyncGenerator<string, void, undefined> {
    const current = this.#named(id)
    let complete = false
    try {
      for (const lane of LANES) yield* this.#linesOf(current, lane)
      complete = true
    } finally {
      // Its command has gone: the relay need not wait any longer.
      if (!complete && this.#current === current) this.#end()
    }
  }

  /** The file is whole: its rows leave. Resolves when that is decided; `note` says when they are gone. */
  async take(id: string, facts: ExportFacts): Promise<ExportNote> {
    const current = this.#named(id)
    const { gateway } = this.#parts.origin()
    const at = new Date(this.#parts.clock.wallMs()).toISOString()
    const note: ExportNote = { ...facts, id, state: 'moving', at, gateway, ends: current.ends }
    current.cancelIdle()
    await this.#remember(note)
    this.#move(note, () => this.#end())
    return note
  }

  /** Its command is still there, though it asks for nothing: it looks at the file. */
  alive(id: string): void {
    this.#touch(this.#named(id))
  }

  cancel(id: string): void {
    this.#named(id)
    this.#end()
  }

  async note(id: string): Promise<ExportNote | undefined> {
    return this.#unwritten.get(id) ?? (await this.notes()).find((note) => note.id === id)
  }

  /** Oldest first. */
  async notes(): Promise<readonly ExportNote[]> {
    const entries = await this.#parts.memory.read(PREFIX)
    return [...entries.values()].map((value) => value as unknown as ExportNote).sort((a, b) => (a.at < b.at ? -1 : 1))
  }

  async *#linesOf(current: Current, lane: Lane): AsyncGenerator<string, void, undefined> {
    const names = new Set(current.ends.filter((end) => end.lane === lane).map(({ epoch }) => epoch))
    const last = Math.max(0, ...current.ends.filter((end) => end.lane === lane).map(({ position }) => position))
    for (let at = 0; at < last;) {
      const some = await this.#parts.moves.peek(lane, at, last, READ_BYTES)
      const end = some.at(-1)
      if (end === undefined) return
      this.#touch(this.#named(current.id))
      at = end.position
      const lines = some.filter(({ epoch }) => names.has(epoch)).map((stored) => `${messageLine(lane, stored)}\n`)
      if (lines.length > 0) yield lines.join('')
    }
  }

  #move(note: ExportNote, done: () => void = () => undefined): void {
    this.#moving = this.#moving
      .then(() => this.#carryOut(note))
      .catch((error: unknown) => this.#die(error))
      .finally(done)
  }

  async #carryOut(note: ExportNote): Promise<void> {
    while (!this.#stopping) {
      if (!(await this.#parts.moves.moveOut(note.ends))) continue
      await this.#remember({ ...note, state: 'done' })
      await this.#forgetOldest()
      this.#parts.log.info(
        { export: note.id, messages: note.messages, files: note.files },
        'an export is complete; its messages left the buffer',
      )
      this.#tell(note)
      return
    }
  }

  #tell({ id, messages, bytes, files }: ExportNote): void {
    const at = new Date(this.#parts.clock.wallMs()).toISOString()
    this.#parts.report('exported', { schema: 1, type: 'exported', at, export: id, messages, bytes, files })
  }

  /**
   * On a full disk there is no room for a note, and the export is what makes room: it goes on without. A crash in the
   * middle then leaves the rest in the buffer too, and Kafka gets each message once all the same.
   */
  async #remember(note: ExportNote): Promise<void> {
    try {
      await this.#parts.memory.write({ [PREFIX + note.id]: note as unknown as JsonObject })
      this.#unwritten.delete(note.id)
    } catch (error) {
      if (!(error instanceof GatewayError) || error.kind !== 'saturated') throw error
      this.#unwritten.set(note.id, note)
      this.#parts.log.warn({ export: note.id, err: error.message }, 'an export goes on without a note on the disk')
    }
  }

  async #forgetOldest(): Promise<void> {
    const done = (await this.notes()).filter(({ state }) => state === 'done')
    const old = done.slice(0, Math.max(0, done.length - NOTES_MAX))
    if (old.length === 0) return
    try {
      await this.#parts.memory.write(Object.fromEntries(old.map(({ id }) => [PREFIX + id, undefined])))
    } catch (error) {
      if (kindOf(error) !== 'saturated') throw error
      this.#parts.log.debug({ err: messageOf(error) }, 'old notes about exports stay until there is room')
    }
  }

  #named(id: string): Current {
    if (this.#current?.id === id) return this.#current
    throw refused('this export is not under way any more', 'run `edgectl export` again')
  }

  #touch(current: Current): void {
    current.cancelIdle()
    current.cancelIdle = this.#parts.clock.after(IDLE_MS, () => {
      this.#parts.log.warn({ export: current.id }, 'an export was given up: its command has gone; nothing has left the buffer')
      this.#end()
    })
  }

  #end(): void {
    this.#current?.cancelIdle()
    if (this.#current === undefined) return
    this.#current = undefined
    try {
      this.#parts.moves.keep([])
    } finally {
      this.#parts.hold(undefined)
    }
  }

  #head({ id, epochs }: Current): ExportHead {
    return {
      edgeGatewayExport: EXPORT_FORMAT,
      id,
      part: 1,
      before: '',
      exportedAt: new Date(this.#parts.clock.wallMs()).toISOString(),
      version: this.#parts.version,
      ...this.#parts.origin(),
      epochs: epochs.map(({ epoch, bootId, createdMs, touchedMs }) => ({ epoch, bootId, createdMs, touchedMs })),
    }
  }
}

function endsOf(epochs: readonly EpochState[], lanes: readonly Lane[]): Advance[] {
  return epochs.flatMap(({ epoch, lanes: spans }) =>
    LANES.flatMap((lane) => {
      const span = spans[lane]
      return span === undefined || !wanted(lanes, lane) ? [] : [{ lane, epoch, position: span.last }]
    }),
  )
}

/** Each export leaves a record of itself: alone it is no reason for another one, unless it is asked for. */
function isNothing(ends: readonly Advance[], { lanes }: ExportFilter): boolean {
  return ends.every(({ lane }) => lane === 'internal' && !lanes.includes(lane))
}

function wanted<Name>(names: readonly Name[], name: Name): boolean {
  return names.length === 0 || names.includes(name)
}

function refused(message: string, remedy: string): GatewayError {
  return new GatewayError('rejected', message, { remedy })
}
