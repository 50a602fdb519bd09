/** Every message is counted, in /metrics and in the ledger alike; no message and no name can make the counting grow or stop. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { before, describe, test } from 'node:test'
import type { LedgerDocument } from '../../daemon/cli/ledger-view.ts'
import { SHED_REASONS } from '../../daemon/ports.ts'
import { connect, dial, mosquittoPub, publishPacket, type RawClient } from '../contract/mqtt-listen-kit.ts'
import { edgectlOf, openBox, until, type Box } from '../fleet/box.ts'
import { serviceScope, type KafkaService } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

/** Publishes one after the other, and waits for all acknowledgements. */
async function publishAll(client: RawClient, topics: readonly string[], payload: Buffer = Buffer.from('x')): Promise<void> {
  client.send(...topics.map((topic, index) => publishPacket(topic, index + 1, 1, { payload })))
  const ids = await client.takeIds('puback', topics.length)
  assert.deepEqual(
    ids,
    topics.map((_, index) => index + 1),
  )
}

/** Shed messages by reason: as /metrics says, and as the ledger says; waits until both say the same. */
async function shedOf(box: Box): Promise<Readonly<Record<string, number>>> {
  return until(
    '/metrics and the ledger say the same of what was shed',
    async () => {
      const metrics = await box.metrics()
      const { totals, equation } = await box.ledger()
      assert.ok(equation.holds)
      const seen = (reason: string): number => metrics.get(`edge_gateway_shed_messages_total{reason="${reason}"}`) ?? NaN
      const agree = SHED_REASONS.every((reason) => seen(reason) === (totals.shed[reason]?.messages ?? 0))
      return agree ? Object.fromEntries(SHED_REASONS.map((reason) => [reason, seen(reason)])) : undefined
    },
    20_000,
  )
}

