import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { identify, isAlive, waitForEnd } from '../services/program.ts'

const run = promisify(execFile)
const CLI = resolve(import.meta.dirname, '../services/cli.ts')

interface Answer {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

async function cli(...args: string[]): Promise<Answer> {
  try {
    return { code: 0, ...(await run(process.execPath, [CLI, ...args])) }
  } catch (error) {
    const { code, stdout, stderr } = error as Answer
    return { code, stdout, stderr }
  }
}

interface Shown {
  readonly endpoint: string
  readonly port: number
  readonly pid: number
  readonly running?: boolean
}

/** Exactly one line of JSON. */
function parse(stdout: string): Record<string, Shown> {
  assert.match(stdout, /^[^\n]+\n$/)
  return JSON.parse(stdout) as Record<string, Shown>
}

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'edge-gateway-services-'))
  t.after(async () => {
    await cli('down', '--dir', dir)
    rmSync(dir, { recursive: true, force: true })
  })
  return dir
}

test('up, status and down: three services that outlive up, and are gone after down', async (t) => {
  const dir = folder(t)
  const first = await cli('up', '--dir', dir)
  assert.equal(first.code, 0, first.stderr)
  const services = parse(first.stdout)
  assert.deepEqual(Object.keys(services), ['mosquitto', 'etcd', 'kafka'])
  const programs = Object.values(services).map(({ pid }) => identify(pid))
  assert.ok(programs.every((program) => program?.command.includes(dir)))

  assert.equal((await cli('up', '--dir', dir)).stdout, first.stdout, 'a second up changes nothing')
  const status = await cli('status', '--dir', dir)
  assert.equal(status.code, 0)
  assert.ok(Object.values(parse(status.stdout)).every(({ running }) => running === true))

  const { stdout } = await cli('down', '--dir', dir)
  assert.equal(stdout, '{"ended":["mosquitto","etcd","kafka"]}\n')
  assert.ok(programs.every((program) => program !== undefined && !isAlive(program)))
  assert.equal((await cli('down', '--dir', dir)).stdout, '{"ended":[]}\n', 'a second down changes nothing')
  assert.equal((await cli('status', '--dir', dir)).code, 3)
})

test('up starts what has died, on its old port, and leaves the rest alone', async (t) => {
  const dir = folder(t)
  const before = parse((await cli('up', '--dir', dir)).stdout)
  const etcd = identify(before['etcd']?.pid as number)
  assert.ok(etcd !== undefined)
  process.kill(etcd.pid, 'SIGKILL')
  await waitForEnd(etcd, 10_000)
  assert.equal((await cli('status', '--dir', dir)).code, 3)
  const after = parse((await cli('up', '--dir', dir)).stdout)
  assert.notEqual(after['etcd']?.pid, etcd.pid)
  assert.equal(after['etcd']?.endpoint, before['etcd']?.endpoint)
  assert.equal(after['kafka']?.pid, before['kafka']?.pid)
  const refused = await cli('up', '--dir', dir, '--etcd-port', '1')
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, /etcd already runs on port \d+; run "down"/)
})

test('a failed up leaves nothing running', async (t) => {
  const dir = folder(t)
  const blocker = spawn(process.execPath, [
    '-e',
    'net.createServer().listen(0, "127.0.0.1", function () { console.log(this.address().port) })',
  ])
  t.after(() => blocker.kill())
  const [port] = (await once(blocker.stdout, 'data')) as [Buffer]
  const failed = await cli('up', '--dir', dir, '--mqtt-port', String(port).trim())
  assert.equal(failed.code, 1)
  assert.match(failed.stderr, /mosquitto ended during its start.*\n.*Address already in use/s)
  assert.equal(failed.stdout, '')
  const status = parse((await cli('status', '--dir', dir)).stdout)
  assert.ok(Object.values(status).every(({ running }) => running === false))
})

/** The pids whose command line names this folder. */
function pidsIn(dir: string): number[] {
  const pids = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
  return pids.filter((pid) => pid !== process.pid && identify(pid)?.command.includes(dir))
}

test('an up that is killed half-way leaves only what down can end', async (t) => {
  const dir = folder(t)
  const starting = spawn(process.execPath, [CLI, 'up', '--dir', dir], { stdio: ['ignore', 'ignore', 'pipe'] })
  await once(starting.stderr, 'data') // the first one is up, Kafka is not
  starting.kill('SIGKILL')
  await once(starting, 'close')
  await cli('down', '--dir', dir)
  const left = pidsIn(dir).flatMap((pid) => identify(pid) ?? [])
  assert.ok((await Promise.all(left.map((program) => waitForEnd(program, 30_000)))).every(Boolean))
})

test('down sends no signal to a program that merely has the pid of an old service', async (t) => {
  const dir = folder(t)
  const stranger = spawn('sleep', ['600'])
  t.after(() => stranger.kill())
  await once(stranger, 'spawn')
  const real = identify(stranger.pid as number)
  assert.ok(real !== undefined)
  const record = { ...real, startTicks: real.startTicks - 1, endpoint: '', port: 1, logFile: '' }
  writeFileSync(join(dir, 'services.json'), JSON.stringify({ etcd: record }))
  assert.equal((await cli('down', '--dir', dir)).stdout, '{"ended":[]}\n')
  assert.ok(isAlive(real))
})

test('bad arguments are refused in one line', async (t) => {
  const dir = folder(t)
  assert.match((await cli('up', '--dir', dir, '--kafka-port', '70000')).stderr, /a port is a number/)
  assert.match((await cli('up', '--dir', dir, '--kafka-version', 'new')).stderr, /"new" is no Kafka version/)
  writeFileSync(join(dir, 'services.json'), '{')
  const broken = await cli('status', '--dir', dir)
  assert.equal(broken.code, 1)
  assert.match(broken.stderr, /services\.json is no valid JSON/)
  rmSync(join(dir, 'services.json'))
})

test('a service dies with the program that started it', async (t) => {
  const dir = folder(t)
  const script = `
    import { startMosquitto } from ${JSON.stringify(resolve(import.meta.dirname, '../services/index.ts'))};
    console.log((await startMosquitto({ dir: ${JSON.stringify(dir)} })).pid);
    setInterval(() => undefined, 1000);`
  const owner = spawn(process.execPath, ['--input-type=module', '-e', script])
  const [pid] = (await once(owner.stdout, 'data')) as [Buffer]
  const broker = identify(Number(pid))
  assert.ok(broker !== undefined)
  owner.kill('SIGKILL')
  assert.ok(await waitForEnd(broker, 30_000), readFileSync(join(dir, 'mosquitto.log'), 'utf8'))
})

test('two test programs are never given the same port while both live', async () => {
  const ports = new URL('../services/ports.ts', import.meta.url).href
  const script = `import { freePort } from '${ports}'
    for (let at = 0; at < 1500; at += 1) console.log(await freePort())
    console.log('all'); process.stdin.resume()`
  const programs = ['a', 'b'].map(() =>
    spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] }),
  )
  const drawn = programs.map(async ({ stdout }) => {
    let text = ''
    for await (const chunk of stdout) {
      text += String(chunk)
      if (text.endsWith('all\n')) return text.trim().split('\n').slice(0, -1)
    }
    throw new Error(text)
  })
  const all = (await Promise.all(drawn)).flat()
  for (const program of programs) program.kill('SIGKILL')
  assert.deepEqual([all.length, new Set(all).size], [3_000, 3_000])
})
