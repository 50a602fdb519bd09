/** The box's wall clock is wrong at its start, and set right later. */
import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import type { Json } from '../../config/merge.ts'
import { assertExact, drained, judged, setUpBox, until, type Box } from '../fleet/box.ts'
import { falseClock, type FalseClock } from '../fleet/false-clock.ts'
import type { Consumed } from '../fleet/read-back.ts'
import { serviceScope, type KafkaService } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

async function boxAt(wallMs: number, config: Json = {}): Promise<{ box: Box; clock: FalseClock }> {
  const clock = falseClock(scope.folder())
  clock.show(wallMs)
  const box = await setUpBox(scope, { kafka: kafka.endpoint, config, launch: { env: clock.env } })
  await box.gateway.start()
  return { box, clock }
}

/** Each record says that its time was corrected, and the time is that of its receipt. */
function assertCorrected(records: readonly Consumed[], fromMs: number, toMs: number): void {
  for (const { headers } of records) {
    assert.equal(headers['clock'], 'corrected')
    const ts = Date.parse(headers['ts'] ?? '')
    assert.ok(
      ts >= fromMs - 2_000 && ts <= toMs + 2_000,
      `${headers['ts']} is not between ${new Date(fromMs).toISOString()} and ${new Date(toMs).toISOString()}`,
    )
  }
}

describe('a clock that is wrong', { concurrency: 4 }, () => {
  test('log path 22: a box that boots in 1970 keeps everything, and corrects the times once its clock is right', limit, async () => {
    const { box, clock } = await boxAt(10_000, { buffer: { maxAge: '1m' } })
    const fleet = box.fleet()
    const fromMs = Date.now()
    fleet.start()
    await until('acknowledgements', () => fleet.acknowledged > 100)
    const held = await until('the verdict names the clock', async () => {
      const status = await box.status()
      return /the clock of this box is not set/.test(status.verdict.line) && status
    })
    assert.equal(held.verdict.state, 'buffering')
    assert.equal(held.clockTrusted, false)
    assert.equal((await box.probe('readyz')).code, 200)
    // The same boot, still without a clock: what the life before stored can be corrected, too.
    await box.gateway.end('SIGKILL')
    await box.gateway.start()
    const more = fleet.acknowledged + 100
    await until('more acknowledgements', () => fleet.acknowledged > more)
    fleet.quiet()
    await until('all acknowledged', () => fleet.pending === 0)
    const toMs = Date.now()
    assert.equal((await box.consumed()).length, 0, 'nothing leaves with a time of 1970')
    clock.setRight()
    await drained(box, fleet)
    const result = await judged(box, fleet)
    assertExact(result)
    assert.equal(result.inKafka, fleet.published.size)
    assertCorrected(await box.consumed(), fromMs, toMs)
    const { totals, equation } = await box.ledger()
    assert.ok(equation.holds)
    assert.deepEqual(totals.shed.expired, undefined, 'no age acts on a time that can not be right')
  })

  test('log path 22: with unsyncedClock: send, what leaves before the clock is right says so', limit, async () => {
    const { box, clock } = await boxAt(10_000, { kafka: { unsyncedClock: 'send' } })
    const fleet = box.fleet()
    fleet.start()
    await until('records in Kafka', async () => (await box.ledger()).totals.delivered.messages > 50)
    const early = await box.consumed()
    assert.ok(early.length > 50 && early.every(({ headers }) => headers['clock'] === 'unsynced'))
    clock.setRight()
    fleet.quiet()
    await drained(box, fleet)
    assertExact(await judged(box, fleet))
  })

  test('log path 22: a clock that runs years ahead dead-letters nothing; the records arrive once it is right', limit, async () => {
    const { box, clock } = await boxAt(Date.UTC(2033, 0, 1))
    const fleet = box.fleet({ ratePerDevice: 5 })
    const fromMs = Date.now()
    fleet.start()
    await until('acknowledgements', () => fleet.acknowledged > 50)
    await until('the verdict names the clock', async () =>
      /the clock of this box .* is far from the broker's/.test((await box.status()).verdict.line),
    )
    assert.equal((await box.probe('healthz')).code, 200)
    fleet.quiet()
    await until('all acknowledged', () => fleet.pending === 0)
    const toMs = Date.now()
    clock.setRight()
    // It goes on by itself within the minute that an alarm waits; a new start does at once.
    await box.gateway.end('SIGKILL')
    await box.gateway.start()
    await drained(box, fleet)
    const result = await judged(box, fleet)
    assertExact(result)
    assert.equal(result.inKafka, fleet.published.size)
    const { totals, equation } = await box.ledger()
    assert.ok(equation.holds)
    assert.deepEqual(totals.deadLettered, { messages: 0, bytes: 0 })
    const late = (await box.consumed()).filter(({ headers }) => headers['clock'] === 'corrected')
    assertCorrected(late, fromMs, toMs)
  })
})