describe('what is counted', { concurrency: 4 }, () => {
  test('log path 20: each kind of drop shows in /metrics and in the ledger, and still does after kill -9', limit, async (t) => {
    const box = await openBox(scope, {
      config: {
        limits: {
          maxMessageBytes: '64KiB',
          overLimit: 'shed',
          global: { bytesPerSecond: 'unlimited' },
          perDevice: { bytesPerSecond: 'unlimited' },
          overrides: { noisy: { devices: 'noisy', messagesPerSecond: 1, burst: '2s' } },
        },
        buffer: { maxBytes: '16MiB', lanes: { normal: { whenFull: 'drop-oldest' } } },
      },
    })
    const client = await connect(t, box.port)
    await publishAll(client, ['devices/a/logs/app/big-1'], Buffer.alloc(70_000, 'x'))
    await publishAll(client, ['nonsense/topic', 'devices//logs/app/nobody-1'])
    await publishAll(
      client,
      Array.from({ length: 20 }, (_, index) => `devices/noisy/logs/app/noisy-${index}`),
    )
    await publishAll(client, ['devices/a/logs/app/twice-1', 'devices/a/logs/app/twice-1'])
    const fleet = box.fleet({ devices: 20, ratePerDevice: 20, payloadOf: () => randomBytes(60_000) })
    fleet.start()
    await until('the oldest are evicted', async () => (await box.ledger()).totals.shed.evicted !== undefined)
    fleet.quiet()
    await until('all acknowledged', () => fleet.pending === 0)
    const shed = await shedOf(box)
    assert.equal(shed['oversize'], 1)
    assert.equal(shed['malformed-topic'], 2)
    assert.equal(shed['duplicate'], 1)
    assert.ok((shed['over-limit'] ?? 0) >= 17 && (shed['evicted'] ?? 0) > 0, JSON.stringify(shed))
    await box.gateway.end('SIGKILL')
    await box.gateway.start()
    assert.deepEqual(await shedOf(box), shed, 'what was shed before a start is still shown')
    assert.match((await edgectlOf(box, ['ledger'])).stdout, /every message is accounted for/)
  })

  test('log path 20: 5,000 device names add no sample to /metrics and few lines to the ledger; the totals stay exact', limit, async (t) => {
    const box = await openBox(scope, { config: { ledger: { maxDevices: 100 }, limits: { global: { messagesPerSecond: 'unlimited' } } } })
    const before = [...(await box.metrics()).keys()]
    const client = await connect(t, box.port)
    const names = Array.from({ length: 5_000 }, (_, index) => `name-${index}`)
    await publishAll(
      client,
      names.map((name) => `devices/${name}/logs/app/${name}-1`),
    )
    const samples = [...(await box.metrics()).keys()]
    assert.deepEqual(samples.sort(), before.sort())
    assert.equal(samples.filter((sample) => sample.includes('name-')).length, 0)
    // A quarter more may stand there for a while, so that not each new name costs a fold.
    const lines = await until('the ledger is folded', async () => {
      const { devices } = (await box.gateway.ask('/ledger?devices=1000')) as LedgerDocument
      return devices.length <= 126 && devices
    })
    assert.equal(
      lines.reduce((sum, { received }) => sum + received.messages, 0),
      5_000,
    )
    assert.ok(lines.some(({ device }) => device === 'other'))
    assert.equal((await box.ledger()).totals.received.messages, 5_000)
  })

  test('log path 11: payloads that can not be parsed take no slot: thousands pass, and what follows is taken', limit, async (t) => {
    const box = await openBox(scope, {
      kafka: kafka.endpoint,
      config: {
        limits: { severity: { from: 'json:/level' }, inFlight: { messages: 100 }, perDevice: { messagesPerSecond: 'unlimited' } },
        buffer: { dedupe: { from: 'json:/id' } },
      },
    })
    const client = await connect(t, box.port)
    const broken = ['{', '{"id":', '\u0000\u0001', '{"level":"error"', '[]', 'null', '{"id":{},"level":[]}', ''].map((text) =>
      Buffer.from(text),
    )
    const total = 3_000
    for (let sent = 0; sent < total; sent += 500) {
      client.send(
        ...Array.from({ length: 500 }, (_, index) =>
          publishPacket(`devices/a/logs/app/a-${sent + index}`, index + 1, 1, { payload: broken[index % broken.length] as Buffer }),
        ),
      )
      await client.takeIds('puback', 500)
    }
    await publishAll(client, ['devices/b/logs/app/b-1'], Buffer.from('{"id":"b","level":"error"}'))
    await until('all forwarded', async () => (await box.ledger()).totals.delivered.messages === total + 1)
    const { lanes, buffer } = await box.status()
    assert.equal(lanes['urgent']?.delivered, 1)
    assert.deepEqual(buffer.inFlight, { messages: 0, bytes: 0 })
    const records = await box.consumed()
    assert.equal(records.length, total + 1)
    assert.deepEqual(
      records.filter(({ key }) => key === 'a').map(({ payload }) => payload),
      Array.from({ length: total }, (_, index) => broken[(index % 500) % broken.length]),
    )
  })

  test('log path 11: a device that breaks the protocol, or publishes what no rule lets through, stops nobody else', limit, async (t) => {
    const box = await openBox(scope)
    const good = await connect(t, box.port, { clientId: 'good' })
    const endless = Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0x7f])
    const qos3 = Buffer.from([0x36, 5, 0, 1, 0x61, 0, 1])
    const nul = Buffer.from([0x32, 6, 0, 2, 0x61, 0, 0, 1])
    const wildcard = Buffer.from([0x32, 5, 0, 1, 0x23, 0, 1])
    for (const [index, bytes] of [endless, qos3, nul, wildcard, Buffer.from([0xf0, 0])].entries()) {
      const bad = await connect(t, box.port, { clientId: 'bad' })
      bad.send(bytes)
      await Promise.race([bad.end(), bad.take('puback')])
      bad.socket.destroy()
      await publishAll(good, [`devices/good/logs/app/good-${index}`])
    }
    const stranger = await dial(t, box.port)
    stranger.send(Buffer.from('GET / HTTP/1.1\r\n\r\n'))
    await stranger.end()
    await publishAll(good, ['devices/good/logs/app/good-last'])
    assert.equal(
      (await mosquittoPub(box.port, ['-q', '1', '-t', 'not/allowed', '-m', 'x'])).code,
      0,
      'acknowledged and counted, or the device would storm',
    )
    assert.ok(((await shedOf(box))['malformed-topic'] ?? 0) >= 1)
    assert.equal((await box.ledger()).totals.buffered.messages, 6)
  })
})
