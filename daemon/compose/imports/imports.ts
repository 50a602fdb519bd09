/** The imports of this box: taken in whole, delivered one after the other beside the box's own messages, then removed. */
import type { Settings } from '../../../config/settings.ts'
import type { Outbox } from '../../../store/outbox.ts'
import type { Component } from '../../component.ts'
import { GatewayError, messageOf } from '../../errors.ts'
import type { ExportSum } from '../../move/file.ts'
import type { ImportFigures, ImportTally } from '../../move/figures.ts'
import type { DeadLetters } from '../../ports.ts'
import type { RelayHold } from '../../relay/relay.ts'
import { ArrivingImport, checkedHead } from './arriving.ts'
import { IMPORT_SHARE, ImportDelivery, importOutbox, type Surroundings } from './delivery.ts'
import { ImportFolder, noteOf, type ImportNote } from './folder.ts'
import { ImportNews, type ImportNewsParts } from './news.ts'
import { remedyFor } from './remedy.ts'

export interface ImportsParts extends Surroundings, ImportNewsParts {
  readonly draw: () => string
  readonly settings: () => Settings
  /** Holds the box's own relay, while older messages of its own go first. */
  readonly hold: (why: RelayHold | undefined) => void
  /** What of the uplink is left to the box's own messages. */
  readonly share: (settings: Settings, fraction: number) => void
}

const LOOK_MS = 500
const RETRY_MS = 30_000
const IDLE_MS = 120_000
const BUILDING_MAX = 4
/** Pages and the room that deletes need, beside the payload. */
const SPARE_BYTES = 64 << 20
const LETTERS_AT_ONCE = 50
const STEADY = new AbortController().signal

interface Building {
  readonly outbox: Outbox
  readonly arriving: ArrivingImport
  cancelIdle: () => void
}

export class Imports implements Component {
  readonly name = 'imports'
  readonly #parts: ImportsParts
  readonly #news: ImportNews
  #folder: ImportFolder | undefined
  #waiting: ImportNote[] = []
  /** By the key that each got. */
  readonly #building = new Map<string, Building>()
  #delivery: ImportDelivery | undefined
  #trouble: string | undefined
  /** Part of the uplink's budget that the box's own messages have. */
  #left = 1
  #cancelLook: () => void = () => undefined
  #stopped = false
  #turn: Promise<void> = Promise.resolve()

  constructor(parts: ImportsParts) {
    this.#parts = parts
    this.#news = new ImportNews(parts)
  }

  async start(_signal: AbortSignal): Promise<void> {
    this.#waiting = [...this.#opened().open((text) => this.#parts.log.error({}, text))]
    this.#look()
  }

