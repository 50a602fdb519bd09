/** Real brokers and etcd with one fault each: `edgectl doctor` names the true first cause. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer as createPlainServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { createServer, type TlsOptions } from 'node:tls'
import { promisify } from 'node:util'
import { stringify } from 'yaml'
import { mergePatch, type Json } from '../../config/merge.ts'
import type { DoctorDocument } from '../../daemon/cli/doctor.ts'
import { examineAll } from '../../daemon/compose/doctor/examine.ts'
import { falseClock } from '../fleet/false-clock.ts'
import { edgectl, EDGECTL } from '../fleet/setup.ts'
import { makeCertificates, serviceScope } from '../services/index.ts'
import type { Certificates, KafkaService, Proxy, Service } from '../services/index.ts'

const run = promisify(execFile)
const scope = serviceScope()
const dir = scope.folder()
let certificates: Certificates
let kafka: KafkaService
let lost: KafkaService
let front: Proxy
let etcd: Service
let mosquitto: Service

before(async () => {
  certificates = await makeCertificates(join(dir, 'ours'))
  const passwords = join(dir, 'mosquitto.passwd')
  await run('mosquitto_passwd', ['-b', '-c', passwords, 'gw', 'right-secret'])
  ;[kafka, lost, etcd, mosquitto] = await Promise.all([
    scope.kafka({
      tls: { keyAndCertFile: certificates.server.bothFile },
      sasl: { mechanism: 'SCRAM-SHA-512', users: { boss: 'boss-secret', nobody: 'nobody-secret' } },
      authorizer: true,
      properties: { 'super.users': 'User:ANONYMOUS;User:boss' },
    }),
    scope.kafka({ advertisedHost: 'kafka-2.plant.invalid' }),
    scope.etcd(),
    scope.mosquitto({ conf: ['allow_anonymous false', `password_file ${passwords}`] }),
  ])
  front = await scope.proxy({ target: kafka.port })
  const ctl = (...words: string[]): Promise<unknown> => run('etcdctl', ['--endpoints', etcd.endpoint, ...words])
  await ctl('user', 'add', 'root:root-secret')
  await ctl('user', 'grant-role', 'root', 'root')
  await ctl('user', 'add', 'weak:weak-secret')
  await ctl('auth', 'enable')
  await edgectl(['kafka', 'setup', '--replication', '1', '--config', config('setup', broker(kafka.endpoint))])
})

function config(name: string, patch: Json): string {
  const file = join(dir, `${name}.yaml`)
  const base: Json = {
    gateway: { id: 'gw-doctor', fleet: 'test', dataDir: join(dir, 'state') },
    mqtt: { listen: { lan: { url: 'mqtt://127.0.0.1:18899', auth: 'none' } } },
    metrics: { listen: 'off' },
  }
  writeFileSync(file, stringify(mergePatch(base, patch)))
  return file
}

function secret(name: string, text: string): string {
  const file = join(dir, `${name}.secret`)
  writeFileSync(file, `${text}\n`, { mode: 0o600 })
  return file
}

function broker(address: string, user = 'boss', password = `${user}-secret`): Json {
  const sasl = { mechanism: 'scram-sha-512', username: user, passwordFile: secret(`${user}-${password}`, password) }
  return { kafka: { brokers: [address], topic: 'device-logs', tls: { ca: certificates.caFile }, sasl } }
}

async function doctor(file: string, groups: string, env: NodeJS.ProcessEnv = process.env): Promise<DoctorDocument> {
  const args = [EDGECTL, '--json', '--config', file, 'doctor', '--only', groups, '--timeout', '2']
  const { stdout } = await run(process.execPath, args, { env }).catch((error: { stdout: string }) => error)
  return JSON.parse(stdout) as DoctorDocument
}

interface Case {
  readonly what: string
  readonly patch: () => Json | Promise<Json>
  readonly first: RegExp
  readonly remedy: RegExp
  readonly groups?: string
}

async function tlsServer(options: TlsOptions, host = '127.0.0.1'): Promise<number> {
  const server = createServer({ key: readFileSync(certificates.server.keyFile), ...options })
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  scope.atEnd(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** Takes every connection, and answers nonsense with what a terminal would obey in it. */
async function nonsense(): Promise<number> {
  const server = createPlainServer((socket) => {
    socket.on('error', () => undefined) // whoever has had enough of it
    socket.write(Buffer.concat([Buffer.from('\u001b[2J<script>\n'), Buffer.alloc(65_536, 0xa5)]))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  scope.atEnd(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** The broker's certificate, a day too late. */
async function expired(): Promise<Buffer> {
  const [names, certificate] = [join(dir, 'names.ext'), join(dir, 'expired.crt')]
  writeFileSync(names, 'subjectAltName=IP:127.0.0.1\n')
  const { caFile } = certificates
  const authority = ['-CA', caFile, '-CAkey', caFile.replace('.crt', '.key'), '-CAcreateserial']
  await run('openssl', [
    'x509',
    '-req',
    '-in',
    join(dir, 'ours', 'server.csr'),
    ...authority,
    '-days',
    '-1',
    '-extfile',
    names,
    '-out',
    certificate,
  ])
  return readFileSync(certificate)
}

const cases: readonly Case[] = [
  {
    what: 'a wrong password at Kafka',
    patch: () => broker(kafka.endpoint, 'boss', 'wrong-secret'),
    first: /^127\.0\.0\.1:\d+ login: the broker refuses our credentials/,
    remedy: /kafka\.sasl/,
  },
  {
    what: 'an expired certificate',
    patch: async () => broker(`127.0.0.1:${await tlsServer({ cert: await expired() })}`),
    first: /tls: the certificate of 127\.0\.0\.1 \(localhost\) expired on \d{4}-/,
    remedy: /renew the certificate/,
  },
  {
    what: 'a certificate for another name',
    patch: async () => broker(`127.0.0.2:${await tlsServer({ cert: readFileSync(certificates.server.certFile) }, '127.0.0.2')}`),
    first: /tls: the certificate is not for 127\.0\.0\.2, but for .*127\.0\.0\.1/,
    remedy: /one of those names/,
  },
  {
    what: 'an authority that is not ours',
    patch: async () => mergePatch(broker(kafka.endpoint), { kafka: { tls: { ca: (await makeCertificates(join(dir, 'others'))).caFile } } }),
    first: /tls: the certificate of 127\.0\.0\.1 comes from "test authority"/,
    remedy: /kafka\.tls\.ca/,
  },
  {
    what: 'a black hole',
    patch: () => (front.halfOpen(), broker(front.endpoint)),
    first: /^127\.0\.0\.1:\d+ tls: no TLS .*no answer within 2 s/,
    remedy: /kafka\.brokers/,
  },
  {
    what: 'a port where nothing listens',
    patch: () => broker('127.0.0.1:9'),
    first: /^127\.0\.0\.1:9 tcp: 127\.0\.0\.1:9 refuses the connection/,
    remedy: /kafka\.brokers/,
  },
  {
    what: 'a topic that is not there',
    patch: () => mergePatch(broker(kafka.endpoint), { kafka: { topic: 'nowhere' } }),
    first: /^topic nowhere: Kafka has no topic "nowhere"/,
    remedy: /edgectl kafka setup/,
  },
  {
    what: 'no rights',
    patch: () => broker(kafka.endpoint, 'nobody'),
    first: /^topic device-logs: we are not allowed to see/,
    remedy: /edgectl kafka setup --print/,
  },
  {
    what: 'an advertised name that this box does not know',
    patch: () => ({ kafka: { brokers: [`127.0.0.1:${lost.port}`], topic: 'device-logs' } }),
    first: /^kafka-2\.plant\.invalid:\d+ \(advertised\) dns: the name kafka-2\.plant\.invalid can not be resolved/,
    remedy: /\/etc\/hosts.*advertised\.listeners/,
  },
  {
    what: 'a wrong password at an MQTT broker',
    groups: 'clock,config,mqtt',
    patch: () => ({
      mqtt: {
        listen: null,
        connect: { plant: { url: mosquitto.endpoint, username: 'gw', passwordFile: secret('plant', 'wrong-secret') } },
        topics: { logs: { pattern: 'devices/{device}/logs/{stream}' } },
      },
    }),
    first: /^plant 127\.0\.0\.1:\d+ login: .*does not authorise us/,
    remedy: /mqtt\.connect\.plant/,
  },
  {
    what: 'a port that another program has',
    groups: 'clock,config,mqtt',
    patch: () => ({ mqtt: { listen: { lan: { url: mosquitto.endpoint, auth: 'none' } } } }),
    first: /^mqtt\.listen\.lan port: port \d+ is taken by mosquitto \(pid \d+\)/,
    remedy: /systemctl disable --now mosquitto/,
  },
  {
    what: 'nonsense in place of Kafka',
    patch: async () => ({ kafka: { brokers: [`127.0.0.1:${await nonsense()}`], topic: 'device-logs' } }),
    first: /^127\.0\.0\.1:\d+ login: /,
    remedy: /kafka\.sasl|port/,
  },
  {
    what: 'nonsense in place of an MQTT broker',
    groups: 'clock,config,mqtt',
    patch: async () => ({
      mqtt: {
        listen: null,
        connect: { plant: { url: `mqtt://127.0.0.1:${await nonsense()}` } },
        topics: { logs: { pattern: 'd/{device}/{stream}' } },
      },
    }),
    first: /^plant 127\.0\.0\.1:\d+ login: /,
    remedy: /mqtt\.connect\.plant/,
  },
  {
    what: 'nonsense in place of etcd',
    groups: 'clock,config,etcd',
    patch: async () => ({ etcd: { endpoints: [`http://127.0.0.1:${await nonsense()}`] } }),
    first: /^127\.0\.0\.1:\d+ read: etcd: /,
    remedy: /etcdctl endpoint status/,
  },
  {
    what: 'a wrong password at etcd',
    groups: 'clock,config,etcd',
    patch: () => ({ etcd: { endpoints: [etcd.endpoint], username: 'root', passwordFile: secret('etcd-wrong', 'wrong-secret') } }),
    first: /^127\.0\.0\.1:\d+ read: etcd: .*authentication failed/,
    remedy: /etcd\.passwordFile/,
  },
  {
    what: 'a user of etcd without rights',
    groups: 'clock,config,etcd',
    patch: () => ({ etcd: { endpoints: [etcd.endpoint], username: 'weak', passwordFile: secret('etcd-weak', 'weak-secret') } }),
    first: /^127\.0\.0\.1:\d+ read: etcd: .*permission denied/,
    remedy: /roles of that user/,
  },
]

describe('doctor, with one fault each', { concurrency: 2 }, () => {
  for (const [index, { what, patch, first, remedy, groups = 'clock,config,kafka' }] of cases.entries()) {
    test(what, async () => {
      const document = await doctor(config(`case-${index}`, await patch()), groups)
      const { fixFirst } = document
      assert.match(`${fixFirst?.name}: ${fixFirst?.finding}`, first, JSON.stringify(document.checks, undefined, 1))
      assert.match(fixFirst?.remedy ?? '', remedy)
      assert.equal(document.exit, 2)
      assert.ok(!/wrong-secret|boss-secret/.test(JSON.stringify(document)), 'no secret is told')
    })
  }
})

test('a clock that is weeks ahead is named before the certificates that seem to have expired', async () => {
  const clock = falseClock(dir)
  clock.show(Date.now() + 40 * 86_400_000)
  const etcdUser = { username: 'root', passwordFile: secret('etcd-clock', 'root-secret') }
  const file = config('ahead', { ...(broker(kafka.endpoint) as object), etcd: { endpoints: [etcd.endpoint], ...etcdUser } })
  const { fixFirst, checks } = await doctor(file, 'clock,config,kafka,etcd', { ...process.env, ...clock.env })
  assert.match(`${fixFirst?.name}: ${fixFirst?.finding}`, /^against etcd 127\.0\.0\.1: this box's clock is (39 d 23|40 d \d+) h ahead of/)
  assert.match(fixFirst?.remedy ?? '', /timedatectl/)
  assert.ok(checks.some(({ group, finding }) => group === 'kafka' && /expired on/.test(finding)))
})

test('a walk that takes too long says of what it has not seen, and ends', async () => {
  front.halfOpen()
  const checks = await examineAll({
    configFile: config('long', broker(front.endpoint)),
    only: ['config', 'kafka'],
    timeoutMs: 2_000,
    limitMs: 300,
  })
  assert.deepEqual(
    checks.filter(({ state }) => state === 'warn').map(({ name, finding }) => [name, finding]),
    [['kafka', 'not finished within 0.3 s']],
  )
})

test('where all is well each step says so, and nothing was changed', async () => {
  const users = { username: 'root', passwordFile: secret('etcd-root', 'root-secret') }
  const file = config('well', {
    ...(broker(kafka.endpoint) as object),
    etcd: { endpoints: [etcd.endpoint], ...users },
    mqtt: {
      listen: null,
      connect: { plant: { url: mosquitto.endpoint, username: 'gw', passwordFile: secret('plant-right', 'right-secret') } },
      topics: { logs: { pattern: 'devices/{device}/logs/{stream}' } },
    },
  })
  const { checks } = await doctor(file, 'mqtt,kafka,etcd')
  const bad = checks.filter(({ state, name }) => state === 'fail' || state === 'skipped' || (state === 'warn' && !/ tls$/.test(name)))
  assert.deepEqual(bad, [])
  const names = checks.map(({ name }) => name)
  for (const wanted of [
    / tls$/,
    / login$/,
    /^topic device-logs$/,
    /^transactional id$/,
    /^limits of device-logs$/,
    /may write gateways\/gw-doctor\/alive$/,
  ])
    assert.ok(
      names.some((name) => wanted.test(name)),
      `${String(wanted)} in ${names.join(', ')}`,
    )
  const { stdout } = await run('etcdctl', [
    '--endpoints',
    etcd.endpoint,
    '--user',
    'root:root-secret',
    'get',
    '',
    '--prefix',
    '--keys-only',
  ])
  assert.equal(stdout.trim(), '', 'the question whether we may write has written nothing')
})
