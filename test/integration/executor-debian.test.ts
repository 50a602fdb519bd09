/**
 * A patch of software in a real Debian: the daemon under its own user and in its sandbox, the executor started by its
 * socket, a real unit that runs from a folder of its owner's.
 */
import assert from 'node:assert/strict'
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { envelopeText, seal } from '../../adapters/signing/dsse.ts'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import type { Patch } from '../../daemon/patch/document.ts'
import type { Etcd } from '../../daemon/patch/ports.ts'
import { keys, PATCH_TYPE, type Result } from '../../daemon/patch/records.ts'
import { PREFIX, toolsFor } from '../contract/etcd-kit.ts'
import { offering, tarOf, type ServedRig } from '../fakes/files-rig.ts'
import { FakeFleet } from '../fakes/patch-agent.ts'
import { until } from '../fleet/box.ts'
import { TERMINAL } from '../fleet/patch-kills.ts'
import { bootDebian, freePort, serviceScope, type Debian } from '../services/index.ts'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')
const NODE = process.execPath
/** Not where it lies here: units see no /tmp but their own. */
const INSIDE = '/srv/gateway'
const UNITS = ['edge-gateway.service', 'edge-gateway-executor.service', 'edge-gateway-executor.socket']
const APP = `[Service]
User=app
ExecStart=/opt/app/current/bin/app
[Install]
WantedBy=multi-user.target
`
const limit = { timeout: 280_000 }

class Rollout {
  readonly #etcd: Etcd
  readonly #key: KeyObject
  readonly #offer: ServedRig['offer']
  readonly #fleet: FakeFleet
  #sequence = 0

  constructor(etcd: Etcd, key: KeyObject, offer: ServedRig['offer']) {
    this.#etcd = etcd
    this.#key = key
    this.#offer = offer
    this.#fleet = new FakeFleet(etcd)
  }

