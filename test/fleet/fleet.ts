/** Simulated devices that publish on a schedule, and the record of what they published. */
import { Device } from './device.ts'
import type { Published } from './judge.ts'

export interface FleetOptions {
  readonly host: string
  readonly port: number
  readonly devices: number
  /** Their names begin with it; default `device`. */
  readonly name?: string
  /** Messages a second of one quiet device. */
  readonly ratePerDevice: number
  /** The first device is noisy: messages a second; 0 for none. */
  readonly noisyRate: number
  readonly keepaliveSeconds?: number
  /** Publishes of one device without an acknowledgement; default 100. */
  readonly inFlightMax?: number
  /** The payload of a device's next message. */
  readonly payloadOf: (device: string, sequence: number) => Buffer
}

const TICK_MS = 50

export class Fleet {
  readonly published = new Map<string, Published>()
  readonly noisy: string | undefined
  readonly #options: FleetOptions
  readonly #devices: { readonly name: string; readonly device: Device; readonly rate: number; owed: number; sequence: number }[]
  #timer: NodeJS.Timeout | undefined
  #lastMs = 0

  constructor(options: FleetOptions) {
    this.#options = options
    const { name: word = 'device' } = options
    this.noisy = options.noisyRate > 0 ? nameOf(word, 0) : undefined
    this.#devices = Array.from({ length: options.devices }, (_, index) => {
      const name = nameOf(word, index)
      const rate = name === this.noisy ? options.noisyRate : options.ratePerDevice
      // Owed starts at random so that the devices do not publish in step.
      return { name, device: this.#device(name), rate, owed: Math.random(), sequence: 0 }
    })
  }

  start(): void {
    for (const { device } of this.#devices) device.open()
    this.#lastMs = performance.now()
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
  }

  /** No new messages; what is pending goes on. */
  quiet(): void {
    clearInterval(this.#timer)
  }

  close(): void {
    this.quiet()
    for (const { device } of this.#devices) device.close()
  }

  get acknowledged(): number {
    return this.#devices.reduce((sum, { device }) => sum + device.acknowledged, 0)
  }

  get pending(): number {
    return this.#devices.reduce((sum, { device }) => sum + device.pending, 0)
  }

  get connects(): number {
    return this.#devices.reduce((sum, { device }) => sum + device.connects, 0)
  }

  /** Connections that ended without the devices' wish. */
  get lost(): number {
    return this.#devices.reduce((sum, { device }) => sum + device.lost, 0)
  }

  /** Publishes that left and have no acknowledgement: what a device without message ids may have stored twice. */
  get inDoubt(): number {
    return this.#devices.reduce((sum, { device }) => sum + device.inDoubt, 0)
  }

  #device(name: string): Device {
    return new Device({
      clientId: name,
      host: this.#options.host,
      port: this.#options.port,
      inFlightMax: this.#options.inFlightMax ?? 100,
      ...(this.#options.keepaliveSeconds === undefined ? {} : { keepaliveSeconds: this.#options.keepaliveSeconds }),
      onAcknowledged: (message) => {
        const origin = this.published.get(message.topic.slice(message.topic.lastIndexOf('/') + 1))
        if (origin !== undefined) origin.acknowledged = true
      },
    })
  }

  #tick(): void {
    const now = performance.now()
    for (const entry of this.#devices) {
      entry.owed += (entry.rate * (now - this.#lastMs)) / 1_000
      for (; entry.owed >= 1; entry.owed -= 1) this.#publish(entry)
    }
    this.#lastMs = now
  }

  #publish(entry: { readonly name: string; readonly device: Device; sequence: number }): void {
    entry.sequence += 1
    const id = `${entry.name}-${entry.sequence}`
    const payload = this.#options.payloadOf(entry.name, entry.sequence)
    this.published.set(id, { id, payload, acknowledged: false })
    entry.device.publish({ topic: `devices/${entry.name}/logs/app/${id}`, payload })
  }
}

function nameOf(word: string, index: number): string {
  return `${word}-${String(index).padStart(3, '0')}`
}
