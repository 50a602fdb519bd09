/** The technician's commands with the daemon up, down, and with nothing there. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { LedgerDocument } from '../../daemon/cli/ledger-view.ts'
import type { StatusDocument } from '../../daemon/status.ts'
import { Device } from '../fleet/device.ts'
import { setUpGateway, type GatewaySetup } from '../fleet/setup.ts'
import { freePort, serviceScope } from '../services/index.ts'

const EDGECTL = fileURLToPath(new URL('../../daemon/cli/edgectl.js', import.meta.url))
const DAEMON = fileURLToPath(new URL('../../daemon/edge-gateway.js', import.meta.url))

interface Run {
  readonly code: number
  readonly out: string
  readonly err: string
}

function run(program: string, args: readonly string[]): Promise<Run> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], (error, out, err) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : 1, out, err }),
    )
  })
}

async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    if (await holds()) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`did not happen within 30 s: ${what}`)
}

/** Three messages in the buffer, one shed; no Kafka. */
async function fill(port: number): Promise<void> {
  const device = new Device({ clientId: 'pump-1', host: '127.0.0.1', port })
  device.open()
  for (const topic of ['devices/pump-1/logs/app', 'devices/pump-1/logs/app', 'devices/pump-1/logs/app', 'nonsense'])
    device.publish({ topic, payload: Buffer.from('hello') })
  await until(() => device.pending === 0, 'all acknowledged')
  device.close()
}

describe('edgectl', () => {
  const scope = serviceScope()
  const dir = scope.folder()
  const edgectl = (...args: string[]): Promise<Run> => run(EDGECTL, ['--config', join(dir, 'config.yaml'), ...args])
  let setup: GatewaySetup

  it('says that the daemon is down before it ever ran, and what to do', async () => {
    setup = await setUpGateway(dir, {
      mqtt: { listen: { lan: { url: `mqtt://127.0.0.1:${await freePort()}`, auth: 'none' } } },
      metrics: { listen: 'off' },
    })
    const { code, err } = await edgectl('status')
    assert.equal(code, 1)
    assert.match(err, /there is no buffer in .*\n {2}try: .*start the daemon once/)
    assert.ok(!err.includes('    at '), 'no stack trace')
  })

  it('leads with the verdict while it runs, and tells by its exit code that it needs a look', async () => {
    await setup.gateway.start()
    scope.atEnd(async () => void (await setup.gateway.end('SIGKILL')))
    await fill(await portOf(setup))
    const { code, out } = await edgectl('status')
    assert.match(out, /^BUFFERING: no Kafka broker is named since \d\d:\d\d \(.*\), no loss\n/)
    assert.match(out, /normal +3 /)
    assert.equal(code, 1)
    const document = JSON.parse((await edgectl('status', '--json')).out) as StatusDocument
    assert.equal(document.schema, 1)
    assert.equal(document.pid, setup.gateway.pid)
    assert.equal(document.lanes['normal']?.messages, 3)
    assert.equal(document.verdict.state, 'buffering')
  })

  it('accounts for every message', async () => {
    const { code, out } = await edgectl('ledger')
    assert.equal(code, 0)
    assert.match(
      out,
      /^received 4 = delivered 0 \+ buffered 3 \+ in flight 0 \+ dead letters 0 \+ lost 0 \+ exported 0 \+ shed 1\nevery message is accounted for\n/,
    )
    assert.match(out, /malformed-topic +1/)
  })

  it('shows where each value was written', async () => {
    const { out } = await edgectl('config', 'show', '--origin')
    assert.match(out, /^gateway\.id +"gw-test" +.*config\.yaml:\d+:\d+$/m)
    assert.match(out, /^buffer\.maxAge +"30d" +default$/m)
  })

  it('shows dead letters, and refuses one that is not there', async () => {
    assert.equal((await edgectl('dead-letters')).out, 'no dead letters\n')
    for (const action of ['show', 'retry', 'drop']) {
      const { code, err } = await edgectl('dead-letters', action, '7')
      assert.deepEqual([code, err], [1, 'there is no dead letter 7; `edgectl dead-letters list` shows them\n'])
    }
    assert.match((await edgectl('dead-letters', 'drop', 'seven')).err, /named by its number/)
  })

  it('gives the same figures from the files when the daemon is down, and says so', async () => {
    assert.equal(await setup.gateway.end('SIGKILL'), 'SIGKILL')
    const { code, out } = await edgectl('status')
    assert.equal(code, 3, "systemctl's code for a unit that does not run")
    assert.match(out, /^STOPPED: the daemon is not running/)
    assert.match(out, /normal +3 /)
    const ledger = JSON.parse((await edgectl('ledger', '--json')).out) as LedgerDocument
    assert.deepEqual([ledger.totals.received.messages, ledger.totals.buffered.messages, ledger.equation.holds], [4, 3, true])
    assert.match((await edgectl('dead-letters', 'drop', '1')).err, /the daemon is not running/)
    await setup.gateway.start()
    assert.equal((await setup.gateway.ledger()).totals.buffered.messages, 3, 'looking changed nothing')
    assert.equal(await setup.gateway.end('SIGTERM'), 0)
  })

  it('tells a typing mistake from the rest', async () => {
    const { code, err } = await edgectl('statsu')
    assert.equal(code, 64)
    assert.match(err, /unknown command 'statsu'\n\(Did you mean status\?\)/)
  })

  it('has help with an example for every command', async () => {
    for (const command of [
      ['status'],
      ['buffer'],
      ['ledger'],
      ['dead-letters', 'retry'],
      ['dead-letters', 'drop'],
      ['config', 'show'],
      ['kafka', 'setup'],
    ]) {
      const { code, out } = await edgectl(...command, '--help')
      assert.equal(code, 0)
      assert.match(out, /Example:\n {2}edgectl /, command.join(' '))
    }
  })
})

