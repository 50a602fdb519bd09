import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import kafkajs from 'kafkajs'
import type { Admin } from 'kafkajs'
import type { KafkaClient } from '../../adapters/kafka/kafka.ts'
import type { KafkaClientSettings, KafkaSaslSettings, KafkaTlsSettings } from '../../adapters/kafka/settings.ts'
import { makeCertificates, serviceScope } from '../services/index.ts'
import type { Certificates, KafkaService } from '../services/index.ts'
import {
  asFailure,
  begin,
  beginPatiently,
  brokerOptions,
  createTopic,
  deliver,
  EPOCH,
  failureOf,
  fresh,
  gateway,
  never,
  positionsAt,
  readCommitted,
  recordOf,
  TIMEOUTS,
} from './kafka-kit.ts'

const { AclOperationTypes: Op, AclPermissionTypes, AclResourceTypes: Of, ResourcePatternTypes } = kafkajs

const scope = serviceScope()
let kafka: KafkaService
let certificates: Certificates
let admin: Admin
let dir: string

before(async () => {
  dir = scope.folder()
  certificates = await makeCertificates(join(dir, 'tls'))
  kafka = await scope.kafka({
    ...brokerOptions,
    tls: { keyAndCertFile: certificates.server.bothFile, clientCaFile: certificates.caFile },
    sasl: { mechanism: 'SCRAM-SHA-512', users: { gw: 'secret', boss: 'boss-secret' } },
    authorizer: true,
    properties: {
      'super.users': 'User:ANONYMOUS;User:boss',
      'sasl.enabled.mechanisms': 'SCRAM-SHA-512,PLAIN,OAUTHBEARER',
      'listener.name.client.plain.sasl.jaas.config':
        'org.apache.kafka.common.security.plain.PlainLoginModule required user_boss="plain-secret";',
      'listener.name.client.oauthbearer.sasl.jaas.config': 'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;',
      'transactional.id.expiration.ms': 5_000,
      'transaction.remove.expired.transaction.cleanup.interval.ms': 500,
      'transaction.abort.timed.out.transaction.cleanup.interval.ms': 200,
    },
  })
  await createTopic(kafka, 'edge.positions', 4)
  await createTopic(kafka, 'logs', 2)
  await createTopic(kafka, 'other', 2)
  admin = new kafkajs.Kafka({ brokers: [kafka.internalEndpoint], logLevel: kafkajs.logLevel.NOTHING }).admin()
  await admin.connect()
  await deliver(as('boss'), 'logs', 2, 2)
})

after(() => admin.disconnect())

const passwords: Record<string, string> = { gw: 'secret', boss: 'boss-secret' }

function secretFile(content: string): string {
  const path = join(dir, fresh('secret'))
  writeFileSync(path, `${content}\n`)
  return path
}

function scram(username: string, password = passwords[username] ?? ''): KafkaSaslSettings {
  return { mechanism: 'scram-sha-512', username, passwordFile: secretFile(password) }
}

function tls(): KafkaTlsSettings {
  return { ca: certificates.caFile, cert: certificates.client.certFile, key: certificates.client.keyFile }
}

/** A gateway that comes as this user, by TLS with a client certificate. */
function as(username: string, more: Partial<KafkaClientSettings> = {}): KafkaClient {
  return gateway(kafka.endpoint, fresh('gw'), { tls: tls(), sasl: scram(username), ...more })
}

async function sends(client: KafkaClient): Promise<void> {
  const life = await begin(client)
  await life.transact([recordOf('logs', 0, 'x')], positionsAt(1))
  await life.close(1_000)
}

