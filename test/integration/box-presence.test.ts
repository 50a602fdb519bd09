/** Who is there, who fell silent and who returned, on the real daemon with real clients; and the commands that show it. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt'
import type { DeviceDocument, DevicesDocument } from '../../daemon/cli/device-documents.ts'
import { edgectlOf, openBox, until, type Box } from '../fleet/box.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
const EDGECTL = fileURLToPath(new URL('../../daemon/cli/edgectl.js', import.meta.url))
const QUICK = { silentAfter: '10s' }
const HOSTILE = 'cam-<b>\u001b[2J'

async function client(port: number, clientId: string, options: IClientOptions = {}): Promise<MqttClient> {
  const connected = await connectAsync(`mqtt://127.0.0.1:${port}`, { clientId, protocolVersion: 4, reconnectPeriod: 0, ...options })
  connected.on('error', () => undefined)
  scope.atEnd(async () => void connected.end(true))
  return connected
}

let messages = 0

async function say(from: MqttClient, device: string): Promise<void> {
  await from.publishAsync(`devices/${device}/logs/app/${device}-${(messages += 1)}`, 'a line', { qos: 1 })
}

async function stateOf(box: Box, device: string): Promise<string> {
  return ((await box.gateway.ask(`/devices/${encodeURIComponent(device)}`)) as DeviceDocument).state
}

async function devices(box: Box): Promise<DevicesDocument> {
  return (await box.gateway.ask('/devices')) as DevicesDocument
}

async function times(box: Box, words: RegExp): Promise<number> {
  return (await box.log()).match(words)?.length ?? 0
}

describe('presence', { concurrency: 4 }, () => {
  test('a device connects, dies with its will, is told of, returns; nothing is told again after a restart', limit, async () => {
    const box = await openBox(scope)
    const will = { topic: 'devices/pump-1/logs/app/pump-1-will', payload: Buffer.from('gone'), qos: 1 as const, retain: false }
    const [pump, other] = [await client(box.port, 'pump-1', { will }), await client(box.port, 'other')]
    for (const [from, device] of [
      [pump, 'pump-1'],
      [other, 'other'],
      [other, 'by-other'],
    ] as const)
      await say(from, device)
    const before = (await box.gateway.ask('/devices/pump-1')) as DeviceDocument
    assert.deepEqual([before.state, before.connected, before.messages], ['online', true, 1])
    await box.configure({ presence: { ...QUICK, groups: { others: { devices: '*other', silentAfter: 'off' } } } })
    box.gateway.signal('SIGHUP')
    await until('the new times', async () => ((await box.gateway.ask('/devices/pump-1')) as DeviceDocument).silentAfterSeconds === 10)
    pump.stream.destroy()
    await until('it is gone, and its will is in', async () => (await box.status()).received.messages === 4)
    assert.equal(await stateOf(box, 'pump-1'), 'offline', 'a will is no sign of life')
    await until('it is told of', async () => (await times(box, /a device fell silent: ."pump-1."/g)) === 1)
    assert.match((await edgectlOf(box, ['why', 'device', 'pump-1'])).stdout, /pump-1 is silent: .*its connection broke off/)
    await sleep(1_500)
    assert.equal(await box.gateway.end('SIGKILL'), 'SIGKILL')
    await box.gateway.start()
    await box.gateway.end('SIGTERM')
    const down = await edgectlOf(box, ['devices', '--search', 'PUMP'])
    assert.match(down.stdout, /as last written down/)
    await box.gateway.start()
    await sleep(2_000)
    await say(await client(box.port, 'pump-1'), 'pump-1')
    assert.equal(await stateOf(box, 'pump-1'), 'online')
    assert.equal(await stateOf(box, 'by-other'), 'unknown', 'known from before the restart')
    assert.ok((await times(box, /fell silent/g)) <= 1)
    assert.equal((await box.metrics()).get('edge_gateway_devices{state="online"}'), 1)
  })

  test('a broker that can not be reached makes nobody silent; it is named once', limit, async () => {
    const broker = await scope.mosquitto()
    const proxy = await scope.proxy({ target: broker.port })
    const connect = { plant: { url: `mqtt://${proxy.endpoint}`, keepalive: '5s' } }
    const box = await openBox(scope, { config: { mqtt: { listen: null, connect }, presence: QUICK } })
    await until('the link', async () => (await box.status()).sources[0]?.state === 'up')
    const publisher = await client(broker.port, 'publisher')
    for (let device = 0; device < 20; device += 1) await say(publisher, `d-${device}`)
    await until('all heard', async () => (await devices(box)).known === 20)
    await proxy.refuse()
    proxy.cut()
    await sleep(13_000)
    const { counts, unheard } = await devices(box)
    assert.deepEqual([counts.silent, unheard.map(({ source }) => source)], [0, ['connect.plant']])
    assert.equal(await times(box, /the silence of its devices is not judged/g), 1)
    assert.match((await edgectlOf(box, ['why', 'device', 'd-1'])).stdout, /d-1 is online|mqtt\.connect\.plant is/)
  })

  test('a daemon that was stopped by a signal blames nobody for what it could not hear', limit, async () => {
    const box = await openBox(scope, { config: { presence: QUICK } })
    const publisher = await client(box.port, 'publisher')
    for (let device = 0; device < 20; device += 1) await say(publisher, `d-${device}`)
    box.gateway.signal('SIGSTOP')
    await sleep(12_000)
    box.gateway.signal('SIGCONT')
    await sleep(3_000)
    assert.equal((await devices(box)).counts.silent, 0)
    assert.equal(await times(box, /this box could not hear its devices for a while/g), 1)
  })

  test('commands show devices, refusals and messages as they come, and no name reaches the terminal raw', limit, async () => {
    const box = await openBox(scope, { config: { mqtt: { listen: { lan: { maxConnections: 2 } } } } })
    const publisher = await client(box.port, 'publisher')
    await say(publisher, HOSTILE)
    await publisher.publishAsync('devices/cam-9/log', 'x', { qos: 1 })
    await client(box.port, 'second')
    await assert.rejects(client(box.port, 'third', { connectTimeout: 3_000 }))
    assert.match((await edgectlOf(box, ['devices'])).stdout, /cam-<b>\\u001b\[2J +online/)
    assert.match((await edgectlOf(box, ['devices', HOSTILE])).stdout, /^cam-<b>\\u001b\[2J\n {2}state +online/)
    assert.match(
      (await edgectlOf(box, ['why', 'device', 'cam-9'])).stdout,
      /never seen here.*"devices\/cam-9\/log".*\n {2}try: correct the topic/,
    )
    assert.match((await edgectlOf(box, ['why', 'device', 'third'])).stdout, /a connect of third to lan was refused.*in use/i)
    await followed(box, publisher)
    await onTerminal(box)
  })
})

/** A tail ends well with the daemon's stop or Ctrl-C. */
async function followed(box: Box, publisher: MqttClient): Promise<void> {
  const tail = spawn(process.execPath, [EDGECTL, '--config', box.configFile, 'tail', 'cam-*', '--payload'])
  scope.atEnd(async () => void tail.kill('SIGKILL'))
  let out = ''
  tail.stdout.on('data', (piece: Buffer) => (out += piece.toString()))
  const ended = new Promise<number | null>((resolve) => tail.once('exit', resolve))
  await until('a line of the tail', async () => {
    await say(publisher, HOSTILE)
    return out.includes('\n  a line\n')
  })
  assert.match(out, /^\d\d:\d\d:\d\d\.\d{3} cam-<b>\\u001b\[2J app devices\/\S+ 6 B normal\n {2}a line\n/)
  tail.kill('SIGINT')
  assert.equal(await ended, 0)
}

/** `script` gives it a terminal; what it leaves there must be as it was. */
async function onTerminal(box: Box): Promise<void> {
  const command = `stty cols 60 rows 20; exec ${process.execPath} ${EDGECTL} --config ${box.configFile} top`
  const top = spawn('script', ['-qec', command, '/dev/null'], { env: { ...process.env, TERM: 'xterm' } })
  scope.atEnd(async () => void top.kill('SIGKILL'))
  let out = ''
  top.stdout.on('data', (piece: Buffer) => (out += piece.toString()))
  const ended = new Promise<number | null>((resolve) => top.once('exit', resolve))
  await until('a frame with the device', () => out.includes('cam-<b>\\u001b[2J'))
  top.stdin.write('q')
  assert.equal(await ended, 0, out)
  const frame = out.slice(out.lastIndexOf('\u001b[H')).split('\n')
  const widths = frame.map((line) => line.replaceAll(/\u001b\[[?\d]*[A-Za-z]/g, '').trimEnd().length)
  assert.ok(Math.max(...widths) <= 60 && frame.length <= 20, `${frame.length} lines, ${Math.max(...widths)} wide`)
  assert.match(out, /^\u001b\[\?1049h/)
  assert.match(out, /\u001b\[\?25h\u001b\[\?1049l\s*$/, 'cursor and screen are given back')
}
