/**
 * Kind `device`: settings for groups of devices, as retained MQTT messages. FLIP writes a layer of desired settings into
 * the memory; ACTIVATE publishes what follows from all layers; devices answer, and VERIFY counts. What is in force is
 * published again at each start, and to each device that comes online later.
 */
import type { Clock } from '../../clock.ts'
import { sleep } from '../../clock.ts'
import { GatewayError } from '../../errors.ts'
import type { DeviceAnswer, DevicePublisher, Log } from '../../ports.ts'
import type { DevicePatch } from '../document.ts'
import type { Accepted, Kind } from '../kinds.ts'
import type { Memory } from '../memory.ts'
import { AnswerBook } from './device-answers.ts'
import { Courier, GROUP } from './device-courier.ts'
import { DeviceLayers, layerKeyOf, layerOf, SETTINGS } from './device-layers.ts'
import type { DeviceLayer } from './device-layers.ts'
import { faultOf } from './device-rules.ts'
import { deviceTopicOf, fitsTopic, meetsFilter, topicFor } from './device-topics.ts'

export interface DeviceKindParts {
  readonly memory: Memory
  readonly clock: Clock
  readonly log: Log
  /** One for each source, as they are now. */
  readonly publishers: () => readonly DevicePublisher[]
  /** MQTT filters of the log path: settings and answers keep off them. */
  readonly logFilters: () => readonly string[]
  /** Glob on device ids, as in `limits.overrides`. */
  readonly matches: (glob: string, device: string) => boolean
}

const FLIP_MS = 2_000
const ACTIVATE_MS = 5_000

/** What was registered with one publisher. */
interface Tie {
  readonly courier: Courier
  readonly stopOnline: () => void
  readonly stopAnswers: Map<string, () => void>
}

export class DeviceKind implements Kind<DevicePatch, DeviceLayer> {
  readonly #parts: DeviceKindParts
  readonly #ties = new Map<DevicePublisher, Tie>()
  readonly #books = new Map<string, Promise<AnswerBook>>()
  /** Boot ms until which the devices of a patch may answer. */
  readonly #deadlines = new Map<string, number>()
  readonly #missed = new Set<string>()
  /** What ACTIVATE asked for, by patch and source. */
  readonly #topics = new Map<string, readonly string[]>()
  #layers: DeviceLayers
  #refreshing: Promise<void> = Promise.resolve()

  constructor(parts: DeviceKindParts) {
    this.#parts = parts
    this.#layers = new DeviceLayers([], parts.matches)
  }

  /** Before the sources start, so that no device finds nothing; again whenever sources came or went. */
  refresh(): Promise<void> {
    // One at a time: two would tie a new source twice.
    const next = this.#refreshing.catch(() => undefined).then(() => this.#refresh())
    this.#refreshing = next
    return next
  }

