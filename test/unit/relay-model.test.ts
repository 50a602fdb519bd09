/**
 * The relay against a model: random loads, faults at every call, crashes and clean restarts; at the end each
 * accepted message is in Kafka once, or stated as evicted or dead-lettered, and order holds.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { DEVICE_LANES, type DeviceLane, type KafkaRecord } from '../../daemon/ports.ts'
import { Relay } from '../../daemon/relay/relay.ts'
import type { KafkaCall, KafkaFault } from '../fakes/kafka.ts'
import { kafkaFailure } from '../fakes/kafka.ts'
import { Mortality } from '../fakes/mortal.ts'
import type { OutboxFault } from '../fakes/outbox-reader.ts'
import { Bench, RELAY_SETTINGS } from '../fakes/relay-bench.ts'

type Act =
  | {
      readonly act: 'append'
      readonly lane: DeviceLane
      readonly device: number
      readonly count: number
      readonly bytes: number
      readonly poison: boolean
    }
  | { readonly act: 'pass'; readonly ms: number }
  | {
      readonly act: 'kafka'
      readonly call: KafkaCall['kind']
      readonly fault: Exclude<KafkaFault, object> | 'alarm' | 'fenced'
      readonly times: number
    }
  | { readonly act: 'slow'; readonly ms: number }
  | { readonly act: 'evict'; readonly lane: DeviceLane; readonly count: number }
  | { readonly act: 'crash'; readonly outbox: OutboxFault | undefined }
  | { readonly act: 'restart' }
  | { readonly act: 'rival' }

const lane = fc.constantFrom(...DEVICE_LANES)
const acts = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      act: fc.constant('append' as const),
      lane,
      device: fc.nat(4),
      count: fc.integer({ min: 1, max: 20 }),
      bytes: fc.constantFrom(1, 100, 3_000),
      poison: fc.boolean().map(() => false),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      act: fc.constant('append' as const),
      lane,
      device: fc.nat(4),
      count: fc.constant(1),
      bytes: fc.constantFrom(10, 30_000),
      poison: fc.boolean(),
    }),
  },
  { weight: 8, arbitrary: fc.record({ act: fc.constant('pass' as const), ms: fc.constantFrom(1, 50, 600, 5_000, 100_000) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      act: fc.constant('kafka' as const),
      call: fc.constantFrom('begin', 'facts', 'committed', 'transact', 'transact', 'transact'),
      fault: fc.constantFrom('unreachable', 'answer-lost', 'left-open', 'prepared', 'aborted', 'hang', 'alarm', 'fenced'),
      times: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ act: fc.constant('slow' as const), ms: fc.constantFrom(0, 20, 900, 8_000) }) },
  { weight: 2, arbitrary: fc.record({ act: fc.constant('evict' as const), lane, count: fc.integer({ min: 1, max: 40 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      act: fc.constant('crash' as const),
      outbox: fc.constantFrom(undefined, 'never-answer', 'apply-and-never-answer'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ act: fc.constant('restart' as const) }) },
  { weight: 1, arbitrary: fc.record({ act: fc.constant('rival' as const) }) },
) as fc.Arbitrary<Act>

/** The system under test, with what ought to come of it. */
class Model {
  readonly bench = new Bench()
  readonly #faults: { call: KafkaCall['kind']; fault: KafkaFault; times: number }[] = []
  readonly #fates = new Map<string, 'sent' | 'evicted' | 'refused'>()
  readonly #deaths: unknown[] = []
  #mortality = new Mortality()

  constructor() {
    const { kafka } = this.bench
    kafka.topics.set('device-logs', { partitions: 3, maxMessageBytes: 20_000 })
    kafka.refuses = (record) => (Buffer.from(record.value).toString().startsWith('poison') ? 'INVALID_RECORD' : undefined)
    kafka.fault = (call) => this.#nextFault(call)
  }

  async run(script: readonly Act[]): Promise<void> {
    await this.#begin()
    for (const act of script) await this.#do(act)
    await this.#end()
    this.#judge()
  }

