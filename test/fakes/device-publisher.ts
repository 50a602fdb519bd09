/** A source with devices: what it retains, who is there, and what they answer. */
import type { DevicePatch, DeviceSpec } from '../../daemon/patch/document.ts'
import type { Accepted } from '../../daemon/patch/kinds.ts'
import type { DeviceAnswer, DevicePublisher, DeviceSetting, DeviceTopic } from '../../daemon/ports.ts'

export class FakePublisher implements DevicePublisher {
  readonly source: string
  readonly retained = new Map<string, string>()
  readonly there = new Set<string>()
  /** Each publication and each clear, in order. */
  readonly sent: string[] = []
  /** Throws what the next publications reject with. */
  fault: ((topic: string) => void) | undefined
  readonly #listeners: { readonly topic: DeviceTopic; readonly take: (answer: DeviceAnswer) => Promise<void> }[] = []
  readonly #online = new Set<(device: string) => void>()

  constructor(source: string, retained: ReadonlyMap<string, string> = new Map()) {
    this.source = source
    for (const [topic, payload] of retained) this.retained.set(topic, payload)
  }

  async publish({ topic, payload }: DeviceSetting): Promise<void> {
    await Promise.resolve()
    this.fault?.(topic)
    const text = Buffer.from(payload).toString()
    this.sent.push(`${topic} ${text}`)
    this.retained.set(topic, text)
  }

  async clear(topic: string): Promise<void> {
    await Promise.resolve()
    this.fault?.(topic)
    this.sent.push(`${topic} cleared`)
    this.retained.delete(topic)
  }

  listenFor(topic: DeviceTopic, take: (answer: DeviceAnswer) => Promise<void>): () => void {
    const listener = { topic, take }
    this.#listeners.push(listener)
    return () => void this.#listeners.splice(this.#listeners.indexOf(listener), 1)
  }

  online(): readonly string[] {
    return [...this.there]
  }

  onOnline(listener: (device: string) => void): () => void {
    this.#online.add(listener)
    return () => void this.#online.delete(listener)
  }

  get listening(): readonly string[] {
    return this.#listeners.map(({ topic }) => `${topic.before}{device}${topic.after}`)
  }

  come(...devices: readonly string[]): void {
    for (const device of devices) {
      this.there.add(device)
      for (const listener of this.#online) listener(device)
    }
  }

  /** Resolves when the answer is acknowledged. */
  async answer(device: string, answer: object | string): Promise<void> {
    const payload = Buffer.from(typeof answer === 'string' ? answer : JSON.stringify(answer))
    for (const { take } of this.#listeners) await take({ source: this.source, device, payload })
  }
}

/** A device patch as the runner gets it. */
export function acceptedSettings(
  id: string,
  spec: Pick<DeviceSpec, 'devices' | 'topic' | 'payload'> & Partial<DeviceSpec>,
): Accepted<DevicePatch> {
  const patch: DevicePatch = {
    kind: 'device',
    id,
    fleet: 'f',
    channel: 'c',
    sequence: 1,
    notBefore: undefined,
    expires: 0,
    target: { all: true, sites: [], labels: {}, gateways: [], exclude: [] },
    requires: [],
    supersedes: [],
    health: { checks: [], consecutive: 1, deadlineMs: 120_000, bakeMs: 0 },
    rollout: { stages: [], concurrency: { scope: 's', slots: 1 }, maxFailures: 0, onFailure: 'pause' },
    window: undefined,
    spec: { source: undefined, acknowledge: undefined, ...spec },
  }
  return { patch, digest: id, payload: new Uint8Array(0), envelope: new Uint8Array(0) }
}
