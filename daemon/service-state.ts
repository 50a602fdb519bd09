/**
 * Tells whoever started the daemon how it is, by sd_notify(3): ready, one line of status, signs of life, reloads, the end.
 *
 * A sign of life (WATCHDOG=1) is sent by the event loop, and only while the verdict is not `stuck`. So the service is
 * restarted when
 * - the event loop hangs: then no device is answered and no connection accepted, since the listeners live in it;
 * - commits stand still although there is room (`health.ts`);
 * - the relay stands still and no outside cause is named;
 * - the loop of the patch path stands still, which waits for nothing without an end (`agent.ts`).
 * It is not restarted for a named outside cause, for a source that is down (the verdict names it), nor for what a patch
 * does or waits for: each effect has a time limit of its own, and messages flow without etcd.
 */
import type { Clock } from './clock.ts'
import { printable, size } from './cli/text.ts'
import { isHealthy } from './health.ts'
import type { ServiceNotices } from './ports.ts'
import type { Snapshot } from './status.ts'

/** The status line is sent at most this often, and only when it is another one. */
const TICK_MS = 5_000
/** A start or a drain that goes on is given this much more, each time. */
const EXTENSION_MS = 20_000
/** A start that moves fewer bytes than this between two looks does not go on: it hangs. */
const PROGRESS_BYTES = 256 * 1_024
const LINE_MAX = 500

export interface ServicePorts {
  readonly notices: ServiceNotices
  readonly clock: Clock
  /** ms; undefined: nobody waits for signs of life. */
  readonly watchdogMs: number | undefined
  /** Bytes read and written so far. */
  readonly bytesMoved: () => number
}

export class ServiceState {
  readonly #ports: ServicePorts
  #phase: 'starting' | 'running' | 'stopping' = 'starting'
  #moved = 0
  #snapshot: (() => Snapshot) | undefined
  #said = ''
  #deadlineMs = Infinity
  #cancel: (() => void) | undefined

  constructor(ports: ServicePorts) {
    this.#ports = ports
  }

  /** From now on a long start is given time while it goes on. */
  starting(): void {
    this.#moved = this.#ports.bytesMoved()
    this.#wait()
  }

  /** The pipeline accepts. */
  running(snapshot: () => Snapshot): void {
    this.#phase = 'running'
    this.#snapshot = snapshot
    this.#tell('READY=1')
    this.#wait()
  }

  /** Never rejects, as `reload` does not. */
  async reloading(reload: () => Promise<void>): Promise<void> {
    if (this.#phase === 'running') this.#ports.notices.send('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1_000n}`)
    await reload()
    if (this.#phase === 'running') this.#tell('READY=1')
  }

  /** `limitMs`: the daemon ends by itself within this time, by force if need be. */
  stopping(limitMs: number): void {
    this.#phase = 'stopping'
    this.#deadlineMs = this.#ports.clock.monotonicMs() + limitMs
    this.#ports.notices.send('STOPPING=1', 'STATUS=STOPPING: finishing accepted work', extension())
    this.#wait()
  }

  /** Stands in `systemctl status` while the service waits for its next start, or for a person. */
  failed(why: string): void {
    this.#cancel?.()
    this.#ports.notices.send(`STATUS=FAILED: ${printable(why.slice(0, LINE_MAX))}`)
  }

  #wait(): void {
    this.#cancel?.()
    this.#cancel = this.#ports.clock.after(Math.min(TICK_MS, (this.#ports.watchdogMs ?? Infinity) / 3), () => {
      this.#tick()
      this.#wait()
    })
  }

  #tick(): void {
    const { clock, notices } = this.#ports
    if (this.#phase === 'running') return this.#tell()
    if (this.#phase === 'starting') notices.send('STATUS=STARTING: opening the buffer and the listeners')
    const goesOn = this.#phase === 'starting' ? this.#hasMoved() : clock.monotonicMs() < this.#deadlineMs
    if (goesOn) notices.send(extension(), 'WATCHDOG=1')
  }

  #hasMoved(): boolean {
    const moved = this.#ports.bytesMoved()
    const hasMoved = moved - this.#moved >= PROGRESS_BYTES
    this.#moved = moved
    return hasMoved
  }

  #tell(...first: readonly string[]): void {
    const snapshot = this.#snapshot?.()
    if (snapshot === undefined) return
    const line = serviceLine(snapshot)
    const news = line === this.#said ? [] : [`STATUS=${line}`]
    const alive = isHealthy(snapshot.verdict) && snapshot.patches?.hangsForMs === undefined ? ['WATCHDOG=1'] : []
    this.#said = line
    if (first.length + news.length + alive.length > 0) this.#ports.notices.send(...first, ...news, ...alive)
  }
}

/** `BUFFERING: Kafka unreachable since 14:02 (3 h 10 min), no loss; in 84/s, out 0/s, buffer 410 MiB of 2.0 GiB` */
export function serviceLine({ verdict, rates, outbox }: Snapshot): string {
  const figures = `in ${Math.round(rates.inPerSecond)}/s, out ${Math.round(rates.outPerSecond)}/s`
  const line = `${verdict.state.toUpperCase()}: ${verdict.line}`
  const short = line.length > LINE_MAX ? `${line.slice(0, LINE_MAX)}…` : line
  return printable(`${short}; ${figures}, buffer ${size(outbox.usedBytes)} of ${size(outbox.maxBytes)}`)
}

function extension(): string {
  return `EXTEND_TIMEOUT_USEC=${EXTENSION_MS * 1_000}`
}