  async #begin(): Promise<void> {
    const { outbox, kafka, clock, random } = this.bench
    this.#mortality = new Mortality()
    const ports = this.#mortality.wrap(outbox)
    const log = { debug() {}, info() {}, warn() {}, error() {} }
    this.bench.relay = new Relay({ outbox: ports, internal: ports, kafka: this.#mortality.wrap(kafka), clock, random, log }, RELAY_SETTINGS)
    this.bench.relay.ended.catch((error: unknown) => this.#deaths.push(error))
    await this.bench.start()
  }

  async #do(act: Act): Promise<void> {
    const { bench } = this
    switch (act.act) {
      case 'append':
        return this.#append(act)
      case 'pass':
        return bench.pass(act.ms)
      case 'kafka':
        return void this.#faults.push({ call: act.call, fault: faultOf(act.fault), times: act.times })
      case 'slow':
        return void (bench.kafka.latencyMs = () => act.ms)
      case 'evict': {
        for (const { position } of bench.outbox.evict(act.lane, act.count)) this.#fates.set(`${act.lane}/${position}`, 'evicted')
        return
      }
      case 'crash':
        return this.#crash(act.outbox)
      case 'restart': {
        await bench.stop()
        bench.outbox.restart()
        return this.#begin()
      }
      case 'rival': {
        // It may hang for ever by a fault; nobody waits for it.
        bench.kafka.begin({ requestMs: 1, transactionMs: 1 }, new AbortController().signal).catch(() => undefined)
        return bench.pass(10_000)
      }
    }
  }

  #append(act: Extract<Act, { act: 'append' }>): void {
    const text = `${act.poison ? 'poison' : 'fine'}-${'x'.repeat(act.bytes)}`
    const envelopes = Array.from({ length: act.count }, () => ({ device: `dev-${act.device}`, payload: Buffer.from(text) }))
    const isRefused = act.poison || act.bytes > 20_000
    for (const { position } of this.bench.outbox.append(act.lane, ...envelopes))
      this.#fates.set(`${act.lane}/${position}`, isRefused ? 'refused' : 'sent')
  }

  async #crash(fault: OutboxFault | undefined): Promise<void> {
    const { bench } = this
    // The next advance is under way when the power goes: applied or not, the relay never hears of it.
    if (fault !== undefined) {
      bench.outbox.fault = () => fault
      await bench.pass(1_000)
      bench.outbox.fault = undefined
    }
    this.#mortality.kill()
    bench.outbox.restart()
    await this.#begin()
  }

  async #end(): Promise<void> {
    const { bench } = this
    this.#faults.length = 0
    bench.kafka.latencyMs = undefined
    await bench.until(
      () => DEVICE_LANES.every((name) => bench.outbox.rows(name).length === 0) && bench.outbox.rows('internal').length === 0,
      3_600_000,
      1_000,
    )
    await bench.stop()
  }

  #judge(): void {
    const { outbox, kafka } = this.bench
    assert.deepEqual(this.#deaths, [])
    const seen = new Map<string, number>()
    for (const record of kafka.committedRecords('device-logs')) {
      const key = keyOf(record)
      seen.set(key, (seen.get(key) ?? 0) + 1)
    }
    for (const [key, fate] of this.#fates)
      assert.equal(seen.get(key) ?? 0, fate === 'sent' ? 1 : 0, `${key} (${fate}) is ${seen.get(key) ?? 0} times in Kafka`)
    assert.equal(seen.size, [...this.#fates.values()].filter((fate) => fate === 'sent').length)
    const letters = new Set(outbox.letters.map((letter) => `${letter.lane}/${letter.position}`))
    for (const [key, fate] of this.#fates) assert.equal(letters.has(key), fate === 'refused', `${key} is ${fate}`)
    assert.equal(letters.size, outbox.letters.length)
    assert.equal(outbox.balance, 0)
    assertOrder(kafka.committedRecords('device-logs'))
    assert.equal(kafka.committedRecords().filter((record) => record.headers.some(([name]) => name === 'redelivery')).length, 0)
  }

  #nextFault(call: KafkaCall): KafkaFault | undefined {
    const found = this.#faults.find((planned) => planned.call === call.kind)
    if (found === undefined) return undefined
    found.times -= 1
    if (found.times === 0) this.#faults.splice(this.#faults.indexOf(found), 1)
    return found.fault
  }
}

function faultOf(name: Extract<Act, { act: 'kafka' }>['fault']): KafkaFault {
  if (name === 'alarm') return kafkaFailure('rejected', 'not authorised', { alarm: true })
  if (name === 'fenced') return kafkaFailure('fenced', 'a newer producer exists')
  return name
}

function keyOf(record: KafkaRecord): string {
  const [, lane, position] = posOf(record)
  return `${lane}/${position}`
}

function posOf(record: KafkaRecord): [string, string, string] {
  return (record.headers.find(([name]) => name === 'pos')?.[1] ?? '').split(':') as [string, string, string]
}

/** Per partition, epoch and lane, positions only grow. */
function assertOrder(records: readonly KafkaRecord[]): void {
  const last = new Map<string, number>()
  for (const record of records) {
    const [epoch, lane, position] = posOf(record)
    const key = `${record.partition}/${epoch}/${lane}`
    assert.ok(Number(position) > (last.get(key) ?? 0), `${key}: ${position} after ${last.get(key)}`)
    last.set(key, Number(position))
  }
}

describe('relay, against a model', () => {
  it('log path 3, 5, 13, 14, 29: each message once, in order, the ledger right, whatever fails or crashes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(acts, { minLength: 5, maxLength: 40 }), async (script) => new Model().run(script)),
      { numRuns: Number(process.env['RELAY_MODEL_RUNS'] ?? 60) },
    )
  })
})
