import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { createServer } from 'node:tls'
import { promisify } from 'node:util'
import kafkajs from '../../adapters/kafka/kafkajs.ts'
import { mergePatch, type Json } from '../../config/merge.ts'
import { makeCertificates, serviceScope } from '../services/index.ts'
import type { Certificates, KafkaService } from '../services/index.ts'
import { KafkaBox, prefixOf, topicOf } from './kafka-box.ts'
import { createTopic, runPrinted, setPassword, withAdmin } from './kafka-cluster.ts'

const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs

const scope = serviceScope()
let kafka: KafkaService
let certificates: Certificates
let dir: string

before(async () => {
  dir = scope.folder()
  certificates = await makeCertificates(join(dir, 'ours'))
  kafka = await scope.kafka({
    tls: { keyAndCertFile: certificates.server.bothFile },
    sasl: {
      mechanism: 'SCRAM-SHA-512',
      users: { boss: 'boss-secret', rotated: 'rotated-secret', owner: 'owner-secret', printed: 'printed-secret' },
    },
    authorizer: true,
    properties: {
      'super.users': 'User:ANONYMOUS;User:boss;User:rotated',
      'sasl.enabled.mechanisms': 'SCRAM-SHA-512,SCRAM-SHA-256,PLAIN,OAUTHBEARER',
      'listener.name.client.scram-sha-256.sasl.jaas.config': 'org.apache.kafka.common.security.scram.ScramLoginModule required;',
      'listener.name.client.plain.sasl.jaas.config':
        'org.apache.kafka.common.security.plain.PlainLoginModule required user_boss="boss-secret";',
      'listener.name.client.oauthbearer.sasl.jaas.config': 'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;',
    },
  })
})

/** The broker's certificate, a day too late. */
async function expired({ caFile }: Certificates): Promise<string> {
  const [request, certificate, authorityKey] = [join(dir, 'ours', 'server.csr'), join(dir, 'expired.crt'), caFile.replace('.crt', '.key')]
  const names = join(dir, 'names.ext')
  writeFileSync(names, 'subjectAltName=IP:127.0.0.1\n')
  await promisify(execFile)('openssl', [
    'x509',
    '-req',
    '-in',
    request,
    '-CA',
    caFile,
    '-CAkey',
    authorityKey,
    '-CAcreateserial',
    '-days',
    '-1',
    '-extfile',
    names,
    '-out',
    certificate,
  ])
  return readFileSync(certificate, 'utf8')
}

function secretFile(name: string, content: string): string {
  const path = join(dir, `${name}.secret`)
  // In one piece: a gateway may read it at any instant.
  writeFileSync(`${path}.new`, `${content}\n`)
  renameSync(`${path}.new`, path)
  return path
}

/** How a gateway comes to the broker: by TLS, as this user. */
function as(username: string, password = `${username}-secret`): Json {
  return {
    kafka: {
      tls: { ca: certificates.caFile },
      sasl: { mechanism: 'scram-sha-512', username, passwordFile: secretFile(username, password) },
    },
  }
}

/** Past TLS and rights, for boxes that can't do it themselves yet. */
async function createTopicsOf(name: string): Promise<void> {
  await createTopic(kafka, topicOf(name), 3)
  await createTopic(kafka, `${prefixOf(name)}.positions`, 4)
  for (const own of ['events', 'dead-letter']) await createTopic(kafka, `${prefixOf(name)}.${own}`, 1)
  await createTopic(kafka, `${prefixOf(name)}.ledger`, 1, { 'cleanup.policy': 'compact' })
}

