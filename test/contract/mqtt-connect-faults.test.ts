/** `mqtt.connect` and everything that stands in the way of a broker: named in plain words, and healed without a restart. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createServer as createTlsServer } from 'node:tls'
import { Aedes } from 'aedes'
import type { Delivery } from '../../daemon/ports.ts'
import { makeCertificates } from '../services/certificates.ts'
import { freePort, serviceScope } from '../services/index.ts'
import { FakeRandom } from '../fakes/clock.ts'
import { startChild, storedBy } from './mqtt-connect-child.ts'
import type { ChildGateway } from './mqtt-connect-child.ts'
import { clock, device, isUp, QUICK, reasonMatches, run, settingsFor, TestIntake, until, VERSIONS } from './mqtt-connect-kit.ts'

const scope = serviceScope()
const certificates = await makeCertificates(join(scope.folder(), 'a'))
const others = await makeCertificates(join(scope.folder(), 'b'))
const TOPIC = 'devices/d1/logs/app'

function passwordsFor(file: string, password: string): void {
  rmSync(file, { force: true })
  writeFileSync(file, `gw:${password}\n`)
  execFileSync('mosquitto_passwd', ['-U', file])
}

/** Settles in batches, some time later, as an outbox does. */
class SlowIntake extends TestIntake {
  readonly durable = new Set<string>()
  readonly #random: FakeRandom
  #batch: Delivery[] = []

  constructor(random: FakeRandom) {
    super()
    this.#random = random
  }

  override offer(delivery: Delivery): void {
    this.deliveries.push(delivery)
    this.#batch.push(delivery)
    if (this.#batch.length === 1) setTimeout(() => this.#commit(), this.#random.unit() * 30)
  }

  #commit(): void {
    const batch = this.#batch
    this.#batch = []
    for (const delivery of batch) {
      this.durable.add(String(delivery.payload))
      delivery.settle()
    }
  }
}

const DYNAMIC_SECURITY = execFileSync('sh', ['-c', 'ls /usr/lib/*/mosquitto_dynamic_security.so'], { encoding: 'utf8' }).trim()

/** mosquitto's own acl_file grants every subscription and then delivers nothing; its plugin refuses. */
function allowSubscriptions(file: string, topics: readonly string[]): void {
  const acls = topics.map((topic) => ({ acltype: 'subscribePattern', topic, priority: 0, allow: true }))
  writeFileSync(
    file,
    JSON.stringify({
      defaultACLAccess: { publishClientSend: true, publishClientReceive: true, subscribe: false, unsubscribe: true },
      clients: [],
      groups: [{ groupname: 'all', roles: [{ rolename: 'reader' }], clients: [] }],
      roles: [{ rolename: 'reader', acls }],
      anonymousGroup: 'all',
    }),
  )
}

