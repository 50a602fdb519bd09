/** A relay between a fake outbox and a fake Kafka, on a clock that the test moves. */
import { setImmediate as turn } from 'node:timers/promises'
import { LANES, type Kafka, type Log } from '../../daemon/ports.ts'
import { Relay } from '../../daemon/relay/relay.ts'
import type { RelaySettings } from '../../daemon/relay/settings.ts'
import { FakeClock, FakeRandom } from './clock.ts'
import { FakeKafka } from './kafka.ts'
import { FakeOutboxReader } from './outbox-reader.ts'

export const RELAY_SETTINGS: RelaySettings = {
  gatewayId: 'gw-001',
  prefix: 'edge',
  topic: 'device-logs',
  allowedTopics: [],
  delivery: 'exactly-once',
  unsyncedClock: 'hold',
  uplinkBytesPerSecond: Infinity,
  transaction: { maxBytes: 4 << 20, lingerMs: 500, perSecond: 2 },
  weights: { urgent: 4, normal: 4, deferred: 1 },
}

export const TOPICS = {
  'device-logs': { partitions: 3 },
  'edge.positions': { partitions: LANES.length },
  'edge.events': { partitions: 1 },
  'edge.ledger': { partitions: 1, cleanupPolicy: 'compact' },
  'edge.dead-letter': { partitions: 1 },
}

export interface LogLine {
  readonly level: string
  readonly fields: object
  readonly message: string
}

export class Bench {
  readonly clock: FakeClock
  readonly random: FakeRandom
  readonly outbox: FakeOutboxReader
  readonly kafka: FakeKafka
  readonly log: LogLine[] = []
  settings: RelaySettings
  relay: Relay

  constructor(settings: Partial<RelaySettings> = {}, clock = new FakeClock()) {
    this.clock = clock
    this.random = new FakeRandom()
    this.outbox = new FakeOutboxReader(clock)
    this.kafka = new FakeKafka(clock, TOPICS)
    this.settings = { ...RELAY_SETTINGS, ...settings }
    this.relay = this.newRelay()
  }

  /** Another life of the daemon on the same outbox and Kafka. */
  newRelay(ports: { readonly outbox?: FakeOutboxReader; readonly kafka?: Kafka | undefined } = {}): Relay {
    const { outbox, kafka, clock, random } = { ...this, ...ports }
    return new Relay({ outbox, internal: outbox, kafka, clock, random, log: this.#logTo() }, this.settings)
  }

  async start(): Promise<void> {
    await this.relay.start(new AbortController().signal)
    await this.settle()
  }

  async stop(): Promise<void> {
    const stopped = this.relay.stop(this.clock.monotonicMs() + 10_000)
    let done = false
    stopped.then(
      () => (done = true),
      () => (done = true),
    )
    for (let steps = 0; !done && steps < 200; steps += 1) await this.pass(100)
    await stopped
  }

  /** Lets all that can go on without time go on. */
  async settle(): Promise<void> {
    for (let turns = 0; turns < 12; turns += 1) await turn()
  }

  async pass(ms: number): Promise<void> {
    this.clock.advance(ms)
    await this.settle()
  }

  /** Moves time until `holds`, or throws. */
  async until(holds: () => boolean, limitMs = 300_000, stepMs = 100): Promise<void> {
    for (let passed = 0; !holds(); passed += stepMs) {
      if (passed > limitMs) throw new Error(`not within ${limitMs} ms; the relay says ${JSON.stringify(this.relay.state())}`)
      await this.pass(stepMs)
    }
  }

  #logTo(): Log {
    const at = (level: string) => (fields: object, message: string) => void this.log.push({ level, fields, message })
    return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
  }
}
