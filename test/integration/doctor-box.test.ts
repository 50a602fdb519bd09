/** The box itself with one fault each, and what leaves it for support: with the daemon up, stuck, down, on a full disk. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { stringify } from 'yaml'
import type { DoctorDocument } from '../../daemon/cli/doctor.ts'
import type { WhyKafkaDocument } from '../../daemon/why-kafka.ts'
import { Device } from '../fleet/device.ts'
import { falseClock } from '../fleet/false-clock.ts'
import { EDGECTL, setUpGateway, type GatewaySetup } from '../fleet/setup.ts'
import { mountSmallDisk } from '../fleet/small-disk.ts'
import { freePort, serviceScope } from '../services/index.ts'

interface Run {
  readonly code: number
  readonly out: string
  readonly err: string
}

function run(args: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Promise<Run> {
  return new Promise((resolve) => {
    execFile(process.execPath, [EDGECTL, ...args], { maxBuffer: 16 << 20, ...options }, (error, out, err) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : 1, out, err }),
    )
  })
}

/** One in each place where a secret may stand. */
const SECRETS = {
  mqtt: 'mqtt-Secret-1',
  kafka: 'kafka"Sasl\\Secret 2',
  etcd: 'etcd-Secret-3/%',
  page: 'page-Secret-4',
  token: 'tok-Secret-5',
} as const
const PRIVATE = 'MC4CAQAwBQYDK2VwBCIEIPlantedPrivateKeyBytes0000000000000000000'

