import { setTimeout as sleep } from 'node:timers/promises'
import type { LedgerDocument } from '../../daemon/cli/ledger-view.ts'
import { Fleet } from '../fleet/fleet.ts'
import { judge, type Judgement } from '../fleet/judge.ts'
import { readBack } from '../fleet/read-back.ts'
import { setUpGateway, setUpTopics, type GatewaySetup } from '../fleet/setup.ts'
import { freePort, type KafkaService, type Proxy } from '../services/index.ts'
import type { Dice } from './dice.ts'

export interface StormOptions {
  readonly name: string
  readonly dir: string
  readonly kafka: KafkaService
  readonly proxy: Proxy
  readonly dice: Dice
  /** Devices send message ids, and redeliveries are dropped at the door. */
  readonly ids: boolean
}

export interface StormResult extends Judgement {
  readonly rounds: number
  readonly kafkaFaults: number
  readonly published: number
  readonly acknowledged: number
  readonly duplicatesAllowed: number
  readonly ledgerChecks: number
  readonly ledgerFaults: readonly string[]
  readonly seconds: number
}

const DEVICES = 30
const RATE_PER_DEVICE = 20
const DRAIN_SECONDS = 180

export class Storm {
  readonly #options: StormOptions
  readonly #ledgerFaults: string[] = []
  #ledgerChecks = 0
  #kafkaFaults = 0
  #inDoubtAtKills = 0

  constructor(options: StormOptions) {
    this.#options = options
  }

  async run(rounds: number): Promise<StormResult> {
    const started = performance.now()
    const port = await freePort()
    const topic = `logs-${this.#options.name}`
    const setup = await setUpGateway(this.#options.dir, this.#config(port, topic))
    await setUpTopics(setup.configFile, 3)
    await setup.gateway.start()
    const fleet = new Fleet({ host: '127.0.0.1', port, devices: DEVICES, ratePerDevice: RATE_PER_DEVICE, noisyRate: 0, payloadOf })
    fleet.start()
    try {
      for (let round = 1; round <= rounds; round += 1) await this.#round(setup, fleet, round)
      fleet.quiet()
      await this.#drained(setup, fleet)
      const ledger = await setup.gateway.ledger()
      const consumed = await readBack(this.#options.kafka.endpoint, topic)
      this.#judgeLedger(ledger, consumed.length)
      return {
        rounds,
        kafkaFaults: this.#kafkaFaults,
        published: fleet.published.size,
        acknowledged: fleet.acknowledged,
        duplicatesAllowed: this.#options.ids ? 0 : this.#inDoubtAtKills,
        ledgerChecks: this.#ledgerChecks,
        ledgerFaults: this.#ledgerFaults,
        seconds: Math.round((performance.now() - started) / 1_000),
        ...judge(fleet.published, consumed),
      }
    } finally {
      fleet.close()
      await setup.gateway.end('SIGKILL')
    }
  }

  #config(port: number, topic: string): Record<string, unknown> {
    return {
      gateway: { id: `gw-${this.#options.name}` },
      mqtt: {
        listen: { lan: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } },
        topics: { logs: { pattern: 'devices/{device}/logs/{stream}/{id}' } },
      },
      buffer: { minFreeBytes: '64MiB', ...(this.#options.ids ? { dedupe: { from: 'topic:{id}', window: '1h' } } : {}) },
      kafka: { brokers: [this.#options.kafka.endpoint], topic },
      metrics: { listen: 'off' },
    }
  }

  async #round(setup: GatewaySetup, fleet: Fleet, round: number): Promise<void> {
    const { dice } = this.#options
    const healed = dice.unit() < 0.5 ? this.#kafkaFault() : Promise.resolve()
    await sleep(dice.between(100, 1_500))
    await this.#checkLedger(setup)
    await sleep(dice.between(0, 1_500))
    await setup.gateway.end('SIGKILL')
    // What has no acknowledgement now may be stored already, and comes again.
    this.#inDoubtAtKills += fleet.inDoubt
    await sleep(dice.between(0, 300))
    await setup.gateway.start()
    await healed
    process.stderr.write(
      `   ${this.#options.name}: round ${round}, published ${fleet.published.size}, acknowledged ${fleet.acknowledged}\n`,
    )
  }

  /** Resolves when Kafka is whole again. */
  async #kafkaFault(): Promise<void> {
    const { dice, kafka, proxy } = this.#options
    this.#kafkaFaults += 1
    const forMs = dice.between(300, 3_000)
    await sleep(dice.between(0, 1_000))
    switch (dice.pick(['cut', 'half-open', 'pause', 'kill', 'swallow'])) {
      case 'cut':
        await proxy.refuse()
        proxy.cut()
        await sleep(forMs)
        return proxy.heal()
      case 'half-open':
        proxy.halfOpen()
        await sleep(forMs)
        proxy.cut()
        return proxy.heal()
      case 'pause':
        kafka.pause()
        await sleep(forMs)
        return kafka.resume()
      case 'kill':
        await kafka.kill('SIGKILL')
        await sleep(forMs)
        return kafka.start()
      case 'swallow':
        proxy.dropResponses()
        await sleep(forMs)
        proxy.cut()
        return proxy.heal()
    }
  }

  async #checkLedger({ gateway }: GatewaySetup): Promise<void> {
    const { equation, totals } = await gateway.ledger()
    this.#ledgerChecks += 1
    if (!equation.holds) this.#ledgerFaults.push(`the ledger is off by ${equation.difference}: ${JSON.stringify(totals)}`)
  }

  #judgeLedger({ totals, equation }: LedgerDocument, inKafka: number): void {
    if (!equation.holds) this.#ledgerFaults.push(`the ledger is off by ${equation.difference} at the end`)
    if (totals.delivered.messages !== inKafka)
      this.#ledgerFaults.push(`the ledger says ${totals.delivered.messages} delivered, and Kafka holds ${inKafka}`)
    if (totals.lost.messages !== 0) this.#ledgerFaults.push(`the ledger says ${totals.lost.messages} lost`)
    const others = Object.keys(totals.shed).filter((reason) => reason !== 'duplicate')
    if (others.length > 0) this.#ledgerFaults.push(`shed without a cause in this run: ${JSON.stringify(totals.shed)}`)
  }

  async #drained({ gateway }: GatewaySetup, fleet: Fleet): Promise<void> {
    for (let second = 0; second < DRAIN_SECONDS; second += 0.25) {
      // Before the status is asked: what is acknowledged after it was written is not in it.
      const { pending } = fleet
      const { lanes } = await gateway.status()
      const waiting = Object.entries(lanes).reduce((sum, [name, lane]) => sum + (name === 'internal' ? 0 : lane.messages), 0)
      if (pending === 0 && waiting === 0) return
      await sleep(250)
    }
    throw new Error(
      `not drained after ${DRAIN_SECONDS} s: ${fleet.pending} unacknowledged, status ${JSON.stringify(await gateway.status())}`,
    )
  }
}

function payloadOf(device: string, sequence: number): Buffer {
  return Buffer.from(
    `{"level":"${sequence % 40 === 0 ? 'error' : 'info'}","device":"${device}","sequence":${sequence},"text":"${'abcdefghij'.repeat(sequence % 20)}"}`,
  )
}
