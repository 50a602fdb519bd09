/** `edgectl device …` against the real daemon: who may connect, and what becomes of who is connected. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { connect, tryConnect } from '../contract/mqtt-listen-kit.ts'
import { launchEdgectl, type Said } from '../fleet/operator.ts'
import { EDGECTL, setUpGateway, type GatewaySetup } from '../fleet/setup.ts'
import { freePort, serviceScope } from '../services/index.ts'

interface DeviceAnswer {
  readonly password?: string
  readonly daemon: { readonly state: string; readonly taken: boolean; readonly cut?: number }
}

describe('edgectl device', () => {
  const scope = serviceScope()
  const dir = scope.folder()
  const passwordFile = join(dir, 'devices.passwd')
  const edgectl = (...words: string[]): Promise<Said> => launchEdgectl(['--config', join(dir, 'config.yaml'), ...words]).ended
  const answer = async (...words: string[]): Promise<DeviceAnswer> => {
    const { code, out, err } = await edgectl('--json', 'device', ...words)
    assert.equal(code, 0, err)
    return JSON.parse(out) as DeviceAnswer
  }
  let setup: GatewaySetup
  let port = 0

  it('adds a device before the daemon ever ran, and keeps what stands in the file', async () => {
    port = await freePort()
    const listen = { lan: { url: `mqtt://127.0.0.1:${port}`, auth: { passwordFile } } }
    setup = await setUpGateway(dir, { mqtt: { listen }, metrics: { listen: 'off' } })
    writeFileSync(passwordFile, '# the devices of line 3\n')
    chmodSync(passwordFile, 0o604)
    const { daemon } = await answer('add', 'pump-1')
    assert.deepEqual([daemon.state, daemon.taken], ['away', false])
    assert.match(readFileSync(passwordFile, 'utf8'), /^# the devices of line 3\npump-1:\$7\$\d+\$\S+\n$/)
    assert.equal(statSync(passwordFile).mode & 0o777, 0o604)
  })

  it('lets devices in, gives another password and revokes, all while the daemon runs and with what it cuts', async (t) => {
    await setup.gateway.start()
    scope.atEnd(async () => void (await setup.gateway.end('SIGKILL')))
    const added = await answer('add', 'pump-2')
    assert.deepEqual(added.daemon.taken, true)
    assert.match(added.password ?? '', /^([2-9a-km-z]{4}-){5}[2-9a-km-z]{4}$/)
    const login = { clientId: 'pump-2', username: 'pump-2', password: added.password ?? '' }
    const first = await connect(t, port, login)
    const renewed = await answer('passwd', 'pump-2')
    assert.deepEqual([renewed.daemon.taken, renewed.daemon.cut], [true, 1])
    await first.end()
    assert.equal((await tryConnect(t, port, login)).returnCode, 4)
    const second = await connect(t, port, { ...login, password: renewed.password ?? '' })
    assert.deepEqual((await answer('revoke', 'pump-2')).daemon.cut, 1)
    await second.end()
    assert.equal((await tryConnect(t, port, { ...login, password: renewed.password ?? '' })).returnCode, 4)
    assert.equal((await edgectl('device', 'list')).out, 'pump-1\n')
  })

  it('takes a password from standard input, and never shows it', async (t) => {
    const child = spawn(process.execPath, [EDGECTL, '--config', join(dir, 'config.yaml'), 'device', 'add', 'pump-3', '--password-stdin'])
    let out = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    child.stdin.end('correct horse\n')
    assert.equal(await new Promise((resolve) => child.once('close', resolve)), 0)
    assert.ok(!out.includes('horse'))
    await connect(t, port, { clientId: 'pump-3', username: 'pump-3', password: 'correct horse' })
  })

  it('loses none of many that are added at once', async () => {
    const names = ['m-1', 'm-2', 'm-3', 'm-4']
    await Promise.all(names.map((name) => answer('add', name)))
    assert.equal((await edgectl('device', 'list')).out, [...names, 'pump-1', 'pump-3', ''].join('\n'))
  })

  it('refuses with what to do: names that no topic can have, who is there already, who is not, a file that is broken', async () => {
    const before = readFileSync(passwordFile)
    for (const id of ['a/b', '+', 'a:b', ' a', '\u001b[31mred', '']) {
      const { code, err } = await edgectl('device', 'add', id)
      assert.equal(code, 1, id)
      assert.match(err, /can't be a device's name: .*\n {2}try: write letters/)
      assert.ok(!err.includes('\u001b'))
    }
    assert.match((await edgectl('device', 'add', 'pump-1')).err, /may connect already\n {2}try: edgectl device passwd pump-1/)
    assert.match((await edgectl('device', 'revoke', 'pump-9')).err, /there is no device pump-9\n {2}try: edgectl device list/)
    assert.match((await edgectl('device', 'list', '--listener', 'wan')).err, /there is no mqtt\.listen\.wan\n {2}try: there are: lan/)
    assert.deepEqual(readFileSync(passwordFile), before)
    writeFileSync(passwordFile, 'pump-1:secret\n')
    const { code, err } = await edgectl('device', 'add', 'pump-4')
    assert.deepEqual([code, readFileSync(passwordFile, 'utf8')], [1, 'pump-1:secret\n'])
    assert.match(err, /devices\.passwd can't be used as it stands, and was not changed: line 1: /)
    assert.ok(!err.includes('secret'))
  })
})
