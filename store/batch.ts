/** What waits on the main thread for the next commit, already encoded. */
import type { Entry, InternalRecord, ShedReason } from '../daemon/ports.ts'
import { GroupEncoder } from './frames.ts'
import type { ChunkKind, WireChunk, WireGroup } from './protocol.ts'
import { Receipts } from './receipts.ts'
import type { Spares } from './spares.ts'

/** A group ends at this size: what is read, evicted and lost to a bad page is counted in groups. */
const GROUP_BYTES = 128 << 10
const FIRST_BYTES = 16 << 10

class ChunkBuilder {
  readonly id: number
  readonly kind: ChunkKind
  readonly #groups: WireGroup[] = []
  readonly #receipts = new Receipts()
  readonly exchanges: string[] = []
  readonly #ids: Uint8Array[] = []
  readonly #spares: Spares
  #encoder: GroupEncoder | undefined

  constructor(id: number, kind: ChunkKind, spares: Spares) {
    this.id = id
    this.kind = kind
    this.#spares = spares
  }

  add(entry: Entry, reason: ShedReason | undefined): void {
    const { envelope } = entry
    this.#receipts.add(envelope.device, envelope.stream, reason, entry.bytes)
    // Only where the verdict itself is a shed one; what was to be stored, and was not, may come again.
    if (entry.messageId !== undefined && (reason === undefined || 'shed' in entry.verdict)) this.#ids.push(entry.messageId)
    if (reason !== undefined) return
    this.#open().add(envelope)
    if (entry.exchange !== undefined) this.exchanges.push(entry.exchange)
  }

  addInternal(record: InternalRecord): void {
    this.#open().addInternal(record)
  }

  finish(): WireChunk {
    this.#close()
    const messageIds = this.#ids.length === 0 ? undefined : Buffer.concat(this.#ids)
    return { id: this.id, kind: this.kind, groups: this.#groups, receipts: this.#receipts.encode(), exchanges: this.exchanges, messageIds }
  }

  #open(): GroupEncoder {
    if (this.#encoder !== undefined && this.#encoder.size >= GROUP_BYTES) this.#close()
    this.#encoder ??= new GroupEncoder(this.#spares.take(this.#groups.length === 0 ? FIRST_BYTES : GROUP_BYTES + FIRST_BYTES))
    return this.#encoder
  }

  #close(): void {
    if (this.#encoder !== undefined) this.#groups.push({ facts: this.#encoder.facts, frames: this.#encoder.finish() })
    this.#encoder = undefined
  }
}

interface Held {
  readonly entry: Entry
  readonly chunk: number
}

/** Numbers chunks over the life of the store. */
export interface Numbers {
  chunk: number
}

export class Batch {
  readonly releases: { readonly exchange: string; readonly done: () => void }[] = []
  readonly #builders = new Map<ChunkKind, ChunkBuilder>()
  readonly #numbers: Numbers
  readonly #spares: Spares
  readonly releaseId: number
  #released = false
  #held: Held[] = []
  /** Payload bytes as received; what the commit's size limit goes by. */
  bytes = 0

  constructor(numbers: Numbers, spares: Spares) {
    this.#numbers = numbers
    this.#spares = spares
    this.releaseId = numbers.chunk++
  }

  get empty(): boolean {
    return this.#builders.size === 0 && this.releases.length === 0
  }

  get exchanges(): string[] {
    return [...this.#builders.values()].flatMap((builder) => builder.exchanges)
  }

  /** `reason` is what becomes of the entry, which may be other than what its verdict asked for. */
  add(entry: Entry, kind: ChunkKind, reason: ShedReason | undefined): void {
    const builder = this.#builder(kind)
    builder.add(entry, reason)
    this.#held.push({ entry, chunk: builder.id })
    this.bytes += entry.bytes
  }

  addInternal(record: InternalRecord): void {
    this.#builder('internal').addInternal(record)
    this.bytes += record.value.length
  }

  /** The chunks to send, once. */
  finish(): WireChunk[] {
    return [...this.#builders.values()].map((builder) => builder.finish())
  }

  /** Takes out the entries of chunks that are durable now, in the order of their submission. */
  settled(stored: ReadonlySet<number>): Entry[] {
    const settled: Entry[] = []
    const rest: Held[] = []
    for (const held of this.#held) {
      if (stored.has(held.chunk)) settled.push(held.entry)
      else rest.push(held)
    }
    this.#held = rest
    return settled
  }

  /** Calls back for the forgotten exchanges, once they are durably so. */
  release(stored: ReadonlySet<number>): void {
    if (this.#released || !stored.has(this.releaseId)) return
    this.#released = true
    for (const { done } of this.releases) done()
  }

  /** True when every entry was settled. */
  get done(): boolean {
    return this.#held.length === 0 && this.#released
  }

  #builder(kind: ChunkKind): ChunkBuilder {
    let builder = this.#builders.get(kind)
    if (builder === undefined) {
      builder = new ChunkBuilder(this.#numbers.chunk++, kind, this.#spares)
      this.#builders.set(kind, builder)
    }
    return builder
  }
}
