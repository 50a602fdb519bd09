/** One try at one broker: does it take our login, and what does it say of the cluster? Changes nothing, fences nobody. */
import type { Log } from '../../daemon/ports.ts'
import { openClient, type Client } from './client.ts'
import { CODES } from './codes.ts'
import { readCredentials } from './credentials.ts'
import { kafkaError } from './failure.ts'
import { ProbeWire } from './probe-wire.ts'
import { groupOf, transactionalId, type KafkaClientSettings } from './settings.ts'
import type { BrokerLogin, ClusterLook, Rights, TopicSettingsFound } from '../../daemon/doctor/facts.ts'

const FETCH = 1
/** No epoch has this id. */
const NO_EPOCH = '0'.repeat(16)

export interface ProbeOptions {
  readonly settings: KafkaClientSettings
  readonly broker: { readonly host: string; readonly port: number }
  /** Asked of the cluster with the login. */
  readonly topics: readonly string[]
  readonly timeoutMs: number
  readonly log: Log
}

/** Never rejects. */
export async function tryLogin(options: ProbeOptions): Promise<BrokerLogin> {
  const started = performance.now()
  try {
    return await session(options, async (wire) => {
      const ms = Math.round(performance.now() - started)
      const [cluster, versions] = await Promise.all([wire.cluster(options.topics), wire.versions()])
      return { ms, cluster, beforeKafka4: (versions.get(FETCH)?.[0] ?? 0) < 4 }
    })
  } catch (error) {
    const { message, remedy } = kafkaError(error, 'none', [])
    return { ms: Math.round(performance.now() - started), fault: message, ...(remedy !== undefined && { remedy }) }
  }
}

/** Never rejects. */
export async function lookAtCluster(options: ProbeOptions): Promise<ClusterLook> {
  try {
    return await session(options, async (wire) => {
      const settings: TopicSettingsFound[] = []
      for (const topic of options.topics) settings.push(await settingsOf(wire, topic))
      return { rights: await rightsOf(wire, options.settings), settings }
    })
  } catch (error) {
    return { fault: kafkaError(error, 'none', []).message, rights: {}, settings: [] }
  }
}

async function rightsOf(wire: ProbeWire, settings: KafkaClientSettings): Promise<Rights> {
  if (settings.delivery !== 'exactly-once') return {}
  const group = await wire.coordinator(groupOf(settings, NO_EPOCH), 'group')
  const transaction = await wire.coordinator(transactionalId(settings), 'transaction')
  return { ...refusal('group', group.code), ...refusal('transactionalId', transaction.code) }
}

/** Only a refusal for want of a right: a coordinator that is on its way is the relay's concern. */
function refusal(what: 'group' | 'transactionalId', code: number): Rights {
  const meaning = CODES.get(code)
  return meaning?.alarm === true ? { [what]: meaning.say('') } : {}
}

async function settingsOf(wire: ProbeWire, topic: string): Promise<TopicSettingsFound> {
  const told = await wire.settings(topic, ['max.message.bytes', 'cleanup.policy'])
  const bytes = Number(told?.get('max.message.bytes'))
  const cleanupPolicy = told?.get('cleanup.policy')
  return { topic, ...(Number.isFinite(bytes) && { maxMessageBytes: bytes }), ...(cleanupPolicy !== undefined && { cleanupPolicy }) }
}

async function session<Result>(
  { settings, broker, timeoutMs, log }: ProbeOptions,
  use: (wire: ProbeWire) => Promise<Result>,
): Promise<Result> {
  const timeouts = { requestMs: timeoutMs, transactionMs: timeoutMs }
  const client: Client = openClient({ ...settings, brokers: [broker] }, await readCredentials(settings), timeouts, log)
  try {
    await client.kafka.admin().connect()
    const [socket] = client.sockets.open
    if (socket === undefined) throw new Error('the broker closed the connection')
    return await use(new ProbeWire(socket, timeoutMs))
  } finally {
    client.sockets.cut('done')
  }
}
