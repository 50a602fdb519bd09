import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { connectAsync } from 'mqtt'
import type { IClientOptions } from 'mqtt'
import { KAFKA_API, kafkaTool, makeCertificates, serviceScope, startMosquitto } from '../services/index.ts'
import { identify } from '../services/program.ts'

const run = promisify(execFile)
const scope = serviceScope()

/** kcat, a client that is not ours; `input` are the records to produce, one a line. */
async function kcat(endpoint: string, args: readonly string[], input = ''): Promise<string> {
  const call = run('kcat', ['-b', endpoint, ...args], { timeout: 60_000 })
  call.child.stdin?.end(input)
  return (await call).stdout
}

const option = (settings: Readonly<Record<string, string>>): string[] =>
  Object.entries(settings).flatMap(([key, value]) => ['-X', `${key}=${value}`])

const createTopic = ['--create', '--topic', 'logs', '--partitions', '1']
const TOPIC_TOOL = 'org.apache.kafka.tools.TopicCommand'
const produce = ['-P', '-t', 'logs']
const consume = ['-C', '-t', 'logs', '-e', '-q']

async function etcdctl(endpoint: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, ETCDCTL_API: '3' }
  return (await run('etcdctl', ['--endpoints', endpoint, ...args], { env })).stdout
}

test('Kafka keeps its port and its records over kill, start and restart', async () => {
  const kafka = await scope.kafka()
  await kafka.tool(TOPIC_TOOL, createTopic)
  await kcat(kafka.endpoint, produce, 'one\ntwo\n')
  const first = kafka.pid
  await kafka.kill('SIGKILL')
  assert.equal(kafka.alive(), false)
  await kafka.start()
  assert.notEqual(kafka.pid, first)
  await kcat(kafka.endpoint, produce, 'three\n')
  await kafka.restart()
  assert.equal(await kcat(kafka.endpoint, consume), 'one\ntwo\nthree\n')
  await assert.rejects(kafka.tool(TOPIC_TOOL, createTopic), /already exists/)
})

test('a paused service is alive and goes on after resume; stop ends a paused one too', async () => {
  const etcd = await scope.etcd()
  const state = (): string | undefined => /^State:\s+(\w)/m.exec(readFileSync(`/proc/${etcd.pid}/status`, 'utf8'))?.[1]
  etcd.pause()
  while (state() !== 'T') await new Promise((resolve) => setImmediate(resolve))
  assert.equal(etcd.alive(), true)
  etcd.resume()
  await etcdctl(etcd.endpoint, 'put', 'k', 'v')
  etcd.pause()
  await etcd.stop()
  assert.equal(identify(etcd.pid), undefined)
  await etcd.stop()
  await etcd.start()
  assert.equal(await etcdctl(etcd.endpoint, 'get', 'k'), 'k\nv\n')
})

test('clients of a broker behind a proxy meet the proxy only; tools go past it', async () => {
  const { kafka, proxy } = await scope.kafkaBehindProxy()
  await kafka.tool(TOPIC_TOOL, createTopic)
  assert.deepEqual(proxy.bytes, { toServer: 0, toClient: 0 })
  assert.match(await kcat(kafka.endpoint, ['-L']), new RegExp(`broker 1 at 127.0.0.1:${proxy.port} `))
})

test('what a Kafka client cannot know: its request was carried out, or not', async () => {
  const { kafka, proxy } = await scope.kafkaBehindProxy()
  await kafka.tool(TOPIC_TOOL, createTopic)
  const failing = async (record: string): Promise<void> => {
    const args = [...produce, ...option({ 'socket.timeout.ms': '1000', 'request.timeout.ms': '900' })]
    await assert.rejects(kcat(kafka.endpoint, args, `${record}\n`), /brokers are down/)
    await proxy.heal()
  }
  proxy.dropKafkaResponses(KAFKA_API.produce, 1)
  await failing('unanswered')
  proxy.onRequest((apiKey) => (apiKey === KAFKA_API.produce ? 'cutAfterResponseSwallowed' : 'pass'))
  await failing('answer lost')
  proxy.onRequest((apiKey) => (apiKey === KAFKA_API.produce ? 'cut' : 'pass'))
  await failing('never arrived')
  assert.equal(await kcat(kafka.endpoint, consume), 'unanswered\nanswer lost\n')
})

test('SCRAM and ACLs: a password is checked, and what is not allowed is denied', async () => {
  const users = { writer: 'w-secret', stranger: 's-secret' }
  const kafka = await scope.kafka({ sasl: { mechanism: 'SCRAM-SHA-512', users }, authorizer: true })
  await kafka.tool(TOPIC_TOOL, createTopic)
  const grant = ['--add', '--force', '--allow-principal', 'User:writer', '--operation', 'All', '--topic', 'logs']
  await kafka.tool('org.apache.kafka.tools.AclCommand', grant)
  const topicsSeenBy = async (name: string, password: string): Promise<string> => {
    const file = join(scope.folder(), 'client.properties')
    writeFileSync(file, clientProperties(name, password))
    const client = ['--bootstrap-server', kafka.endpoint, '--command-config', file]
    return (await kafkaTool(TOPIC_TOOL, [...client, '--list'])).stdout.trim()
  }
  assert.equal(await topicsSeenBy('writer', 'w-secret'), 'logs')
  assert.equal(await topicsSeenBy('stranger', 's-secret'), '')
  await assert.rejects(topicsSeenBy('writer', 'wrong'), /Authentication failed/)
})

