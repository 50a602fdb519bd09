/**
 * Watches the devices: takes what intake and listeners learn of them, tells who fell silent and who returned, remembers it
 * over a restart, and keeps what is needed to say why a device's messages do not arrive.
 */
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { messageOf } from '../errors.ts'
import type { Delivery, DeviceEnding, DeviceLinks, Log, SourceState } from '../ports.ts'
import type { Judgement } from './admission.ts'
import { Presence, type Heard, type PresenceListener } from './presence.ts'
import { nextWriteMs, piecesOf, remembered, type PresencePiece } from './presence-memory.ts'
import { PresenceNews, type News } from './presence-news.ts'
import type { PresenceSettings } from './presence-settings.ts'
import { Ending } from './presence-table.ts'
import { RefusedDevices, type RefusalKind } from './refused-devices.ts'
import { Tails } from './tails.ts'

export interface DeviceWatchParts {
  readonly clock: Clock
  readonly log: Log
  readonly sources: () => readonly SourceState[]
  /** Open connections of a device to all listeners. */
  readonly connectionsOf: (device: string) => number
  /** For the events topic. */
  readonly report: (type: string, document: object) => void
  readonly memory: PresenceMemory
}

export interface PresenceMemory {
  /** What an earlier start wrote; rejects when nothing can be read. */
  read(): Promise<Iterable<unknown>>
  /** Piece by piece; those of an earlier writing that had more go. Resolves with the bytes written. */
  write(pieces: Iterable<PresencePiece>): Promise<number>
}

const TICK_MS = 1_000
const NAMED = 3
/** These say that somebody is set up wrongly; the others are the limits' work. */
const REFUSALS: ReadonlySet<string> = new Set(['malformed-topic', 'not-own-topic', 'unknown-device', 'retained', 'oversize'])
const ENDINGS = { goodbye: Ending.GOODBYE, lost: Ending.LOST, gateway: Ending.GATEWAY } as const

