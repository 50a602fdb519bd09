import type { DeviceAnswer, DeviceEnding, DeviceLinks, DevicePublisher, DeviceSetting, DeviceTopic, Intake } from '../../daemon/ports.ts'
import { DeviceAnswers } from './device-answers.ts'
import type { Authenticator } from './listen-auth.ts'
import type { Ending, Tally } from './listen-counters.ts'
import type { InboundDevice } from './listen-inbound.ts'
import type { ListenSettings } from './listen-settings.ts'
import { OnlineDevices } from './online-devices.ts'
import { RetainedTree } from './retained-tree.ts'

interface Visitor {
  /** True once CONNACK was sent. */
  readonly ready: boolean
  readonly device: InboundDevice | undefined
}

/** The part of the access list that speaks of reading; undefined without a list. */
export type MayRead = (device: InboundDevice, filter: string) => boolean | undefined

/**
 * Settings for the devices of a listener. What is retained here comes from the gateway alone, is kept in memory, and
 * is told again by whoever owns it at each start: before the listener opens, so that no device finds nothing.
 */
export class ListenDevices implements DevicePublisher {
  readonly source: string
  readonly settings = new RetainedTree()
  readonly answers: DeviceAnswers
  readonly #online = new OnlineDevices()
  readonly #mayRead: MayRead
  readonly #links: DeviceLinks
  /** Sends to who has subscribed already; set while the listener is open. */
  forward: (setting: DeviceSetting) => void = () => undefined

  constructor(source: string, tally: Tally, mayRead: MayRead, links: DeviceLinks = NOBODY) {
    this.source = source
    this.#links = links
    this.#mayRead = mayRead
    this.answers = new DeviceAnswers(source, (fields, message) => tally.warn('answer', fields, message))
  }

  async publish(setting: DeviceSetting): Promise<void> {
    this.settings.set(setting)
    this.forward(setting)
  }

  /** Subscribers hear of it as from other brokers: by an empty message (3.1.1 section 3.3.1.3). */
  async clear(topic: string): Promise<void> {
    const setting = this.settings.get(topic)
    if (setting === undefined) return
    this.settings.delete(topic)
    this.forward({ ...setting, payload: new Uint8Array(0) })
  }

  listenFor(topic: DeviceTopic, take: (answer: DeviceAnswer) => Promise<void>): () => void {
    this.answers.add(topic, take)
    return () => void this.answers.remove(topic, take)
  }

  online(): readonly string[] {
    return this.#online.list()
  }

  onOnline(listener: (device: string) => void): () => void {
    return this.#online.onOnline(listener)
  }

  came({ ready, device }: Visitor): void {
    if (!ready || device === undefined) return
    this.#online.came(idOf(device))
    this.#links.connected(this.source, idOf(device), device.identity !== undefined)
  }

  left({ ready, device }: Visitor, why: Ending): void {
    if (!ready || device === undefined) return
    this.#online.left(idOf(device))
    this.#links.disconnected(this.source, idOf(device), endingOf(why))
  }

  connectionsOf(device: string): number {
    return this.#online.connectionsOf(device)
  }

  /** The intake for what is no answer. */
  before(intake: Intake, tally: Tally): Intake {
    return {
      offer: (delivery) => {
        if (this.answers.takes(delivery)) return
        tally.offered++
        intake.offer(delivery)
      },
    }
  }

  /**
   * What the access list grants; without one, filters with the device's own id as a level, and no wildcard before it.
   * `$SYS` is never granted.
   */
  maySubscribe(device: InboundDevice, filter: string): boolean {
    if (filter.startsWith('$')) return false
    return this.#mayRead(device, filter) ?? isOwn(filter, idOf(device))
  }

  /** Judged again for each message: a device whose name is also a level of other topics reads its own settings only. */
  mayReceive(device: InboundDevice, topic: string): boolean {
    const granted = this.#mayRead(device, topic)
    if (granted !== undefined) return granted
    const owner = this.settings.get(topic)?.device
    return owner === undefined ? isOwn(topic, idOf(device)) : owner === idOf(device)
  }
}

/** The access list's word, narrowed or replaced by what the settings allow. */
export function readRule(auth: Pick<Authenticator, 'maySubscribe'>, allowed: ListenSettings['allowSubscribe']): MayRead {
  return (device, filter) => {
    const listed = auth.maySubscribe(device, filter)
    return allowed === undefined ? listed : allowed(device, filter) && listed !== false
  }
}

const NOBODY: DeviceLinks = { connected: () => undefined, disconnected: () => undefined, turnedAway: () => undefined }

const BY_GATEWAY: ReadonlySet<Ending> = new Set(['held', 'stopped', 'refused', 'revoked', 'taken-over', 'over-budget'])

function endingOf(why: Ending): DeviceEnding {
  if (why === 'disconnect') return 'goodbye'
  return BY_GATEWAY.has(why) ? 'gateway' : 'lost'
}

function idOf({ identity, clientId }: InboundDevice): string {
  return identity ?? clientId
}

function isOwn(filter: string, id: string): boolean {
  for (const level of filter.split('/')) {
    if (level === id) return id !== '' && id !== '+' && id !== '#'
    if (level === '+' || level === '#') return false
  }
  return false
}
