/**
 * One box under test at a real Kafka: a gateway with names of its own at a shared broker, its devices, and the record
 * of what they published. Several boxes can run side by side in one test file.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Json } from '../../config/merge.ts'
import { mergePatch } from '../../config/merge.ts'
import type { LedgerDocument } from '../../daemon/cli/ledger-view.ts'
import type { StatusDocument } from '../../daemon/status.ts'
import { setUpBox, until, type Box } from '../fleet/box.ts'
import { Device, type Message } from '../fleet/device.ts'
import type { GatewayProgram } from '../fleet/gateway.ts'
import { judge, type Published } from '../fleet/judge.ts'
import { readBack, type Consumed } from '../fleet/read-back.ts'
import { edgectl } from '../fleet/setup.ts'
import type { KafkaService, ServiceScope } from '../services/index.ts'

export interface KafkaBoxOptions {
  readonly scope: ServiceScope
  readonly kafka: KafkaService
  /** The gateway's id; the names of its topic and prefix follow from it. */
  readonly name: string
  /** Of the data topic; 0: nothing is created. Default: 3. */
  readonly partitions?: number
  /** A merge patch (RFC 7396) over the box's configuration. */
  readonly config?: Json
  /** Default: one of its own. */
  readonly dataDir?: string
}

export class KafkaBox {
  readonly topic: string
  readonly prefix: string
  readonly gateway: GatewayProgram
  readonly configFile: string
  readonly dataDir: string
  readonly published = new Map<string, Published>()
  readonly name: string
  readonly #box: Box
  readonly #kafka: KafkaService
  readonly #devices = new Map<string, { readonly device: Device; sequence: number }>()

  private constructor({ name, kafka }: KafkaBoxOptions, box: Box) {
    this.name = name
    this.topic = topicOf(name)
    this.prefix = prefixOf(name)
    this.gateway = box.gateway
    this.configFile = box.configFile
    this.dataDir = box.dataDir
    this.#box = box
    this.#kafka = kafka
  }