export class DeviceWatch implements DeviceLinks, Component, PresenceListener {
  readonly name = 'device watch'
  readonly presence: Presence
  readonly refused = new RefusedDevices()
  readonly tails: Tails
  readonly #parts: DeviceWatchParts
  readonly #news = new PresenceNews()
  /** Filled anew for each message, so that none costs an object. */
  readonly #heard: { -readonly [Key in keyof Heard]: Heard[Key] } = {
    device: '',
    source: '',
    bytes: 0,
    verdict: 'normal',
    limitedBy: undefined,
  }
  /** Names of listeners: there a retained message is a new one. */
  #listeners: ReadonlySet<string> = new Set()
  /** Sources that can't hear, which has been said. */
  readonly #saidDeaf = new Set<string>()
  #cancel: (() => void) | undefined
  #writing: Promise<void> | undefined
  #writtenMs: number
  #writtenBytes = 0
  #unwritten = false
  #isRead = false

  /** Throws a `rejected` GatewayError when the settings can't work. */
  constructor(settings: PresenceSettings, parts: DeviceWatchParts) {
    this.#parts = parts
    this.tails = new Tails(parts.clock)
    this.#writtenMs = parts.clock.monotonicMs()
    this.presence = new Presence(settings, this, parts.connectionsOf, this.#writtenMs)
  }

  /** Never rejects: what can't be remembered is no reason not to start. */
  async start(): Promise<void> {
    const { memory, clock, log } = this.#parts
    try {
      this.presence.restore(remembered(await memory.read(), clock))
      this.#isRead = true
    } catch (error) {
      log.warn({ err: messageOf(error) }, 'which devices there were before the start can not be read')
    }
    this.#tick()
  }

  /** After the sources: what they heard last is in it. */
  async stop(): Promise<void> {
    this.#cancel?.()
    this.#cancel = undefined
    this.tails.close()
    for (const news of this.#news.rest(this.#now)) this.#tell(news)
    await this.#writing
    if (this.#isRead) await this.#write()
  }

  /** All or nothing: throws a `rejected` GatewayError and keeps the old settings. */
  configure(settings: PresenceSettings): void {
    this.presence.configure(settings, this.#now)
  }

  /** Devices by state, and what became of them since the start. */
  figures(): Readonly<Record<'online' | 'offline' | 'silent' | 'unknown' | 'fellSilent' | 'returned' | 'evicted' | 'untracked', number>> {
    const [online = 0, offline = 0, silent = 0, unknown = 0] = this.presence.counts
    const { silent: fellSilent, returned, evicted, untracked } = this.presence.totals
    return { online, offline, silent, unknown, fellSilent, returned, evicted, untracked }
  }

  /** For each message, after its verdict and before it is handed on. */
  judged(delivery: Delivery, judgement: Judgement, bytes: number, nowMs: number): void {
    const { meaning, limitedBy } = judgement
    const verdict = 'lane' in judgement.verdict ? judgement.verdict.lane : judgement.verdict.shed
    this.tails.sees(delivery, judgement, bytes)
    if (REFUSALS.has(verdict)) {
      this.refused.note(verdict as RefusalKind, delivery.source, [meaning.device, delivery.identity ?? ''], delivery.topic, nowMs)
      if (verdict === 'unknown-device') return
    }
    if (meaning.device === '') return
    const alive = delivery.will !== true && (!delivery.retained || this.#listeners.has(delivery.source))
    const heard = this.#heard
    heard.device = meaning.device
    heard.source = delivery.source
    heard.bytes = bytes
    heard.verdict = verdict
    heard.limitedBy = limitedBy
    this.presence.message(heard, alive, nowMs)
  }

  connected(source: string, device: string, proven: boolean): void {
    this.presence.connected(device, source, proven, this.#now)
  }

  disconnected(_source: string, device: string, how: DeviceEnding): void {
    this.presence.disconnected(device, ENDINGS[how], this.#now)
  }

  turnedAway(source: string, names: readonly string[], detail: string): void {
    this.refused.note('connect', source, names, detail, this.#now)
  }

  silent(slot: number, because: 'no-traffic' | 'connection-lost', silentMs: number | undefined): void {
    this.#news.silent({ ...this.#named(slot), silentMs, because }, this.#now)
  }

  returned(slot: number, silentMs: number | undefined): void {
    this.#news.returned({ ...this.#named(slot), silentMs }, this.#now)
  }

  get #now(): number {
    return this.#parts.clock.monotonicMs()
  }

  #named(slot: number): { readonly device: string; readonly source: string; readonly group: string | undefined } {
    const { table, groups } = this.presence
    return { device: table.ids[slot] ?? '', source: this.presence.sourceOf(slot), group: groups.nameOf(table.group[slot] ?? 0) }
  }

  #tick(): void {
    const { clock, log, sources: sourcesNow } = this.#parts
    const nowMs = this.#now
    const sources = sourcesNow()
    this.#listeners = new Set(sources.filter(({ kind }) => kind === 'listen').map(({ name }) => name))
    const { unheard, away } = this.presence.tick(nowMs, sources)
    if (away) log.info({}, 'this box could not hear its devices for a while; their time runs anew')
    this.#sayDeaf(sources, unheard)
    for (const news of this.#news.due(nowMs)) this.#tell(news)
    if (this.#isRead && nowMs >= nextWriteMs(this.#writtenMs, this.#writtenBytes, this.#unwritten)) this.#writing ??= this.#write()
    this.#cancel = clock.after(TICK_MS, () => this.#tick())
  }

  /** One cause is named once; those whose silence it explains are not. */
  #sayDeaf(sources: readonly SourceState[], unheard: number): void {
    for (const { name, kind, state, reason } of sources) {
      const key = `${kind}.${name}`
      if (state === 'up') this.#saidDeaf.delete(key)
      else if (unheard > 0 && !this.#saidDeaf.has(key)) {
        this.#saidDeaf.add(key)
        this.#parts.log.warn(
          { source: key, reason },
          `mqtt.${key} is ${state}: the silence of its devices is not judged until it hears them again`,
        )
      }
    }
  }

  #tell({ type, count, devices, bySource, byGroup }: News): void {
    const { clock, log, report } = this.#parts
    const wallMs = clock.wallMs()
    const first = devices.slice(0, NAMED).map(({ device }) => JSON.stringify(device.slice(0, 80)))
    const rest = count > NAMED ? ` and ${count - NAMED} more` : ''
    const words = `${count === 1 ? 'a device' : `${count} devices`} ${type === 'device-silent' ? 'fell silent' : 'returned'}: ${first.join(', ')}${rest}`
    if (type === 'device-silent') log.warn({ count, bySource, byGroup }, words)
    else log.info({ count, bySource, byGroup }, words)
    const listed = devices.map(({ device, source, group, silentMs, because }) => ({
      device,
      source,
      group,
      ...(silentMs === undefined
        ? {}
        : { lastSeen: new Date(wallMs - silentMs).toISOString(), silentSeconds: Math.round(silentMs / 1_000) }),
      because,
    }))
    this.#unwritten = true
    report(type, {
      schema: 1,
      at: new Date(wallMs).toISOString(),
      type,
      count,
      others: count - devices.length,
      devices: listed,
      bySource,
      byGroup,
    })
  }

  async #write(): Promise<void> {
    const { memory, clock, log } = this.#parts
    this.#unwritten = false
    try {
      this.#writtenBytes = await memory.write(piecesOf(this.presence, clock))
    } catch (error) {
      log.debug({ err: messageOf(error) }, 'which devices there are could not be remembered; it is tried again')
    }
    this.#writtenMs = this.#now
    this.#writing = undefined
  }
}
