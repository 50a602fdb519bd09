import { Readable } from 'node:stream'
import type { DeviceSetting } from '../../daemon/ports.ts'

interface Client {
  readonly id: string
}
interface Subscription {
  readonly topic: string
  readonly qos: number
}
type Subscriptions = Map<string, Subscription>

/** Stands for a session without subscriptions; it is never granted, but makes CONNACK say that there is a session. */
const PLACEHOLDER: Subscription = { topic: '-', qos: 0 }

/**
 * What the broker remembers of persistent sessions (3.1.1 section 3.1.2.4): their subscriptions, of the latest
 * clients only. No message and no will is kept here, and nothing that devices retain: messages go to the outbox, wills
 * are offered when they are due, and nothing is queued for a device that is away (it finds the settings that hold then). (The broker's own memory store has no
 * bound, and publishes the wills of living devices when the wall clock jumps.)
 */
export class Sessions {
  readonly #max: number
  readonly #settings: { matching(filter: string): Iterable<DeviceSetting> }
  readonly #sessions = new Map<string, Subscriptions>()

  constructor(sessionsMax: number, settings: { matching(filter: string): Iterable<DeviceSetting> }) {
    this.#max = sessionsMax
    this.#settings = settings
  }

  async setup(): Promise<void> {}

  async subscriptionsByClient({ id }: Client): Promise<Subscription[]> {
    const known = this.#sessions.get(id)
    this.#keep(id, known ?? new Map<string, Subscription>())
    if (known === undefined) return []
    return known.size === 0 ? [PLACEHOLDER] : [...known.values()]
  }

  async addSubscriptions({ id }: Client, subscriptions: readonly Subscription[]): Promise<void> {
    const session = this.#sessions.get(id) ?? new Map<string, Subscription>()
    for (const subscription of subscriptions) session.set(subscription.topic, subscription)
    this.#keep(id, session)
  }

  async removeSubscriptions({ id }: Client, topics: readonly string[]): Promise<void> {
    const session = this.#sessions.get(id)
    for (const topic of topics) session?.delete(topic)
  }

  async cleanSubscriptions({ id }: Client): Promise<void> {
    this.#sessions.delete(id)
  }

  async subscriptionsByTopic(): Promise<Subscription[]> {
    return []
  }

  outgoingStream(): Readable {
    return Readable.from([])
  }

  /** The gateway's settings for devices, at SUBSCRIBE; each once, however many filters match it. */
  createRetainedStreamCombi(filters: readonly string[]): Readable {
    const found = new Set(filters.flatMap((filter) => [...this.#settings.matching(filter)]))
    return Readable.from([...found].map(({ topic, payload }) => ({ cmd: 'publish', qos: 1, retain: true, topic, payload })))
  }

  async outgoingEnqueue(): Promise<void> {}
  async outgoingEnqueueCombi(): Promise<void> {}
  async outgoingUpdate(): Promise<void> {}
  async outgoingClearMessageId(): Promise<void> {}
  async storeRetained(): Promise<void> {}
  async putWill(): Promise<void> {}
  async delWill(): Promise<void> {}

  streamWill(): Readable {
    return Readable.from([])
  }

  #keep(id: string, session: Subscriptions): void {
    this.#sessions.delete(id)
    this.#sessions.set(id, session)
    if (this.#sessions.size <= this.#max) return
    const oldest = this.#sessions.keys().next()
    if (oldest.done !== true) this.#sessions.delete(oldest.value)
  }
}
