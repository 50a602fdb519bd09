/**
 * Watches progress once a second, decides the verdict, and reports both: to the log at each change, to
 * `<prefix>.events` at each change and every 15 minutes, and the ledger's totals to `<prefix>.ledger`.
 */
import type { Clock } from './clock.ts'
import type { Component } from './component.ts'
import type { DeviceFigures } from './device-figures.ts'
import { messageOf } from './errors.ts'
import { verdictOf, type Verdict, type VerdictInput } from './health.ts'
import { patchTrouble, type PatchFigures } from './patch-figures.ts'
import type { InternalRecord, Ledger, LedgerTotals, Log, OutboxNotice, OutboxState, SourceState } from './ports.ts'
import { Rates } from './rates.ts'
import { droppedByLimits, shedSince } from './shedding.ts'
import { statusDocument, type ConfigurationFigures, type Identity, type IntakeFigures, type RelayStatus, type Snapshot } from './status.ts'

const TICK_MS = 1_000
const RATE_WINDOW_MS = 10_000
const REPORT_EVERY_MS = 15 * 60_000
/** A verdict is reported when it has stood this long, so that a flapping link does not flood the events topic. */
const SETTLE_MS = 5_000
const DROPS_EVERY_MS = 60_000
const NOTHING = { messages: 0, bytes: 0 }

export interface Watched {
  readonly identity: Identity
  sources(): readonly SourceState[]
  intake(): IntakeFigures
  devices(): DeviceFigures
  outbox(): OutboxState
  relay(): RelayStatus
  whenFull(): Snapshot['whenFull']
  configuration(): ConfigurationFigures
  patches(): PatchFigures | undefined
  moves?(): Pick<Snapshot, 'imports' | 'importTally'>
  readonly ledger: Ledger
  /** Undefined while no Kafka is named: there is nobody to report to. */
  report(record: InternalRecord): void
}

export class Monitor implements Component {
  readonly name = 'monitor'
  readonly #watched: Watched
  readonly #clock: Clock
  readonly #log: Log
  readonly #rates = new Rates(RATE_WINDOW_MS)
  #phase: 'starting' | 'running' | 'stopping' = 'starting'
  #lastCommitMs = 0
  #commits = 0
  #reported: Verdict | undefined
  #candidate: { readonly key: string; readonly sinceMs: number } | undefined
  #nextReportMs = 0
  #lastNotice: OutboxNotice | undefined
  #cancel: (() => void) | undefined
  #totals: Snapshot['ledger'] = { shed: {}, lost: NOTHING, exported: NOTHING }
  #asking = false
  #shedAtStart: LedgerTotals['shed'] = {}
  /** As of when the relay met what now stands in its way. */
  #shedAtTrouble: LedgerTotals['shed'] | undefined
  #saidDropped = { count: 0, atMs: -Infinity }

  constructor(watched: Watched, clock: Clock, log: Log) {
    this.#watched = watched
    this.#clock = clock
    this.#log = log
  }

  async start(): Promise<void> {
    this.#totals = await this.#watched.ledger.totals()
    this.#shedAtStart = this.#totals.shed
    this.#lastCommitMs = this.#clock.monotonicMs()
    // The first totals go out soon after a start, so that a box that restarts often is still accounted for.
    this.#nextReportMs = this.#lastCommitMs + 60_000
    this.#tick()
  }

  /** The pipeline accepts: called when the last component has started. */
  running(): void {
    this.#phase = 'running'
  }

  stopping(): void {
    this.#phase = 'stopping'
  }

  /** Writes the last totals into the buffer, so that they leave with the next start at the latest. */
  async stop(): Promise<void> {
    this.#cancel?.()
    this.#cancel = undefined
    if (this.#phase === 'starting') return
    await this.#reportTotals('stop')
  }

  /** Of the log path alone: what is wrong with patches must not decide whether a patch did harm. */
  pipeline(): Verdict {
    return verdictOf(this.#input())
  }

  snapshot(): Snapshot {
    const input = this.#input()
    const { wallMs, monotonicMs, sources, outbox, relay, configuration } = input
    const patches = this.#watched.patches()
    return {
      identity: this.#watched.identity,
      wallMs,
      monotonicMs,
      clockTrusted: this.#clock.wallTrusted(),
      verdict: verdictOf({ ...input, patchTrouble: patches && patchTrouble(patches) }),
      sources,
      intake: this.#watched.intake(),
      devices: this.#watched.devices(),
      ledger: this.#totals,
      shedSinceStart: shedSince(this.#shedAtStart, this.#totals.shed),
      whenFull: this.#watched.whenFull(),
      configuration,
      patches,
      ...this.#watched.moves?.(),
      outbox,
      relay,
      rates: {
        inPerSecond: this.#rates.perSecond('in'),
        outPerSecond: this.#rates.perSecond('out'),
        shedPerSecond: this.#rates.perSecond('shed'),
        growthBytesPerSecond: this.#rates.perSecond('used'),
      },
    }
  }

  #input(): VerdictInput & { readonly relay: RelayStatus; readonly configuration: ConfigurationFigures } {
    const configuration = this.#watched.configuration()
    return {
      wallMs: this.#clock.wallMs(),
      monotonicMs: this.#clock.monotonicMs(),
      phase: this.#phase,
      sources: this.#watched.sources(),
      outbox: this.#watched.outbox(),
      lastCommitMs: this.#lastCommitMs,
      relay: this.#watched.relay(),
      dropped: this.#shedAtTrouble === undefined ? 0 : droppedByLimits(shedSince(this.#shedAtTrouble, this.#totals.shed)),
      layersLeftOut: configuration.leftOut.map(({ label }) => label),
      partsWaiting: configuration.waiting ?? [],
      configuration,
    }
  }

  #tick(): void {
    const snapshot = this.snapshot()
    this.#noteCommits(snapshot.outbox)
    this.#refreshTotals()
    this.#noteDrops(snapshot)
    this.#rates.add(snapshot.monotonicMs, {
      in: snapshot.intake.received.messages,
      out: sum(snapshot.relay.delivered) - snapshot.relay.delivered.internal,
      shed: sum(messages(snapshot.ledger.shed)),
      used: snapshot.outbox.usedBytes,
    })
    this.#reportNotices(snapshot.outbox)
    this.#judge(snapshot)
    if (snapshot.monotonicMs >= this.#nextReportMs) this.#reportOnSchedule(snapshot)
    this.#cancel = this.#clock.after(TICK_MS, () => this.#tick())
  }

