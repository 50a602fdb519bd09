/** What the operating system says of one program, and of the load that a bench puts on it. */
import { fork, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { PublisherOptions, PublisherReport } from './publisher.ts'

const TICKS_PER_SECOND = 100
const PUBLISHER = fileURLToPath(new URL('publisher.ts', import.meta.url))

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

export interface LoadResult {
  readonly seconds: number
  readonly acknowledged: number
  readonly published: number
  readonly waitsMs: readonly number[]
}

/** A publisher that runs until `end`. */
export class Load {
  readonly #child: ChildProcess
  #last: PublisherReport = { published: 0, acknowledged: 0, waitsMs: [] }
  readonly #waits: number[] = []
  readonly #ended: Promise<void>

  constructor(options: PublisherOptions) {
    this.#child = fork(PUBLISHER)
    this.#child.on('message', (report) => {
      this.#last = report as PublisherReport
      for (const wait of this.#last.waitsMs) this.#waits.push(wait)
    })
    this.#ended = new Promise((resolve) => this.#child.once('exit', () => resolve()))
    this.#child.send(options)
  }

  /** As of the last report, at most a second ago. */
  get acknowledged(): number {
    return this.#last.acknowledged
  }

  get published(): number {
    return this.#last.published
  }

  /** Forgets what was waited for so far. */
  resetWaits(): void {
    this.#waits.length = 0
  }

  get waitsMs(): readonly number[] {
    return this.#waits
  }

  async end(): Promise<void> {
    if (this.#child.connected) this.#child.send({ stop: true })
    await this.#ended
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
