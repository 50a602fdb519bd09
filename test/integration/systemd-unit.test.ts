/** The package under a real systemd: start, reload, stop under load, and all the ways in which a daemon can end or hang. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { stringify } from 'yaml'
import { PATTERN, assertExact, until } from '../fleet/box.ts'
import { Fleet } from '../fleet/fleet.ts'
import { buildDeb, install, mountLoopDisk, type Installed, type LoopDisk } from '../fleet/installed.ts'
import { judge } from '../fleet/judge.ts'
import { readBack } from '../fleet/read-back.ts'
import { setUpTopics } from '../fleet/setup.ts'
import { limitMemory } from '../services/cgroup.ts'
import { freePort, serviceScope, type KafkaService } from '../services/index.ts'

const limit = { timeout: 180_000 }
const scope = serviceScope()
const TOPIC = 'logs'
/** Short, so that a hang is found soon. */
const DROP_IN = '[Service]\nWatchdogSec=6s\nTimeoutAbortSec=2s\nRestartSec=1s\n'

describe('the unit', { concurrency: 1 }, () => {
  let kafka: KafkaService
  let disk: LoopDisk
  let box: Installed
  let fleet: Fleet
  let config: string

  before(async () => {
    const [broker, deb] = await Promise.all([scope.kafka(), buildDeb(scope)])
    kafka = broker
    disk = mountLoopDisk(scope, 96)
    const port = await freePort()
    const listen = { lan: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } }
    config = stringify({
      gateway: { id: 'gw-unit' },
      mqtt: { listen, topics: { logs: { pattern: PATTERN } } },
      buffer: { minFreeBytes: '4MiB', maxBytes: '64MiB', dedupe: { from: 'topic:{id}', window: '1h' } },
      kafka: { brokers: [kafka.endpoint], topic: TOPIC },
      metrics: { listen: 'off' },
    })
    const file = join(scope.folder(), 'config.yaml')
    writeFileSync(file, config)
    await setUpTopics(file, 2)
    box = await install(scope, deb, config, disk)
    await box.machine.write('/etc/systemd/system/edge-gateway.service.d/test.conf', DROP_IN)
    await box.machine.must(['systemctl', 'daemon-reload'])
    const payloadOf = (device: string, sequence: number): Buffer => Buffer.from(`${device} ${sequence} ${'pump '.repeat(sequence % 20)}`)
    fleet = new Fleet({ host: '127.0.0.1', port, devices: 5, ratePerDevice: 40, noisyRate: 0, payloadOf })
    scope.atEnd(() => fleet.close())
  }, limit)

  const restarts = async (): Promise<number> => Number(await box.show('NRestarts'))
  const isActive = async (): Promise<boolean> => (await box.show('ActiveState')) === 'active'
  const moreAcknowledged = (what: string): Promise<unknown> => {
    const wanted = fleet.acknowledged + 50
    return until(`more acknowledgements ${what}`, () => fleet.acknowledged > wanted)
  }
  const balanced = async (): Promise<void> => {
    assert.ok((await box.ledger()).equation.holds)
  }

  test('a start is over when the pipeline accepts, and the status says how it is', limit, async () => {
    await box.machine.must(['systemctl', 'restart', box.unit])
    assert.notEqual((await box.status()).verdict.state, 'starting')
    const started = (await box.journal()).split('\n').filter((line) => /accepts deliveries|^Started/.test(line))
    assert.match(started.at(-2) ?? '', /accepts deliveries/)
    assert.match(started.at(-1) ?? '', /^Started/)
    await until('the line of status', async () =>
      /Status: "OK: .*; in \d+\/s, out \d+\/s, buffer .* of 64 MiB"/.test(
        (await box.machine.run(['systemctl', 'status', box.unit])).stdout,
      ),
    )
  })

  test('the sandbox is at most 2.0 by systemd-analyze, and the files are what they should be', limit, async () => {
    const said = await box.machine.must(['systemd-analyze', 'security', '--no-pager', box.unit])
    const exposure = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(said)?.[1])
    assert.ok(exposure <= 2, said)
    const modes = await box.machine.must(['stat', '-c', '%a %U:%G %n', '/etc/edge-gateway/config.yaml', '/var/lib/edge-gateway'])
    assert.equal(modes, '640 root:edge-gateway /etc/edge-gateway/config.yaml\n750 edge-gateway:edge-gateway /var/lib/edge-gateway\n')
  })

  test('a technician in the group finds the daemon, without the environment that systemd gives it', limit, async () => {
    await box.machine.must(['useradd', '--groups', 'edge-gateway', 'tech'])
    const { code, stdout, stderr } = await box.machine.run(['runuser', '-u', 'tech', '--', 'edgectl', 'status'])
    assert.equal(code, 0, stdout + stderr)
    assert.match(stdout, /^OK: /)
  })

  test('a reload: a good one is taken, a bad one fails with the reason and changes nothing', limit, async () => {
    const pid = await box.show('MainPID')
    await box.machine.write('/etc/edge-gateway/config.yaml', `${config}log: { level: debug }\n`, '0640')
    await box.machine.must(['systemctl', 'reload', box.unit])
    await until('the new configuration', async () => /"live":\["log.level"\]/.test(await box.journal()))
    await until('the end of the reload', async () => (await box.show('SubState')) === 'running')
    await box.machine.write('/etc/edge-gateway/config.yaml', `${config}bufer: {}\n`, '0640')
    assert.equal((await box.machine.run(['systemctl', 'reload', box.unit])).code, 1)
    assert.match(await box.journal(), /config\.yaml:\d+:\d+ bufer: unknown key/)
    assert.deepEqual([await box.show('SubState'), await box.show('MainPID')], ['running', pid])
    await box.machine.write('/etc/edge-gateway/config.yaml', config, '0640')
    // The group may read it, or the next start fails.
    await box.machine.must(['chgrp', 'edge-gateway', '/etc/edge-gateway/config.yaml'])
  })

  test('a password that only root can read comes as a credential, also to a reload and to edgectl', limit, async () => {
    await box.machine.write('/root/plant.passwd', 'secret\n', '0600')
    await box.machine.write(
      '/etc/systemd/system/edge-gateway.service.d/secret.conf',
      '[Service]\nLoadCredential=plant.passwd:/root/plant.passwd\n',
    )
    const connect = { plant: { url: 'mqtt://127.0.0.1:1', username: 'gw', passwordFile: '${CREDENTIALS_DIRECTORY}/plant.passwd' } }
    await box.machine.write('/etc/edge-gateway/config.d/plant.yaml', stringify({ mqtt: { connect } }))
    await box.machine.must(['sh', '-c', 'systemctl daemon-reload && systemctl restart edge-gateway && systemctl reload edge-gateway'])
    const { stdout, stderr } = await box.machine.run(['runuser', '-u', 'tech', '--', 'edgectl', 'status'])
    assert.match(
      stdout,
      /^DEGRADED: mqtt\.connect\.plant .*ECONNREFUSED|^DEGRADED: mqtt\.connect\.plant is down: (?!.*passwd)/,
      stdout + stderr,
    )
    await box.machine.must(['rm', '/etc/edge-gateway/config.d/plant.yaml'])
    await box.machine.must(['systemctl', 'reload', 'edge-gateway'])
  })

  test('a stop under load drains, and counts as a success', limit, async () => {
    fleet.start()
    await moreAcknowledged('before the stop')
    await box.machine.must(['systemctl', 'stop', box.unit])
    assert.deepEqual([await box.show('ActiveState'), await box.show('Result')], ['inactive', 'success'])
    await box.machine.must(['systemctl', 'start', box.unit])
    await balanced()
    await moreAcknowledged('after it')
  })

  test('kill -9: systemd starts it again, and keeps why', limit, async () => {
    const before = await restarts()
    await box.machine.must(['systemctl', 'kill', '--signal=SIGKILL', '--kill-whom=main', box.unit])
    await until('another start', async () => (await restarts()) > before && (await isActive()))
    await moreAcknowledged('after the kill')
    await balanced()
    const kept = await until(
      'the rescue',
      async () => (await box.machine.run(['sh', '-c', 'cat /var/lib/edge-gateway/rescue/*.txt'])).stdout,
    )
    assert.match(kept, /^edge-gateway ended: signal, killed KILL; restarts/)
  })

  test('a daemon that hangs as a whole is started again by the watchdog', limit, async () => {
    const before = await restarts()
    await box.machine.must(['systemctl', 'kill', '--signal=SIGSTOP', '--kill-whom=main', box.unit])
    await until('the watchdog', async () => (await restarts()) > before && (await isActive()))
    assert.match(await box.journal(), /Watchdog timeout/)
    await moreAcknowledged('after the hang')
    await balanced()
  })

  test('a kernel without memory kills it: started again, nothing acknowledged is lost', limit, async () => {
    const before = await restarts()
    const release = limitMemory(`edge-gateway-test-oom-${process.pid}`, await box.outerPid(), 2 * 1024 * 1024)
    await until('another start', async () => (await restarts()) > before && (await isActive()))
    await release()
    await moreAcknowledged('after the kill')
    await balanced()
  })

  test('a full disk is no hang: it says so, is not restarted, starts also when it is full, and goes on', limit, async () => {
    await kafka.kill('SIGKILL')
    disk.fill()
    await until('the status says it', async () => /^BLOCKED: /.test(await box.show('StatusText')))
    const before = await restarts()
    await box.machine.must(['systemctl', 'restart', box.unit])
    await until('the status says it again', async () => /^BLOCKED: /.test(await box.show('StatusText')))
    const since = performance.now()
    await until('more than what the watchdog allows', () => performance.now() - since > 8_000)
    assert.deepEqual([await isActive(), await restarts()], [true, before > 0 ? 0 : before])
    disk.free()
    await moreAcknowledged('with room')
  })

  test('a reboot while Kafka is away: what was buffered is there, and is delivered', limit, async () => {
    const buffered = (await box.status()).buffer.messages
    assert.ok(buffered > 50)
    await box.machine.reboot()
    await until('a start by itself', isActive)
    assert.ok((await box.status()).buffer.messages >= buffered)
    await kafka.start()
    await moreAcknowledged('after the reboot')
  })

  test('a disk that hangs stops a flow while the event loop lives: the watchdog ends it, and nothing is lost', limit, async () => {
    const before = await restarts()
    disk.freeze()
    await until('the verdict', async () => /^STUCK: .*committed nothing/.test(await box.show('StatusText')))
    await until('the watchdog', async () =>
      /Watchdog timeout \(limit 6s\)/.test((await box.journal()).split('accepts deliveries').at(-1) ?? ''),
    )
    disk.thaw()
    await until('another start', async () => (await restarts()) > before && (await isActive()))
    await moreAcknowledged('with a disk that answers')
    fleet.quiet()
    await until('everything in Kafka', async () => fleet.pending === 0 && (await box.status()).buffer.messages === 0)
    await balanced()
    const judgement = judge(fleet.published, await readBack(kafka.endpoint, TOPIC))
    assertExact(judgement)
    assert.equal(judgement.inKafka, fleet.published.size)
  })

  test('a bad configuration ends in one clear failed state, without a crash loop', limit, async () => {
    await box.machine.write('/etc/edge-gateway/config.d/bad.yaml', 'buffer: { maxBytes: 64 parsecs }\n')
    assert.equal((await box.machine.run(['systemctl', 'restart', box.unit])).code, 1)
    assert.deepEqual([await box.show('ActiveState'), await box.show('ExecMainStatus'), await box.show('NRestarts')], ['failed', '78', '0'])
    assert.match(await box.show('StatusText'), /^FAILED: .*bad\.yaml:\d+:\d+ buffer\.maxBytes/)
    await box.machine.must(['rm', '/etc/edge-gateway/config.d/bad.yaml'])
    await box.machine.must(['systemctl', 'start', box.unit])
    assert.ok(await isActive())
  })
})
