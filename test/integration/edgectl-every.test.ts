/** Every command of edgectl, in every state of the box: an answer in words, a known exit code, and never a stack trace. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { edgectlProgram } from '../../daemon/cli/edgectl.ts'
import { setUpGateway, type GatewaySetup } from '../fleet/setup.ts'
import { mountSmallDisk, type SmallDisk } from '../fleet/small-disk.ts'
import { freePort, serviceScope } from '../services/index.ts'
import type { Ran } from './edgectl-every-child.ts'

const CHILD = fileURLToPath(new URL('edgectl-every-child.ts', import.meta.url))

/** What to call each command with; `@` is a folder. A command without a line here fails the test: add one. */
const ARGUMENTS: Readonly<Record<string, readonly string[] | 'endless'>> = {
  setup: ['--page', 'off', '--yes'],
  status: [],
  buffer: [],
  ledger: ['--devices', '3'],
  'dead-letters list': [],
  'dead-letters show': ['7'],
  'dead-letters retry': ['7'],
  'dead-letters drop': ['7'],
  'config show': ['--origin'],
  'config override': ['limits.perDevice.messagesPerSecond', '300', '--for', '1h'],
  'kafka setup': [],
  'patch keygen': ['--out', '@/made.key'],
  'patch check': ['@/nowhere.yaml'],
  'patch sign': ['@/nowhere.yaml', '--key', '@/nowhere.key'],
  'patch push': ['@/nowhere.dsse'],
  'patch status': [],
  'patch pause': ['p-1', '--reason', 'a test'],
  'patch resume': ['p-1', '--key', '@/nowhere.key'],
  'patch cancel': ['p-1'],
  'patch retry': ['p-1', '--key', '@/nowhere.key'],
  'patch rollback': ['p-1'],
  'fleet release': ['gw-9'],
  patches: [],
  history: [],
  'lock ls': [],
  'lock break': ['plant', '--reason', 'a test'],
  hold: [],
  devices: [],
  tail: 'endless',
  top: 'endless',
  'why patch': ['p-1'],
  'why device': ['pump-1'],
  'why kafka': [],
  'device add': ['pump-1'],
  'device passwd': ['pump-1'],
  'device revoke': ['pump-1'],
  'device list': [],
  doctor: [],
  'support-bundle': [],
  export: ['--out', '@/box.ndjson'],
  import: ['@/nowhere.ndjson'],
  'imports list': [],
  'imports retry': ['7'],
  'imports drop': ['7'],
  'backup check': ['@/nowhere'],
  verify: [],
}

/** 70 is a fault in the program. */
const EXITS = new Set([0, 1, 2, 3, 64, 69, 74, 77, 78])

function leaves(command: Command, names: readonly string[] = []): readonly { readonly name: string; readonly command: Command }[] {
  return command.commands.flatMap((one) => {
    const path = [...names, one.name()]
    return one.commands.length === 0 ? [{ name: path.join(' '), command: one }] : leaves(one, path)
  })
}

const ALL = leaves(edgectlProgram())

function helpOf(command: Command): string {
  let text = ''
  command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp()
  return text
}

function judge({ args, code, out, err, ms }: Ran): void {
  const about = `${args.join(' ')}\n${out}${err}`
  assert.ok(!/^\s+at .*:\d+:\d+\)?$/m.test(out + err), `a stack trace: ${about}`)
  assert.ok(!/\b(EACCES|ENOENT|ECONNREFUSED|ENOSPC|EPERM)\b/.test(err), `a bare error of the system: ${about}`)
  assert.ok(EXITS.has(code), `exit code ${code}: ${about}`)
  assert.ok(code === 0 || out + err !== '', `ends with ${code} and says nothing: ${args.join(' ')}`)
  assert.ok(!out.includes('\u001b') && !err.includes('\u001b'), `colours where there is no terminal: ${about}`)
  assert.ok(ms < 45_000, `took ${ms} ms: ${about}`)
  if (args.includes('--json'))
    assert.equal(typeof (JSON.parse(out) as { schema?: unknown }).schema, 'number', `no JSON with a schema: ${about}`)
}

