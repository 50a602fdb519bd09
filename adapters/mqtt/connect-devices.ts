import type { Clock } from '../../daemon/clock.ts'
import { GatewayError } from '../../daemon/errors.ts'
import type { DeviceAnswer, DevicePublisher, DeviceSetting, DeviceTopic, Intake } from '../../daemon/ports.ts'
import { DeviceAnswers } from './device-answers.ts'
import type { Complain } from './device-answers.ts'
import { HeardDevices } from './heard-devices.ts'

/** A connection that is accepted and subscribed, as the settings see it. */
export interface SettingsLink {
  /** Retained, QoS 1; resolves at PUBACK, rejects with `rejected` when the broker refuses it. */
  publish(topic: string, payload: Uint8Array): Promise<void>
}

export interface ConnectDevicesParts {
  readonly clock: Clock
  /** The device that a topic of the log path speaks of; without it nobody is ever online. */
  readonly deviceOf: ((topic: string) => string | undefined) | undefined
  readonly complain: Complain
  /** The set of answer topics has changed. */
  readonly onTopics: () => void
}

const NOTHING = new Uint8Array(0)

/** Settings for the devices of an external broker, which keeps them. Who is online is known by messages only. */
export class ConnectDevices implements DevicePublisher {
  readonly source: string
  readonly #parts: ConnectDevicesParts
  readonly #answers: DeviceAnswers
  readonly #heard: HeardDevices
  #link: SettingsLink | undefined
  readonly #pending = new Set<(why?: string) => void>()
  readonly #waiting: (() => void)[] = []

  constructor(source: string, parts: ConnectDevicesParts) {
    this.source = source
    this.#parts = parts
    this.#answers = new DeviceAnswers(source, parts.complain)
    this.#heard = new HeardDevices(parts.clock)
  }

  /** Filters to subscribe to besides those of the log path. */
  get filters(): readonly string[] {
    return this.#answers.filters()
  }

  counts(): { readonly taken: number; readonly refused: number } {
    return this.#answers.counts()
  }

  /** `undefined`: the connection is away. */
  connected(link: SettingsLink | undefined): void {
    this.#link = link
    if (link !== undefined) return this.#waiting.splice(0).forEach((wake) => wake())
    for (const giveUp of [...this.#pending]) giveUp('the connection ended before its PUBACK')
  }

  /** The intake for what is no answer. */
  before(intake: Intake): Intake {
    const { deviceOf } = this.#parts
    return {
      offer: (delivery) => {
        if (this.#answers.takes(delivery)) return
        const device = delivery.retained ? undefined : deviceOf?.(delivery.topic)
        if (device !== undefined) this.#heard.hear(device)
        intake.offer(delivery)
      },
    }
  }

  async publish({ topic, payload }: DeviceSetting, signal: AbortSignal): Promise<void> {
    const link = await this.#connection(signal)
    const { promise: interrupted, reject } = Promise.withResolvers<never>()
    const giveUp = (why = 'the wait for its PUBACK was given up'): void => reject(this.#away(why))
    const onAbort = (): void => giveUp()
    this.#pending.add(giveUp)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await Promise.race([link.publish(topic, payload), interrupted])
    } finally {
      this.#pending.delete(giveUp)
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** An empty retained message removes the one before (3.1.1 section 3.3.1.3). */
  clear(topic: string, signal: AbortSignal): Promise<void> {
    return this.publish({ topic, payload: NOTHING, device: undefined }, signal)
  }

  listenFor(topic: DeviceTopic, take: (answer: DeviceAnswer) => Promise<void>): () => void {
    if (this.#answers.add(topic, take)) this.#parts.onTopics()
    return () => {
      if (this.#answers.remove(topic, take)) this.#parts.onTopics()
    }
  }

  online(): readonly string[] {
    return this.#heard.list()
  }

  onOnline(listener: (device: string) => void): () => void {
    return this.#heard.onOnline(listener)
  }

  /** Resolves when there is a connection. */
  async #connection(signal: AbortSignal): Promise<SettingsLink> {
    while (this.#link === undefined) {
      if (signal.aborted) throw this.#away('there is no connection to its broker')
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    }
    return this.#link
  }

  #away(why: string): GatewayError {
    return new GatewayError('transient', `mqtt.connect.${this.source} could not publish settings: ${why}`)
  }
}
