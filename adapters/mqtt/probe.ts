/** One try at a broker, beside the gateway's own connection: is it let in, and may it subscribe? */
import { randomBytes } from 'node:crypto'
import { MqttClient } from 'mqtt'
import type { IClientOptions, ISubscriptionMap } from 'mqtt'
import { DROPS_TOPIC } from './connect-drops.ts'
import type { BrokerAddress, ConnectSettings } from './connect-settings.ts'
import { openStream, readSecrets } from './connect-stream.ts'
import { failureWords } from './connect-words.ts'
import { messageOf } from '../../daemon/errors.ts'
import type { BrokerTry } from '../../daemon/doctor/facts.ts'

const VERSION_TOPIC = '$SYS/broker/version'
/** Retained topics come right behind the SUBACK. */
const STATISTICS_MS = 300

/**
 * With a client id of its own and a clean session, so that the gateway's session and its messages stay where they are.
 * Never rejects; takes `timeoutMs` at most, and a moment for the broker's own figures.
 */
export async function tryBroker(broker: BrokerAddress, settings: ConnectSettings, timeoutMs: number): Promise<BrokerTry> {
  let client: MqttClient | undefined
  const { promise: late, reject } = Promise.withResolvers<never>()
  // It may come before anybody waits for it.
  late.catch(() => undefined)
  const timer = setTimeout(() => reject(new Error(`no answer to our CONNECT within ${timeoutMs / 1_000} s`)), timeoutMs)
  try {
    const secrets = await Promise.race([readSecrets(settings), late])
    const stream = openStream(broker, secrets)
    client = new MqttClient(() => stream, optionsOf(settings, secrets.password))
    await Promise.race([accepted(client), late])
    const refused = await Promise.race([refusedBy(client, settings), late])
    return { accepted: true, refused, ...(await statistics(client)) }
  } catch (error) {
    const { code } = error as { code?: unknown }
    return { accepted: false, refused: [], fault: failureWords(error, broker), ...(typeof code === 'number' && { code }) }
  } finally {
    clearTimeout(timer)
    client?.end(true)
  }
}

function optionsOf(settings: ConnectSettings, password: Buffer | undefined): IClientOptions {
  const { protocolVersion, username } = settings
  return {
    protocolVersion,
    clientId: `eg-doctor-${randomBytes(5).toString('hex')}`,
    clean: true,
    keepalive: 60,
    reconnectPeriod: 0,
    resubscribe: false,
    writeCache: false,
    connectTimeout: 2 ** 31 - 1,
    manualConnect: true,
    log: () => undefined,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
  }
}

function accepted(client: MqttClient): Promise<void> {
  return new Promise((resolve, reject) => {
    client.once('connect', () => resolve())
    client.on('error', reject)
    client.once('close', () => reject(new Error('it closed the connection before it answered: is it an MQTT broker?')))
    client.connect()
  })
}

/** QoS 0, and given up at once: whatever comes meanwhile is a copy. */
async function refusedBy(client: MqttClient, { filters }: ConnectSettings): Promise<readonly string[]> {
  const refused: string[] = []
  for (const { filter } of filters) if ((await granted(client, filter)) >= 0x80) refused.push(filter)
  return refused
}

function granted(client: MqttClient, filter: string): Promise<number> {
  const wanted: ISubscriptionMap = { [filter]: { qos: 0 } }
  return new Promise((resolve) => {
    client.subscribe(wanted, { qos: 0 }, (error, _subscriptions, packet) => {
      client.unsubscribe(filter)
      resolve(packet?.granted[0] === undefined ? (error ? 0x80 : 0) : Number(packet.granted[0]))
    })
  })
}

async function statistics(client: MqttClient): Promise<{ readonly version?: string; readonly dropped?: number }> {
  const told = new Map<string, string>()
  client.on('message', (topic, payload) => void told.set(topic, payload.toString('latin1').slice(0, 100)))
  client.subscribe([VERSION_TOPIC, DROPS_TOPIC], { qos: 0 }, (error) => {
    // Many brokers keep their figures to themselves.
    if (error) told.set('refused', messageOf(error))
  })
  await new Promise((resolve) => setTimeout(resolve, STATISTICS_MS))
  const version = told.get(VERSION_TOPIC)
  const dropped = Number(told.get(DROPS_TOPIC) ?? Number.NaN)
  return { ...(version !== undefined && { version }), ...(Number.isFinite(dropped) && { dropped }) }
}