for (const protocolVersion of VERSIONS) {
  test(`version ${protocolVersion}: a wrong password is named, and the right one in the same file heals it`, async () => {
    const dir = scope.folder()
    const [users, passwordFile] = [join(dir, 'users'), join(dir, 'password')]
    passwordsFor(users, 'right')
    const broker = await scope.mosquitto({ conf: ['allow_anonymous false', `password_file ${users}`] })
    writeFileSync(passwordFile, 'wrong\n')
    const settings = settingsFor(broker.endpoint, { protocolVersion, username: 'gw', passwordFile })
    const { connection, log } = await run(scope, settings)
    await reasonMatches(
      connection,
      protocolVersion === 4 ? /does not authorise us|refuses the user name or password/ : /does not authorise us/,
    )
    assert.equal(connection.state().state, 'down')
    await sleep(600)
    assert.equal(log.lines.filter(({ level }) => level === 'warn').length, 1, 'one warning, not one for each attempt')
    writeFileSync(passwordFile, 'right\n')
    await isUp(connection)

    // Rotated while connected: nothing is cut, and the next connection is made with the new one.
    passwordsFor(users, 'rotated')
    writeFileSync(passwordFile, 'rotated')
    await sleep(300)
    assert.equal(connection.state().state, 'up')
    await broker.restart()
    await reasonMatches(connection, /./)
    await isUp(connection)
  })

  test(`version ${protocolVersion}: a refused subscription is named while the others flow, and heals with the broker's rules`, async () => {
    const rules = join(scope.folder(), 'rules.json')
    allowSubscriptions(rules, ['devices/#'])
    const broker = await scope.mosquitto({ conf: [`plugin ${DYNAMIC_SECURITY}`, `plugin_opt_config_file ${rules}`] })
    const filters = [
      { filter: 'devices/#', qos: 1 as const },
      { filter: 'secret/#', qos: 1 as const },
    ]
    const partial = await run(scope, settingsFor(broker.endpoint, { protocolVersion, filters }))
    const none = await run(scope, settingsFor(broker.endpoint, { protocolVersion, filters: filters.slice(1) }))
    await reasonMatches(partial.connection, /refuses 1 of 2 subscriptions: secret\/# \(.*not authorised\)/)
    await reasonMatches(none.connection, /refuses 1 of 1 subscriptions/)
    assert.equal(none.connection.state().state, 'down')
    const publisher = await device(scope, broker.endpoint)
    await publisher.publishAsync(TOPIC, 'flows', { qos: 1 })
    await until('the other filter flows', () => partial.intake.deliveries.length === 1)
    assert.equal(partial.connection.state().state, 'connecting')
    await broker.stop()
    allowSubscriptions(rules, ['devices/#', 'secret/#'])
    await broker.start()
    await isUp(partial.connection)
    await isUp(none.connection)
  })

  test(`version ${protocolVersion}: a silent broker is found by the keepalive, and what it kept comes`, async () => {
    const broker = await scope.mosquitto()
    const proxy = await scope.proxy({ target: broker.port })
    const { connection, intake } = await run(scope, settingsFor(`mqtt://${proxy.endpoint}`, { protocolVersion, keepaliveSeconds: 1 }))
    await isUp(connection)
    proxy.halfOpen()
    await reasonMatches(connection, /stopped answering: no PINGRESP/)
    const publisher = await device(scope, broker.endpoint)
    await publisher.publishAsync(TOPIC, 'meanwhile', { qos: 1 })
    proxy.cut()
    await proxy.heal()
    await isUp(connection)
    await until('it came', () => intake.deliveries.length === 1)
  })

  test(`version ${protocolVersion}: two gateways with one client id are told so`, async () => {
    const broker = await scope.mosquitto()
    const settings = settingsFor(broker.endpoint, { protocolVersion })
    const retry = { ...QUICK, firstMs: 20, maxMs: 50 }
    const both = await Promise.all([run(scope, settings, { retry }), run(scope, settings, { retry })])
    const named = ({ connection }: (typeof both)[number]): boolean =>
      connection.state().notices.some(({ text }) => /does another client use the client id "gw-\d+"\?/.test(text))
    await until('both say it', () => both.every(named))
  })

  test(`G1: version ${protocolVersion}: kill -9 again and again loses nothing`, async () => {
    const broker = await scope.mosquitto({ conf: ['max_queued_messages 0'] })
    const child: ChildGateway = { url: broker.endpoint, clientId: 'killed', protocolVersion, folder: scope.folder() }
    const random = new FakeRandom(20_261_124)
    const publisher = await device(scope, broker.endpoint)
    let running = startChild(child)
    scope.atEnd(() => void running.kill('SIGKILL'))
    // The session must exist before the first message, or the broker has nobody to keep it for.
    await until('it has subscribed', () => existsSync(join(child.folder, 'memory.json')))
    await until('and stored a first message', () => {
      publisher.publish(TOPIC, 'warm-up', { qos: 1 })
      return storedBy(child).length > 0
    })
    const published: string[] = []
    for (let round = 0; round < 6; round++) {
      const payloads = Array.from({ length: 1_500 }, (_, n) => `${round}-${n}`)
      const publishing = Promise.all(payloads.map((payload) => publisher.publishAsync(TOPIC, payload, { qos: 1 })))
      published.push(...payloads)
      const enough = storedBy(child).length + 1 + Math.floor(random.unit() * 1_200)
      await until('it is in the middle', () => storedBy(child).length >= enough)
      running.kill('SIGKILL')
      await once(running, 'exit')
      await publishing
      running = startChild(child)
    }
    await until('everything is stored', () => storedBy(child).includes(published.at(-1) ?? ''))
    const stored = new Set(storedBy(child))
    assert.deepEqual(
      published.filter((payload) => !stored.has(payload)),
      [],
    )
    // First occurrences keep the order of publishing: what comes again comes before what is new.
    assert.deepEqual(
      [...stored].filter((payload) => payload !== 'warm-up'),
      published,
    )
  })

  test(`G1 G3: version ${protocolVersion}: cuts, silence, holds and restarts at random lose nothing and change no order`, async () => {
    const broker = await scope.mosquitto({ conf: ['max_queued_messages 0'] })
    const proxy = await scope.proxy({ target: broker.port })
    const settings = settingsFor(`mqtt://${proxy.endpoint}`, {
      protocolVersion,
      keepaliveSeconds: 1,
      inFlight: { messages: 60, bytes: 1_000_000 },
    })
    const random = new FakeRandom(protocolVersion)
    const intake = new SlowIntake(random)
    let running = await run(scope, settings, {}, intake)
    await isUp(running.connection)
    const publisher = await device(scope, broker.endpoint)
    const payloads = Array.from({ length: 4_000 }, (_, n) => String(n))
    const publishing = (async () => {
      for (const payload of payloads) await publisher.publishAsync(TOPIC, payload, { qos: 1 })
    })()
    const faults = [
      async () => proxy.cut(),
      async () => {
        proxy.halfOpen()
        await sleep(random.unit() * 300)
        proxy.cut()
        await proxy.heal()
      },
      async () => {
        running.connection.hold('the buffer is full')
        await sleep(random.unit() * 900)
        running.connection.release()
      },
      async () => {
        await running.connection.stop(clock.monotonicMs() + random.unit() * 50)
        running = await run(scope, settings, {}, intake)
      },
    ]
    for (let n = 0; n < 16; n++) {
      await faults[Math.floor(random.unit() * faults.length)]?.()
      await sleep(random.unit() * 200)
    }
    await publishing
    await until('everything is durable', () => intake.durable.size === payloads.length)
    assert.deepEqual([...new Set(intake.payloads)], payloads)
  })

  test(`version ${protocolVersion}: several brokers are tried in order, and the first one again after a loss`, async () => {
    const [first, second] = [await scope.mosquitto(), await scope.mosquitto()]
    await first.stop()
    const { connection, log, intake } = await run(scope, settingsFor([first.endpoint, second.endpoint], { protocolVersion }))
    await isUp(connection)
    const publisher = await device(scope, second.endpoint)
    await publisher.publishAsync(TOPIC, 'through the second', { qos: 1 })
    await until('it came', () => intake.deliveries.length === 1)
    assert.match(JSON.stringify(log.lines), /refuses the connection: nothing listens there/)
    await sleep(QUICK.stableMs)
    await first.start()
    await second.stop()
    const back = await device(scope, first.endpoint)
    await isUp(connection)
    await back.publishAsync(TOPIC, 'through the first', { qos: 1 })
    await until('it came', () => intake.deliveries.length === 2)
  })
}

test('a broker that is down never stops a start; it is tried for ever', async () => {
  const port = await freePort()
  const { connection, stop } = await run(scope, settingsFor(`mqtt://127.0.0.1:${port}`))
  await reasonMatches(connection, /refuses the connection: nothing listens there/)
  await sleep(1_000)
  const broker = await scope.mosquitto({ port })
  await isUp(connection)
  await broker.stop()
  await reasonMatches(connection, /127\.0\.0\.1/)
  await stop()
  assert.deepEqual([connection.state().state, connection.state().reason], ['down', 'stopped'])
})

test('a name that does not resolve is named', async () => {
  const { connection } = await run(scope, settingsFor('mqtt://no-such-host.invalid:1883'))
  await reasonMatches(connection, /the name no-such-host\.invalid can not be resolved/)
})

test('a broker that accepts and says nothing is given up, and tried again', async () => {
  const server = createServer(() => undefined)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  scope.atEnd(() => void server.close())
  const { port } = server.address() as AddressInfo
  const { connection } = await run(scope, settingsFor(`mqtt://127.0.0.1:${port}`), { retry: { ...QUICK, attemptMs: 300 } })
  await reasonMatches(connection, /does not answer: no connection within 0\.3 s/)
})

test('a broker without MQTT 5 is told apart', async () => {
  const aedes = await Aedes.createBroker()
  const server = createServer((socket) => void aedes.handle(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  scope.atEnd(() => {
    aedes.close()
    server.close()
  })
  const url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { connection } = await run(scope, settingsFor(url))
  await reasonMatches(connection, /does not speak this version of MQTT: set protocolVersion to the other one/)
  const older = await run(scope, settingsFor(url, { protocolVersion: 4 }))
  await isUp(older.connection)
})

function expired(): string {
  const dir = scope.folder()
  const [key, request, certificate] = ['key', 'csr', 'crt'].map((ending) => join(dir, `old.${ending}`)) as [string, string, string]
  const openssl = (...args: string[]): unknown => execFileSync('openssl', args, { stdio: 'pipe' })
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', request, '-subj', '/CN=localhost')
  const authority = ['-CA', certificates.caFile, '-CAkey', certificates.caFile.replace(/crt$/, 'key'), '-CAcreateserial']
  openssl('x509', '-req', '-in', request, ...authority, '-days', '-1', '-out', certificate)
  writeFileSync(join(dir, 'old.pem'), readFileSync(key, 'utf8') + readFileSync(certificate, 'utf8'))
  return join(dir, 'old.pem')
}

test('TLS: what stands in the way is named, and new files heal it', async () => {
  const { caFile, server, client } = certificates
  const [strict, late] = [await freePort(), await freePort()]
  const old = expired()
  const listener = (port: number, certFile: string, keyFile: string): string[] => [
    `listener ${port} 127.0.0.1`,
    `cafile ${caFile}`,
    `certfile ${certFile}`,
    `keyfile ${keyFile}`,
  ]
  const broker = await scope.mosquitto({
    conf: [...listener(strict, server.certFile, server.keyFile), 'require_certificate true', ...listener(late, old, old)],
  })
  const own = { certFile: client.certFile, keyFile: client.keyFile }
  const cases: readonly [string, Parameters<typeof settingsFor>[1], RegExp][] = [
    [`mqtts://127.0.0.1:${strict}`, { tls: { caFile } }, /refuses our client certificate|reset the connection|closed the connection/],
    [
      `mqtts://127.0.0.1:${strict}`,
      { tls: { caFile, certFile: others.client.certFile, keyFile: others.client.keyFile } },
      /refuses our client certificate|reset the connection|closed the connection/,
    ],
    [`mqtts://127.0.0.1:${strict}`, { tls: { ...own, caFile: others.caFile } }, /comes from an authority that caFile does not hold/],
    [
      `mqtts://127.0.0.1:${strict}`,
      { tls: { caFile, certFile: client.certFile, keyFile: server.keyFile } },
      /keyFile does not belong to certFile/,
    ],
    [`mqtts://127.0.0.2:${late}`, { tls: { caFile } }, /127\.0\.0\.2:\d+ refuses the connection/],
    [`mqtts://127.0.0.1:${late}`, { tls: { caFile } }, /certificate has expired/],
    [
      `mqtts://127.0.0.1:${broker.port}`,
      { tls: { caFile } },
      /does not speak TLS|closed the connection before it answered|reset the connection/,
    ],
    [
      `mqtt://127.0.0.1:${strict}`,
      {},
      /closed the connection before it answered: is it an MQTT broker, and without TLS\?|reset the connection/,
    ],
    [`mqtts://127.0.0.1:${strict}`, { tls: { ...own, caFile: '/nowhere/ca.crt' } }, /caFile \/nowhere\/ca\.crt can't be read/],
  ]
  for (const [url, changes, reason] of cases) {
    const one = await run(scope, settingsFor(url, changes))
    await reasonMatches(one.connection, reason)
    await one.stop()
  }
  const dir = scope.folder()
  const tls = { caFile: join(dir, 'ca'), certFile: join(dir, 'cert'), keyFile: join(dir, 'key') }
  const put = (from: typeof certificates): void => {
    copyFileSync(from.caFile, tls.caFile)
    copyFileSync(from.client.certFile, tls.certFile)
    copyFileSync(from.client.keyFile, tls.keyFile)
  }
  put(others)
  const { connection } = await run(scope, settingsFor(`mqtts://localhost:${strict}`, { tls }))
  await reasonMatches(connection, /authority/)
  put(certificates)
  await isUp(connection)
})

test('TLS: a certificate for another host is named', async () => {
  const server = createTlsServer({ key: readFileSync(certificates.server.keyFile), cert: readFileSync(certificates.server.certFile) })
  server.on('tlsClientError', () => undefined)
  server.listen(0, '127.0.0.2')
  await once(server, 'listening')
  scope.atEnd(() => void server.close())
  const url = `mqtts://127.0.0.2:${(server.address() as AddressInfo).port}`
  const { connection } = await run(scope, settingsFor(url, { tls: { caFile: certificates.caFile } }))
  await reasonMatches(connection, /the broker's certificate is not for 127\.0\.0\.2/)
})

test('TLS: nothing is sent to a broker that can not prove itself', async () => {
  const seen: Buffer[] = []
  const server = createTlsServer({ key: readFileSync(others.server.keyFile), cert: readFileSync(others.server.certFile) }, (socket) =>
    socket.on('data', (bytes: Buffer) => seen.push(bytes)).on('error', () => undefined),
  )
  server.on('tlsClientError', () => undefined)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  scope.atEnd(() => void server.close())
  const url = `mqtts://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { connection } = await run(scope, settingsFor(url, { username: 'gw', tls: { caFile: certificates.caFile } }))
  await reasonMatches(connection, /comes from an authority that caFile does not hold/)
  await sleep(500)
  assert.deepEqual(seen, [])
})
