import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** One direction of the emulated line, shared by all connections, so that they share its rate. */
export interface Line {
  /** Added to every byte's way, in ms; a round trip pays it twice when both directions have it. */
  delayMs: number
  /** undefined: as fast as it goes. */
  bytesPerSecond: number | undefined
  /** When the line has sent what it was given so far (performance.now()). */
  freeAt: number
  /** Bytes handed to the other end so far. */
  bytes: number
}

/** Closed: nothing comes out at either end, and no end learns that the other one closed. */
export interface Gate {
  /** undefined: open. */
  closed: PromiseWithResolvers<void> | undefined
}

export function newLine(): Line {
  return { delayMs: 0, bytesPerSecond: undefined, freeAt: 0, bytes: 0 }
}

// What a pipe holds before it stops reading, so that a slow line pushes back on the sender.
const QUEUED_BYTES_MAX = 65_536
const PIECES_PER_SECOND = 20

/** Carries bytes from one socket to another over a line and through a gate, in order. */
export class Pipe {
  readonly #source: Socket
  readonly #sink: Socket
  readonly #line: Line
  readonly #gate: Gate
  readonly #signal: AbortSignal
  #queuedBytes = 0
  // Two chains: a byte's delay must not hold up the sending of the next one.
  #sending: Promise<void> = Promise.resolve()
  #arriving: Promise<void> = Promise.resolve()

  constructor(source: Socket, sink: Socket, line: Line, gate: Gate, signal: AbortSignal) {
    this.#source = source
    this.#sink = sink
    this.#line = line
    this.#gate = gate
    this.#signal = signal
  }

  push(bytes: Buffer): void {
    this.#queuedBytes += bytes.length
    if (this.#queuedBytes >= QUEUED_BYTES_MAX) this.#source.pause()
    for (const piece of pieces(bytes, this.#line.bytesPerSecond)) {
      this.#send(piece.length, () => this.#write(piece))
    }
  }

  /** Does `action` when all that was pushed before has arrived. */
  afterwards(action: () => void): void {
    this.#send(0, action)
  }

  #send(length: number, arrive: () => void | Promise<void>): void {
    this.#sending = this.#sending
      .then(async () => {
        await this.#passLine(length)
        const due = performance.now() + this.#line.delayMs
        this.#arriving = this.#arriving.then(() => this.#arrive(due, arrive)).catch(this.#ignoreAbort)
      })
      .catch(this.#ignoreAbort)
  }

  async #passLine(length: number): Promise<void> {
    const { bytesPerSecond } = this.#line
    if (bytesPerSecond === undefined || length === 0) return
    const now = performance.now()
    this.#line.freeAt = Math.max(now, this.#line.freeAt) + (length * 1000) / bytesPerSecond
    await sleep(this.#line.freeAt - now, undefined, { signal: this.#signal })
  }

  async #arrive(due: number, arrive: () => void | Promise<void>): Promise<void> {
    const wait = due - performance.now()
    if (wait > 0) await sleep(wait, undefined, { signal: this.#signal })
    while (this.#gate.closed !== undefined) await this.#gate.closed.promise
    if (!this.#signal.aborted) await arrive()
  }

  async #write(piece: Buffer): Promise<void> {
    if (this.#sink.destroyed) return
    this.#line.bytes += piece.length
    const hasRoom = this.#sink.write(piece)
    if (!hasRoom) await once(this.#sink, 'drain', { signal: this.#signal })
    this.#queuedBytes -= piece.length
    if (this.#queuedBytes < QUEUED_BYTES_MAX) this.#source.resume()
  }

  // The connection was cut, or its end closed, while bytes were under way: they are lost, as intended.
  readonly #ignoreAbort = (error: unknown): void => {
    if (!this.#signal.aborted && !this.#sink.destroyed) throw error
  }
}

/** On a slow line a large chunk would arrive at once after a long silence; and connections would not take turns. */
function* pieces(bytes: Buffer, bytesPerSecond: number | undefined): Generator<Buffer> {
  const size = bytesPerSecond === undefined ? bytes.length : Math.max(64, Math.floor(bytesPerSecond / PIECES_PER_SECOND))
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size)
}
