/**
 * Which devices are there: from their messages, and from their connections to listeners of our own.
 *
 * A message only stores when it came. Each device waits in a wheel of seconds; when its second has come, it is looked at,
 * and if it was heard meanwhile it is placed again. So a message costs a lookup and some stores, and a device costs one
 * look in each of its times, however many messages it sends.
 *
 * All times are monotonic, so neither a wrong wall clock nor a suspended box makes anybody silent. Nobody is silent
 * either for what is our own fault: time in which the box, or the source that a device comes through, could not hear
 * counts for nobody.
 */
import type { ShedReason, SourceState } from '../ports.ts'
import { DEVICE_LANES, SHED_REASONS, type DeviceLane } from '../ports.ts'
import { PresenceGroups, type PresenceSettings } from './presence-settings.ts'
import { Ending, NONE, PresenceTable, SILENT_LIST, State, WHEEL_SECONDS } from './presence-table.ts'

/** A device whose connection broke off is told of when it has not come back for so long. */
export const LOST_GRACE_MS = 30_000
/** Devices whose silence is no news are shown as offline after so long. */
const UNWATCHED_MS = 600_000
/** Who looks so late was not there to hear: stopped by a signal, or starved. */
const AWAY_MS = 5_000
/** Of the rates: what a device sent is forgotten by a factor e in each of these. */
const RATE_TAU_MS = 20_000
export const VERDICTS: readonly (DeviceLane | ShedReason)[] = [...DEVICE_LANES, ...SHED_REASONS]
const VERDICT_CODES = new Map(VERDICTS.map((verdict, index) => [verdict as string, index + 1]))

/** Told of each change that may be news. */
export interface PresenceListener {
  /** It had been heard `silentMs` ago; undefined when that is not known. */
  silent(slot: number, because: 'no-traffic' | 'connection-lost', silentMs: number | undefined): void
  returned(slot: number, silentMs: number | undefined): void
}

export interface Heard {
  readonly device: string
  readonly source: string
  readonly bytes: number
  readonly verdict: DeviceLane | ShedReason
  readonly limitedBy: 'device' | 'global' | undefined
}

/** Before the restart. */
export interface Remembered {
  readonly device: string
  readonly source: string
  /** Monotonic ms of this process, mostly below its start; `-Infinity`: nobody knows. */
  readonly heardMs: number
  /** Its silence has been told. */
  readonly told: boolean
}

export class Presence {
  readonly table = new PresenceTable()
  readonly #listener: PresenceListener
  /** Connections of a device to our listeners, when the first message of it comes. */
  readonly #connectionsOf: (device: string) => number
  readonly #sources: string[] = []
  readonly #sourceCodes = new Map<string, number>()
  /** By source: since when it can hear; `Infinity` while it can't. */
  #hearsSinceMs: number[] = []
  #groups: PresenceGroups
  #maxDevices: number
  /** Time before does not count for anybody. */
  #awakeMs: number
  #tickedMs: number
  #second: number
  readonly startedMs: number
  readonly counts: Uint32Array = new Uint32Array(4)
  /** Since the start. `untracked`: messages of devices that found no room. */
  readonly totals = { silent: 0, returned: 0, evicted: 0, untracked: 0 }

  constructor(settings: PresenceSettings, listener: PresenceListener, connectionsOf: (device: string) => number, nowMs: number) {
    this.#groups = new PresenceGroups(settings)
    this.#maxDevices = settings.maxDevices
    this.#listener = listener
    this.#connectionsOf = connectionsOf
    this.startedMs = this.#awakeMs = this.#tickedMs = nowMs
    this.#second = Math.floor(nowMs / 1_000)
  }

  get maxDevices(): number {
    return this.#maxDevices
  }

  get groups(): PresenceGroups {
    return this.#groups
  }

  sourceOf(slot: number): string {
    return this.#sources[this.table.source[slot] ?? 0] ?? ''
  }

  /** All or nothing. Who has fallen silent stays so, unless its silence is no news any more. */
  configure(settings: PresenceSettings, nowMs: number): void {
    const groups = new PresenceGroups(settings)
    this.#groups = groups
    this.#maxDevices = settings.maxDevices
    const { table } = this
    for (let slot = 0; slot < table.size; slot++) {
      table.group[slot] = groups.groupOf(table.ids[slot] ?? '')
      const unwatched = groups.silentAfterMs(table.group[slot] ?? 0) === Infinity
      if (table.state[slot] === State.SILENT && !unwatched) continue
      if (table.state[slot] === State.SILENT) this.#turn(slot, State.OFFLINE)
      this.#place(slot, nowMs)
    }
  }