  async #refresh(): Promise<void> {
    await this.#readLayers()
    const now = new Set(this.#parts.publishers())
    for (const [publisher, tie] of this.#ties) if (!now.has(publisher)) await this.#untie(publisher, tie)
    for (const publisher of now) if (!this.#ties.has(publisher)) await this.#tie(publisher)
    this.#listen()
  }

  async stop(): Promise<void> {
    for (const [publisher, tie] of [...this.#ties]) await this.#untie(publisher, tie)
  }

  async prepare({ patch }: Accepted<DevicePatch>): Promise<DeviceLayer> {
    await this.#readLayers()
    const { all } = this.#layers
    const sources = this.#parts.publishers().map(({ source }) => source)
    const fault = faultOf(patch, { sources, logFilters: this.#parts.logFilters(), layers: all })
    if (fault !== undefined) throw new GatewayError('rejected', fault)
    const { topic, devices, source, payload, acknowledge } = patch.spec
    const order = (all.at(-1)?.order ?? 0) + 1
    const answers = acknowledge === undefined ? null : { ...acknowledge }
    return { patch: patch.id, topic, devices, source: source ?? null, payload: JSON.stringify(payload), acknowledge: answers, order }
  }

  async fetch(): Promise<void> {}
  async build(): Promise<void> {}
  async pre(): Promise<void> {}

  async flip(plan: DeviceLayer): Promise<void> {
    if (await this.isFlipped(plan)) return
    const expected = (await this.#bookOf(plan.patch)).expect(this.#online(plan))
    await this.#parts.memory.write({ ...expected, [layerKeyOf(plan)]: plan })
    await this.#readLayers()
  }

  async isFlipped(plan: DeviceLayer): Promise<boolean> {
    return (await this.#parts.memory.read(layerKeyOf(plan))).has(layerKeyOf(plan))
  }

  async activate(plan: DeviceLayer, signal: AbortSignal): Promise<void> {
    await this.refresh()
    if (plan.acknowledge !== null) this.#deadlines.set(plan.patch, this.#parts.clock.bootMs() + plan.acknowledge.deadlineMs)
    await this.#publish(plan, signal)
  }

  /** Rejects with `transient` while it waits for devices, and with `rejected` when it waits no more. */
  async verify(plan: DeviceLayer): Promise<void> {
    if (!(await this.isFlipped(plan))) throw new GatewayError('rejected', 'its settings are not among those in force here')
    this.#assertSent(plan)
    const { acknowledge, patch } = plan
    if (acknowledge === null) return
    const book = await this.#bookOf(patch)
    const [refusal] = book.refusals()
    if (refusal !== undefined) throw new GatewayError('rejected', refusalWords(book, refusal))
    const { confirmed, expected } = book.share()
    const needed = Math.ceil(expected * acknowledge.minDone)
    const isLate = this.#isLate(plan)
    if (confirmed >= needed && !this.#missed.has(patch)) return
    const words = `${confirmed} of ${expected} devices that were online confirmed, ${needed} are needed`
    if (!isLate) throw new GatewayError('transient', words)
    this.#missed.add(patch)
    throw new GatewayError('rejected', `${words}; the others stayed silent for ${acknowledge.deadlineMs / 1_000} s`)
  }

  async commit(plan: DeviceLayer): Promise<void> {
    const covered = this.#layers.coveredBy(plan)
    if (covered.length > 0) await this.#parts.memory.write(Object.fromEntries(covered.map((layer) => [layerKeyOf(layer), undefined])))
    await (await this.#bookOf(plan.patch)).close()
    this.#forgetTopics(plan)
    await this.#forgetBooks(covered)
    await this.refresh()
  }

  async unflip(plan: DeviceLayer): Promise<void> {
    await this.#parts.memory.write({ [layerKeyOf(plan)]: undefined })
    await this.#readLayers()
  }

  /** What held before is published again; topics that held nothing are cleared. A broker that is away gets it later. */
  async reactivate(plan: DeviceLayer, signal: AbortSignal): Promise<void> {
    await this.refresh()
    await this.#publish(plan, signal)
  }

  async discard(plan: DeviceLayer): Promise<void> {
    if (await this.isFlipped(plan)) return
    await this.#forgetBooks([plan])
    this.#forgetTopics(plan)
    this.#listen()
  }

  limitMs(step: 'pre' | 'flip' | 'activate' | 'unflip' | 'reactivate'): number {
    return step === 'activate' || step === 'reactivate' ? ACTIVATE_MS + FLIP_MS : FLIP_MS
  }

  async counts(plan: DeviceLayer): Promise<{ readonly confirmed: number; readonly refused: number; readonly silent: number }> {
    return (await this.#bookOf(plan.patch)).counts()
  }

  /** Waits a while; the rest goes on in the background, and VERIFY looks after it. */
  async #publish(plan: DeviceLayer, signal: AbortSignal): Promise<void> {
    const couriers = this.#couriersOf(plan)
    for (const courier of couriers) {
      const readers = deviceTopicOf(plan.topic) === undefined ? [GROUP] : this.#onlineAt(courier.publisher, plan)
      const devices = [...new Set([...courier.sentTo(plan.topic), ...readers])]
      courier.ask(plan.topic, devices)
      // Who comes later is served too, and is none of VERIFY's business: a storm of reconnects must not fail a patch.
      this.#topics.set(
        `${plan.patch}\0${courier.publisher.source}`,
        devices.map((device) => topicFor(plan.topic, device)),
      )
    }
    await Promise.race([Promise.all(couriers.map((courier) => courier.idle())), sleep(this.#parts.clock, ACTIVATE_MS, signal)])
    signal.throwIfAborted()
  }

  #assertSent(plan: DeviceLayer): void {
    for (const courier of this.#couriersOf(plan)) {
      const topics = this.#topics.get(`${plan.patch}\0${courier.publisher.source}`) ?? []
      const fault = courier.faultOf(topics)
      if (fault !== undefined) throw fault.kind === 'rejected' ? fault : new GatewayError('rejected', fault.message, { cause: fault })
      const waiting = courier.underWay(topics)
      if (waiting > 0)
        throw new GatewayError('transient', `settings for ${waiting} topics have not reached ${courier.publisher.source} yet`)
    }
  }

  #forgetTopics({ patch }: DeviceLayer): void {
    for (const key of this.#topics.keys()) if (key.startsWith(`${patch}\0`)) this.#topics.delete(key)
  }

  #isLate({ patch, acknowledge }: DeviceLayer): boolean {
    const nowMs = this.#parts.clock.bootMs()
    // After a restart within VERIFY the devices get their time anew.
    const deadlineMs = this.#deadlines.get(patch) ?? nowMs + (acknowledge?.deadlineMs ?? 0)
    this.#deadlines.set(patch, deadlineMs)
    return nowMs >= deadlineMs
  }

  #couriersOf(plan: DeviceLayer): readonly Courier[] {
    const all = [...this.#ties.values()].map(({ courier }) => courier)
    return plan.source === null ? all : all.filter(({ publisher }) => publisher.source === plan.source)
  }

  #online(plan: DeviceLayer): readonly string[] {
    return [...new Set(this.#couriersOf(plan).flatMap(({ publisher }) => this.#onlineAt(publisher, plan)))]
  }

  #onlineAt(publisher: DevicePublisher, layer: DeviceLayer): readonly string[] {
    return publisher.online().filter((device) => fitsTopic(device) && this.#layers.isFor(layer, device))
  }

  async #readLayers(): Promise<void> {
    const stored = [...(await this.#parts.memory.read(SETTINGS)).values()]
    this.#layers = new DeviceLayers(
      stored.flatMap((one) => layerOf(one) ?? []),
      this.#parts.matches,
    )
  }

  async #tie(publisher: DevicePublisher): Promise<void> {
    const { memory, clock, log } = this.#parts
    const courier = new Courier({ publisher, memory, clock, log, layers: () => this.#layers })
    await courier.load()
    const stopOnline = publisher.onOnline((device) => this.#cameOnline(courier, device))
    this.#ties.set(publisher, { courier, stopOnline, stopAnswers: new Map() })
    // Also those of patches that were taken back while this source was away.
    for (const pattern of courier.sentPatterns()) courier.ask(pattern, courier.sentTo(pattern))
    for (const layer of this.#layers.of(publisher.source)) {
      courier.ask(layer.topic, deviceTopicOf(layer.topic) === undefined ? [GROUP] : this.#onlineAt(publisher, layer))
    }
  }

  async #untie(publisher: DevicePublisher, { courier, stopOnline, stopAnswers }: Tie): Promise<void> {
    this.#ties.delete(publisher)
    stopOnline()
    for (const stop of stopAnswers.values()) stop()
    await courier.stop()
  }

  #cameOnline(courier: Courier, device: string): void {
    if (!fitsTopic(device)) return
    for (const layer of this.#layers.of(courier.publisher.source)) {
      if (deviceTopicOf(layer.topic) !== undefined && this.#layers.isFor(layer, device)) courier.ask(layer.topic, [device])
    }
  }

  /** Listens for the answers to all that is in force, and to nothing else. */
  #listen(): void {
    const filters = this.#parts.logFilters()
    for (const [publisher, { stopAnswers }] of this.#ties) {
      const wanted = new Set(this.#layers.of(publisher.source).flatMap(({ acknowledge }) => acknowledge?.topic ?? []))
      for (const [topic, stop] of stopAnswers) {
        if (wanted.has(topic)) continue
        stop()
        stopAnswers.delete(topic)
      }
      for (const topic of wanted) if (!stopAnswers.has(topic)) this.#listenAt(publisher, topic, stopAnswers, filters)
    }
  }

  #listenAt(publisher: DevicePublisher, topic: string, stops: Map<string, () => void>, filters: readonly string[]): void {
    const place = deviceTopicOf(topic)
    if (place === undefined) return
    if (filters.some((filter) => meetsFilter(topic, filter))) {
      this.#parts.log.warn({ topic }, 'mqtt.topics now covers the topic of answers to settings: they are log messages from now on')
    } else
      stops.set(
        topic,
        publisher.listenFor(place, (answer) => this.#take(answer)),
      )
  }

  async #take({ device, payload, source }: DeviceAnswer): Promise<void> {
    const answer = parsed(payload)
    const layer = this.#layers.of(source).find(({ patch }) => patch === answer?.patch)
    if (answer === undefined || layer === undefined || !this.#layers.isFor(layer, device)) {
      this.#parts.log.debug({ device, source }, 'an answer to no settings in force here')
      return
    }
    const { ok, reason } = answer
    if (!ok) this.#parts.log.warn({ device, patch: layer.patch, reason }, 'a device refuses its settings')
    await (await this.#bookOf(layer.patch)).add(device, ok, reason)
  }

  #bookOf(patch: string): Promise<AnswerBook> {
    const book = this.#books.get(patch) ?? new AnswerBook(this.#parts.memory, patch).load()
    this.#books.set(patch, book)
    return book
  }

  async #forgetBooks(layers: readonly DeviceLayer[]): Promise<void> {
    for (const { patch } of layers) {
      await (await this.#bookOf(patch)).forget()
      this.#books.delete(patch)
      this.#deadlines.delete(patch)
      this.#missed.delete(patch)
    }
  }
}

function refusalWords(book: AnswerBook, { device, reason }: { readonly device: string; readonly reason: string }): string {
  const others = book.counts().refused - 1
  const more = others > 0 ? `, and ${others} more refuse` : ''
  return `device ${device} refuses the settings${reason === '' ? '' : `: ${reason}`}${more}`
}

/** `{"patch": "…", "ok": true | false, "reason": "…"}`; undefined for anything else. */
function parsed(payload: Uint8Array): { readonly patch: string; readonly ok: boolean; readonly reason: string } | undefined {
  try {
    const { patch, ok, reason } = JSON.parse(Buffer.from(payload).toString('utf8')) as Partial<Record<string, unknown>>
    if (typeof patch !== 'string' || typeof ok !== 'boolean') return undefined
    return { patch, ok, reason: typeof reason === 'string' ? reason : '' }
  } catch {
    return undefined
  }
}
