/** The disk is full, by the daemon's own doing or another program's: devices wait, deletes work, and it goes on by itself. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { before, test, type TestContext } from 'node:test'
import { tryConnect } from '../contract/mqtt-listen-kit.ts'
import { assertExact, drained, judged, setUpBox, until, type Box } from '../fleet/box.ts'
import type { Fleet } from '../fleet/fleet.ts'
import { mountSmallDisk } from '../fleet/small-disk.ts'
import { serviceScope, type KafkaService } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 180_000 }
const UNLIMITED = {
  limits: { global: { bytesPerSecond: 'unlimited' }, perDevice: { messagesPerSecond: 'unlimited', bytesPerSecond: 'unlimited' } },
}
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

/** Many bytes that don't compress, from devices that lose patience soon. */
function thickFleet(box: Box, bytes: number): Fleet {
  return box.fleet({ devices: 20, ratePerDevice: 50, inFlightMax: 20, keepaliveSeconds: 4, payloadOf: () => randomBytes(bytes) })
}

async function assertBlocked(box: Box, reason: RegExp): Promise<void> {
  const status = await until(`blocked, since ${reason}`, async () => {
    const seen = await box.status()
    return seen.verdict.state === 'blocked' && reason.test(seen.verdict.line) ? seen : undefined
  })
  assert.match(status.verdict.line, /devices wait, nothing acknowledged is lost/)
  assert.ok(status.verdict.remedy !== undefined)
  assert.equal((await box.probe('readyz')).code, 503)
  assert.equal((await box.probe('healthz')).code, 200)
  assert.equal((await box.metrics()).get('edge_gateway_buffer_blocked'), 1)
}

/** While it is full nobody is acknowledged: connections are closed after a while, and new ones are refused. */
async function assertWithheld(t: TestContext, box: Box, fleet: Fleet): Promise<void> {
  const before = fleet.acknowledged
  await until('every connection was closed', () => fleet.lost >= 20)
  fleet.quiet()
  await until('new ones are refused', async () => (await tryConnect(t, box.port, { clientId: 'late' })).returnCode === 3)
  assert.equal(fleet.acknowledged, before)
  assert.ok(fleet.pending > 0)
  assert.ok((await box.ledger()).equation.holds)
}

async function assertAllArrives(box: Box, fleet: Fleet): Promise<void> {
  await until('it takes messages again', async () => (await box.probe('readyz')).code === 200)
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
}

test('log path 8: the daemon fills its disk to the last byte; when Kafka is back it goes on by itself', limit, async (t) => {
  const disk = mountSmallDisk(scope, 36)
  const config = { ...UNLIMITED, buffer: { maxBytes: '36MiB', minFreeBytes: '0B' } }
  const box = await setUpBox(scope, { kafka: kafka.endpoint, dataDir: join(disk.path, 'state'), config })
  kafka.pause()
  t.after(() => kafka.resume())
  await box.gateway.start()
  const fleet = thickFleet(box, 8_000)
  fleet.start()
  await assertBlocked(box, /the disk is full|the buffer is full|are free on the disk/)
  t.diagnostic(`${disk.freeBytes()} bytes are free, ${fleet.acknowledged} messages are acknowledged: ${(await box.status()).verdict.line}`)
  await assertWithheld(t, box, fleet)
  kafka.resume()
  await assertAllArrives(box, fleet)
})

test(
  'log path 8: another program fills the disk: kill -9, a start and deletes work on it, and intake resumes when it is gone',
  limit,
  async (t) => {
    const disk = mountSmallDisk(scope, 48)
    const config = { ...UNLIMITED, buffer: { maxBytes: '40MiB', minFreeBytes: '1MiB' } }
    const box = await setUpBox(scope, { kafka: kafka.endpoint, dataDir: join(disk.path, 'state'), config })
    kafka.pause()
    t.after(() => kafka.resume())
    await box.gateway.start()
    const fleet = thickFleet(box, 1_000)
    fleet.start()
    await until('acknowledgements', () => fleet.acknowledged > 1_000)
    disk.fill()
    await assertBlocked(box, /the disk is full|are free on the disk/)
    await assertWithheld(t, box, fleet)
    await box.gateway.end('SIGKILL')
    await box.gateway.start()
    await assertBlocked(box, /the disk is full|are free on the disk/)
    const before = (await box.ledger()).totals
    assert.ok(before.buffered.messages >= fleet.acknowledged)
    kafka.resume()
    await until('Kafka has what was buffered, and the disk is still full', async () => {
      const { totals } = await box.ledger()
      return totals.delivered.messages >= before.buffered.messages
    })
    disk.free()
    await assertAllArrives(box, fleet)
  },
)
