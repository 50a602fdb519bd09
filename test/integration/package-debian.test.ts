import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { execFile } from 'node:child_process'
import type { LedgerDocument } from '../../daemon/cli/ledger-view.ts'
import { writeBacklog } from '../fleet/backlog.ts'
import { freePort, serviceScope } from '../services/index.ts'
import { bootDebian, type Debian } from '../services/debian.ts'

const start = promisify(execFile)
const BUILD = fileURLToPath(new URL('../../systemd/package/main.ts', import.meta.url))
const MESSAGES = 1_000_000
const CONFIG = '/etc/edge-gateway/config.yaml'
const DATA = '/var/lib/edge-gateway'

describe('the package on a Debian 12', () => {
  const scope = serviceScope()
  const debs = scope.folder()
  const backlog = scope.folder()
  let box: Debian
  let port = 0
  const shell = (script: string) => box.run(['sh', '-c', `exec 2>&1; ${script}`])
  const install = (version: string) => shell(`apt-get install -y --no-install-recommends --allow-downgrades ${path(version)}`)
  const path = (version: string): string => `/debs/edge-gateway_${version}_amd64.deb`
  const version = async (): Promise<string> => (await shell('edgectl --version')).stdout.trim()
  const state = async (): Promise<string> => (await shell('systemctl is-active edge-gateway')).stdout.trim()
  const good = (): string => `mqtt: { listen: { local: { url: "mqtt://127.0.0.1:${port}" } } }\nmetrics: { listen: off }\n`

  const assertAllThere = async (): Promise<void> => {
    const { totals, equation } = JSON.parse(await box.must(['edgectl', 'ledger', '--json'])) as LedgerDocument
    assert.equal(totals.buffered.messages, MESSAGES)
    assert.equal(equation.holds, true)
  }

  /** Of the buffer's file, read and set with the driver that the package has. */
  const userVersion = async (change: string): Promise<string> => {
    const script = `const db = require('/usr/lib/edge-gateway/node_modules/better-sqlite3')('${DATA}/outbox.db')
      const found = db.pragma('user_version ${change}', { simple: true }); db.pragma('wal_checkpoint(TRUNCATE)'); console.log(found)`
    return (await box.must(['runuser', '-u', 'edge-gateway', '--', '/usr/lib/edge-gateway/bin/node', '-e', script])).trim()
  }

  before(async () => {
    for (const number of ['0.1.0', '0.1.1'])
      await start(process.execPath, [BUILD, '--arch', 'amd64', '--version', number, '--level', '1', '--out', debs])
    await newerFormat(debs)
    box = await bootDebian(scope, { readOnlyBinds: { [debs]: '/debs', [backlog]: '/backlog' } })
    port = await freePort()
  })

  it('is installed beside a bad configuration that was there before, and says what is wrong with it', async () => {
    await box.write(CONFIG, 'mqtt:\n  lissten: {}\n')
    const { code, stdout } = await install('0.1.0')
    assert.equal(code, 0, stdout)
    assert.match(stdout, /config\.yaml:2:3 mqtt\.lissten: unknown key/)
    assert.equal((await shell(`cat ${CONFIG}`)).stdout, 'mqtt:\n  lissten: {}\n')
    assert.match((await shell("dpkg-query -W -f '${Status}' edge-gateway")).stdout, /install ok installed/)
  })

  it('is installed while its port is taken, says so, and runs when the port is free', async () => {
    const other = createServer().listen(port, '127.0.0.1').unref()
    await box.write(CONFIG, good())
    const { code, stdout } = await shell(`apt-get install -y --reinstall --no-install-recommends ${path('0.1.0')}`)
    assert.equal(code, 0, stdout)
    assert.match(stdout, /does not run yet:\s+.*another program has this port/)
    await new Promise((resolve) => other.close(resolve))
    await box.must(['systemctl', 'restart', 'edge-gateway'])
    assert.equal(await state(), 'active')
  })

  it('takes a million buffered messages over an upgrade and back, with the configuration as it was edited', async () => {
    await box.must(['systemctl', 'stop', 'edge-gateway'])
    await writeBacklog(backlog, MESSAGES, (index) => Buffer.from(`message ${index}`))
    await box.must(['sh', '-c', `rm -rf ${DATA}/* && cp -r /backlog/. ${DATA} && chown -R edge-gateway:edge-gateway ${DATA}`])
    await box.must(['systemctl', 'start', 'edge-gateway'])
    await assertAllThere()
    for (const number of ['0.1.1', '0.1.0', '0.1.1']) {
      const { code, stdout } = await install(number)
      assert.equal(code, 0, stdout)
      assert.deepEqual([await version(), await state()], [number, 'active'])
      await assertAllThere()
    }
    assert.equal((await shell(`cat ${CONFIG}`)).stdout, good())
  })

  it('refuses, before it changes anything, to go back to a release that could not read the buffer', async () => {
    assert.equal((await install('0.2.0')).code, 0)
    const known = await userVersion('')
    await userVersion('= 98')
    const { code, stdout } = await install('0.1.1')
    await userVersion(`= ${known}`)
    assert.notEqual(code, 0)
    assert.match(stdout, /cannot read the buffer that release 0\.2\.0 wrote/)
    assert.match((await shell("dpkg-query -W -f '${Version} ${Status}' edge-gateway")).stdout, /^0\.2\.0 install ok installed/)
    assert.equal(await state(), 'active')
  })

  it('is whole again after an unpacking that was killed, or for which there was no room', async () => {
    await shell(`(dpkg -i ${path('0.2.0')} & sleep 1; kill -9 $!; wait)`)
    assert.equal((await shell(`dpkg -i ${path('0.2.0')}; dpkg --configure -a`)).code, 0)
    await shell('mount -t tmpfs -o size=20m tmpfs /usr/lib/edge-gateway')
    assert.notEqual((await shell(`dpkg -i ${path('0.2.0')}`)).code, 0)
    await box.must(['umount', '/usr/lib/edge-gateway'])
    const { code, stdout } = await shell(`dpkg -i ${path('0.2.0')} && dpkg --configure -a`)
    assert.equal(code, 0, stdout)
    await assertAllThere()
  })

  it('keeps its data when it is removed, and finds them when it comes back, also without a running systemd', async () => {
    assert.equal((await shell('apt-get remove -y edge-gateway')).code, 0)
    assert.equal((await shell(`test -e ${DATA}/outbox.db -a -e ${CONFIG} -a ! -e /usr/lib/edge-gateway`)).code, 0)
    assert.equal((await install('0.2.0')).code, 0)
    assert.equal(await state(), 'active')
    assert.equal((await shell('apt-get remove -y edge-gateway')).code, 0)
    const { code, stdout } = await shell(
      `mount --bind / /mnt && mount --bind /debs /mnt/debs && chroot /mnt dpkg -i ${path('0.2.0')}; code=$?; umount /mnt/debs /mnt; exit $code`,
    )
    assert.equal(code, 0, stdout)
    await box.must(['sh', '-c', 'systemctl daemon-reload && systemctl start edge-gateway'])
    await assertAllThere()
  })

  it('deletes all of it when it is purged', async () => {
    assert.equal((await shell('apt-get purge -y edge-gateway')).code, 0)
    const left = await shell('ls -d /etc/edge-gateway /var/lib/edge-gateway /var/cache/edge-gateway /usr/lib/edge-gateway 2>/dev/null')
    assert.equal(left.stdout, '')
  })
})

/** A later release whose buffer only its like can read. */
async function newerFormat(debs: string): Promise<void> {
  const folder = join(debs, 'newer')
  await start('dpkg-deb', ['-R', join(debs, 'edge-gateway_0.1.1_amd64.deb'), folder])
  const control = join(folder, 'DEBIAN/control')
  writeFileSync(
    control,
    readFileSync(control, 'utf8')
      .replace('Version: 0.1.1', 'Version: 0.2.0')
      .replace(/Min-Reader: \d+/, 'Min-Reader: 98'),
  )
  await start('dpkg-deb', ['--root-owner-group', '-Zgzip', '-z1', '--build', folder, join(debs, 'edge-gateway_0.2.0_amd64.deb')])
}
