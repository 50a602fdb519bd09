/** What a group holds per device and stream, for the ledger. */
import { ByteReader, ByteWriter } from './bytes.ts'
import { skimGroup } from './frames.ts'

type Visit = (device: string, stream: string, messages: number, bytes: number) => void

interface Share {
  messages: number
  bytes: number
}

export class Shares {
  /** Of all, also of the gateway's own records, which have no device. */
  messages = 0
  bytes = 0
  readonly #devices = new Map<string, Map<string, Share>>()

  /** Counts the frames from `low` to `high` (inclusive) but for those that `skip` names. */
  count(frames: Uint8Array, low: number, high: number, skip: (index: number) => boolean): void {
    skimGroup(frames, (index, size, device, stream) => {
      if (index > high) return false
      if (index < low || skip(index)) return true
      this.messages++
      this.bytes += size
      if (device !== undefined) this.#add(device, stream, size)
      return true
    })
  }

  each(visit: Visit): void {
    for (const [device, streams] of this.#devices) {
      for (const [stream, share] of streams) visit(device, stream, share.messages, share.bytes)
    }
  }

  encode(): Uint8Array {
    const out = new ByteWriter(64)
    this.each((device, stream, messages, bytes) => {
      out.text(device)
      out.text(stream)
      out.varint(messages)
      out.varint(bytes)
    })
    return Uint8Array.from(out.view())
  }

  #add(device: string, stream: string, bytes: number): void {
    let streams = this.#devices.get(device)
    if (streams === undefined) this.#devices.set(device, (streams = new Map<string, Share>()))
    const share = streams.get(stream)
    if (share === undefined) streams.set(stream, { messages: 1, bytes })
    else {
      share.messages++
      share.bytes += bytes
    }
  }
}

/** More than the rows of two transactions hold, unless each message has a device of its own. */
const KEPT_BYTES = 512 << 10

/** The shares of rows that were read, oldest first: most rows are removed soon after, and need not be opened again. */
export class KnownShares {
  readonly #rows = new Map<number, Uint8Array>()
  #bytes = 0

  note(first: number, frames: Uint8Array): void {
    const shares = new Shares()
    shares.count(frames, 0, Infinity, () => false)
    const encoded = shares.encode()
    this.forget(first)
    this.#rows.set(first, encoded)
    this.#bytes += encoded.length
    for (const oldest of this.#rows.keys()) {
      if (this.#bytes <= KEPT_BYTES) return
      this.forget(oldest)
    }
  }

  /** False, and nothing is visited, when the row is not known. */
  visit(first: number, visit: Visit): boolean {
    const encoded = this.#rows.get(first)
    if (encoded === undefined) return false
    const reader = new ByteReader(encoded)
    while (!reader.done) visit(reader.text(), reader.text(), reader.varint(), reader.varint())
    return true
  }

  forget(first: number): void {
    this.#bytes -= this.#rows.get(first)?.length ?? 0
    this.#rows.delete(first)
  }
}