  /** What was known before the start. Their time runs anew: the box was away, and could hear nobody. */
  restore(remembered: Iterable<Remembered>): void {
    for (const { device, source, heardMs, told } of remembered) {
      if (this.table.size >= this.#maxDevices || this.table.find(device) !== NONE) continue
      const slot = this.#enter(device, source)
      this.table.heardMs[slot] = heardMs
      const isNews = this.#groups.silentAfterMs(this.table.group[slot] ?? 0) !== Infinity
      this.#setState(slot, told && isNews ? State.SILENT : State.UNKNOWN)
      if (told && isNews) this.table.link(slot, SILENT_LIST)
      else this.#place(slot, this.startedMs)
    }
  }

  /** A message, `alive` if the device can have sent it just now: not one that a broker kept, nor a last will. */
  message({ device, source, bytes, verdict, limitedBy }: Heard, alive: boolean, nowMs: number): void {
    const slot = this.#slotFor(device, source, nowMs, alive)
    if (slot === NONE) return void this.totals.untracked++
    const { table } = this
    this.#rate(slot, bytes, nowMs)
    table.messages[slot] = (table.messages[slot] ?? 0) + 1
    table.bytes[slot] = (table.bytes[slot] ?? 0) + bytes
    const code = VERDICT_CODES.get(verdict) ?? 0
    table.verdict[slot] = code
    if (code > DEVICE_LANES.length) table.shed[slot] = (table.shed[slot] ?? 0) + 1
    else if (verdict === 'deferred') table.deferred[slot] = (table.deferred[slot] ?? 0) + 1
    table.limitedBy[slot] = limitedBy === undefined ? 0 : limitedBy === 'device' ? 1 : 2
    if (alive) this.#alive(slot, source, nowMs)
  }

  /** Of a device that nobody has proven to be, a connection alone makes no entry: it may call itself what it likes. */
  connected(device: string, source: string, proven: boolean, nowMs: number): void {
    const known = this.table.find(device)
    const slot = known === NONE && proven ? this.#slotFor(device, source, nowMs, true) : known
    if (slot === NONE) return
    this.table.connections[slot] = this.#connectionsOf(device)
    this.table.linkMs[slot] = nowMs
    this.table.ending[slot] = Ending.NONE
    this.#alive(slot, source, nowMs)
  }

  disconnected(device: string, ending: number, nowMs: number): void {
    const { table } = this
    const slot = table.find(device)
    if (slot === NONE) return
    const left = this.#connectionsOf(device)
    table.connections[slot] = left
    if (left > 0) return
    table.linkMs[slot] = nowMs
    table.ending[slot] = ending
    if (table.state[slot] === State.SILENT) return
    table.heardMs[slot] = nowMs
    this.#turn(slot, State.OFFLINE)
    this.#place(slot, nowMs)
  }

  /** Once a second. Returns how many devices could not be judged, since nobody could hear them. */
  tick(nowMs: number, sources: readonly SourceState[]): { readonly unheard: number; readonly away: boolean } {
    const away = nowMs - this.#tickedMs > AWAY_MS
    if (away) this.#awakeMs = nowMs
    this.#tickedMs = nowMs
    this.#noteSources(sources, nowMs)
    let unheard = 0
    const last = Math.floor(nowMs / 1_000)
    // Further behind than the wheel reaches, each of its lists is due once.
    this.#second = Math.max(this.#second, last - WHEEL_SECONDS)
    while (this.#second < last) {
      this.#second++
      unheard += this.#lookAt(this.#second % WHEEL_SECONDS, nowMs)
    }
    return { unheard, away }
  }

  /** Messages and bytes a second, as of now. */
  ratesOf(slot: number, nowMs: number): { readonly perSecond: number; readonly bytesPerSecond: number } {
    const { rate, byteRate, ratedMs } = this.table
    const left = Math.exp(-(nowMs - (ratedMs[slot] ?? 0)) / RATE_TAU_MS)
    return { perSecond: (rate[slot] ?? 0) * left, bytesPerSecond: (byteRate[slot] ?? 0) * left }
  }

  #rate(slot: number, bytes: number, nowMs: number): void {
    const { rate, byteRate, ratedMs } = this.table
    const left = Math.exp(-(nowMs - (ratedMs[slot] ?? 0)) / RATE_TAU_MS)
    rate[slot] = (rate[slot] ?? 0) * left + 1_000 / RATE_TAU_MS
    byteRate[slot] = (byteRate[slot] ?? 0) * left + (bytes * 1_000) / RATE_TAU_MS
    ratedMs[slot] = nowMs
  }

