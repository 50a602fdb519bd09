/** Settings for devices behind an external broker, on a real mosquitto. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { FileMemory } from '../../adapters/mqtt/connect-memory.ts'
import { GatewayError } from '../../daemon/errors.ts'
import { serviceScope } from '../services/index.ts'
import { scriptedBroker } from './mqtt-connect-broker.ts'
import { device, isUp, run, settingsFor, until, VERSIONS } from './mqtt-connect-kit.ts'

const scope = serviceScope()
const broker = await scope.mosquitto({ conf: ['allow_zero_length_clientid true'] })
const signal = new AbortController().signal
const ANSWERS = { before: 'devices/', after: '/answer' }
const deviceOf = (topic: string): string | undefined => topic.split('/')[1]

function setting(id: string, text: string) {
  return { topic: `settings/${id}`, device: id, payload: Buffer.from(text) }
}

/** What the broker retains for it, and what comes while the client listens. */
async function reader(topic: string): Promise<string[]> {
  const client = await device(scope, broker.endpoint)
  const got: string[] = []
  client.on('message', (_topic, payload, { retain }) => got.push(`${payload.toString()}${retain ? ' retained' : ''}`))
  await client.subscribeAsync(topic, { qos: 1 })
  return got
}

for (const protocolVersion of VERSIONS) {
  const settingsOf = (changes = {}) => settingsFor(broker.endpoint, { protocolVersion, deviceOf, ...changes })

  test(`version ${protocolVersion}: settings are retained at the broker, for later devices too, and cleared`, async () => {
    const { connection } = await run(scope, settingsOf())
    // Asked for before there is a connection: it waits.
    await connection.devices.publish(setting(`d${protocolVersion}`, 'one'), signal)
    const early = await reader(`settings/d${protocolVersion}`)
    await until('the retained one has come', () => early.length === 1)
    await connection.devices.publish(setting(`d${protocolVersion}`, 'two'), signal)
    await connection.devices.clear(`settings/d${protocolVersion}`, signal)
    await until('all have come', () => early.length === 3)
    assert.deepEqual(early, ['one retained', 'two', ''])
  })

  test(`version ${protocolVersion}: answers are taken and acknowledged, over a restart, and unsubscribed when done`, async () => {
    const memory = new FileMemory(join(scope.folder(), `memory-${protocolVersion}.json`))
    const settings = settingsOf()
    const first = await run(scope, settings, { memory })
    await isUp(first.connection)
    const taken: string[] = []
    const take = async ({ device: id, payload }: { device: string; payload: Uint8Array }): Promise<void> =>
      void taken.push(`${id} ${Buffer.from(payload).toString()}`)
    first.connection.devices.listenFor(ANSWERS, take)
    const filters = async (): Promise<readonly string[]> => (await memory.load())[broker.endpoint]?.filters ?? []
    let known: readonly string[] = []
    const isNoted = async (count: number): Promise<void> => {
      const deadline = performance.now() + 20_000
      do known = await filters()
      while (known.length !== count && performance.now() < deadline)
      assert.equal(known.length, count)
    }
    await isNoted(2)
    const client = await device(scope, broker.endpoint)
    await until('an answer has come', () => {
      client.publish('devices/d1/answer', 'early', { qos: 1 })
      return taken.length > 0
    })
    await client.publishAsync('devices/d1/logs/a', 'log', { qos: 1 })
    await until('the log message has come', () => first.intake.deliveries.length === 1)
    assert.deepEqual(first.intake.payloads, ['log'])
    assert.deepEqual(first.connection.devices.online(), ['d1'])
    await first.stop()
    // While the gateway is away the session keeps answers, as it keeps log messages.
    await client.publishAsync('devices/d2/answer', 'meanwhile', { qos: 1 })
    const next = await runListening(settings, memory, take)
    await until('the answer has come', () => taken.includes('d2 meanwhile'))
    assert.deepEqual(next.running.intake.payloads, [])
    next.stopListening()
    await isNoted(1)
    await client.publishAsync('devices/d3/answer', 'late', { qos: 1 })
    await client.publishAsync('devices/d3/logs/a', 'last', { qos: 1 })
    await until('the last one has come', () => next.running.intake.deliveries.length === 1)
    assert.equal(taken.includes('d3 late'), false)
  })

  async function runListening(settings: ReturnType<typeof settingsOf>, memory: FileMemory, take: Parameters<typeof listenOn>[1]) {
    const running = await run(scope, settings, { memory })
    return { running, stopListening: listenOn(running.connection, take) }
  }

  test(`version ${protocolVersion}: an answer is acknowledged in turn, when it was kept`, async () => {
    const scripted = await scriptedBroker(scope, protocolVersion)
    const { connection, intake } = await run(scope, settingsFor(scripted.url, { protocolVersion }))
    let keep = (): void => undefined
    connection.devices.listenFor(ANSWERS, () => new Promise((resolve) => (keep = resolve)))
    const peer = await scripted.peer(0)
    peer.publish(1, 'ok', { topic: 'devices/d1/answer' })
    peer.publish(2, 'log')
    await until('the log message has come', () => intake.deliveries.length === 1)
    assert.deepEqual(peer.acknowledged(), [])
    keep()
    await until('both are acknowledged', () => peer.acknowledged().length === 2)
    assert.deepEqual(peer.acknowledged(), [1, 2])
  })
}

function listenOn(connection: Awaited<ReturnType<typeof run>>['connection'], take: Parameters<typeof connection.devices.listenFor>[1]) {
  return connection.devices.listenFor(ANSWERS, take)
}

test('a publication that is cut off, given up or refused says so', async () => {
  const scripted = await scriptedBroker(scope, 5, (packet, peer) => {
    if (packet.cmd !== 'publish') return false
    if (packet.topic === 'settings/no') peer.send({ cmd: 'puback', messageId: packet.messageId as number, reasonCode: 0x87 })
    if (packet.topic === 'settings/cut') peer.socket.destroy()
    return true
  })
  const { connection } = await run(scope, settingsFor(scripted.url))
  await scripted.peer(0)
  const kindOf = async (id: string, until = signal): Promise<string> => {
    const error: unknown = await connection.devices.publish(setting(id, 'x'), until).catch((reason: unknown) => reason)
    return error instanceof GatewayError ? error.kind : String(error)
  }
  assert.equal(await kindOf('no'), 'rejected')
  assert.equal(await kindOf('cut'), 'transient')
  assert.equal(await kindOf('silent', AbortSignal.timeout(50)), 'transient')
})