function faultIn(ran: Ran): string | undefined {
  try {
    judge(ran)
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

describe('every command', () => {
  const scope = serviceScope()
  const dir = scope.folder()
  let disk: SmallDisk
  let setup: GatewaySetup
  let batches = 0

  /** In `parts` programs at once. */
  async function runAll(
    format: 'text' | 'json',
    options: { readonly uid?: number; readonly parts?: number } = {},
  ): Promise<readonly Ran[]> {
    const { uid, parts = 2 } = options
    const lists = Array.from({ length: parts }, (): string[][] => [])
    for (const [index, { name }] of ALL.entries()) {
      const args = ARGUMENTS[name]
      if (args === undefined || args === 'endless') continue
      const words = args.map((word) => word.replace('@', dir))
      lists[index % parts]?.push(['--config', setup.configFile, ...(format === 'json' ? ['--json'] : []), ...name.split(' '), ...words])
    }
    const ran = (await Promise.all(lists.map((list) => runList(list, uid)))).flat()
    assert.equal(ran.length, lists.flat().length)
    const faults = ran.flatMap((one) => faultIn(one) ?? [])
    assert.equal(faults.length, 0, faults.join('\n\n'))
    return ran
  }

  function runList(list: readonly string[][], uid: number | undefined): Promise<readonly Ran[]> {
    const folder = scope.folder()
    if (uid !== undefined) chmodSync(folder, 0o777)
    const [input, output] = [join(folder, `${batches}.json`), join(folder, `${(batches += 1)}.out`)]
    writeFileSync(input, JSON.stringify(list))
    const child = spawn(process.execPath, [CHILD, input, output], {
      cwd: folder,
      stdio: ['ignore', 'inherit', 'inherit'],
      ...(uid === undefined ? {} : { uid, gid: uid }),
    })
    return new Promise((resolve) => child.once('close', () => resolve(JSON.parse(readFileSync(output, 'utf8')) as Ran[])))
  }

  before(async () => {
    disk = mountSmallDisk(scope, 48)
    setup = await setUpGateway(disk.path, {
      mqtt: { listen: { lan: { url: `mqtt://127.0.0.1:${await freePort()}`, auth: { passwordFile: join(disk.path, 'devices.passwd') } } } },
      buffer: { maxBytes: '16MiB', minFreeBytes: '1MiB' },
      metrics: { listen: 'off' },
    })
    writeFileSync(join(disk.path, 'devices.passwd'), '')
    await setup.gateway.start()
    scope.atEnd(async () => void (await setup.gateway.end('SIGKILL')))
  })

  it('has a line in this test, and help with an example', () => {
    for (const { name } of ALL) {
      assert.ok(ARGUMENTS[name] !== undefined, `add arguments for "${name}"`)
    }
    const without = ALL.filter(({ command }) => !/Examples?:\n {2}(sudo )?edgectl /.test(helpOf(command)))
    assert.deepEqual(
      without.map(({ name }) => name),
      [],
      'no example in their help',
    )
  })

  it('answers while the daemon runs, in text and in JSON', async () => {
    await runAll('text')
    await runAll('json')
  })

  it('answers on a full disk', async () => {
    disk.fill()
    await runAll('text')
    disk.free()
  })

  it('answers within seconds when the daemon hangs, and says that it does', async () => {
    setup.gateway.signal('SIGSTOP')
    const ran = await runAll('text', { parts: 14 })
    setup.gateway.signal('SIGCONT')
    const status = ran.find(({ args }) => args.at(-1) === 'status')
    assert.equal(status?.code, 2)
    assert.match(status?.out ?? '', /^STUCK: the daemon runs, but does not answer/)
    const device = ran.find(({ args }) => args.includes('why') && args.includes('device'))
    assert.equal(device?.code, 2)
    assert.match(device?.out ?? '', /does not answer, and may hear nobody[^]*systemctl restart/)
    const ledger = ran.find(({ args }) => args.includes('ledger'))
    assert.match(ledger?.err ?? '', /note: the daemon runs, but does not answer; this is from its files/)
  })

  it('answers to a user who may read nothing, with 77 and what to do', async () => {
    chmodSync(setup.configFile, 0o600)
    const ran = await runAll('json', { uid: 65_534 })
    chmodSync(setup.configFile, 0o640)
    const status = ran.find(({ args }) => args.at(-1) === 'status')
    assert.equal(status?.code, 77)
    assert.match(status?.err ?? '', /try: run it with sudo/)
  })

  it('answers when the daemon is down, when its buffer is damaged, and when its folder is gone', async () => {
    await setup.gateway.end('SIGKILL')
    const down = await runAll('json')
    assert.equal(down.find(({ args }) => args.at(-1) === 'status')?.code, 3)
    const dataDir = join(disk.path, 'state')
    for (const file of ['outbox.db', 'outbox.db-wal', 'state.db']) {
      truncateSync(join(dataDir, file), 0)
      writeFileSync(join(dataDir, file), 'this is no database '.repeat(500))
    }
    await runAll('text')
    rmSync(dataDir, { recursive: true })
    await runAll('json')
  })
})