describe('access', { concurrency: true }, () => {
  test("the broker's certificate has expired: one alarm, healed by a new one", async () => {
    const name = 'expired'
    await createTopicsOf(name)
    const late = createServer({ key: readFileSync(certificates.server.keyFile), cert: await expired(certificates) })
    await new Promise<void>((resolve) => late.listen(0, '127.0.0.1', resolve))
    const { port } = late.address() as AddressInfo
    scope.atEnd(() => void late.close())
    const config = mergePatch(as('boss'), { kafka: { brokers: [`127.0.0.1:${port}`] } })
    const box = await KafkaBox.start({ scope, kafka, name, partitions: 0, config })
    box.publish('a', 20)
    const { verdict } = await box.says(/no TLS connection to the broker: certificate has expired/)
    assert.equal(verdict.state, 'buffering')
    assert.match(verdict.remedy ?? '', /kafka\.tls and the broker's certificate/)
    await new Promise((resolve) => late.close(resolve))
    await scope.proxy({ target: kafka.port, port })
    await box.isWell()
    await box.deliveredExactly()
  })

  test("an authority that the broker's certificate does not come from is an alarm, healed by the right file", async () => {
    const name = 'stranger'
    const others = await makeCertificates(join(dir, 'others'))
    const caFile = join(dir, 'trusted.crt')
    copyFileSync(others.caFile, caFile)
    await createTopicsOf(name)
    const box = await KafkaBox.start({
      scope,
      kafka,
      name,
      partitions: 0,
      config: mergePatch(as('boss'), { kafka: { tls: { ca: caFile } } }),
    })
    box.publish('a', 20)
    const { verdict } = await box.says(/no TLS connection to the broker: /)
    assert.match(verdict.remedy ?? '', /kafka\.tls/)
    copyFileSync(certificates.caFile, caFile)
    await box.isWell()
    await box.deliveredExactly()
  })

  test('a wrong password is an alarm, healed by the right one in the password file', async () => {
    const name = 'rotated'
    await createTopicsOf(name)
    const box = await KafkaBox.start({ scope, kafka, name, partitions: 0, config: as(name, 'a-wrong-secret') })
    box.publish('a', 20)
    const { verdict } = await box.says(/the broker refuses our credentials/)
    assert.equal(verdict.state, 'buffering')
    assert.match(verdict.remedy ?? '', /kafka\.sasl/)
    assert.doesNotMatch(box.log(), /a-wrong-secret/)
    secretFile(name, 'rotated-secret')
    await box.isWell()
    await box.deliveredExactly()
  })

  test('SASL PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER, over TLS with an authority of its own', async () => {
    await setPassword(kafka, { mechanism: 'SCRAM-SHA-256', username: 'boss', password: 'boss-secret' }, certificates.caFile)
    const passwordFile = secretFile('boss', 'boss-secret')
    const logins: readonly Json[] = [
      ...['plain', 'scram-sha-256', 'scram-sha-512'].map((mechanism) => ({ mechanism, username: 'boss', passwordFile })),
      { mechanism: 'oauthbearer', tokenFile: secretFile('token', unsignedToken('boss')) },
    ]
    await Promise.all(
      logins.map(async (sasl, index) => {
        const box = await KafkaBox.start({
          scope,
          kafka,
          name: `login-${index}`,
          config: { kafka: { tls: { ca: certificates.caFile }, sasl } },
        })
        box.publish('a', 20)
        await box.deliveredExactly()
      }),
    )
  })

  test('authorisation is withdrawn and given back: the alarm names what lacks, and it goes on without a restart', async () => {
    const cases = [
      [AclResourceTypes.TOPIC, topicOf, /not allowed to use the topic "logs-lacks-0"/],
      [AclResourceTypes.GROUP, () => undefined, /not allowed to use our consumer groups/],
      [AclResourceTypes.TRANSACTIONAL_ID, () => undefined, /not allowed to use our transactional id/],
    ] as const
    await Promise.all(
      cases.map(async ([resourceType, resourceOf, reason], index) => {
        const name = `lacks-${index}`
        const owned = await operatorOf('boss', name)
        await owned.edgectl(['kafka', 'setup', '--replication', '1', '--principal', 'owner'])
        const box = await KafkaBox.start({ scope, kafka, name, partitions: 0, config: as('owner') })
        box.publish('a', 20)
        await box.drained()
        await withdraw(resourceType, resourceOf(name) ?? `edge-${name}`)
        box.publish('a', 20)
        const { verdict } = await box.until('it says what lacks', ({ verdict: { state, reason: said } }) => {
          // A message more each time: the rights are looked at when something is sent.
          box.publish('b', 1)
          return state !== 'ok' && reason.test(said ?? '')
        })
        assert.match(verdict.remedy ?? '', /edgectl kafka setup --print/)
        await owned.edgectl(['kafka', 'setup', '--replication', '1', '--principal', 'owner'])
        await box.isWell()
        await box.deliveredExactly()
      }),
    )
  })

  test('what `kafka setup --print` prints gives the gateway all that it needs, and nothing is missing', async () => {
    const name = 'printed'
    const box = await KafkaBox.setUp({ scope, kafka, name, partitions: 0, config: as(name) })
    const printed = (await box.edgectl(['kafka', 'setup', '--print', '--partitions', '3', '--replication', '1'])).trim().split('\n')
    for (const command of printed) await runPrinted(kafka, command)
    await box.gateway.start()
    box.publish('a', 20)
    await box.isWell()
    await box.deliveredExactly()
    await box.until('its own records have left as well', ({ lanes }) => lanes['internal']?.messages === 0)
    assert.ok((await box.consumed(`${box.prefix}.events`)).length > 0)
    assert.doesNotMatch(box.log(), /not allowed/)
  })
})

/** A configuration of the same gateway with the rights of somebody else, to run commands under. */
function operatorOf(username: string, name: string): Promise<KafkaBox> {
  return KafkaBox.setUp({ scope, kafka, name, partitions: 0, config: as(username) })
}

/** All rights of the owner at what begins with this name. */
async function withdraw(resourceType: number, resourceName: string): Promise<void> {
  const every = {
    resourceType,
    principal: 'User:owner',
    host: '*',
    operation: AclOperationTypes.ANY,
    permissionType: AclPermissionTypes.ALLOW,
  }
  await withAdmin(kafka, async (admin) => {
    const { resources } = await admin.describeAcls({ ...every, resourcePatternType: ResourcePatternTypes.ANY })
    const ours = resources.filter((resource) => resource.resourceName.startsWith(resourceName))
    assert.ok(ours.length > 0, `no rights at ${resourceName}`)
    await admin.deleteAcls({
      filters: ours.map((resource) => ({
        ...every,
        resourceName: resource.resourceName,
        resourcePatternType: resource.resourcePatternType,
      })),
    })
  })
}

/** A token that an unsecured OAUTHBEARER listener takes (RFC 7519 section 6). */
function unsignedToken(subject: string): string {
  const part = (fields: object): string => Buffer.from(JSON.stringify(fields)).toString('base64url')
  const now = Math.floor(Date.now() / 1_000)
  return `${part({ alg: 'none' })}.${part({ sub: subject, iat: now, exp: now + 3_600 })}.`
}