describe('doctor and support bundle on a box', () => {
  const scope = serviceScope()
  const dir = scope.folder()
  const file = (name: string, text: string): string => {
    const path = join(dir, name)
    writeFileSync(path, text, { mode: 0o600 })
    return path
  }
  const config = ['--config', join(dir, 'config.yaml')]
  let setup: GatewaySetup

  async function doctor(args: readonly string[] = [], env?: NodeJS.ProcessEnv): Promise<DoctorDocument> {
    const { out, err } = await run(['--json', ...config, 'doctor', '--timeout', '1', ...args], env === undefined ? {} : { env })
    assert.ok(out !== '', err)
    return JSON.parse(out) as DoctorDocument
  }

  it('says that the daemon is down, before what follows from it', async () => {
    setup = await setUpGateway(dir, {
      gateway: { fleet: 'test' },
      mqtt: {
        listen: { lan: { url: `mqtt://127.0.0.1:${await freePort()}`, auth: 'none' } },
        connect: {
          plant: { url: 'mqtt://127.0.0.1:9', username: 'gw', passwordFile: file('mqtt.passwd', `${SECRETS.mqtt}\n`) },
        },
        topics: { logs: { pattern: 'devices/{device}/logs/{stream}' } },
      },
      kafka: {
        brokers: ['127.0.0.1:9'],
        topic: 'device-logs',
        tls: { ca: file('ca.crt', `-----BEGIN PRIVATE KEY-----\n${PRIVATE}\n-----END PRIVATE KEY-----\n`) },
        sasl: { mechanism: 'plain', username: 'gw', passwordFile: file('kafka.passwd', SECRETS.kafka) },
      },
      etcd: { endpoints: ['http://127.0.0.1:9'], username: 'gw', passwordFile: file('etcd.passwd', SECRETS.etcd) },
      page: { listen: 'off', passwordFile: file('page.passwd', SECRETS.page) },
      metrics: { listen: 'off' },
      buffer: { minFreeBytes: '1MiB', maxBytes: '64MiB' },
    })
    const { fixFirst, checks } = await doctor(['--only', 'config,disk,service,gateway'])
    assert.equal(fixFirst?.name, 'daemon')
    assert.match(fixFirst?.remedy ?? '', /systemctl start edge-gateway/)
    assert.ok(checks.some(({ name, because }) => name === 'verdict' && because === 'daemon'))
  })

  it('names Kafka when only that is away, in words and by exit code; why kafka says what it means', async () => {
    await setup.gateway.start()
    scope.atEnd(async () => void (await setup.gateway.end('SIGKILL')))
    await publishThree()
    const { code, out } = await run([...config, 'doctor', '--only', 'config,service,kafka', '--timeout', '1'])
    assert.equal(code, 2)
    const lines = out.trimEnd().split('\n')
    assert.match(lines.at(-1) ?? '', /^fix first: 127\.0\.0\.1:9 tcp: .* refuses the connection.* → /)
    assert.ok(lines.length <= 24, 'one screen')
    const why = await run([...config, '--json', 'why', 'kafka'])
    const told = JSON.parse(why.out) as WhyKafkaDocument
    assert.deepEqual([why.code, told.running, told.buffered], [1, true, 3])
    assert.match(told.sentence, /^Kafka: .*127\.0\.0\.1:9.*3 messages wait in the buffer .*none of them is lost/)
    assert.match((await run([...config, 'why', 'kafka'])).out, /Seen from here: 127\.0\.0\.1:9 tcp: /)
  })

  async function publishThree(): Promise<void> {
    const { sources } = await setup.gateway.status()
    assert.ok(sources.some(({ name, state }) => name === 'lan' && state === 'up'))
    const port = Number(/mqtt:\/\/127\.0\.0\.1:(\d+)/.exec(readFileSync(join(dir, 'config.yaml'), 'utf8'))?.[1])
    const device = new Device({ clientId: 'pump-1', host: '127.0.0.1', port })
    device.open()
    for (let i = 0; i < 3; i += 1) device.publish({ topic: 'devices/pump-1/logs/app', payload: Buffer.from(`payload-${SECRETS.token}`) })
    for (let attempt = 0; device.pending > 0 && attempt < 300; attempt += 1) await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal(device.pending, 0)
    device.close()
  }

  it('looks at everything of a running daemon, and leaves no file behind', async () => {
    const { checks } = await doctor(['--all'])
    assert.deepEqual(
      checks.filter(({ finding }) => /could not be looked at|not finished/.test(finding)),
      [],
    )
    const speed = checks.find(({ name }) => name === 'speed')
    assert.match(speed?.finding ?? '', /fsync takes [\d.]+ ms, 1 in 100 [\d.]+ ms/)
    assert.match(checks.find(({ name }) => name === 'mqtt.listen.lan port')?.finding ?? '', /the daemon listens on/)
    assert.deepEqual(
      readdirSync(join(dir, 'state')).filter((name) => name.startsWith('.speed')),
      [],
    )
  })

  it('says first that the clock is wrong, since certificates hang on it', async () => {
    const clock = falseClock(dir)
    clock.show(Date.UTC(1970, 0, 2))
    const { fixFirst } = await doctor(['--only', 'clock,config,kafka'], { ...process.env, ...clock.env })
    assert.equal(fixFirst?.name, 'time')
    assert.match(fixFirst?.finding ?? '', /1970-01-02/)
    assert.match(fixFirst?.remedy ?? '', /timedatectl/)
  })

  async function unpacked(packed: Buffer): Promise<string> {
    assert.ok(packed.length < 5_000_000)
    return gunzipSync(packed).toString('latin1')
  }

  function holdsNoSecret(text: string): void {
    for (const [name, secret] of Object.entries(SECRETS))
      for (const form of [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1), Buffer.from(secret).toString('base64')])
        assert.ok(!text.includes(form), `the secret of ${name} is in the bundle`)
    assert.ok(!text.includes(PRIVATE), 'a private key is in the bundle')
    assert.ok(!text.includes('payload-tok'), 'a payload is in the bundle')
  }

  it('packs what support needs, and no secret, with the daemon up', async () => {
    const { code, out, err } = await run([...config, 'support-bundle', '--out', join(dir, 'up.tar.gz')])
    assert.equal(code, 0, err)
    assert.match(out, /up\.tar\.gz \(/)
    assert.equal(statSync(join(dir, 'up.tar.gz')).mode & 0o777, 0o600)
    const text = await unpacked(readFileSync(join(dir, 'up.tar.gz')))
    holdsNoSecret(text)
    for (const name of ['MANIFEST', 'status.json', 'doctor.json', 'ledger.json', 'config.json', 'files.txt', 'system.txt'])
      assert.ok(text.includes(`/${name}\0`), `${name} is in it`)
    assert.ok(text.includes('outbox.db'), 'sizes of the files')
    assert.equal((await run([...config, 'support-bundle', '--out', join(dir, 'up.tar.gz')])).code, 1, 'a file that is there stays')
  })

  it('works while the daemon is stuck, and says that it is', async () => {
    setup.gateway.signal('SIGSTOP')
    try {
      // Side by side: each waits for the daemon first.
      const [{ fixFirst }, { code, out }, why] = await Promise.all([
        doctor(['--only', 'config,service']),
        run([...config, 'support-bundle', '--show']),
        run([...config, '--json', 'why', 'kafka']),
      ])
      assert.match(
        fixFirst?.finding ?? '',
        new RegExp(`the daemon \\(pid ${setup.gateway.pid}\\) holds its data folder and does not answer`),
      )
      assert.equal(code, 0)
      assert.match(out, /\d+ {2}buffer\.json/)
      const { sentence } = JSON.parse(why.out) as WhyKafkaDocument
      assert.match(sentence, /runs, and does not answer.*3 messages wait/)
    } finally {
      setup.gateway.signal('SIGCONT')
    }
  })

  it('packs with the daemon down and a configuration that is not valid, secrets in the file itself hidden', async () => {
    assert.equal(await setup.gateway.end('SIGKILL'), 'SIGKILL')
    const text = readFileSync(join(dir, 'config.yaml'), 'utf8')
    writeFileSync(join(dir, 'broken.yaml'), `${text}\npassword: ${SECRETS.token}\n`)
    for (const name of ['config.yaml', 'broken.yaml']) {
      const { code, out } = await promisify(execFile)(
        process.execPath,
        [EDGECTL, '--config', join(dir, name), 'support-bundle', '--out', '-'],
        { encoding: 'buffer', maxBuffer: 16 << 20 },
      ).then(({ stdout }) => ({ code: 0, out: stdout }))
      assert.equal(code, 0)
      holdsNoSecret(await unpacked(out))
    }
  })

  it('says that the disk is full, and takes the bundle elsewhere', async () => {
    const disk = mountSmallDisk(scope, 8)
    mkdirSync(join(disk.path, 'state'))
    const full = join(dir, 'full.yaml')
    writeFileSync(full, stringify({ gateway: { id: 'gw-full', dataDir: join(disk.path, 'state') }, buffer: { minFreeBytes: '1MiB' } }))
    disk.fill()
    const { out } = await run(['--json', '--config', full, 'doctor', '--only', 'clock,config,disk,service'])
    const { fixFirst } = JSON.parse(out) as DoctorDocument
    assert.equal(fixFirst?.name, 'room')
    assert.match(fixFirst?.finding ?? '', /the disk is full/)
    const { code, out: said } = await run(['--json', '--config', full, 'support-bundle'], { cwd: disk.path })
    assert.equal(code, 0)
    const { file: written } = JSON.parse(said) as { file: string }
    assert.ok(!written.startsWith(disk.path), written)
    scope.atEnd(() => promisify(execFile)('rm', [written]).then(() => undefined))
    assert.deepEqual(
      readdirSync(disk.path).filter((name) => name.startsWith('edge-gateway')),
      [],
      'no part of it is left on the full disk',
    )
  })
})
