/** A start with a full queue or a huge one, and a buffer that somebody else reads for long. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import BetterSqlite from 'better-sqlite3'
import { writeBacklog } from '../fleet/backlog.ts'
import { assertExact, drained, judged, openBox, setUpBox, until, type Box } from '../fleet/box.ts'
import { serviceScope, type KafkaService } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 180_000 }
const UNLIMITED = {
  limits: { global: { bytesPerSecond: 'unlimited' }, perDevice: { messagesPerSecond: 'unlimited', bytesPerSecond: 'unlimited' } },
}
const MIB = 1024 * 1024
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

/** Most resident memory since the start of the program, and now. */
function memoryOf(box: Box): { readonly peakMiB: number; readonly nowMiB: number } {
  const status = readFileSync(`/proc/${box.gateway.pid}/status`, 'utf8')
  const kib = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1])
  return { peakMiB: Math.round(kib('VmHWM') / 1_024), nowMiB: Math.round(kib('VmRSS') / 1_024) }
}

test('log path 9: a start with a full queue and messages in flight goes on, and takes new ones when there is room', limit, async (t) => {
  const box = await setUpBox(scope, { kafka: kafka.endpoint, config: { ...UNLIMITED, buffer: { maxBytes: '16MiB' } } })
  kafka.pause()
  t.after(() => kafka.resume())
  await box.gateway.start()
  const fleet = box.fleet({ devices: 20, ratePerDevice: 40, inFlightMax: 20, keepaliveSeconds: 4, payloadOf: () => randomBytes(8_000) })
  fleet.start()
  const blocked = async (): Promise<boolean> => (await box.status()).verdict.state === 'blocked'
  for (let kill = 0; kill < 3; kill += 1) {
    await until('the buffer is full', blocked)
    await box.gateway.end('SIGKILL')
    await box.gateway.start()
  }
  await until('the buffer is full after a start', blocked)
  fleet.quiet()
  kafka.resume()
  await drained(box, fleet)
  const result = await judged(box, fleet)
  assertExact(result)
  assert.equal(result.inKafka, fleet.published.size)
  const { totals, equation } = await box.ledger()
  assert.ok(equation.holds)
  assert.deepEqual(
    Object.keys(totals.shed).filter((reason) => reason !== 'duplicate'),
    [],
  )
})

test(
  'log path 9: a start with 400 MB of messages needs no more memory than one with none, and neither does the drain',
  limit,
  async (t) => {
    const idle = await openBox(scope, { kafka: kafka.endpoint })
    const { nowMiB } = memoryOf(idle)
    await idle.gateway.end('SIGTERM')
    const box = await setUpBox(scope, { kafka: kafka.endpoint, config: { buffer: { maxBytes: '1GiB' } } })
    mkdirSync(box.dataDir, { recursive: true })
    const filler = 'a line of a log that says little and says it again; '.repeat(40)
    const count = 200_000
    await writeBacklog(box.dataDir, count, (index) => Buffer.from(`${index} ${filler}`))
    await box.gateway.start()
    const atStart = memoryOf(box)
    assert.equal((await box.ledger()).totals.received.messages, count)
    await until('all in Kafka', async () => Object.values((await box.status()).lanes).every((lane) => lane.messages === 0))
    const drainedAt = memoryOf(box)
    t.diagnostic(`idle ${nowMiB} MiB; with a backlog ${atStart.peakMiB} MiB at the start, ${drainedAt.peakMiB} MiB at most`)
    assert.ok(atStart.peakMiB < nowMiB + 60, `${atStart.peakMiB} MiB at the start, ${nowMiB} MiB without a backlog`)
    assert.ok(drainedAt.peakMiB < nowMiB + 200, `${drainedAt.peakMiB} MiB at most, ${nowMiB} MiB without a backlog`)
    const { totals, equation } = await box.ledger()
    assert.equal(totals.delivered.messages, count)
    assert.ok(equation.holds)
  },
)

test(
  'log path 19: under a reader that keeps its snapshot the log stays bounded: devices wait, and it goes on afterwards',
  limit,
  async () => {
    const box = await openBox(scope, { kafka: kafka.endpoint, config: { ...UNLIMITED, buffer: { maxBytes: '1GiB' } } })
    const reader = new BetterSqlite(join(box.dataDir, 'outbox.db'), { readonly: true })
    scope.atEnd(() => void reader.close())
    reader.exec('BEGIN')
    reader.prepare('SELECT count(*) FROM outbox_normal').get()
    const fleet = box.fleet({ devices: 20, ratePerDevice: 40, inFlightMax: 20, keepaliveSeconds: 4, payloadOf: () => randomBytes(16_000) })
    fleet.start()
    const status = await until('the verdict names the reader', async () => {
      const seen = await box.status()
      return seen.verdict.state === 'blocked' && seen
    })
    assert.match(status.verdict.line, /another program reads outbox\.db since long ago/)
    await until('connections are closed', () => fleet.lost >= 20)
    fleet.quiet()
    const logBytes = (): number => statSync(join(box.dataDir, 'outbox.db-wal')).size
    assert.ok(logBytes() < 80 * MIB, `the log has ${logBytes()} bytes`)
    reader.exec('COMMIT')
    await drained(box, fleet)
    const result = await judged(box, fleet)
    assertExact(result)
    assert.equal(result.inKafka, fleet.published.size)
    // It is cut back at its next turn, which the next messages bring.
    const later = box.fleet({ devices: 2, ratePerDevice: 20 })
    later.start()
    await until('the log is cut back', () => logBytes() <= 17 * MIB)
  },
)
