/** Brings the desired settings to one source, in the background and again after a failure, until each topic holds them. */
import { sleep } from '../../clock.ts'
import type { Clock } from '../../clock.ts'
import { GatewayError, kindOf, messageOf } from '../../errors.ts'
import type { DevicePublisher, Log } from '../../ports.ts'
import type { Memory } from '../memory.ts'
import type { DeviceLayer, DeviceLayers } from './device-layers.ts'
import { layerKeyOf } from './device-layers.ts'
import { topicFor } from './device-topics.ts'

const SENT = 'device-sent/'
/** Devices of one topic at one source whose settings are remembered, so that they can be taken back. */
const SENT_MAX = 50_000
/** PUBACKs waited for side by side, and devices noted in one write. */
const BATCH = 200
const RETRY_MS = 5_000

/** Stands where the id of a device would: a group reads one topic together. */
export const GROUP = ''

interface Errand {
  readonly topic: string
  /** As the patch names it. */
  readonly pattern: string
  /** An id, or GROUP. */
  readonly device: string
}

export interface CourierParts {
  readonly publisher: DevicePublisher
  readonly memory: Memory
  readonly clock: Clock
  readonly log: Log
  readonly layers: () => DeviceLayers
}

export class Courier {
  readonly publisher: DevicePublisher
  readonly #parts: CourierParts
  readonly #ended = new AbortController()
  readonly #errands = new Map<string, Errand>()
  /** Devices by pattern to which something was published, whether or not it is still wanted. */
  readonly #sent = new Map<string, Set<string>>()
  readonly #chunks = new Map<string, number>()
  /** Which layer a topic holds, as far as this life has seen to it; '' for none. */
  readonly #holds = new Map<string, string>()
  readonly #faults = new Map<string, GatewayError>()
  #running: Promise<void> | undefined
  #whenIdle: (() => void)[] = []

  constructor(parts: CourierParts) {
    this.#parts = parts
    this.publisher = parts.publisher
  }

  async load(): Promise<void> {
    const prefix = `${SENT}${encodeURIComponent(this.publisher.source)}/`
    for (const [key, devices] of await this.#parts.memory.read(prefix)) {
      const [pattern = '', chunk = ''] = key.slice(prefix.length).split('/')
      const name = decodeURIComponent(pattern)
      this.#sent.set(name, new Set([...(this.#sent.get(name) ?? []), ...(devices as readonly string[])]))
      this.#chunks.set(name, Math.max(this.#chunks.get(name) ?? 0, Number(chunk) + 1))
    }
  }

