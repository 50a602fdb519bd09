/** What the operating system says of one program, and the load that a bench puts on it. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { PublisherOptions, PublisherOrder, PublisherReport } from './publisher.ts'

const TICKS_PER_SECOND = 100
const PUBLISHER = fileURLToPath(new URL('publisher.ts', import.meta.url))
const SAMPLE_MS = 500

/** Who publishes: the same for the gateway and for the ceilings. */
export const CROWD = { connections: 100, window: 50, payloadBytes: 200 }
/** Messages that a fed load keeps between the devices and whatever counts them: four transactions' worth. */
export const OPEN = 40_000

export interface Usage {
  readonly cpuSeconds: number
  readonly rssMiB: number
  /** Bytes handed to the block layer. */
  readonly writtenBytes: number
}

export function usageOf(pid: number): Usage {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const ticks = Number(fields[11]) + Number(fields[12])
  const io = readFileSync(`/proc/${pid}/io`, 'utf8')
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return {
    cpuSeconds: ticks / TICKS_PER_SECOND,
    rssMiB: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1_024,
    writtenBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? 0),
  }
}

/** What a program used from `start` on; its memory is the most that was seen. */
export class UsageWatch {
  readonly #pid: number
  readonly #before: Usage
  readonly #timer: NodeJS.Timeout
  #rssMiB: number

  constructor(pid: number) {
    this.#pid = pid
    this.#before = usageOf(pid)
    this.#rssMiB = this.#before.rssMiB
    this.#timer = setInterval(() => this.#look(), SAMPLE_MS)
  }

  /** Once. */
  end(): Usage {
    clearInterval(this.#timer)
    const after = this.#look()
    return {
      cpuSeconds: after.cpuSeconds - this.#before.cpuSeconds,
      rssMiB: Math.round(this.#rssMiB),
      writtenBytes: after.writtenBytes - this.#before.writtenBytes,
    }
  }

  #look(): Usage {
    const usage = usageOf(this.#pid)
    this.#rssMiB = Math.max(this.#rssMiB, usage.rssMiB)
    return usage
  }
}

const FEED_MS = 20

/** Publishers in a process of their own, from now until `end`. */
export class Load {
  readonly #child: ChildProcess
  #feeding = false
  readonly #gone: Promise<never>

  constructor(options: PublisherOptions) {
    this.#child = fork(PUBLISHER)
    this.#gone = once(this.#child, 'exit').then(() => Promise.reject(new Error('the load has ended')))
    this.#gone.catch(() => undefined)
    this.#child.send(options)
  }

  /** The counts of now; waits since the last report. */
  report(): Promise<PublisherReport> {
    return this.#order({ ask: true })
  }

  /**
   * Keeps at most `open` messages between the publishers and the counter `taken`, from now until `end`: a broker in
   * between drops none, and nobody works for what piles up. For a load that was begun with a rate of 0.
   */
  feed(open: number, taken: () => number | Promise<number>): void {
    this.#feeding = true
    const feeding = async (): Promise<void> => {
      for (let granted = 0; this.#feeding; await sleep(FEED_MS)) {
        const more = Math.floor((await taken()) + open - granted)
        if (more <= 0 || !this.#child.connected) continue
        this.#child.send({ grant: more } satisfies PublisherOrder)
        granted += more
      }
    }
    // What is asked here ends with the bench; the bench itself asks it too, and fails by it.
    feeding().catch(() => undefined)
  }

  async acknowledged(): Promise<number> {
    return (await this.report()).acknowledged
  }

  /** Stops publishing, and waits for the last acknowledgements. Once. */
  end(): Promise<PublisherReport> {
    this.#feeding = false
    return this.#order({ stop: true })
  }

  kill(): void {
    this.#feeding = false
    this.#child.kill('SIGKILL')
  }

  async #order(order: PublisherOrder): Promise<PublisherReport> {
    this.#child.send(order)
    const [report] = (await Promise.race([once(this.#child, 'message'), this.#gone])) as [PublisherReport]
    return report
  }
}

/** Growth of a counter per second, after a time to settle. */
export async function rateOf(read: () => number | Promise<number>, settleMs: number, measureMs: number): Promise<number> {
  await sleep(settleMs)
  const from = await read()
  const start = performance.now()
  await sleep(measureMs)
  const grown = (await read()) - from
  return (grown * 1_000) / (performance.now() - start)
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}

export function rounded(value: number): number {
  return Math.round(value * 100) / 100
}
