/** What the executor remembers, where only root writes: each patch that it began, and how far each channel is. */
import type { FilesPatch } from '../document.ts'
import type { Accepted } from '../kinds.ts'
import type { Json, Memory, MemoryChanges } from '../memory.ts'

export interface Entry {
  readonly digest: string
  readonly patch: string
  readonly channel: string
  readonly sequence: number
  /** Base64. */
  readonly envelope: string
  readonly plan: Json
  /** `prepared`: nothing was changed yet; `discarded`: taken back. */
  readonly phase: 'prepared' | 'begun' | 'committed' | 'discarded'
  /** How far it came: a later step needs the one before it. */
  readonly isBuilt: boolean
  readonly isReady: boolean
  /** Grows with each patch that was begun. */
  readonly order: number
}

/** Of those that need not be kept. */
const KEPT_MAX = 48
const PREPARED = 'prepared'
const BEGUN = 'patch/'
const FLOOR = 'floor/'

export class Ledger {
  readonly #memory: Memory

  constructor(memory: Memory) {
    this.#memory = memory
  }

  /** One at a time; written only when it differs, since the daemon prepares again and again while a patch waits. */
  async prepare({ patch, digest, envelope }: Accepted<FilesPatch>, plan: Json): Promise<void> {
    const { id, channel, sequence } = patch
    const fixed = { digest, patch: id, channel, sequence, envelope: Buffer.from(envelope).toString('base64') }
    const entry: Entry = { ...fixed, plan, phase: 'prepared', isBuilt: false, isReady: false, order: 0 }
    const before = await this.#read(PREPARED)
    if (JSON.stringify(before) !== JSON.stringify(entry)) await this.#memory.write({ [PREPARED]: jsonOf(entry) })
  }

  async find(digest: string): Promise<Entry | undefined> {
    const begun = await this.#read(BEGUN + digest)
    if (begun !== undefined) return begun
    const prepared = await this.#read(PREPARED)
    return prepared?.digest === digest ? prepared : undefined
  }

  /** What was prepared last takes the place of an earlier try of the same patch. */
  async begin(digest: string): Promise<Entry | undefined> {
    const prepared = await this.#read(PREPARED)
    if (prepared?.digest !== digest) return this.find(digest)
    const order = Math.max(0, ...(await this.all()).map((one) => one.order)) + 1
    const entry: Entry = { ...prepared, phase: 'begun', order }
    await this.#memory.write({ [BEGUN + digest]: jsonOf(entry), [PREPARED]: undefined, ...(await this.#old()) })
    return entry
  }

  async note(entry: Entry, changes: Partial<Entry>): Promise<Entry> {
    const next = { ...entry, ...changes }
    await this.#memory.write({ [BEGUN + entry.digest]: jsonOf(next) })
    return next
  }

  /** In one write with the floor, which only rises. */
  async commit(entry: Entry): Promise<void> {
    const floor = await this.floor(entry.channel)
    const isHigher = floor === undefined || floor.sequence < entry.sequence
    await this.#memory.write({
      [BEGUN + entry.digest]: jsonOf({ ...entry, phase: 'committed' }),
      ...(isHigher && { [FLOOR + entry.channel]: { sequence: entry.sequence, patch: entry.patch } }),
    })
  }

  async floor(channel: string): Promise<{ readonly sequence: number; readonly patch: string } | undefined> {
    return (await this.#memory.read(FLOOR + channel)).get(FLOOR + channel) as { sequence: number; patch: string } | undefined
  }

  async all(): Promise<readonly Entry[]> {
    return [...(await this.#memory.read(BEGUN)).values()] as unknown as Entry[]
  }

  async #old(): Promise<MemoryChanges> {
    const over = (await this.all()).filter(({ phase }) => phase !== 'begun').sort((a, b) => b.order - a.order)
    return Object.fromEntries(over.slice(KEPT_MAX).map(({ digest }) => [BEGUN + digest, undefined]))
  }

  async #read(key: string): Promise<Entry | undefined> {
    return (await this.#memory.read(key)).get(key) as unknown as Entry | undefined
  }
}

function jsonOf(entry: Entry): Json {
  return entry as unknown as Json
}
