/** The delivery of one import: an ordinary outbox and an ordinary relay that bear the origin's names. */
import { KafkaClient } from '../../../adapters/kafka/kafka.ts'
import type { Settings } from '../../../config/settings.ts'
import { Outbox } from '../../../store/outbox.ts'
import type { OutboxSettings } from '../../../store/settings.ts'
import type { Clock, Random } from '../../clock.ts'
import { LANES, type Counted, type Kafka, type Log } from '../../ports.ts'
import { Relay } from '../../relay/relay.ts'
import type { RelaySettings } from '../../relay/settings.ts'
import type { RelayState } from '../../relay/state.ts'
import { kafkaSettings, outboxSettings, relaySettings } from '../settings.ts'
import type { ImportNote } from './folder.ts'

/** Part of the uplink's budget that an import takes while one is delivered. */
export const IMPORT_SHARE = 0.25

export interface Surroundings {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Nothing of an import is given up: neither for its age nor for room. */
export function importOutbox(directory: string, settings: Settings, { clock, random, log }: Surroundings): Outbox {
  const limits: OutboxSettings = {
    ...outboxSettings(settings),
    maxBytes: Number.MAX_SAFE_INTEGER,
    minFreeBytes: 0,
    maxAgeMs: Infinity,
    lanes: { urgent: { whenFull: 'block' }, normal: { whenFull: 'block' }, deferred: { whenFull: 'block' } },
    dedupe: undefined,
  }
  return new Outbox({ dataDir: directory, settings: limits, clock, random, log })
}

export class ImportDelivery {
  readonly note: ImportNote
  readonly outbox: Outbox
  readonly #relay: Relay
  readonly #parts: Surroundings
  #isOpen = false

  constructor(note: ImportNote, directory: string, settings: Settings, parts: Surroundings) {
    const { clock, random, log } = parts
    this.note = note
    this.#parts = parts
    this.outbox = importOutbox(directory, settings, parts)
    this.#relay = new Relay(
      { outbox: this.outbox, internal: this.outbox, kafka: kafkaFor(note, settings, parts), clock, random, log },
      relayFor(note, settings),
    )
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.outbox.start(signal)
    this.#isOpen = true
    await this.#relay.start(signal)
  }

  async stop(deadlineMs: number): Promise<void> {
    await this.#relay.stop(deadlineMs)
    await this.outbox.stop(deadlineMs)
  }

  /** Rejects when its buffer or its relay can't go on. */
  ended(): Promise<never> {
    return Promise.race([this.outbox.ended, this.#relay.ended])
  }

  configure(settings: Settings): void {
    this.#relay.configure(relayFor(this.note, settings))
    this.#relay.connectTo(kafkaFor(this.note, settings, this.#parts))
  }

  get left(): Counted {
    const { lanes } = this.outbox.state()
    const total = (key: 'messages' | 'bytes'): number => LANES.reduce((sum, lane) => sum + lanes[lane][key], 0)
    return { messages: total('messages'), bytes: total('bytes') }
  }

  /** To Kafka, by this delivery. */
  get committed(): Counted {
    const { delivered, bytes } = this.relay
    return { messages: LANES.reduce((sum, lane) => sum + delivered[lane], 0), bytes }
  }

  get isDrained(): boolean {
    return this.#isOpen && this.left.messages === 0 && this.outbox.state().inFlight.messages === 0
  }

  get relay(): RelayState {
    return this.#relay.state()
  }
}

function relayFor({ gateway, prefix, topic, allowedTopics }: ImportNote, settings: Settings): RelaySettings {
  const own = relaySettings(settings)
  // The box's own messages wait until older ones of its own are delivered: nobody else needs the uplink.
  const share = gateway === settings.gateway.id ? 1 : IMPORT_SHARE
  const where = topic === undefined ? {} : { topic, allowedTopics }
  return { ...own, ...where, gatewayId: gateway, isGuest: true, prefix, uplinkBytesPerSecond: own.uplinkBytesPerSecond * share }
}

/**
 * Under the origin's own transactional id: the origin and every importer then fence each other, and whoever goes on
 * reads first what is in Kafka. So nothing is twice, whoever delivers and however often the file was imported.
 */
function kafkaFor({ gateway, prefix }: ImportNote, settings: Settings, { clock, log }: Surroundings): Kafka | undefined {
  const own = kafkaSettings(settings)
  return own === undefined ? undefined : new KafkaClient({ ...own, gatewayId: gateway, prefix }, clock, log)
}
