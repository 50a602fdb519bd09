/** The box as a client of a broker that is already there: sessions, retained messages, and the broker's own drops. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Json } from '../../config/merge.ts'
import { mosquittoPub } from '../contract/mqtt-listen-kit.ts'
import { assertExact, judged, openBox, setUpBox, until, type Box } from '../fleet/box.ts'
import { Fleet } from '../fleet/fleet.ts'
import { idOf } from '../fleet/judge.ts'
import { serviceScope, type KafkaService, type Service } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
const PROGRAM = fileURLToPath(new URL('../../daemon/edge-gateway.js', import.meta.url))
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

function at(broker: Service, plant: Record<string, Json> = {}): Json {
  return { mqtt: { listen: null, connect: { plant: { url: broker.endpoint, ...plant } } } }
}

async function connected(box: Box): Promise<void> {
  await until('the connection to the broker', async () => (await box.status()).sources[0]?.state === 'up')
}

function fleetAt(broker: Service, options: { readonly ratePerDevice: number; readonly devices?: number }): Fleet {
  const fleet = new Fleet({
    host: '127.0.0.1',
    port: broker.port,
    devices: 10,
    noisyRate: 0,
    payloadOf: (device, sequence) => Buffer.from(`${device} ${sequence} ${'x'.repeat(100)}`),
    ...options,
  })
  scope.atEnd(() => fleet.close())
  fleet.start()
  return fleet
}

async function publish(broker: Service, id: string, ...options: string[]): Promise<void> {
  const { code, output } = await mosquittoPub(broker.port, [
    '-q',
    '1',
    '-t',
    `devices/${id.split('-')[0]}/logs/app/${id}`,
    '-m',
    id,
    ...options,
  ])
  assert.equal(code, 0, output)
}

describe('a broker that is already there', { concurrency: 4 }, () => {
  test('log path 26: a shared subscription is refused, with the reason and what to write instead', limit, async () => {
    const box = await setUpBox(scope, {
      config: { mqtt: { topics: { logs: { pattern: '$share/boxes/devices/{device}/logs/{stream}/{id}' } } } },
    })
    const { status, stderr } = spawnSync(process.execPath, [PROGRAM, 'run', '--config', box.configFile], {
      encoding: 'utf8',
      timeout: 60_000,
      killSignal: 'SIGKILL',
    })
    assert.equal(status, 78)
    assert.match(stderr, /a shared subscription is refused: it spreads one device over two boxes.*write "devices\/\{device\}/)
  })

  test('log path 27: retained messages come again with each new session: ignored and counted, or kept once', limit, async () => {
    const broker = await scope.mosquitto()
    await publish(broker, 'old-1', '-r')
    for (const retained of ['ignore', 'accept'] as const) {
      const clientId = `gw-${retained}`
      const box = await setUpBox(scope, { kafka: kafka.endpoint, config: at(broker, { retained, clientId }) })
      for (let start = 1; start <= 2; start += 1) {
        await box.gateway.start()
        await until('the retained message', async () => retainedSeen(box, retained, start))
        await publish(broker, `new-${start}`)
        await until('the new one is in Kafka', async () => (await box.consumed()).some((record) => idOf(record) === `new-${start}`))
        await box.gateway.end('SIGKILL')
        await forgetSession(broker, clientId)
      }
      assert.deepEqual((await box.consumed()).map(idOf).sort(), retained === 'ignore' ? ['new-1', 'new-2'] : ['new-1', 'new-2', 'old-1'])
    }
  })

  async function retainedSeen(box: Box, retained: 'ignore' | 'accept', times: number): Promise<boolean> {
    const { totals, equation } = await box.ledger()
    assert.ok(equation.holds)
    if (retained === 'ignore') return (totals.shed.retained?.messages ?? 0) >= times
    return totals.received.messages >= 1 && (totals.shed.duplicate?.messages ?? 0) >= times - 1
  }

  /** What an administrator does, or a broker without persistence. */
  async function forgetSession(broker: Service, clientId: string): Promise<void> {
    const { code, output } = await mosquittoPub(broker.port, ['-i', clientId, '-t', 'x', '-m', 'x'])
    assert.equal(code, 0, output)
  }

  test('log path 28: what the broker dropped from its full queue is said in the status, the log and /metrics', limit, async () => {
    const broker = await scope.mosquitto({ conf: ['max_queued_messages 50', 'sys_interval 1'] })
    const box = await openBox(scope, { kafka: kafka.endpoint, config: at(broker, { receiveMaximum: 10 }) })
    await connected(box)
    await publish(broker, 'first-1')
    await until('a first message', async () => (await box.ledger()).totals.delivered.messages >= 1)
    box.gateway.signal('SIGSTOP')
    const fleet = fleetAt(broker, { ratePerDevice: 100 })
    await until('many messages published', () => fleet.acknowledged > 500)
    fleet.close()
    box.gateway.signal('SIGCONT')
    const notice = await until('a notice of the drops', async () =>
      (await box.status()).sources[0]?.notices.find(({ text }) => /drop/.test(text)),
    )
    assert.ok(notice.count > 0)
    assert.equal((await box.metrics()).get('edge_gateway_source_notices_total{source="plant"}'), notice.count)
    assert.match(await box.log(), /"notice":"broker-drops"/)
    assert.ok((await box.ledger()).equation.holds)
  })

  test(
    'log path 32: the session outlives a gateway that is away: what came meanwhile arrives, with MQTT 5 and with 3.1.1',
    limit,
    async () => {
      const broker = await scope.mosquitto({ conf: ['max_queued_messages 10000'] })
      for (const protocolVersion of [5, 4]) {
        const box = await openBox(scope, {
          kafka: kafka.endpoint,
          config: at(broker, { protocolVersion, clientId: `gw-${protocolVersion}` }),
        })
        await connected(box)
        const fleet = fleetAt(broker, { ratePerDevice: 20 })
        await until('some come through', async () => (await box.ledger()).totals.delivered.messages > 50)
        await box.gateway.end('SIGKILL')
        const before = fleet.acknowledged
        await until('more come while it is away', () => fleet.acknowledged > before + 100)
        await box.gateway.start()
        fleet.quiet()
        await until(
          'all are forwarded',
          async () => fleet.pending === 0 && (await box.ledger()).totals.delivered.messages >= fleet.published.size,
        )
        fleet.close()
        assertExact(await judged(box, fleet))
        assert.deepEqual((await box.status()).sources[0]?.notices, [])
        await box.gateway.end('SIGKILL')
      }
    },
  )

  test('log path 32: a session that would end with the connection is refused; one that the broker lost is said', limit, async () => {
    const broker = await scope.mosquitto()
    const refused = await setUpBox(scope, { config: at(broker, { sessionExpiry: '0s' }) })
    const { status, stderr } = spawnSync(process.execPath, [PROGRAM, 'check', '--config', refused.configFile], { encoding: 'utf8' })
    assert.equal(status, 78)
    assert.match(stderr, /sessionExpiry.*the broker would forget the session/)
    const box = await openBox(scope, { config: at(broker, { clientId: 'gw-lost' }) })
    await connected(box)
    await box.gateway.end('SIGKILL')
    await forgetSession(broker, 'gw-lost')
    await box.gateway.start()
    const notice = await until('a notice of the lost session', async () => (await box.status()).sources[0]?.notices[0])
    assert.match(notice.text, /session/)
  })
})