  /** Rolls a version out, and waits for what the box tells. */
  async run(id: string, program: string, more: object = {}): Promise<Result> {
    this.#sequence += 1
    const { url, sha256, bytes } = this.#offer(await tarOf({ 'bin/app': `#!/bin/sh\n${program}\n`, version: id }))
    const hooks = {
      post: { command: ['/bin/sh', '-c', 'cd "$EDGE_RELEASE" && id -un > ran-as && ls /proc/self/fd > files'], timeout: '10s' },
    }
    const document = {
      ...{ apiVersion: 'edge/v1', kind: 'files', id, fleet: 'acme', channel: 'app', sequence: this.#sequence },
      expires: new Date(Date.now() + 86_400_000).toISOString(),
      target: { gateways: ['gw-1'] },
      spec: {
        root: 'app',
        version: id,
        artifacts: [{ url, sha256, bytes, unpack: 'tar' }],
        units: ['app.service'],
        hooks,
        localEdits: 'replace',
        ...more,
      },
      health: { checks: ['pipeline-moving'], consecutive: 1, deadline: '3s', bake: '0s' },
    }
    const value = Buffer.from(envelopeText(seal(PATCH_TYPE, Buffer.from(JSON.stringify(document)), this.#key)))
    await this.#etcd.transact({ compare: [{ key: keys.spec(id), create: 0 }], then: [{ put: keys.spec(id), value }] })
    const cohort = Buffer.from(JSON.stringify({ schema: 1, at: new Date().toISOString(), gateways: ['gw-1'] }))
    await this.#etcd.transact({ compare: [], then: [{ put: keys.cohort(id, 0), value: cohort }] })
    const digest = createHash('sha256').update(value).digest('hex')
    await this.#fleet.state({ id } as Patch, { digest })
    const result = await until(`${id} is told`, async () => {
      const told = await this.#fleet.result('gw-1', id)
      return told !== undefined && TERMINAL.includes(told.state) && told
    })
    await this.#fleet.state({ id } as Patch, { digest, phase: result.state === 'completed' ? 'completed' : 'cancelled' })
    return result
  }
}

async function install(box: Debian, config: object): Promise<void> {
  await box.must(['groupadd', '--system', 'edge-gateway'])
  await box.must(['useradd', '--system', '-g', 'edge-gateway', '-d', '/var/lib/edge-gateway', 'edge-gateway'])
  await box.must(['useradd', '--system', 'app'])
  await box.must(['install', '-d', '-o', 'app', '/opt/app'])
  await box.write(
    '/usr/bin/edge-gateway',
    `#!/bin/sh\nexec ${INSIDE}/${relative(REPOSITORY, NODE)} ${INSIDE}/daemon/edge-gateway.js "$@"\n`,
    '0755',
  )
  await box.write('/etc/edge-gateway/config.yaml', JSON.stringify(config))
  await box.write('/etc/systemd/system/app.service', APP)
  for (const unit of UNITS) await box.write(`/etc/systemd/system/${unit}`, readFileSync(`${REPOSITORY}/systemd/${unit}`, 'utf8'))
  await box.must(['systemctl', 'daemon-reload'])
  await box.must(['systemctl', 'start', 'edge-gateway-executor.socket', 'edge-gateway.service'])
}

test('a patch restarts a real unit in a root of its owner, and a bad one is taken back; root does what is signed', limit, async (t) => {
  const scope = serviceScope((release) => t.after(release))
  const service = await scope.etcd()
  const { etcd } = toolsFor(service.port)
  scope.atEnd(() => etcd.close())
  const key = generateKeyPairSync('ed25519').privateKey
  const box = await bootDebian(scope, { readOnlyBinds: { [REPOSITORY]: INSIDE } })
  const trusted = { ed25519: publicTextOf(key), kinds: ['files'], sites: 'all' }
  await install(box, {
    gateway: { id: 'gw-1', fleet: 'acme' },
    mqtt: { listen: { lan: { url: `mqtt://127.0.0.1:${await freePort()}`, auth: 'none' } } },
    metrics: { listen: 'off' },
    buffer: { minFreeBytes: '4MiB' },
    etcd: { endpoints: [service.endpoint], prefix: PREFIX },
    patches: { lockTtl: '5s', trustedKeys: { ops: trusted }, roots: { app: '/opt/app' }, units: ['app.service'] },
  })
  const rollout = new Rollout(etcd, key, await offering(scope))
  const shell = (script: string): Promise<string> => box.must(['sh', '-c', script]).then((text) => text.trim())
  const told = (result: Result): string => `${result.state}: ${result.reason ?? ''}`

  const first = await rollout.run('v1', 'exec sleep infinity')
  assert.equal(
    first.state,
    'completed',
    `${told(first)}\n${await shell('journalctl --no-pager -n 60 -u edge-gateway -u edge-gateway-executor; true')}`,
  )
  assert.equal(await shell('cat /opt/app/current/version /opt/app/current/ran-as; stat -c %U /opt/app/current/bin/app'), 'v1app\napp')
  assert.equal(await shell('cat /opt/app/current/files'), '0\n1\n2\n3', 'a hook does not get hold of the socket')
  const pid = await shell('systemctl show -P MainPID app')
  const second = await rollout.run('v2', 'exec sleep infinity')
  assert.equal(second.state, 'completed', told(second))
  assert.notEqual(await shell('systemctl show -P MainPID app'), pid)

  const bad = await rollout.run('v3', 'exit 1')
  assert.equal(bad.state, 'failed', told(bad))
  assert.match(bad.reason ?? '', /app.service is/)
  assert.equal(await shell('cat /opt/app/current/version; systemctl is-active app'), 'v2active')
  const missing = await rollout.run('v4', 'exec sleep infinity', { units: ['ssh.service'] })
  assert.match(told(missing), /failed: .*may not restart ssh.service/)

  // Killed in the middle of a hook: systemd starts it with the next request, and the step is done once more.
  const post = { command: ['/bin/sh', '-c', 'echo x >> "$EDGE_RELEASE/began"; sleep 1'], timeout: '10s' }
  const killed = rollout.run('v5', 'exec sleep infinity', { hooks: { post } })
  await until('the hook has begun', async () => (await box.run(['sh', '-c', 'test -e /opt/app/current/began'])).code === 0)
  await box.must(['systemctl', 'kill', '-s', 'KILL', 'edge-gateway-executor.service'])
  assert.equal((await killed).state, 'completed', told(await killed))
  assert.equal(await shell('cat /opt/app/current/began; ls -A /opt/app'), 'x\nx\ncurrent\nreleases')

  // The daemon is killed there: its next life finishes the patch or takes it back, and the executor has left nothing.
  const halved = rollout.run('v6', 'exec sleep infinity', { hooks: { post: { ...post, timeout: '20s' } } })
  await until(
    'the hook has begun',
    async () => (await box.run(['sh', '-c', 'test -e /opt/app/current/began && grep -q v6 /opt/app/current/version'])).code === 0,
  )
  await box.must(['systemctl', 'kill', '-s', 'KILL', 'edge-gateway.service'])
  const { state } = await halved
  assert.ok(['completed', 'interrupted'].includes(state), told(await halved))
  assert.equal(await shell('cat /opt/app/current/version; ls -A /opt/app'), `${state === 'completed' ? 'v6' : 'v5'}current\nreleases`)
  assert.equal(await shell('systemctl is-active app'), 'active')
  t.diagnostic(
    await shell(
      'grep -h -E "VmRSS|VmHWM" /proc/$(systemctl show -P MainPID edge-gateway-executor)/status | tr "\\n" " "; systemctl show -P CPUUsageNSec edge-gateway-executor',
    ),
  )

  // The daemon itself can do none of it, and nobody else reaches the socket.
  assert.notEqual((await box.run(['runuser', '-u', 'edge-gateway', '--', 'touch', '/opt/app/x'])).code, 0)
  assert.equal(await shell('stat -c "%U %G %a" /run/edge-gateway-executor.sock'), 'edge-gateway root 600')
  const security = await shell('systemd-analyze security --no-pager edge-gateway-executor.service | tail -1')
  t.diagnostic(security)
  assert.ok(Number(/: (\d+\.\d+) /.exec(security)?.[1]) <= 3, security)
  assert.equal(await shell('systemctl is-active edge-gateway-executor.socket'), 'active')
})
