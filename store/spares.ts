/**
 * Buffers that travel: the main thread fills one with frames, the worker stores them and gives it back. Made anew for
 * each commit they would pile up until the next collection, which the worker, that makes few objects, seldom needs.
 */

/** A larger one is left to the collector: only huge messages make it. */
const MAX_BYTES = 512 << 10
const MAX_COUNT = 8

export class Spares {
  readonly #buffers: ArrayBuffer[] = []

  /** One that came back, or a new one of `bytes`. */
  take(bytes: number): Buffer {
    const spare = this.#buffers.pop()
    return spare === undefined ? Buffer.allocUnsafeSlow(bytes) : Buffer.from(spare)
  }

  give(buffers: readonly ArrayBuffer[]): void {
    for (const buffer of buffers) {
      if (buffer.byteLength <= MAX_BYTES && this.#buffers.length < MAX_COUNT) this.#buffers.push(buffer)
    }
  }
}