  /** An outbox that stands still answers late; the last totals stand until then. */
  #refreshTotals(): void {
    if (this.#asking) return
    this.#asking = true
    this.#watched.ledger
      .totals()
      .then((totals) => (this.#totals = totals))
      .catch((error: unknown) => this.#log.debug({ err: messageOf(error) }, 'the ledger could not be read'))
      .finally(() => (this.#asking = false))
  }

  #noteDrops({ relay, shedSinceStart, monotonicMs }: Snapshot): void {
    this.#shedAtTrouble = relay.reason === undefined ? undefined : (this.#shedAtTrouble ?? this.#totals.shed)
    const count = droppedByLimits(shedSinceStart)
    if (count === this.#saidDropped.count || monotonicMs - this.#saidDropped.atMs < DROPS_EVERY_MS) return
    this.#log.warn({ messages: count - this.#saidDropped.count, sinceStart: messages(shedSinceStart) }, 'the limits dropped messages')
    this.#saidDropped = { count, atMs: monotonicMs }
  }

  #noteCommits(outbox: OutboxState): void {
    if (outbox.commits === this.#commits && outbox.inFlight.messages > 0) return
    this.#commits = outbox.commits
    this.#lastCommitMs = this.#clock.monotonicMs()
  }

  /** The buffer itself has logged them. */
  #reportNotices({ notices }: OutboxState): void {
    // If the last one has gone from the list, all that are there are newer.
    const fresh = this.#lastNotice === undefined ? notices : notices.slice(notices.indexOf(this.#lastNotice) + 1)
    for (const { text, atMs } of fresh)
      this.#send('events', 'notice', { schema: 1, type: 'notice', at: new Date(atMs).toISOString(), text })
    this.#lastNotice = notices.at(-1)
  }

  #judge(snapshot: Snapshot): void {
    const { verdict } = snapshot
    const key = `${verdict.state} ${verdict.reason ?? ''}`
    if (this.#candidate?.key !== key) this.#candidate = { key, sinceMs: snapshot.monotonicMs }
    const reported = this.#reported
    if (reported !== undefined && key === `${reported.state} ${reported.reason ?? ''}`) return
    if (reported !== undefined && snapshot.monotonicMs - this.#candidate.sinceMs < SETTLE_MS) return
    this.#reported = verdict
    const fields = { verdict: verdict.state, reason: verdict.reason, remedy: verdict.remedy }
    if (verdict.state === 'ok' || verdict.state === 'starting') this.#log.info(fields, `${verdict.state}: ${verdict.line}`)
    else this.#log.warn(fields, `${verdict.state}: ${verdict.line}`)
    this.#send('events', 'verdict', { ...statusDocument(snapshot), type: 'verdict' })
  }

  #reportOnSchedule(snapshot: Snapshot): void {
    this.#nextReportMs = snapshot.monotonicMs + REPORT_EVERY_MS
    this.#send('events', 'status', { ...statusDocument(snapshot), type: 'status' })
    this.#reportTotals('schedule').catch((error: unknown) => this.#log.error({ err: messageOf(error) }, 'the ledger could not be read'))
  }

  async #reportTotals(cause: 'schedule' | 'stop'): Promise<void> {
    const totals = await this.#watched.ledger.totals()
    const shedding = (await this.#watched.ledger.lines(100)).filter((line) => sum(messages(line.shed)) > 0)
    this.#send('ledger', 'totals', { schema: 1, at: new Date(this.#clock.wallMs()).toISOString(), cause, totals, shedding })
  }

  #send(destination: 'events' | 'ledger', type: string, document: object): void {
    const { gateway } = this.#watched.identity
    const epoch = this.#watched.outbox().epoch
    // The ledger's topic is compacted: the last totals of each epoch stay, so a re-imaged box hides nothing.
    const key = destination === 'ledger' ? `${gateway}.${epoch ?? 'none'}` : gateway
    this.#watched.report({
      destination,
      key,
      value: Buffer.from(JSON.stringify({ gateway, epoch, ...document })),
      headers: [['type', type]],
      receivedMs: this.#clock.wallMs(),
    })
  }
}

function messages(shed: Readonly<Record<string, { readonly messages: number }>>): Record<string, number> {
  return Object.fromEntries(Object.entries(shed).map(([reason, counted]) => [reason, counted.messages]))
}

function sum(values: Readonly<Record<string, number | undefined>>): number {
  return Object.values(values).reduce<number>((total, value) => total + (value ?? 0), 0)
}