  #alive(slot: number, source: string, nowMs: number): void {
    const { table } = this
    const before = table.state[slot]
    if (before !== State.ONLINE) {
      const heardMs = table.heardMs[slot] ?? 0
      if (before === State.SILENT) {
        this.totals.returned++
        this.#listener.returned(slot, heardMs === -Infinity ? undefined : nowMs - heardMs)
      }
      this.#turn(slot, State.ONLINE)
      table.ending[slot] = Ending.NONE
    }
    table.heardMs[slot] = nowMs
    table.source[slot] = this.#codeOf(source)
    if (before !== State.ONLINE) this.#place(slot, nowMs)
  }

  #lookAt(list: number, nowMs: number): number {
    const { table } = this
    let unheard = 0
    let next = NONE
    // Who is placed anew stands at the head of a list, so never behind the one that is looked at.
    for (let slot = table.first(list); slot !== NONE; slot = next) {
      next = table.after(slot)
      if (this.#dueMs(slot) > nowMs) {
        const isDeaf = this.#hearsSinceMs[table.source[slot] ?? 0] === Infinity
        if (isDeaf && table.connections[slot] === 0) unheard++
        this.#place(slot, nowMs)
      } else if (this.#groups.silentAfterMs(table.group[slot] ?? 0) === Infinity) {
        this.#turn(slot, State.OFFLINE)
        table.unlink(slot)
      } else this.#fallSilent(slot, nowMs)
    }
    return unheard
  }

  #fallSilent(slot: number, nowMs: number): void {
    const { table } = this
    const heardMs = table.heardMs[slot] ?? 0
    const because = table.ending[slot] === Ending.LOST ? 'connection-lost' : 'no-traffic'
    this.#turn(slot, State.SILENT)
    table.link(slot, SILENT_LIST)
    this.totals.silent++
    this.#listener.silent(slot, because, heardMs === -Infinity ? undefined : nowMs - heardMs)
  }

  /**
   * When it is to count as silent, if nothing is heard of it; `Infinity` while a connection of it stands, or while nobody
   * could hear it. `upMs`: reckoned as if its source could hear from then on.
   */
  #dueMs(slot: number, upMs = Infinity): number {
    const { heardMs, linkMs, ending, connections, source, group } = this.table
    if ((connections[slot] ?? 0) > 0) return Infinity
    const sinceMs = this.#hearsSinceMs[source[slot] ?? 0] ?? 0
    const hearsMs = Math.max(this.#awakeMs, sinceMs === Infinity ? upMs : sinceMs)
    const silentAfterMs = this.#groups.silentAfterMs(group[slot] ?? 0)
    const isNews = silentAfterMs !== Infinity
    const dueMs = Math.max(heardMs[slot] ?? 0, hearsMs) + (isNews ? silentAfterMs : UNWATCHED_MS)
    if (ending[slot] !== Ending.LOST || !isNews) return dueMs
    return Math.min(dueMs, Math.max(linkMs[slot] ?? 0, hearsMs) + LOST_GRACE_MS)
  }

  #place(slot: number, nowMs: number): void {
    // A source that can't hear may come back at any time from now on, so nobody behind it is due before this.
    const dueMs = this.#dueMs(slot, nowMs)
    const base = Math.max(this.#second, Math.floor(nowMs / 1_000))
    const second = Math.min(Math.max(Math.ceil(Math.min(dueMs, 1e15) / 1_000), base + 1), base + WHEEL_SECONDS - 1)
    this.table.link(slot, second % WHEEL_SECONDS)
  }

  #slotFor(device: string, source: string, nowMs: number, alive: boolean): number {
    const found = this.table.find(device)
    if (found !== NONE || device === '') return found
    const slot = this.#enter(device, source)
    if (slot === NONE) return NONE
    this.table.heardMs[slot] = alive ? nowMs : -Infinity
    this.table.connections[slot] = this.#connectionsOf(device)
    if ((this.table.connections[slot] ?? 0) > 0) this.table.linkMs[slot] = nowMs
    this.#setState(slot, alive ? State.ONLINE : State.UNKNOWN)
    this.#place(slot, nowMs)
    return slot
  }

  /** `NONE` when the table is full and nobody in it is silent. */
  #enter(device: string, source: string): number {
    const { table } = this
    let slot = NONE
    if (table.size < this.#maxDevices) slot = table.add(device)
    else {
      slot = table.first(SILENT_LIST)
      if (slot === NONE) return NONE
      this.totals.evicted++
      this.counts[State.SILENT] = (this.counts[State.SILENT] ?? 0) - 1
      table.reuse(slot, device)
    }
    table.source[slot] = this.#codeOf(source)
    table.group[slot] = this.#groups.groupOf(device)
    return slot
  }

  #setState(slot: number, state: number): void {
    this.table.state[slot] = state
    this.counts[state] = (this.counts[state] ?? 0) + 1
  }

  #turn(slot: number, state: number): void {
    const before = this.table.state[slot] ?? 0
    this.counts[before] = (this.counts[before] ?? 0) - 1
    this.#setState(slot, state)
  }

  #codeOf(source: string): number {
    let code = this.#sourceCodes.get(source)
    if (code === undefined) {
      code = Math.min(this.#sources.length, 0xffff)
      this.#sources[code] = source
      this.#sourceCodes.set(source, code)
    }
    return code
  }

  /** A source that is there no more keeps nobody from being judged. */
  #noteSources(sources: readonly SourceState[], nowMs: number): void {
    const before = this.#hearsSinceMs
    this.#hearsSinceMs = this.#sources.map(() => 0)
    for (const { name } of sources) {
      const code = this.#codeOf(name)
      const up = sources.some((source) => source.name === name && source.state === 'up')
      const was = before[code] ?? 0
      this.#hearsSinceMs[code] = up ? (was === Infinity ? nowMs : was) : Infinity
    }
  }
}
