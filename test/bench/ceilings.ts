/**
 * What each driver can do alone on this machine, with the same load: the gateway is held against the slowest.
 * No line of the gateway runs here.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { Aedes } from 'aedes'
import Database from 'better-sqlite3'
import { Kafka, logLevel } from 'kafkajs'
import mqtt from 'mqtt'
import { createServer } from 'node:net'
import type { Service } from '../services/index.ts'
import { CROWD, Load, OPEN, rateOf } from './measure.ts'

const SETTLE_MS = 2_000
const MEASURE_MS = 5_000

export interface Ceilings {
  /** MQTT.js, subscribed at QoS 1 to mosquitto, acknowledging by itself. */
  readonly mqttReceivePerSecond: number
  /** aedes as the devices' endpoint, acknowledging by itself. */
  readonly mqttListenPerSecond: number
  /** Rows of 200 B in transactions of 1,000, WAL and FULL. */
  readonly sqliteCommitPerSecond: number
  /** kafkajs, records of 200 B in transactions of 2,000 with positions. */
  readonly kafkaTransactionalPerSecond: number
}

export async function measureCeilings(dir: string, mosquitto: Service, kafkaEndpoint: string, topic: string): Promise<Ceilings> {
  return {
    mqttReceivePerSecond: Math.round(await mqttReceive(mosquitto)),
    mqttListenPerSecond: Math.round(await mqttListen()),
    sqliteCommitPerSecond: Math.round(sqliteCommit(dir)),
    kafkaTransactionalPerSecond: Math.round(await kafkaTransactional(kafkaEndpoint, topic)),
  }
}

async function mqttReceive(mosquitto: Service): Promise<number> {
  const client = mqtt.connect(mosquitto.endpoint, { protocolVersion: 5, clientId: 'ceiling', properties: { receiveMaximum: 2_000 } })
  let received = 0
  client.on('message', () => {
    received += 1
  })
  await new Promise<void>((resolve) => client.once('connect', () => resolve()))
  await client.subscribeAsync('devices/#', { qos: 1 })
  const load = publishers(mosquitto.port, 'ceiling-a', 0)
  load.feed(OPEN, () => received)
  try {
    return await rateOf(() => received, SETTLE_MS, MEASURE_MS)
  } finally {
    await load.end()
    await client.endAsync(true)
  }
}

async function mqttListen(): Promise<number> {
  const broker = await Aedes.createBroker()
  let received = 0
  broker.on('publish', (_, client) => {
    if (client !== null) received += 1
  })
  const server = createServer((socket) => broker.handle(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  const address = server.address()
  const load = publishers(typeof address === 'object' && address !== null ? address.port : 0, 'ceiling-b', Infinity)
  try {
    return await rateOf(() => received, SETTLE_MS, MEASURE_MS)
  } finally {
    await load.end()
    await new Promise<void>((resolve) => broker.close(() => resolve()))
    server.close()
  }
}

function publishers(port: number, name: string, messagesPerSecond: number): Load {
  return new Load({ ...CROWD, host: '127.0.0.1', port, messagesPerSecond, name })
}

function sqliteCommit(dir: string): number {
  const database = new Database(join(dir, 'ceiling.db'))
  database.pragma('journal_mode = WAL')
  database.pragma('synchronous = FULL')
  database.exec('CREATE TABLE message (position INTEGER PRIMARY KEY, payload BLOB NOT NULL)')
  const insert = database.prepare('INSERT INTO message (payload) VALUES (?)')
  const payload = randomBytes(CROWD.payloadBytes)
  const commit = database.transaction(() => {
    for (let row = 0; row < 1_000; row += 1) insert.run(payload)
  })
  const start = performance.now()
  let rows = 0
  for (; performance.now() - start < MEASURE_MS; rows += 1_000) commit()
  const perSecond = (rows * 1_000) / (performance.now() - start)
  database.close()
  return perSecond
}

async function kafkaTransactional(endpoint: string, topic: string): Promise<number> {
  const kafka = new Kafka({ brokers: [endpoint], logLevel: logLevel.NOTHING })
  const producer = kafka.producer({ transactionalId: 'ceiling', maxInFlightRequests: 1 })
  await producer.connect()
  const value = Buffer.from('x'.repeat(CROWD.payloadBytes))
  let sent = 0
  let running = true
  const sending = (async () => {
    while (running) {
      const transaction = await producer.transaction()
      const messages = Array.from({ length: 2_000 }, (_, index) => ({
        key: `device-${(sent + index) % 100}`,
        value,
        headers: { gw: 'ceiling', pos: `0123456789abcdef:normal:${sent + index}` },
      }))
      await transaction.send({ topic, messages, acks: -1 })
      await transaction.sendOffsets({
        consumerGroupId: 'ceiling',
        topics: [{ topic: 'edge.positions', partitions: [{ partition: 0, offset: String(sent) }] }],
      })
      await transaction.commit()
      sent += messages.length
    }
  })()
  try {
    return await rateOf(() => sent, SETTLE_MS, MEASURE_MS)
  } finally {
    running = false
    await sending
    await producer.disconnect()
  }
}