describe('edgectl with a file that an edit has broken', () => {
  const scope = serviceScope()
  const dir = scope.folder()
  const file = join(dir, 'config.yaml')
  const edgectl = (...args: string[]): Promise<Run> => run(EDGECTL, ['--config', file, ...args])
  const FAULT = /the file on the disk is invalid: .*config\.yaml:\d+:\d+ [^]*the running daemon keeps the old configuration\n/
  let setup: GatewaySetup
  let sound = ''

  it('shows the running daemon all the same, says what is wrong, and does not end with 0', async () => {
    setup = await setUpGateway(dir, {
      mqtt: { listen: { lan: { url: `mqtt://127.0.0.1:${await freePort()}`, auth: 'none' } } },
      metrics: { listen: 'off' },
    })
    sound = await readFile(file, 'utf8')
    await setup.gateway.start()
    scope.atEnd(async () => void (await setup.gateway.end('SIGKILL')))
    for (const broken of [`${sound}limts: 5\n`, `${sound}\tlimits: {\n`]) {
      await writeFile(file, broken)
      const commands = [['status'], ['buffer'], ['ledger'], ['devices'], ['top'], ['imports'], ['config', 'show']]
      for (const [index, { code, out, err }] of (await Promise.all(commands.map((args) => edgectl(...args)))).entries()) {
        assert.equal(code, 1, `${commands[index]?.join(' ')}: ${err}`)
        assert.notEqual(out, '', commands[index]?.join(' '))
        assert.match(err, FAULT)
      }
    }
    const { pid, invalidFile } = JSON.parse((await edgectl('status', '--json')).out) as { pid: number; invalidFile: string }
    assert.equal(pid, setup.gateway.pid)
    assert.match(invalidFile, /config\.yaml:\d+:\d+ /)
    assert.match((await edgectl('dead-letters', 'drop', '7')).err, /no dead letter 7[^]*the file on the disk is invalid/, 'an order, too')
  })

  it('lets the doctor look at the daemon, and name the file first', async () => {
    const { code, out } = await edgectl('doctor', '--only', 'config,service,gateway')
    assert.equal(code, 2)
    assert.match(out, /the running daemon \(pid \d+\) keeps the old configuration/)
    assert.match(out, /ok +service +.*runs for/)
    assert.match(out, /buffering: no Kafka broker/)
    assert.match(out, /\nfix first: problem 1: .*config\.yaml:\d+:\d+ .*\n$/)
  })

  it('says that the daemon hangs, and with a daemon that is down only what is wrong, with 78', async () => {
    setup.gateway.signal('SIGSTOP')
    const silent = await edgectl('status')
    setup.gateway.signal('SIGCONT')
    assert.equal(silent.code, 2)
    assert.match(silent.err, /the daemon does not answer[^]*the file on the disk is invalid/)
    await setup.gateway.end('SIGKILL')
    const { code, out, err } = await edgectl('status')
    assert.deepEqual([code, out], [78, ''])
    assert.match(err, /config\.yaml:\d+:\d+ /)
    assert.doesNotMatch(err, /running daemon/)
  })
})

describe('edge-gateway check', () => {
  it('names file, line and column of all that is wrong, and ends with 78', async () => {
    const dir = serviceScope().folder()
    const file = join(dir, 'config.yaml')
    await writeFile(file, 'gateway: { id: gw-1 }\nlimits:\n  perDevice: { mesagesPerSecond: 5, burst: 5 parsecs }\n')
    const { code, err } = await run(DAEMON, ['check', '--config', file])
    assert.equal(code, 78)
    assert.match(err, /config\.yaml:3:16 limits\.perDevice\.mesagesPerSecond: .*messagesPerSecond/)
    assert.match(err, /config\.yaml:3:\d+ limits\.perDevice\.burst: /)
    assert.ok(!err.includes('    at '), 'no stack trace')
  })

  it('accepts an empty file', async () => {
    const dir = serviceScope().folder()
    await writeFile(join(dir, 'config.yaml'), '')
    assert.equal((await run(DAEMON, ['check', '--config', join(dir, 'config.yaml')])).code, 0)
  })
})

async function portOf(setup: GatewaySetup): Promise<number> {
  const { values } = (await setup.gateway.ask('/config')) as { values: { path: string; value: unknown }[] }
  return Number(/:(\d+)$/.exec(String(values.find(({ path }) => path === 'mqtt.listen.lan.url')?.value))?.[1])
}