describe('credentials', () => {
  it('of each mechanism are taken, over TLS with a client certificate', async () => {
    const token = unsignedToken('boss')
    const server = createServer((request, response) => {
      const isOurs = request.headers.authorization === `Basic ${Buffer.from('the%20client:se%3Acret').toString('base64')}`
      let form = ''
      request.on('data', (chunk: Buffer) => (form += chunk.toString()))
      request.on('end', () => {
        response.statusCode = isOurs && form === 'grant_type=client_credentials&scope=kafka' ? 200 : 401
        response.end(JSON.stringify({ access_token: token, token_type: 'Bearer', expires_in: 60 }))
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`
    try {
      const request = { url, clientId: 'the client', clientSecretFile: secretFile('se:cret'), scope: 'kafka' }
      await sends(as('boss'))
      await sends(as('boss', { sasl: { mechanism: 'plain', username: 'boss', passwordFile: secretFile('plain-secret') } }))
      await sends(as('boss', { sasl: { mechanism: 'oauthbearer', token: { file: secretFile(token) } } }))
      await sends(as('boss', { sasl: { mechanism: 'oauthbearer', token: request } }))
      const refused = await failureOf(begin(as('boss', { sasl: { mechanism: 'oauthbearer', token: { ...request, scope: 'other' } } })))
      assert.deepEqual([refused.alarm, refused.message], [true, `no token for Kafka from ${url}: status 401`])
    } finally {
      server.close()
    }
  })

  it('that are wrong, missing or not offered are alarms that say what to look at', async () => {
    const cases: [Partial<KafkaClientSettings>, RegExp, RegExp][] = [
      [{ sasl: scram('gw', 'wrong') }, /refuses our credentials/, /kafka\.sasl/],
      [{ sasl: { ...scram('gw'), mechanism: 'scram-sha-256' } as KafkaSaslSettings }, /does not offer our SASL mechanism/, /mechanism/],
      [
        { sasl: { mechanism: 'scram-sha-512', username: 'gw', passwordFile: join(dir, 'nowhere') } },
        /nowhere can't be read/,
        /Let the user/,
      ],
      [{ sasl: { mechanism: 'scram-sha-512', username: 'gw', passwordFile: secretFile('') } }, /is empty/, /Write the secret/],
      [{ tls: { ca: undefined, cert: undefined, key: undefined } }, /no TLS connection/, /kafka\.tls/],
      [{ tls: { ca: certificates.caFile, cert: undefined, key: undefined } }, /no TLS connection/, /kafka\.tls/],
    ]
    for (const [settings, message, remedy] of cases) {
      const failure = await failureOf(begin(as('gw', settings)))
      assert.deepEqual([failure.kind, failure.alarm], ['transient', true], failure.message)
      assert.match(failure.message, message)
      assert.match(failure.remedy ?? '', remedy)
    }
  })
})

/** A token that an unsecured OAUTHBEARER listener takes (RFC 7519 section 6). */
function unsignedToken(subject: string): string {
  const part = (fields: object): string => Buffer.from(JSON.stringify(fields)).toString('base64url')
  const now = Math.floor(Date.now() / 1_000)
  return `${part({ alg: 'none' })}.${part({ sub: subject, iat: now, exp: now + 600 })}.`
}

interface Right {
  readonly type: number
  readonly name: string
  readonly operation: number
  readonly prefixed?: boolean
}

async function grant({ type, name, operation, prefixed = false }: Right): Promise<void> {
  const pattern = prefixed ? ResourcePatternTypes.PREFIXED : ResourcePatternTypes.LITERAL
  const entry = {
    resourceType: type,
    resourceName: name,
    resourcePatternType: pattern,
    principal: 'User:gw',
    host: '*',
    operation,
    permissionType: AclPermissionTypes.ALLOW,
  }
  await admin.createAcls({ acl: [entry] })
}

async function withdraw({ type, name, operation }: Right): Promise<void> {
  const filter = {
    resourceType: type,
    resourceName: name,
    resourcePatternType: ResourcePatternTypes.ANY,
    principal: 'User:gw',
    host: '*',
    operation,
    permissionType: AclPermissionTypes.ALLOW,
  }
  await admin.deleteAcls({ filters: [filter] })
}

describe('rights', () => {
  it('that lack are alarms that name what lacks, one after the other, and heal when they are granted', async () => {
    const gatewayId = fresh('rights')
    const client = gateway(kafka.endpoint, gatewayId, { tls: tls(), sasl: scram('gw') })
    const attempt = async (): Promise<void> => {
      const life = await begin(client)
      try {
        await life.committed(EPOCH)
        await life.transact([recordOf('logs', 0, 'x')], positionsAt(1))
      } finally {
        await life.close(1_000)
      }
    }
    const ladder: [RegExp, Right][] = [
      [/topic "edge\.positions"/, { type: Of.TOPIC, name: 'edge.positions', operation: Op.READ }],
      [/transactional id/, { type: Of.TRANSACTIONAL_ID, name: `edge.${gatewayId}`, operation: Op.DESCRIBE }],
      [/transactional id/, { type: Of.TRANSACTIONAL_ID, name: `edge.${gatewayId}`, operation: Op.WRITE }],
      [/consumer groups/, { type: Of.GROUP, name: `edge.${gatewayId}.`, operation: Op.READ, prefixed: true }],
      [/topic "logs"/, { type: Of.TOPIC, name: 'logs', operation: Op.DESCRIBE }],
      [/topic "logs"/, { type: Of.TOPIC, name: 'logs', operation: Op.WRITE }],
    ]
    for (const [message, right] of ladder) {
      const failure = await failureOf(attempt())
      assert.deepEqual([failure.kind, failure.alarm, failure.fate], ['transient', true, 'none'], failure.message)
      assert.match(failure.message, message)
      assert.match(failure.remedy ?? '', /kafka setup --print/)
      await grant(right)
    }
    await attempt()
  })

  it('withdrawn in the middle of a life end it with an alarm; given back, the next one goes on', async () => {
    const gatewayId = fresh('withdrawn')
    const write = { type: Of.TOPIC, name: 'other', operation: Op.WRITE }
    await grant(write)
    await grant({ type: Of.TOPIC, name: 'logs', operation: Op.WRITE })
    await grant({ type: Of.TOPIC, name: 'edge.positions', operation: Op.READ })
    await grant({ type: Of.TRANSACTIONAL_ID, name: `edge.${gatewayId}`, operation: Op.WRITE })
    await grant({ type: Of.GROUP, name: `edge.${gatewayId}.`, operation: Op.READ, prefixed: true })
    const client = gateway(kafka.endpoint, gatewayId, { tls: tls(), sasl: scram('gw') })
    const records = [recordOf('logs', 0, 'a'), recordOf('other', 0, 'a')]
    const life = await begin(client)
    await life.transact(records, positionsAt(1))
    await withdraw(write)
    await grant({ ...write, operation: Op.DESCRIBE })
    // Kafka answers "not attempted" for the other topic, and kafkajs reports the first answer.
    let failure: unknown
    do
      failure = await life.transact(records, positionsAt(2)).then(
        () => undefined,
        (error: unknown) => error,
      )
    while (failure === undefined)
    const { alarm, message, fate } = asFailure(failure)
    assert.deepEqual([alarm, message, fate], [true, 'we are not allowed to use the topic "other"', 'none'])
    await life.close(1_000)
    await grant(write)
    const next = await begin(client)
    await next.transact(records, positionsAt(3))
    assert.equal((await next.committed(EPOCH)).get('normal'), 3)
    await next.close(1_000)
  })

  it("to read a topic's settings may lack", async () => {
    await grant({ type: Of.TOPIC, name: 'logs', operation: Op.WRITE })
    const life = await begin(gateway(kafka.endpoint, fresh('blind'), { delivery: 'at-least-once', tls: tls(), sasl: scram('gw') }))
    assert.deepEqual(await life.topicFacts('logs'), {
      partitions: 2,
      maxMessageBytes: 1_048_588,
      cleanupPolicy: undefined,
      timestampType: undefined,
    })
    await life.close(1_000)
  })
})

describe('time', () => {
  it('lets a transactional id expire: the life ends, and the next one finds the positions', async () => {
    const client = as('boss')
    const life = await begin(client)
    let position = 0
    let failure: unknown
    // Longer and longer pauses, until the broker has forgotten the id.
    for (let pauseMs = 6_000; failure === undefined; pauseMs *= 2) {
      position += 1
      await life.transact([recordOf('other', 1, String(position))], positionsAt(position))
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
      failure = await life.transact([recordOf('other', 1, 'lost')], positionsAt(position + 1)).then(
        () => void (position += 1),
        (error: unknown) => error,
      )
    }
    const { kind, fate, alarm, message } = asFailure(failure)
    assert.deepEqual([kind, fate, alarm], ['transient', 'none', false])
    assert.match(message, /forgotten our transactional id/)
    const next = await beginPatiently(client)
    assert.equal((await next.committed(EPOCH)).get('normal'), position)
    await next.transact([recordOf('other', 1, 'again')], positionsAt(position + 1))
    assert.equal((await readCommitted(kafka, 'other')).filter(({ value }) => value === 'again').length, 1)
    await Promise.all([life.close(1_000), next.close(1_000)])
  })

  it('of a transaction that ran out at the broker is not taken for another gateway', async () => {
    const client = as('boss', { compression: 'none' })
    const life = await client.begin({ ...TIMEOUTS, requestMs: 30_000, transactionMs: 300 }, never)
    // Enough requests that the broker looks for late transactions while it is open.
    let failure: unknown
    for (let records = 20_000; failure === undefined; records *= 2) {
      const batch = Array.from({ length: records }, () => recordOf('logs', 0, 'slow'))
      failure = await life.transact(batch, positionsAt(1)).then(
        () => undefined,
        (error: unknown) => error,
      )
    }
    const { kind, message } = asFailure(failure)
    assert.equal(kind, 'transient')
    assert.match(message, /open for longer/)
    await life.close(1_000)
  })

  it('that the broker does not grant a transaction is an alarm', async () => {
    const failure = await failureOf(as('boss').begin({ ...TIMEOUTS, transactionMs: 3_600_000 }, never))
    assert.equal(failure.alarm, true)
    assert.match(failure.message, /transaction\.max\.timeout\.ms/)
  })
})
