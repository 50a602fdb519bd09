/** Which epochs there are, and what Kafka has of them, in one producer's life. */
import { LANES, type Advance, type EpochId, type EpochState, type OutboxReader } from '../ports.ts'
import type { Link } from './link.ts'
import type { ReadBack } from './readback.ts'
import { TRANSACTION_MAX_EPOCHS } from './settings.ts'

export class EpochBook {
  readonly #outbox: OutboxReader
  readonly #readBack: ReadBack
  /** `undefined` before the first life. */
  #epochs: ReadonlyMap<EpochId, EpochState> | undefined
  readonly #known = new Set<EpochId>()

  constructor(outbox: OutboxReader, readBack: ReadBack) {
    this.#outbox = outbox
    this.#readBack = readBack
  }

  /** Its committed positions were read in this life, and the outbox dropped what they cover. */
  knows(epoch: EpochId): boolean {
    return this.#known.has(epoch)
  }

  /** The boot in which an epoch was written. */
  bootOf(epoch: EpochId): string | undefined {
    return this.#epochs?.get(epoch)?.bootId
  }

  /**
   * A life begins: reads the epochs that the last transaction can have touched, in all lanes, before anything is
   * unprotected. Epochs further back are read when they come near: a box that crashed a thousand times must not
   * ask a thousand times before its first record, nor after each failure.
   */
  async open(link: Link | undefined): Promise<void> {
    this.#known.clear()
    const isFirst = this.#epochs === undefined
    const epochs = await this.#refresh()
    if (isFirst) this.#readBack.inherit(epochs.filter(({ epoch }) => epoch !== this.#outbox.state().epoch))
    const advances = await this.#ask(link, headsOf(epochs))
    if (advances.length > 0) await this.#outbox.advanceTo(advances, [])
    // Without positions the last life's transaction stays in doubt until it was sent again.
    if (isFirst || link !== undefined) this.#outbox.unprotect()
  }

  /** Asks for these epochs. True if the outbox dropped messages, so that what was read ahead may be void. */
  async learn(link: Link | undefined, wanted: ReadonlySet<EpochId>): Promise<boolean> {
    const epochs = await this.#refresh()
    const advances = await this.#ask(
      link,
      epochs.filter(({ epoch }) => wanted.has(epoch)),
    )
    // An epoch that has gone since it was read has nothing that could be sent.
    for (const epoch of wanted) this.#known.add(epoch)
    if (advances.length === 0) return false
    await this.#outbox.advanceTo(advances, [])
    return true
  }

  /** Without a link (`at-least-once`) there are no positions to ask for. */
  async #ask(link: Link | undefined, epochs: readonly EpochState[]): Promise<readonly Advance[]> {
    const advances: Advance[] = []
    for (const state of epochs) {
      if (link !== undefined) advances.push(...this.#readBack.read(state, await link.committed(state.epoch)))
      this.#known.add(state.epoch)
    }
    return advances
  }

  async #refresh(): Promise<readonly EpochState[]> {
    const epochs = await this.#outbox.epochs()
    this.#epochs = new Map(epochs.map((state) => [state.epoch, state]))
    return epochs
  }
}

/** Of each lane the first epochs, as many as a transaction can hold. Oldest first. */
function headsOf(epochs: readonly EpochState[]): readonly EpochState[] {
  const heads = LANES.flatMap((lane) => epochs.filter(({ lanes }) => lanes[lane] !== undefined).slice(0, TRANSACTION_MAX_EPOCHS))
  const wanted = new Set(heads)
  return epochs.filter((state) => wanted.has(state))
}
