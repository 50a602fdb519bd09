import assert from 'node:assert/strict'
import { pbkdf2Sync } from 'node:crypto'
import { readFile, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { connect as connectTls } from 'node:tls'
import type { ListenAuth, ListenSettings } from '../../adapters/mqtt/listen-settings.ts'
import {
  authority,
  connect,
  dial,
  folder,
  listen,
  listenStill,
  mosquittoPub,
  RawClient,
  setPassword,
  tryConnect,
  until,
  type Rig,
} from './mqtt-listen-kit.ts'
import type { FakeClock } from '../fakes/clock.ts'

async function passwordFile(t: TestContext, users: Readonly<Record<string, string>>, ...options: string[]): Promise<string> {
  const file = join(folder(t), 'devices.passwd')
  for (const [i, [user, password]] of Object.entries(users).entries())
    await setPassword(file, user, password, ...options, ...(i === 0 ? ['-c'] : []))
  return file
}

/** Lets the watched files be looked at until `look` is true. */
async function watchUntil(clock: FakeClock, look: () => boolean): Promise<void> {
  while (!look()) {
    clock.advance(1_000)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

for (const options of [[], ['-H', 'sha512']]) {
  test(`passwords of mosquitto_passwd ${options.join(' ') || '(PBKDF2)'} let their users in, and nobody else`, async (t) => {
    const file = await passwordFile(t, { al: 'pw:with$signs', bo: 'größe' }, ...options)
    const { port, intake, listener } = await listen(t, { auth: { passwordFile: file, deviceFrom: 'username' } })
    const code = async (username?: string, password?: string): Promise<number> =>
      (
        await tryConnect(t, port, {
          clientId: username ?? 'none',
          ...(username === undefined ? {} : { username }),
          ...(password === undefined ? {} : { password }),
        })
      ).returnCode
    assert.deepEqual([await code('al', 'pw:with$signs'), await code('bo', 'größe'), await code('al', 'pw:with$signs')], [0, 0, 0])
    assert.deepEqual(
      [await code('al', 'pw'), await code('al', ''), await code('nobody', 'pw'), await code('al'), await code()],
      [4, 4, 4, 4, 4],
    )
    assert.equal(listener.counters().refused['bad-credentials'], 5)
    const { code: exit } = await mosquittoPub(port, ['-t', 'a', '-m', 'x', '-q', '1', '-u', 'bo', '-P', 'größe', '-i', 'any'])
    assert.equal(exit, 0)
    assert.deepEqual(
      intake.deliveries.map(({ identity }) => identity),
      ['bo'],
    )
  })
}

test('the identity is the client id where the settings say so, and missing without authentication', async (t) => {
  const file = await passwordFile(t, { shared: 'pw' })
  const byId = await listen(t, { auth: { passwordFile: file, deviceFrom: 'clientId' } })
  const client = await connect(t, byId.port, { clientId: 'device-7', username: 'shared', password: 'pw' })
  client.publish('a', 1)
  await client.take('puback')
  assert.deepEqual(
    byId.intake.deliveries.map(({ identity }) => identity),
    ['device-7'],
  )
})

test('a client id is taken over only by the identity that has it, and QoS 2 exchanges are told apart', async (t) => {
  const file = await passwordFile(t, { al: 'a', bo: 'b' })
  const { port, listener, intake } = await listen(t, { auth: { passwordFile: file, deviceFrom: 'username' } })
  const al = await connect(t, port, { clientId: 'same', username: 'al', password: 'a', clean: false })
  al.publish('a', 1, 2)
  await al.take('pubrec')
  assert.equal((await tryConnect(t, port, { clientId: 'same', username: 'bo', password: 'b' })).returnCode, 2)
  await al.ping()
  assert.equal(listener.counters().refused['client-id-taken'], 1)
  al.socket.destroy()
  await until(() => listener.state().connections === 0)
  const bo = await connect(t, port, { clientId: 'same', username: 'bo', password: 'b', clean: false })
  bo.publish('b', 1, 2)
  await bo.take('pubrec')
  assert.deepEqual(
    intake.deliveries.map(({ exchange }) => exchange),
    ['al\0same\u00001', 'bo\0same\u00001'],
  )
})

test('client ids that can not be are refused: empty with a persistent session, too long, with U+0000', async (t) => {
  const { port } = await listen(t)
  const code = async (clientId: string, clean: boolean): Promise<number> => (await tryConnect(t, port, { clientId, clean })).returnCode
  assert.equal(await code('x'.repeat(1_025), true), 2)
  assert.equal(await code('a\0b', true), 2)
  assert.equal(await code('', true), 0)
  const client = await dial(t, port)
  client.send(Buffer.from([0x10, 12, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 0, 0, 30, 0, 0]))
  assert.equal((await client.take('connack')).returnCode, 2)
})

test('a changed password file: the new password lets in, the old one is out, and its session is cut', async (t) => {
  const file = await passwordFile(t, { al: 'old', bo: 'b' })
  const rig = await listenStill(t, { auth: { passwordFile: file, deviceFrom: 'username' } })
  const al = await connect(t, rig.port, { clientId: 'al', username: 'al', password: 'old' })
  const bo = await connect(t, rig.port, { clientId: 'bo', username: 'bo', password: 'b' })
  await setPassword(file, 'al', 'new')
  await watchUntil(rig.clock, () => al.closed)
  await bo.ping()
  const code = async (password: string): Promise<number> =>
    (await tryConnect(t, rig.port, { clientId: 'al', username: 'al', password })).returnCode
  assert.deepEqual([await code('old'), await code('new')], [4, 0])
  assert.equal(rig.listener.counters().ended.revoked, 1)
})

test('who is let in by a password that is taken away at that moment does not come in', async (t) => {
  const file = await passwordFile(t, { al: 'old' })
  const rig = await listenStill(t, { auth: { passwordFile: file, deviceFrom: 'username' } })
  const iterations = 1_000_000
  const salt = Buffer.from('0123456789ab')
  const hash = pbkdf2Sync('slow', salt, iterations, 64, 'sha512').toString('base64')
  await writeFile(file, `al:$7$${iterations}$${salt.toString('base64')}$${hash}\n`)
  assert.equal((await rig.listener.rereadPasswords())?.fault, undefined)
  const coming = tryConnect(t, rig.port, { clientId: 'al', username: 'al', password: 'slow' })
  // The hash takes a good part of a second: the file is changed and read again before it is done.
  await until(() => rig.listener.state().connections === 0)
  await new Promise((resolve) => setTimeout(resolve, 50))
  await writeFile(file, '')
  assert.deepEqual((await rig.listener.rereadPasswords())?.users, 0)
  assert.equal((await coming).returnCode, 4)
})

test('a broken or missing password file keeps the old one in force, with one line that says why', async (t) => {
  const file = await passwordFile(t, { al: 'a' })
  const rig = await listenStill(t, { auth: { passwordFile: file, deviceFrom: 'username' } })
  const al = await connect(t, rig.port, { clientId: 'al', username: 'al', password: 'a' })
  await writeFile(file, 'al:plain-password\n')
  await watchUntil(rig.clock, () => rig.log.text().includes('line 1: its password is not hashed'))
  await rm(file)
  await watchUntil(rig.clock, () => rig.log.text().includes('no such file'))
  await al.ping()
  assert.equal((await tryConnect(t, rig.port, { clientId: 'again', username: 'al', password: 'a' })).returnCode, 0)
  for (let i = 0; i < 5; i++) {
    rig.clock.advance(1_000)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  assert.equal(rig.log.lines.filter(({ level }) => level === 'error').length, 2)
})

test('an access list refuses what a device may not publish, acknowledged and counted, and follows its file', async (t) => {
  const passwords = await passwordFile(t, { al: 'a' })
  const aclFile = join(folder(t), 'acl')
  await writeFile(aclFile, 'pattern write devices/%u/logs/#\n')
  const rig = await listenStill(t, { auth: { passwordFile: passwords, aclFile, deviceFrom: 'username' } })
  const al = await connect(t, rig.port, { clientId: 'al', username: 'al', password: 'a' })
  const publish = async (topic: string): Promise<string | undefined> => {
    al.publish(topic, 1, 1, { payload: 'four' })
    await al.take('puback')
    return rig.intake.deliveries.at(-1)?.refused?.reason
  }
  assert.equal(await publish('devices/al/logs/app'), undefined)
  assert.equal(await publish('devices/bo/logs/app'), 'not-own-topic')
  await writeFile(aclFile, 'user al\ntopic write devices/bo/#\n')
  await watchUntil(rig.clock, () => rig.log.text().includes('access list'))
  assert.equal(await publish('devices/bo/logs/app'), undefined)
  assert.equal(await publish('devices/al/logs/app'), 'not-own-topic')
})

test('a rule of a user widens what it may publish: the delivery says that it may speak for others', async (t) => {
  const passwords = await passwordFile(t, { al: 'a', admin: 'b' })
  const aclFile = join(folder(t), 'acl')
  await writeFile(aclFile, 'pattern write devices/%u/#\nuser admin\ntopic write devices/#\n')
  const { port, intake } = await listen(t, { auth: { passwordFile: passwords, aclFile, deviceFrom: 'username' } })
  for (const [username, password, topic] of [
    ['al', 'a', 'devices/al/x'],
    ['al', 'a', 'devices/bo/x'],
    ['admin', 'b', 'devices/bo/x'],
  ] as const) {
    const client = await connect(t, port, { clientId: username, username, password })
    client.publish(topic, 1)
    await client.take('puback')
  }
  assert.deepEqual(
    intake.deliveries.map(({ identity, speaksForOthers, refused }) => [identity, speaksForOthers, refused?.reason]),
    [
      ['al', undefined, undefined],
      ['al', undefined, 'not-own-topic'],
      ['admin', true, undefined],
    ],
  )
})

test('a user name that nobody has checked opens no rule of that user', async (t) => {
  const aclFile = join(folder(t), 'acl')
  await writeFile(aclFile, 'user admin\ntopic write devices/#\n')
  const { port, ca, intake } = await secureRig(t, { aclFile, deviceFrom: 'commonName' }, true)
  const device = await ca.issue('device', 'camera-7')
  const args = [
    '--cafile',
    ca.caFile,
    '--cert',
    device.certFile,
    '--key',
    device.keyFile,
    '-t',
    'devices/bo/x',
    '-m',
    'x',
    '-q',
    '1',
    '-u',
    'admin',
  ]
  const { code, output } = await mosquittoPub(port, args)
  assert.equal(code, 0, output)
  assert.deepEqual(
    intake.deliveries.map(({ identity, speaksForOthers, refused }) => [identity, speaksForOthers, refused?.reason]),
    [['camera-7', undefined, 'not-own-topic']],
  )
})

async function secureRig(
  t: TestContext,
  auth: 'none' | ListenAuth = 'none',
  requireClientCert = false,
  withCrl = false,
): Promise<Rig & { clock: FakeClock; ca: Awaited<ReturnType<typeof authority>>; dir: string }> {
  const ca = await authority(t)
  const dir = folder(t)
  const server = await ca.issue('server', 'gateway')
  const files = { certFile: join(dir, 'server.crt'), keyFile: join(dir, 'server.key'), caFile: join(dir, 'ca.crt') }
  await symlink(server.certFile, files.certFile)
  await symlink(server.keyFile, files.keyFile)
  await symlink(ca.caFile, files.caFile)
  const crl = withCrl ? { crlFile: await ca.revoke() } : {}
  const settings: Partial<ListenSettings> = { url: 'mqtts://127.0.0.1:0', tls: { ...files, ...crl, requireClientCert }, auth }
  return { ...(await listenStill(t, settings)), ca, dir }
}

async function replaceLink(path: string, target: string): Promise<void> {
  await unlink(path)
  await symlink(target, path)
}

test('TLS: mosquitto_pub delivers, and whoever speaks plain MQTT is closed with a reason', async (t) => {
  const { port, ca, intake, log, listener } = await secureRig(t)
  const { code, output } = await mosquittoPub(port, ['--cafile', ca.caFile, '-t', 'a/b', '-m', 'x', '-q', '2'])
  assert.equal(code, 0, output)
  assert.deepEqual(intake.topics(), ['a/b'])
  const plain = await dial(t, port)
  plain.send({ cmd: 'connect', clientId: 'd', clean: true, keepalive: 5 })
  await plain.end()
  await until(() => log.text().includes('does not speak TLS'))
  assert.equal(listener.counters().ended['tls-error'], 1)
})

test('TLS: client certificates name the device; without one, or with a stranger’s, nobody comes in', async (t) => {
  const { port, ca, intake } = await secureRig(t, { deviceFrom: 'commonName' }, true)
  const device = await ca.issue('device', 'camera-7')
  const pub = (...args: string[]): Promise<{ code: number | null; output: string }> =>
    mosquittoPub(port, ['--cafile', ca.caFile, '-t', 'a/b', '-m', 'x', '-q', '1', '-i', 'whatever', ...args])
  const { code, output } = await pub('--cert', device.certFile, '--key', device.keyFile)
  assert.equal(code, 0, output)
  assert.deepEqual(
    intake.deliveries.map(({ identity }) => identity),
    ['camera-7'],
  )
  assert.notEqual((await pub()).code, 0)
  const stranger = await (await authority(t, 'other')).issue('device', 'camera-7')
  assert.notEqual((await pub('--cert', stranger.certFile, '--key', stranger.keyFile)).code, 0)
  assert.equal(intake.deliveries.length, 1)
})

test('TLS: a renewed certificate serves new connections, old ones stay; one that does not fit its key is not used', async (t) => {
  const { port, ca, clock, log, dir } = await secureRig(t)
  const subject = async (): Promise<string> => {
    const client = await connect(t, port, { clientId: `c${Math.random()}`, tls: { rejectUnauthorized: false } })
    return (client.socket as import('node:tls').TLSSocket).getPeerX509Certificate()?.subject ?? ''
  }
  const old = await connect(t, port, { clientId: 'old', tls: { rejectUnauthorized: false } })
  assert.equal(await subject(), 'CN=gateway')
  const renewed = await ca.issue('renewed', 'renewed')
  await replaceLink(join(dir, 'server.crt'), renewed.certFile)
  await watchUntil(clock, () => log.text().includes('the key does not belong to the certificate'))
  assert.equal(await subject(), 'CN=gateway')
  await replaceLink(join(dir, 'server.key'), renewed.keyFile)
  await watchUntil(clock, () => log.text().includes('was read again'))
  assert.equal(await subject(), 'CN=renewed')
  await old.ping()
})

test('TLS: a CA that is taken away cuts the sessions of its devices, and those of the new CA come in', async (t) => {
  const { port, ca, clock, dir, listener } = await secureRig(t, { deviceFrom: 'commonName' }, true)
  const next = await authority(t, 'next')
  const [one, two] = [await ca.issue('one', 'one'), await next.issue('two', 'two')]
  const tls = async (files: typeof one): Promise<object> => ({
    cert: await readFile(files.certFile),
    key: await readFile(files.keyFile),
    rejectUnauthorized: false,
  })
  await writeFile(join(dir, 'both.crt'), Buffer.concat([await readFile(ca.caFile), await readFile(next.caFile)]))
  await replaceLink(join(dir, 'ca.crt'), join(dir, 'both.crt'))
  let byNext: Awaited<ReturnType<typeof tryConnect>> | undefined
  const first = await connect(t, port, { clientId: 'one', tls: await tls(one) })
  while (byNext?.returnCode !== 0) {
    clock.advance(1_000)
    byNext = await tryConnect(t, port, { clientId: 'two', tls: await tls(two) })
  }
  await first.ping()
  await writeFile(join(dir, 'new'), await readFile(next.caFile))
  await rename(join(dir, 'new'), join(dir, 'both.crt'))
  await watchUntil(clock, () => first.closed)
  await byNext.client.ping()
  assert.equal((await tryConnect(t, port, { clientId: 'one', tls: await tls(one) })).returnCode, -1)
  assert.equal(listener.counters().ended.revoked, 1)
})

test('TLS: a resumed session does not stand in for a certificate that was never shown, nor for one that is revoked', async (t) => {
  const passwords = await passwordFile(t, { al: 'a' })
  const { port, ca, clock } = await secureRig(t, { passwordFile: passwords, deviceFrom: 'username' }, true, true)
  const device = await ca.issue('one', 'one')
  const certificate = { cert: await readFile(device.certFile), key: await readFile(device.keyFile) }
  const login = { clientId: 'al', username: 'al', password: 'a' }
  let session: Buffer | undefined
  const attempt = async (options: object): Promise<number> => {
    const socket = connectTls({
      port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...options,
      ...(session === undefined ? {} : { session }),
    })
    t.after(() => socket.destroy())
    socket.on('session', (ticket) => (session = ticket))
    const client = new RawClient(socket)
    client.send({
      cmd: 'connect',
      clientId: login.clientId,
      clean: true,
      keepalive: 30,
      username: login.username,
      password: Buffer.from(login.password),
    })
    const code = await client.take('connack').then(
      ({ returnCode }) => returnCode,
      () => -1,
    )
    return socket.isSessionReused() ? (code ?? -1) + 100 : (code ?? -1)
  }
  assert.equal(await attempt({}), -1)
  assert.ok([-1, 99].includes(await attempt({})))
  session = undefined
  assert.equal(await attempt(certificate), 0)
  assert.equal(await attempt(certificate), 100)
  const witness = await connect(t, port, { ...login, tls: { ...certificate, rejectUnauthorized: false } })
  await ca.revoke(device.certFile)
  await watchUntil(clock, () => witness.closed)
  assert.equal(await attempt(certificate), -1)
})

test('TLS: a revoked certificate cuts its session and does not come in again; others are not touched', async (t) => {
  const { port, ca, clock, listener, log } = await secureRig(t, { deviceFrom: 'commonName' }, true, true)
  const [one, two] = [await ca.issue('one', 'one'), await ca.issue('two', 'two')]
  const tls = async (files: typeof one): Promise<object> => ({
    cert: await readFile(files.certFile),
    key: await readFile(files.keyFile),
    rejectUnauthorized: false,
  })
  const bad = await connect(t, port, { clientId: 'one', tls: await tls(one) })
  const good = await connect(t, port, { clientId: 'two', tls: await tls(two) })
  await ca.revoke(one.certFile)
  await watchUntil(clock, () => bad.closed)
  await good.ping()
  assert.equal((await tryConnect(t, port, { clientId: 'one', tls: await tls(one) })).returnCode, -1)
  await until(() => log.text().includes('its client certificate is revoked'))
  assert.equal(listener.counters().ended.revoked, 1)
})

test('settings that contradict themselves, and files that can not be used, are refused with what to do', async (t) => {
  const dir = folder(t)
  const at = (name: string): string => join(dir, name)
  await writeFile(at('plain'), 'al:secret\n')
  await writeFile(at('short'), 'al:$6$YQ==$YQ==\n')
  await writeFile(at('acl'), 'topic\n')
  await writeFile(at('no.crt'), 'hello')
  const tls = { certFile: at('no.crt'), keyFile: at('no.crt'), requireClientCert: false }
  const cases: [Partial<ListenSettings>, RegExp][] = [
    [{ url: 'http://127.0.0.1' }, /no MQTT address/],
    [{ url: 'mqtts://127.0.0.1:0' }, /needs a certificate/],
    [{ tls }, /the URL says mqtt:/],
    [{ url: 'mqtts://127.0.0.1:0', tls: { ...tls, requireClientCert: true } }, /no CA is named/],
    [{ auth: { deviceFrom: 'commonName' } }, /needs client certificates/],
    [{ auth: { deviceFrom: 'username' } }, /needs a password file/],
    [{ auth: { deviceFrom: 'username', passwordFile: at('missing') } }, /password file .* can't be read/],
    [{ auth: { deviceFrom: 'username', passwordFile: at('plain') } }, /line 1: its password is not hashed/],
    [{ auth: { deviceFrom: 'username', passwordFile: at('short') } }, /line 1/],
    [{ auth: { deviceFrom: 'username', passwordFile: at('acl') } }, /expected user:hash/],
    [{ url: 'mqtts://127.0.0.1:0', tls }, /no PEM certificate/],
  ]
  for (const [settings, message] of cases) await assert.rejects(listen(t, settings), message)
  const aclFile = at('acl')
  await assert.rejects(
    listen(t, { auth: { deviceFrom: 'username', passwordFile: await passwordFile(t, { al: 'a' }), aclFile } }),
    /line 1: expected "user NAME"/,
  )
})

test('MQTT over IPv6 loopback', async (t) => {
  const { port, intake } = await listen(t, { url: 'mqtt://[::1]:0' })
  const { code } = await mosquittoPub(port, ['-h', '::1', '-t', 'a', '-m', 'x', '-q', '1'])
  assert.equal(code, 0)
  assert.deepEqual(intake.topics(), ['a'])
})
