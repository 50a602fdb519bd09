/**
 * Messages as they are judged, for those who look on. While nobody does, a message costs one comparison. Who is slow gets
 * what fits, and is told how many were skipped; nobody else waits.
 */
import type { Clock } from '../clock.ts'
import type { Delivery } from '../ports.ts'
import type { Judgement } from './admission.ts'
import { globMatches } from './limit-classes.ts'

export interface TailWish {
  /** A device id, or a glob. */
  readonly devices: string
  readonly stream: string | undefined
  readonly payload: boolean
}

export const TAILS_MAX = 8
const LINES_MAX = 1_000
const BYTES_MAX = 1 << 20
const PAYLOAD_MAX = 16_384
const ALIVE_MS = 15_000

export class Tails {
  readonly #clock: Clock
  readonly #open = new Set<Tail>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get full(): boolean {
    return this.#open.size >= TAILS_MAX
  }

  sees(delivery: Delivery, judgement: Judgement, bytes: number): void {
    if (this.#open.size === 0) return
    for (const tail of this.#open) tail.sees(delivery, judgement, bytes, this.#clock.wallMs())
  }

  /** JSON, a line each, until `signal` aborts or all end. */
  async *lines(wish: TailWish, signal: AbortSignal): AsyncGenerator<string, void, undefined> {
    const tail = new Tail(wish)
    this.#open.add(tail)
    const wake = (): void => tail.wake()
    signal.addEventListener('abort', wake, { once: true })
    try {
      // The first piece says that the tail stands: what is published from now on is seen.
      yield '{"alive":true}\n'
      while (!signal.aborted && this.#open.has(tail)) {
        const lines = tail.take()
        if (lines !== '') yield lines
        else if (!(await tail.more(this.#clock))) yield '{"alive":true}\n'
      }
    } finally {
      signal.removeEventListener('abort', wake)
      this.#open.delete(tail)
    }
  }

  /** Ends all. */
  close(): void {
    const open = [...this.#open]
    this.#open.clear()
    for (const tail of open) tail.wake()
  }
}

class Tail {
  readonly #wish: TailWish
  #lines: string[] = []
  #bytes = 0
  #skipped = 0
  #waiter: (() => void) | undefined

  constructor(wish: TailWish) {
    this.#wish = wish
  }

  sees(delivery: Delivery, judgement: Judgement, bytes: number, wallMs: number): void {
    const { devices, stream, payload } = this.#wish
    const { meaning } = judgement
    if (!globMatches(devices, meaning.device) || (stream !== undefined && stream !== meaning.stream)) return
    if (this.#lines.length >= LINES_MAX || this.#bytes >= BYTES_MAX) {
      this.#skipped++
      return
    }
    const line = `${JSON.stringify(lineOf(delivery, judgement, bytes, { wallMs, payload }))}\n`
    this.#lines.push(line)
    this.#bytes += line.length
    this.wake()
  }

  take(): string {
    const skipped = this.#skipped === 0 ? '' : `{"skipped":${this.#skipped}}\n`
    const lines = this.#lines.join('')
    this.#lines = []
    this.#bytes = 0
    this.#skipped = 0
    return lines + skipped
  }

  wake(): void {
    this.#waiter?.()
  }

  /** False when nothing came for a while. */
  more(clock: Clock): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (came: boolean): void => {
        cancel()
        this.#waiter = undefined
        resolve(came)
      }
      const cancel = clock.after(ALIVE_MS, () => end(false))
      this.#waiter = () => end(true)
    })
  }
}

function lineOf(
  delivery: Delivery,
  { meaning, verdict, limitedBy }: Judgement,
  bytes: number,
  how: { wallMs: number; payload: boolean },
): object {
  const { topic, source, qos, payload } = delivery
  return {
    at: new Date(how.wallMs).toISOString(),
    device: meaning.device,
    stream: meaning.stream,
    topic,
    source,
    qos,
    bytes,
    verdict: 'lane' in verdict ? verdict.lane : verdict.shed,
    limitedBy,
    ...(delivery.retained ? { retained: true } : {}),
    ...(delivery.will === true ? { will: true } : {}),
    ...(how.payload ? payloadOf(payload) : {}),
  }
}

function payloadOf(payload: Uint8Array): object {
  const kept = payload.subarray(0, PAYLOAD_MAX)
  const base64 = Buffer.from(kept.buffer, kept.byteOffset, kept.length).toString('base64')
  return { payloadBase64: base64, ...(payload.length > PAYLOAD_MAX ? { payloadCut: true } : {}) }
}