// Not kcat: librdkafka before 2.6.1 repeats its nonce, and Kafka from 3.8.1 on refuses that (librdkafka #4895).
function clientProperties(name: string, password: string): string {
  const login = 'org.apache.kafka.common.security.scram.ScramLoginModule required'
  return `security.protocol=SASL_PLAINTEXT
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=${login} username="${name}" password="${password}";
`
}

test('Kafka over TLS with PLAIN passwords', async () => {
  const { caFile, server } = await makeCertificates(scope.folder())
  const kafka = await scope.kafka({
    sasl: { mechanism: 'PLAIN', users: { gateway: 'secret' } },
    tls: { keyAndCertFile: server.bothFile },
  })
  const secure = { 'security.protocol': 'SASL_SSL', 'ssl.ca.location': caFile, 'sasl.mechanism': 'PLAIN' }
  const login = { 'sasl.username': 'gateway', 'sasl.password': 'secret' }
  assert.match(await kcat(kafka.endpoint, ['-L', ...option({ ...secure, ...login })]), /1 brokers/)
})

test('Kafka with client certificates', async () => {
  const { caFile, server, client } = await makeCertificates(scope.folder())
  const kafka = await scope.kafka({ tls: { keyAndCertFile: server.bothFile, clientCaFile: caFile } })
  const secure = { 'security.protocol': 'SSL', 'ssl.ca.location': caFile }
  const own = { 'ssl.key.location': client.keyFile, 'ssl.certificate.location': client.certFile }
  assert.match(await kcat(kafka.endpoint, ['-L', ...option({ ...secure, ...own })]), /1 brokers/)
  await assert.rejects(kcat(kafka.endpoint, ['-L', '-m', '2', ...option(secure)]))
})

test('three etcd members survive the loss of one', async () => {
  const { members, endpoints } = await scope.etcdCluster(3)
  assert.equal(new Set(endpoints).size, 3)
  await etcdctl(endpoints[0] as string, 'put', 'k', 'v')
  await members[0]?.kill()
  assert.equal(await etcdctl(endpoints.slice(1).join(','), 'get', 'k'), 'k\nv\n')
  await members[0]?.start()
  assert.equal(await etcdctl(endpoints[0] as string, 'get', 'k'), 'k\nv\n')
})

test('etcd with client certificates', async () => {
  const { caFile, server, client } = await makeCertificates(scope.folder())
  const etcd = await scope.etcd({ tls: { ...server, clientCaFile: caFile } })
  const own = ['--cacert', caFile, '--cert', client.certFile, '--key', client.keyFile]
  assert.equal(await etcdctl(etcd.endpoint, ...own, 'put', 'k', 'v'), 'OK\n')
  await assert.rejects(etcdctl(etcd.endpoint, '--cacert', caFile, '--command-timeout', '1s', 'get', 'k'))
})

async function retained(endpoint: string, options: IClientOptions = {}): Promise<string> {
  const mqtt = await connectAsync(endpoint, options)
  const message = new Promise<string>((resolve) => mqtt.once('message', (_topic, payload) => resolve(payload.toString())))
  await mqtt.subscribeAsync('kept', { qos: 1 })
  const text = await message
  await mqtt.endAsync()
  return text
}

test('mosquitto keeps its port and what it stored over a restart', async () => {
  const broker = await scope.mosquitto()
  const mqtt = await connectAsync(broker.endpoint)
  await mqtt.publishAsync('kept', 'here', { qos: 1, retain: true })
  await mqtt.endAsync()
  await broker.restart()
  assert.equal(await retained(broker.endpoint), 'here')
})

test('mosquitto with TLS', async () => {
  const { caFile, server } = await makeCertificates(scope.folder())
  const conf = [`cafile ${caFile}`, `certfile ${server.certFile}`, `keyfile ${server.keyFile}`]
  const broker = await scope.mosquitto({ conf })
  assert.match(broker.endpoint, /^mqtts:/)
  const tls = { ca: readFileSync(caFile) }
  const mqtt = await connectAsync(broker.endpoint, tls)
  await mqtt.publishAsync('kept', 'secret', { qos: 1, retain: true })
  await mqtt.endAsync()
  assert.equal(await retained(broker.endpoint, tls), 'secret')
})

test('a service that cannot start says why and leaves nothing running', async () => {
  const dir = scope.folder()
  await assert.rejects(startMosquitto({ dir, conf: ['nonsense true'] }), /ended during its start.*Unknown configuration/s)
})

test('a scope ends its services and removes its folders, the last one first', async () => {
  let release: (() => Promise<void>) | undefined
  const inner = serviceScope((given) => (release = given))
  const order: string[] = []
  inner.atEnd(() => void order.push(`folder ${existsSync(broker.dir)}`, `alive ${broker.alive()}`))
  const broker = await inner.mosquitto()
  inner.atEnd(() => void order.push(`alive ${broker.alive()}`))
  await release?.()
  assert.deepEqual(order, ['alive true', 'folder false', 'alive false'])
})
