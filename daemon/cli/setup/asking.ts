/** The five questions as a person hears them. Each ends in an answer of the same shape as an answers file has. */
import { deriveGatewayId, thisHost } from '../../../config/host.ts'
import type { Json, JsonObject } from '../../../config/merge.ts'
import { PAGE_PORT, type Place, type QuestionName } from './answers.ts'
import type { Secrets } from './secrets.ts'
import type { Talk } from './talk.ts'

export const TITLES: Readonly<Record<QuestionName, string>> = {
  id: '1 of 5  The name of this box',
  devices: '2 of 5  How devices reach this box',
  kafka: '3 of 5  Where messages go: Kafka',
  etcd: '4 of 5  Where patches come from: etcd',
  page: '5 of 5  The status page',
}

export interface Asked extends Place {
  readonly talk: Talk
  readonly secrets: Secrets
}

export const ASK: Readonly<Record<QuestionName, (asked: Asked) => Promise<Json>>> = {
  id: askId,
  devices: askDevices,
  kafka: askKafka,
  etcd: askEtcd,
  page: askPage,
}

async function askId({ talk, now }: Asked): Promise<Json> {
  const derived = deriveGatewayId(thisHost())
  if (derived?.id === now.gateway.id) talk.say(`Made from ${derived.source}; it stays the same for the life of the board.`)
  talk.say('It stands in Kafka, etcd and MQTT. Changed later, this is another box to all of them.')
  return talk.ask('Name', now.gateway.id)
}

async function askDevices(asked: Asked): Promise<Json> {
  const { talk, now } = asked
  const ways = [
    'they connect to this box (its own MQTT listener)',
    'they connect to a broker that is there already, and the gateway is its client',
  ]
  const isClient = Object.keys(now.mqtt.connect).length > 0 && Object.keys(now.mqtt.listen).length === 0
  return (await talk.choose('Where do devices send their messages?', ways, isClient ? 1 : 0)) === 0 ? askListener(asked) : askBroker(asked)
}

async function askListener({ talk, now, listener }: Asked): Promise<Json> {
  const before = now.mqtt.listen[listener]
  talk.say('mqtt://127.0.0.1:1883 is this box only, mqtt://[::]:1883 the whole network;\nmqtts://[::]:8883 the same with TLS.')
  const listen = await talk.ask('Listen on', before?.url.href ?? 'mqtt://[::]:1883')
  const files: Record<string, Json> = {}
  if (listen.startsWith('mqtts:')) {
    files['cert'] = await talk.ask('Certificate (PEM file)', before?.tls?.cert ?? '/etc/edge-gateway/server.crt')
    files['key'] = await talk.ask('Its private key (PEM file)', before?.tls?.key ?? '/etc/edge-gateway/server.key')
  }
  talk.say('Without passwords, anybody who reaches the port can send as any device.')
  const wants = await talk.yes('Must devices have a password?', true)
  return { listen, auth: wants ? 'password' : 'none', ...files }
}

async function askBroker(asked: Asked): Promise<Json> {
  const { talk, now } = asked
  const before = Object.values(now.mqtt.connect)[0]
  const connect = await talk.ask('Address of the broker', before?.urls[0]?.href ?? 'mqtt://127.0.0.1:1883')
  const ca = connect.startsWith('mqtts:') ? await authority(talk, before?.tls?.ca) : {}
  return { connect, ...ca, ...(await login(asked, 'the broker', 'mqtt.passwd', before?.username, before?.passwordFile)) }
}

async function askKafka(asked: Asked): Promise<Json> {
  const { talk, now } = asked
  const before = now.kafka?.brokers.map(({ host, port }) => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`)).join(', ')
  const text = await talk.ask('Brokers as host:port, with commas between; or none', before ?? 'none')
  if (text === 'none') return 'none'
  const secure = await talk.yes('Is it spoken to with TLS?', now.kafka?.tls !== undefined)
  const ca = secure ? { tls: true, ...(await authority(talk, now.kafka?.tls?.ca)) } : {}
  const sasl = now.kafka?.sasl
  const named = sasl !== undefined && 'username' in sasl ? sasl : undefined
  const user = await login(asked, 'Kafka', 'kafka.passwd', named?.username, named?.passwordFile)
  const mechanism =
    'username' in user
      ? { mechanism: await talk.ask('Mechanism (scram-sha-512, scram-sha-256 or plain)', named?.mechanism ?? 'scram-sha-512') }
      : {}
  return { brokers: listed(text), ...ca, ...user, ...mechanism }
}

async function askEtcd(asked: Asked): Promise<Json> {
  const { talk, now } = asked
  const { etcd } = now
  const before = etcd?.endpoints.map(({ href }) => href).join(', ')
  const text = await talk.ask('Endpoints as https://host:2379, with commas between; or none', before ?? 'none')
  if (text === 'none') return 'none'
  const ca = text.includes('https:') ? await authority(talk, etcd?.tls?.ca) : {}
  const user = await login(asked, 'etcd', 'etcd.passwd', etcd?.username, etcd?.passwordFile)
  const fleet = await talk.ask('Name of the fleet, as patches name it', now.gateway.fleet)
  return { endpoints: listed(text), ...ca, ...user, ...(fleet === '' ? {} : { fleet }) }
}

async function askPage({ talk, now, folder, secrets }: Asked): Promise<Json> {
  const places = ['nowhere', `on this box only (http://127.0.0.1:${PAGE_PORT})`, `on the network, with a password (port ${PAGE_PORT})`]
  const { listen } = now.page
  const before = listen === undefined ? 0 : now.page.passwordFile === undefined ? 1 : 2
  const chosen = await talk.choose('Where may the page be seen?', places, before)
  if (chosen < 2) return chosen === 0 ? 'off' : 'local'
  if (now.page.passwordFile === undefined)
    await secrets.pagePassword(`${folder}/page.passwd`, await talk.secret('Password of the page; empty: one is made up'))
  return { listen: 'lan', passwordFile: now.page.passwordFile ?? `${folder}/page.passwd` }
}

/** Empty: the authorities of the system. */
async function authority(talk: Talk, before: string | undefined): Promise<JsonObject> {
  const ca = await talk.ask("Who signed its certificate (PEM file; empty: the system's authorities)", before)
  return ca === '' ? {} : { ca }
}

async function login(
  { talk, secrets, folder }: Asked,
  whose: string,
  file: string,
  user: string | undefined,
  before: string | undefined,
): Promise<JsonObject> {
  const username = await talk.ask(`User name at ${whose}; empty or none: without`, user)
  if (username === '' || username === 'none') return {}
  const kept = before !== undefined && username === user
  const password = await talk.secret(`Password of ${username}${kept ? '; empty: as before' : ''}`)
  if (password === '' && kept) return { username, passwordFile: before }
  const passwordFile = `${folder}/${file}`
  secrets.put(passwordFile, password)
  return { username, passwordFile }
}

function listed(text: string): Json {
  return text.split(/[\s,]+/).filter((item) => item !== '')
}
