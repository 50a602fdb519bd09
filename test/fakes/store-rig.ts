/** An outbox on a temporary directory, with a clock that tests move, and entries that remember their fate. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { DeviceLane, Entry, Envelope, Log, ShedReason, Stored, StoredEnvelope } from '../../daemon/ports.ts'
import { Outbox } from '../../store/outbox.ts'
import type { OutboxSettings } from '../../store/settings.ts'
import { FakeClock, FakeRandom } from './clock.ts'

export const SETTINGS: OutboxSettings = {
  maxBytes: 256 << 20,
  minFreeBytes: 0,
  maxAgeMs: Infinity,
  lanes: { urgent: { whenFull: 'block' }, normal: { whenFull: 'block' }, deferred: { whenFull: 'drop-oldest' } },
  commit: { maxDelayMs: 10, maxBytes: 4 << 20 },
  dedupe: undefined,
  ledgerMaxDevices: 1_000,
}

export const silent: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

export type Sent = Partial<Omit<Entry, 'settle' | 'envelope' | 'verdict'>> &
  Partial<Envelope> & {
    readonly lane?: DeviceLane
    readonly shed?: ShedReason
  }

export function makeDirectory(): string {
  return mkdtempSync(join(tmpdir(), 'store-'))
}

let seeds = 1

export class StoreRig {
  readonly directory: string
  readonly clock: FakeClock
  outbox: Outbox
  settings: OutboxSettings
  /** What was settled in this life of the rig, in order, as the texts of the payloads. */
  readonly settled: string[] = []
  readonly failures: unknown[] = []
  readonly warnings: string[] = []
  readonly #owned: boolean
  #sent = 0
  #settledCount = 0

  constructor(settings: Partial<OutboxSettings> = {}, directory?: string, clock = new FakeClock()) {
    this.#owned = directory === undefined
    this.directory = directory ?? makeDirectory()
    this.clock = clock
    this.settings = { ...SETTINGS, ...settings }
    this.outbox = this.#make()
  }

  /** With a test's context the rig closes itself, however the test ends. */
  async start(context?: { after(fn: () => Promise<void>): void }): Promise<this> {
    context?.after(() => this.close())
    await this.outbox.start(new AbortController().signal)
    return this
  }

  /** Submits one message; the payload is a text. */
  send(text: string, sent: Sent = {}): void {
    const { lane, shed, qos, exchange, messageId, bytes, ...envelope } = sent
    const payload = Buffer.from(text)
    this.#sent++
    this.outbox.submit({
      envelope: {
        device: 'dev-1',
        stream: 'app',
        topic: 'devices/dev-1/logs/app',
        payload,
        receivedMs: this.clock.wallMs(),
        clockTrusted: this.clock.wallTrusted(),
        bootMs: this.clock.bootMs(),
        ...envelope,
      },
      verdict: shed === undefined ? { lane: lane ?? 'normal' } : { shed },
      bytes: bytes ?? payload.length,
      qos: qos ?? 1,
      ...(exchange === undefined ? {} : { exchange }),
      ...(messageId === undefined ? {} : { messageId }),
      settle: () => {
        this.#settledCount++
        this.settled.push(text)
      },
    })
  }

  /** Lets the delay of the commit pass and waits until nothing is in flight, or until something blocks. */
  async commit(): Promise<void> {
    await this.until(() => {
      this.clock.advance(this.delayMs)
      return this.#settledCount === this.#sent || this.outbox.state().blockedReason !== undefined
    })
  }

  async append(count: number, sent: Sent = {}, text = (index: number) => `message ${index}`): Promise<void> {
    for (let index = 0; index < count; index++) this.send(text(index), sent)
    await this.commit()
  }

  get delayMs(): number {
    const { maxDelayMs } = this.settings.commit
    return maxDelayMs === 'auto' ? 100 : maxDelayMs
  }

  /** Waits for a condition, without moving the clock. */
  async until(condition: () => boolean | Promise<boolean>): Promise<void> {
    while (!(await condition())) {
      if (this.failures.length > 0) throw this.failures[0]
      await pause(1)
    }
  }

  /** One round of upkeep `ms` later, done. */
  async tick(ms = 1_000): Promise<void> {
    this.clock.suspend(ms - 1_000)
    this.clock.advance(1_000)
    // Questions are answered in turn, so the round is over when the answer comes.
    await this.outbox.epochs()
  }

  /** Everything the lane holds, in order. */
  async readAll(lane: 'urgent' | 'normal' | 'deferred' | 'internal', after = 0): Promise<Stored[]> {
    const all: Stored[] = []
    for (let at = after; ;) {
      const some = await this.outbox.readAfter(lane, at, 1 << 20)
      const last = some.at(-1)
      if (last === undefined) return all
      all.push(...some)
      at = last.position
    }
  }

  /** Ends this life and begins another on the same files. `crash` abandons what is under way. */
  async restart(end: 'stop' | 'crash' = 'stop', settings: Partial<OutboxSettings> = {}): Promise<void> {
    await this.outbox.stop(end === 'stop' ? Infinity : 0)
    this.settings = { ...this.settings, ...settings }
    this.outbox = this.#make()
    this.#sent = this.#settledCount = 0
    await this.start()
  }

  async close(): Promise<void> {
    await this.outbox.stop(0)
    if (this.#owned) rmSync(this.directory, { recursive: true, force: true })
  }

  #make(): Outbox {
    const outbox = new Outbox({
      dataDir: this.directory,
      settings: this.settings,
      clock: this.clock,
      random: new FakeRandom(seeds++),
      log: { ...silent, warn: (_, text) => this.warnings.push(text) },
    })
    outbox.ended.catch((error: unknown) => this.failures.push(error))
    return outbox
  }
}

export function textOf(stored: Stored): string {
  return Buffer.from((stored as StoredEnvelope).envelope.payload).toString()
}

/** received − all that became of it; 0 when every message is accounted for. */
export async function imbalance(outbox: Outbox): Promise<{ messages: number; bytes: number }> {
  const totals = await outbox.ledger.totals()
  const out = [
    totals.delivered,
    totals.buffered,
    totals.inFlight,
    totals.deadLettered,
    totals.lost,
    totals.exported,
    ...Object.values(totals.shed),
  ]
  return {
    messages: totals.received.messages - out.reduce((sum, { messages }) => sum + messages, 0),
    bytes: totals.received.bytes - out.reduce((sum, { bytes }) => sum + bytes, 0),
  }
}
