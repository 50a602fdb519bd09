/** What a chunk received, per device, stream and fate; from the main thread to the worker. */
import type { ShedReason } from '../daemon/ports.ts'
import { ByteReader, ByteWriter } from './bytes.ts'
import { RECEIVED, SHED_CODES } from './ledger-codec.ts'

interface Receipt {
  readonly device: string
  readonly stream: string
  /** `RECEIVED` for accepted messages, else the code of the shed reason. */
  readonly code: number
  messages: number
  bytes: number
}

export class Receipts {
  readonly #receipts = new Map<string, Receipt>()

  add(device: string, stream: string, reason: ShedReason | undefined, bytes: number): void {
    const key = reason === undefined ? `${device}\0${stream}` : `${device}\0${stream}\0${reason}`
    const receipt = this.#receipts.get(key)
    if (receipt !== undefined) {
      receipt.messages++
      receipt.bytes += bytes
      return
    }
    this.#receipts.set(key, { device, stream, code: reason === undefined ? RECEIVED : SHED_CODES[reason], messages: 1, bytes })
  }

  encode(): Uint8Array {
    const out = new ByteWriter(64 + 32 * this.#receipts.size)
    for (const receipt of this.#receipts.values()) {
      out.byte(receipt.code)
      out.text(receipt.device)
      out.text(receipt.stream)
      out.varint(receipt.messages)
      out.varint(receipt.bytes)
    }
    return out.view()
  }
}

export function decodeReceipts(
  bytes: Uint8Array,
  visit: (device: string, stream: string, code: number, messages: number, bytes: number) => void,
): void {
  const reader = new ByteReader(bytes)
  while (!reader.done) {
    const code = reader.byte()
    visit(reader.text(), reader.text(), code, reader.varint(), reader.varint())
  }
}