  /** Patterns with `{device}` that this source holds settings of. */
  sentPatterns(): readonly string[] {
    return [...this.#sent.keys()]
  }

  sentTo(pattern: string): readonly string[] {
    return [...(this.#sent.get(pattern) ?? [])]
  }

  ask(pattern: string, devices: readonly string[]): void {
    for (const device of devices) {
      const topic = topicFor(pattern, device)
      const held = this.#holds.get(topic)
      if (held !== undefined && held === this.#wantedKey(topic)) continue
      this.#faults.delete(topic)
      this.#errands.set(topic, { topic, pattern, device })
    }
    if (this.#errands.size > 0) this.#running ??= this.#run()
  }

  /** How many of these topics do not hold yet what they are to hold. */
  underWay(topics: readonly string[]): number {
    return topics.filter((topic) => this.#errands.has(topic)).length
  }

  /** What a broker refused for good, of these topics. */
  faultOf(topics: readonly string[]): GatewayError | undefined {
    const faulty = topics.find((topic) => this.#faults.has(topic))
    return faulty === undefined ? undefined : this.#faults.get(faulty)
  }

  idle(): Promise<void> {
    if (this.#errands.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#whenIdle.push(resolve))
  }

  async stop(): Promise<void> {
    this.#ended.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#parts
    const { signal } = this.#ended
    while (this.#errands.size > 0 && !signal.aborted) {
      const batch = [...this.#errands.values()].slice(0, BATCH)
      const failures = await this.#carry(batch)
      if (failures.length === 0 || signal.aborted) continue
      log.warn({ source: this.publisher.source, topics: failures.length, reason: messageOf(failures[0]) }, 'settings of devices wait')
      await sleep(clock, RETRY_MS, signal)
    }
    await this.#tidy().catch((error: unknown) =>
      log.warn({ source: this.publisher.source, reason: messageOf(error) }, 'settings that are gone are still remembered'),
    )
    this.#running = undefined
    if (this.#errands.size > 0 && !signal.aborted) this.#running = this.#run()
    else for (const wake of this.#whenIdle.splice(0)) wake()
  }

  /** Nothing is in force under a pattern any more, and all of it was cleared: its devices are forgotten. */
  async #tidy(): Promise<void> {
    const used = new Set(this.#parts.layers().all.map(({ topic }) => topic))
    for (const [pattern, devices] of [...this.#sent]) {
      const topics = [...devices].map((device) => topicFor(pattern, device))
      if (used.has(pattern) || topics.some((topic) => this.#holds.get(topic) !== '')) continue
      for (const topic of topics) this.#holds.delete(topic)
      this.#sent.delete(pattern)
      this.#chunks.delete(pattern)
      const known = [...(await this.#parts.memory.read(this.#prefixOf(pattern))).keys()]
      await this.#parts.memory.write(Object.fromEntries(known.map((key) => [key, undefined])))
    }
  }

  /** What failed and is tried again. */
  async #carry(batch: readonly Errand[]): Promise<readonly unknown[]> {
    try {
      await this.#note(batch)
    } catch (error) {
      return [error]
    }
    const results = await Promise.all(batch.map((errand) => this.#bring(errand)))
    return results.filter((result) => result !== undefined)
  }

  /** Before anything is published, so that an undo reaches all. */
  async #note(batch: readonly Errand[]): Promise<void> {
    for (const pattern of new Set(batch.map((errand) => errand.pattern))) {
      const sent = this.#sent.get(pattern) ?? new Set<string>()
      const fresh = batch.flatMap((errand) => (errand.pattern === pattern && !sent.has(errand.device) ? [errand.device] : []))
      if (fresh.length === 0) continue
      const chunk = this.#chunks.get(pattern) ?? 0
      await this.#parts.memory.write({ [`${this.#prefixOf(pattern)}${String(chunk).padStart(6, '0')}`]: fresh })
      this.#chunks.set(pattern, chunk + 1)
      this.#sent.set(pattern, new Set([...sent, ...fresh]))
    }
  }

  /** Undefined when it is done, or will never be. */
  async #bring(errand: Errand): Promise<unknown> {
    const { topic, pattern, device } = errand
    const layer = this.#parts.layers().wanted(this.publisher.source, topic)
    try {
      if ((this.#sent.get(pattern)?.size ?? 0) > SENT_MAX)
        throw new GatewayError('saturated', `more than ${SENT_MAX} devices have settings under ${pattern}`)
      await this.#send(topic, device, layer)
      this.#holds.set(topic, layer === undefined ? '' : layerKeyOf(layer))
    } catch (error) {
      if (kindOf(error) === 'transient' || kindOf(error) === undefined) return error
      this.#faults.set(topic, error as GatewayError)
      this.#parts.log.warn({ source: this.publisher.source, topic, reason: messageOf(error) }, 'settings of a device can not be published')
    }
    // A flip meanwhile may have asked for something else.
    if (this.#errands.get(topic) === errand) this.#errands.delete(topic)
    return undefined
  }

  #send(topic: string, device: string, layer: DeviceLayer | undefined): Promise<void> {
    const { signal } = this.#ended
    if (layer === undefined) return this.publisher.clear(topic, signal)
    return this.publisher.publish({ topic, device: device === GROUP ? undefined : device, payload: Buffer.from(layer.payload) }, signal)
  }

  #wantedKey(topic: string): string {
    const layer = this.#parts.layers().wanted(this.publisher.source, topic)
    return layer === undefined ? '' : layerKeyOf(layer)
  }

  #prefixOf(pattern: string): string {
    return `${SENT}${encodeURIComponent(this.publisher.source)}/${encodeURIComponent(pattern)}/`
  }
}