  async stop(deadlineMs: number): Promise<void> {
    this.#stopped = true
    this.#cancelLook()
    for (const key of this.#building.keys()) await this.#giveUp(key)
    await this.#turn
    await this.#delivery?.stop(deadlineMs)
    this.#delivery = undefined
  }

  figures(): readonly ImportFigures[] {
    return this.#waiting.map((note) => {
      const { id, gateway, messages, bytes = 0, importedAt, deadLetters = 0 } = note
      const delivery = this.#delivery?.note.id === id ? this.#delivery : undefined
      const state = deadLetters > 0 ? 'dead-letters' : delivery === undefined ? 'waiting' : 'delivering'
      const left = deadLetters > 0 ? { messages: 0, bytes: 0 } : (delivery?.left ?? { messages, bytes })
      const reason = delivery === undefined ? undefined : (delivery.relay.reason ?? this.#trouble)
      const said = delivery?.relay.remedy
      const remedy = said === undefined ? undefined : remedyFor(note, this.#parts.settings(), said)
      return {
        ...{ id, gateway, messages, importedAt, state, left: left.messages, leftBytes: left.bytes, deadLetters },
        ...(reason === undefined ? {} : { reason }),
        ...(remedy === undefined ? {} : { remedy }),
      }
    })
  }

  tally(): ImportTally {
    return this.#news.tally(this.#delivery?.committed)
  }

  configure(settings: Settings): void {
    this.#delivery?.configure(settings)
    if (this.#delivery !== undefined) this.#parts.share(settings, this.#left)
  }

  // ------------------------------------------------------------- taking one in

  /**
   * Makes an empty buffer for it, and returns the key that names it from now on. Rejects when it is here already, or the
   * disk has no room. A command that takes the same in again was begun because the one before has gone.
   */
  async begin(head: unknown, sum: ExportSum): Promise<string> {
    const checked = checkedHead(head)
    if (this.#opened().has(checked))
      throw refused(`this export of ${checked.gateway} is here already`, '`edgectl imports` shows how much of it is left')
    for (const [key, { arriving }] of this.#building) if (arriving.head.id === checked.id) await this.#giveUp(key)
    if (this.#building.size >= BUILDING_MAX)
      throw refused(`${BUILDING_MAX} imports are taken in at this moment`, 'wait until one of them has ended')
    const settings = this.#parts.settings()
    const key = this.#parts.draw()
    const path = this.#opened().build(key, sum.bytes + SPARE_BYTES, settings.buffer.minFreeBytes)
    const outbox = importOutbox(path, settings, this.#parts)
    const building = { outbox, arriving: new ArrivingImport(checked, outbox.moves), cancelIdle: () => undefined }
    this.#building.set(key, building)
    this.#touch(key, building)
    await outbox.start(STEADY)
    return key
  }

  async add(key: string, lines: string): Promise<void> {
    const building = this.#named(key)
    this.#touch(key, building)
    try {
      await building.arriving.add(lines)
    } catch (error) {
      await this.#giveUp(key)
      throw error
    }
  }

  /** From now on it is delivered, whatever happens. */
  async commit(key: string, sum: ExportSum): Promise<ImportNote> {
    const { arriving, outbox, cancelIdle } = this.#named(key)
    cancelIdle()
    try {
      arriving.check(sum)
      await outbox.stop(Infinity)
      const note = noteOf(arriving.head, sum, new Date(this.#parts.clock.wallMs()).toISOString())
      this.#opened().accept(key, note)
      this.#building.delete(key)
      this.#waiting.push(note)
      this.#news.taken(note)
      this.#look()
      return note
    } catch (error) {
      await this.#giveUp(key)
      throw error
    }
  }

  async cancel(key: string): Promise<void> {
    this.#named(key)
    await this.#giveUp(key)
  }

  // ------------------------------------------------------------- dead letters of one

  /** What Kafka refused goes back into its lanes, and the import is delivered again. */
  async retry(id: string): Promise<number> {
    const note = this.#withLetters(id)
    const outbox = importOutbox(this.#opened().pathOf(note), this.#parts.settings(), this.#parts)
    let count = 0
    try {
      await outbox.start(STEADY)
      count = await retryAll(outbox.deadLetters)
    } finally {
      // Else the folder would stay locked, and nobody could try again.
      await outbox.stop(Infinity)
    }
    this.#rewrite({ ...note, deadLetters: 0 })
    this.#look()
    return count
  }

  drop(id: string): number {
    const note = this.#withLetters(id)
    this.#remove(note)
    this.#news.dropped(note)
    return note.deadLetters ?? 0
  }

  #withLetters(id: string): ImportNote {
    const note = this.#waiting.find((one) => one.id === id)
    if ((note?.deadLetters ?? 0) === 0 || note === undefined)
      throw refused(`there is no import ${id} with dead letters`, '`edgectl imports` shows the imports of this box')
    return note
  }

  // ------------------------------------------------------------- delivering

  #look(afterMs = 0): void {
    this.#cancelLook()
    if (this.#stopped) return
    this.#cancelLook = this.#parts.clock.after(afterMs, () => {
      // One after the other: a delivery that only begins has nothing in its lanes yet.
      this.#turn = this.#turn.then(() => this.#takeTurn())
    })
  }

  async #takeTurn(): Promise<void> {
    if (this.#stopped) return
    try {
      const waitMs = await this.#step()
      if (waitMs !== undefined) this.#look(waitMs)
    } catch (error) {
      this.#failed(error)
    }
  }

  /** Returns when to look again; undefined when nothing is there. */
  async #step(): Promise<number | undefined> {
    if (this.#delivery !== undefined) {
      if (this.#delivery.isDrained) await this.#finish(this.#delivery)
      else this.#divide(this.#delivery)
      return LOOK_MS
    }
    const next = this.#waiting.find(({ deadLetters = 0 }) => deadLetters === 0)
    if (next === undefined) return undefined
    await this.#begin(next)
    return LOOK_MS
  }

  async #begin(note: ImportNote): Promise<void> {
    const settings = this.#parts.settings()
    const delivery = new ImportDelivery(note, this.#opened().pathOf(note), settings, this.#parts)
    if (note.gateway === settings.gateway.id)
      this.#parts.hold({
        reason: "older messages of this box's own are imported, and go first",
        remedy: 'wait until they are delivered: edgectl imports',
      })
    this.#delivery = delivery
    await delivery.start(STEADY)
    delivery.ended().catch((error: unknown) => this.#failed(error))
    this.#trouble = undefined
    this.#divide(delivery)
  }

  /** One that can't send, for days perhaps, takes nothing of the uplink from the box's own messages. */
  #divide({ relay: { reason } }: ImportDelivery): void {
    const left = reason === undefined ? 1 - IMPORT_SHARE : 1
    if (left === this.#left) return
    this.#left = left
    this.#parts.share(this.#parts.settings(), left)
  }

  async #finish(delivery: ImportDelivery): Promise<void> {
    const { note, outbox } = delivery
    const { deadLetters } = outbox.state()
    await delivery.stop(Infinity)
    this.#let()
    if (deadLetters > 0) this.#rewrite({ ...note, deadLetters })
    else this.#remove(note)
    this.#news.delivered(note, deadLetters)
  }

  /** What it holds stays where it is; the box's own messages go on. */
  #failed(error: unknown): void {
    if (this.#stopped) return
    const delivery = this.#delivery
    this.#trouble = messageOf(error)
    this.#parts.log.error(
      { err: messageOf(error), gateway: delivery?.note.gateway },
      'an import can not be delivered now; it is tried again',
    )
    this.#let()
    void delivery?.stop(0).catch(() => undefined)
    this.#look(RETRY_MS)
  }

  #let(): void {
    if (this.#delivery !== undefined) this.#news.ended(this.#delivery.committed)
    this.#delivery = undefined
    this.#parts.hold(undefined)
    this.#left = 1
    this.#parts.share(this.#parts.settings(), 1)
  }

  // ------------------------------------------------------------- its own book-keeping

  #rewrite(note: ImportNote): void {
    this.#opened().rewrite(note)
    this.#waiting = this.#waiting.map((one) => (one.id === note.id ? note : one))
  }

  #remove(note: ImportNote): void {
    this.#opened().remove(note)
    this.#waiting = this.#waiting.filter(({ id }) => id !== note.id)
  }

  #opened(): ImportFolder {
    return (this.#folder ??= new ImportFolder(this.#parts.settings().gateway.dataDir))
  }

  #named(key: string): Building {
    const building = this.#building.get(key)
    if (building !== undefined) return building
    throw refused('this import is not under way any more', 'run `edgectl import` again')
  }

  #touch(key: string, building: Building): void {
    building.cancelIdle()
    building.cancelIdle = this.#parts.clock.after(IDLE_MS, () => {
      this.#parts.log.warn({ export: building.arriving.head.id }, 'an import was given up: its command has gone')
      void this.#giveUp(key)
    })
  }

  async #giveUp(key: string): Promise<void> {
    const building = this.#building.get(key)
    if (building === undefined) return
    this.#building.delete(key)
    building.cancelIdle()
    await building.outbox.stop(0)
    this.#opened().discard(key)
  }
}

/** Some at a time: an import may be nothing but dead letters, and larger than the memory. */
async function retryAll({ list, retry }: Pick<DeadLetters, 'list' | 'retry'>): Promise<number> {
  for (let count = 0; ;) {
    const before = count
    for (const { id } of await list(LETTERS_AT_ONCE)) if (await retry(id)) count += 1
    if (count === before) return count
  }
}

function refused(message: string, remedy: string): GatewayError {
  return new GatewayError('rejected', message, { remedy })
}