  /** Writes the configuration and creates the topics as an operator does; the gateway is not started yet. */
  static async setUp(options: KafkaBoxOptions): Promise<KafkaBox> {
    const { scope, partitions = 3, dataDir } = options
    const inner = await setUpBox(scope, { config: configFor(options), ...(dataDir === undefined ? {} : { dataDir }) })
    const box = new KafkaBox(options, inner)
    scope.atEnd(() => box.#silence())
    if (partitions > 0) await box.createTopics(partitions)
    return box
  }

  static async start(options: KafkaBoxOptions): Promise<KafkaBox> {
    const box = await KafkaBox.setUp(options)
    await box.gateway.start()
    return box
  }

  /** As an operator does. */
  async createTopics(partitions = 3): Promise<void> {
    await this.edgectl(['kafka', 'setup', '--partitions', String(partitions), '--replication', '1'])
  }

  edgectl(args: readonly string[]): Promise<string> {
    return edgectl([...args, '--config', this.configFile])
  }

  /** New messages of one device; the id that it gives each ends the topic. Returns the ids. */
  publish(name: string, count: number, payloadOf: (sequence: number) => Buffer = textOf, stream = 'app'): string[] {
    const entry = this.#device(name)
    return Array.from({ length: count }, () => {
      entry.sequence += 1
      const id = `${name}-${entry.sequence}`
      const payload = payloadOf(entry.sequence)
      this.published.set(id, { id, payload, acknowledged: false })
      entry.device.publish({ topic: `devices/${name}/logs/${stream}/${id}`, payload })
      return id
    })
  }

  get unacknowledged(): number {
    return [...this.#devices.values()].reduce((sum, { device }) => sum + device.pending, 0)
  }

  /** Waits until every device has its acknowledgements. */
  async acknowledged(): Promise<void> {
    await until(`${this.name} acknowledges every message`, () => this.unacknowledged === 0)
  }

  /** Waits until all is acknowledged, and the devices' lanes are empty. */
  async drained(): Promise<void> {
    // First: what is acknowledged after a status was written is not in it.
    await this.acknowledged()
    await this.until('all is forwarded', (status) => waitingIn(status) === 0)
  }

  /** Waits until the status says so. Throws with the last status and the end of the log. */
  async until(what: string, holds: (status: StatusDocument) => boolean): Promise<StatusDocument> {
    let status: StatusDocument | undefined
    try {
      return await until(`${this.name}: ${what}`, async () => {
        status = await this.gateway.status()
        return holds(status) ? status : undefined
      })
    } catch (cause) {
      throw new Error(
        `${this.name}: in vain: ${what}; ${this.unacknowledged} unacknowledged, status ${JSON.stringify(status)}\n${this.log().slice(-3_000)}`,
        { cause },
      )
    }
  }

  /** Waits until the verdict is not one of health, and its reason matches. */
  says(reason: RegExp): Promise<StatusDocument> {
    return this.until(`the verdict says ${String(reason)}`, ({ verdict }) => verdict.state !== 'ok' && reason.test(verdict.reason ?? ''))
  }

  /** Waits until the verdict is ok. */
  isWell(): Promise<StatusDocument> {
    return this.until('the verdict is ok', ({ verdict }) => verdict.state === 'ok')
  }

  /** What a `read_committed` reader finds, past any proxy. */
  consumed(topic = this.topic): Promise<Consumed[]> {
    return readBack(this.#kafka.internalEndpoint, topic)
  }

  /** Drained, and Kafka has each message once, unaltered, in order; the ledger agrees. */
  async deliveredExactly(topics: readonly string[] = [this.topic]): Promise<LedgerDocument> {
    await this.drained()
    const consumed = (await Promise.all(topics.map((topic) => this.consumed(topic)))).flat()
    const ledger = await this.gateway.ledger()
    const { lost, duplicates, outOfOrder, altered, inKafka } = judge(this.published, consumed)
    assert.deepEqual(
      { lost, duplicates, outOfOrder, altered, inKafka, offBy: ledger.equation.difference },
      { lost: [], duplicates: [], outOfOrder: [], altered: [], inKafka: this.published.size, offBy: 0 },
    )
    return ledger
  }

  /** Changes keys of the file, and has the running gateway take them over. */
  async reconfigure(patch: Json): Promise<void> {
    await this.#box.configure(patch)
    const before = this.logged(RELOADED)
    this.gateway.signal('SIGHUP')
    await until(`${this.name} takes the configuration over`, () => this.logged(RELOADED) > before)
  }

  /** Everything that the gateway logged so far. */
  log(): string {
    return readFileSync(join(this.#box.dir, 'gateway.log'), 'utf8')
  }

  /** Lines of the log that match. */
  logged(pattern: RegExp): number {
    return this.log()
      .split('\n')
      .filter((line) => pattern.test(line)).length
  }

  #silence(): void {
    for (const { device } of this.#devices.values()) device.close()
  }

  #device(name: string): { readonly device: Device; sequence: number } {
    let entry = this.#devices.get(name)
    if (entry === undefined) {
      const device = new Device({
        clientId: name,
        host: '127.0.0.1',
        port: this.#box.port,
        inFlightMax: 200,
        onAcknowledged: (message) => this.#note(message),
      })
      entry = { device, sequence: 0 }
      this.#devices.set(name, entry)
      device.open()
    }
    return entry
  }

  #note({ topic }: Message): void {
    const origin = this.published.get(topic.slice(topic.lastIndexOf('/') + 1))
    if (origin !== undefined) origin.acknowledged = true
  }
}

const RELOADED = /the (new )?configuration (is|has|can)/

export function topicOf(name: string): string {
  return `logs-${name}`
}

export function prefixOf(name: string): string {
  return `edge-${name}`
}

/** Messages that wait in the lanes of devices. */
export function waitingIn({ lanes }: StatusDocument): number {
  return Object.entries(lanes).reduce((sum, [lane, { messages }]) => (lane === 'internal' ? sum : sum + messages), 0)
}

function configFor({ name, kafka, config = {} }: KafkaBoxOptions): Json {
  return mergePatch(
    {
      gateway: { id: name },
      limits: { perDevice: { messagesPerSecond: 20_000, bytesPerSecond: '16MiB' } },
      kafka: { brokers: [kafka.endpoint], topic: topicOf(name), prefix: prefixOf(name) },
    },
    config,
  )
}

function textOf(sequence: number): Buffer {
  return Buffer.from(`{"level":"info","sequence":${sequence},"text":"${'abcdefghij'.repeat(sequence % 12)}"}`)
}
