/** How the daemon starts, ends, and says how it is. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { connect } from '../contract/mqtt-listen-kit.ts'
import { assertExact, drained, edgectlOf, judged, openBox, setUpBox, until, type Box } from '../fleet/box.ts'
import { serviceScope, type KafkaService } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
const PROGRAM = fileURLToPath(new URL('../../daemon/edge-gateway.js', import.meta.url))
let kafka: KafkaService

before(async () => {
  kafka = await scope.kafka()
})

/** The program's end; one that should have ended and did not is killed. */
function run(...args: string[]): { code: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], {
    encoding: 'utf8',
    timeout: 60_000,
    killSignal: 'SIGKILL',
  })
  return { code: status, text: stdout + stderr }
}

/** Waits until the verdict is `state`, and returns it with what the probes say. */
async function verdictIs(box: Box, state: string): Promise<{ line: string; reason: string | undefined; healthz: number; readyz: number }> {
  const { verdict } = await until(`the verdict ${state}`, async () => {
    const status = await box.status()
    return status.verdict.state === state ? status : undefined
  })
  const metrics = await box.metrics()
  assert.equal(metrics.get(`edge_gateway_verdict{state="${state}"}`), 1)
  const [healthz, readyz] = [await box.probe('healthz'), await box.probe('readyz')]
  assert.match(readyz.text, new RegExp(`^${state}: `))
  return { line: verdict.line, reason: verdict.reason, healthz: healthz.code, readyz: readyz.code }
}

describe('starting, ending and answering', { concurrency: 4 }, () => {
  test('exit codes: 64 for wrong usage, 78 for a configuration that is not valid, each with what to do', limit, async () => {
    const box = await setUpBox(scope)
    assert.deepEqual([run('run', '--nonsense').code, run('walk').code], [64, 64])
    await box.configure({ buffer: { maxBytes: '64 parsecs' } })
    for (const command of ['check', 'run']) {
      const { code, text } = run(command, '--config', box.configFile)
      assert.equal(code, 78)
      assert.match(text, /config\.yaml:\d+:\d+ buffer\.maxBytes/)
    }
    const missing = run('run', '--config', join(box.dir, 'nowhere.yaml'))
    assert.equal(missing.code, 78)
    assert.match(missing.text, /nowhere\.yaml/)
  })

  test('exit code 75: a second daemon on the same data directory is refused by name, and the first goes on', limit, async (t) => {
    const box = await openBox(scope)
    const second = await setUpBox(scope, { dataDir: box.dataDir })
    const { code, text } = run('run', '--config', second.configFile)
    assert.equal(code, 75)
    assert.match(text, new RegExp(`another gateway \\(pid ${box.gateway.pid}\\) uses the data directory`))
    const client = await connect(t, box.port)
    client.publish('devices/a/logs/app/a-1', 1)
    await client.take('puback')
    assert.equal(statSync(join(box.dataDir, 'control.sock')).isSocket(), true, 'the second one must not take the socket away')
    assert.equal((await box.status()).buffer.messages, 1)
  })

  test(
    'exit code 75: a port that another program has is named with its owner and the way out, and a later start has it',
    limit,
    async (t) => {
      const box = await setUpBox(scope)
      const other = createServer().listen(box.port, '127.0.0.1')
      t.after(() => other.close())
      await once(other, 'listening')
      const { code, text } = run('run', '--config', box.configFile)
      assert.equal(code, 75)
      assert.match(
        text,
        new RegExp(`can't listen on 127\\.0\\.0\\.1:${box.port}: another program has this port: .*\\(pid ${process.pid}\\) listens`),
      )
      assert.match(text, /choose another port, or stop that program/)
      const checked = run('check', '--config', box.configFile)
      assert.equal(checked.code, 0, 'a busy port is no fault of the configuration')
      assert.match(checked.text, new RegExp(`mqtt\\.listen\\.\\w+\\.url: .*\\(pid ${process.pid}\\) listens on ${box.port}`))
      other.close()
      await box.gateway.start()
      assert.equal(await box.gateway.end('SIGTERM'), 0)
    },
  )

  test('log path 13: SIGTERM under load drains: acknowledged is stored, sent is recorded, and nothing is sent twice', limit, async () => {
    const box = await openBox(scope, { kafka: kafka.endpoint, config: { buffer: { dedupe: { from: 'topic:{id}' } } } })
    const fleet = box.fleet()
    fleet.start()
    for (const wanted of [100, 200, 300]) {
      await until(`${wanted} acknowledgements`, () => fleet.acknowledged >= wanted)
      assert.equal(await box.gateway.end('SIGTERM'), 0)
      assert.match(await box.log(), /"msg":"stopped"/)
      await box.gateway.start()
      assert.ok((await box.ledger()).equation.holds)
    }
    fleet.quiet()
    await drained(box, fleet)
    const result = await judged(box, fleet)
    assertExact(result)
    assert.equal(result.inKafka, fleet.published.size)
    assert.equal(
      (await box.ledger()).totals.delivered.messages,
      fleet.published.size,
      'a message that was sent again would be counted twice',
    )
  })

  test('a gateway without Kafka buffers and says so; a source that is down is degraded', limit, async () => {
    const box = await openBox(scope)
    const without = await verdictIs(box, 'buffering')
    assert.match(without.line, /no Kafka broker is named/)
    assert.deepEqual([without.healthz, without.readyz], [200, 200])
    const mosquitto = await scope.mosquitto()
    const lone = await openBox(scope, { kafka: kafka.endpoint, config: { mqtt: { connect: { plant: { url: mosquitto.endpoint } } } } })
    await verdictIs(lone, 'ok')
    await mosquitto.kill('SIGKILL')
    const degraded = await verdictIs(lone, 'degraded')
    assert.match(degraded.line, /mqtt\.connect\.plant/)
    assert.deepEqual([degraded.healthz, degraded.readyz], [200, 200])
    await mosquitto.start()
    await verdictIs(lone, 'ok')
  })

  test('the control socket is for its owner and group; edgectl says when the daemon is away or does not answer', limit, async () => {
    const box = await openBox(scope)
    const socket = join(box.dataDir, 'control.sock')
    assert.equal(statSync(socket).mode & 0o777, 0o660)
    assert.equal((await edgectlOf(box, ['status'])).code, 1, 'it buffers, and that needs a look')
    box.gateway.signal('SIGSTOP')
    const hung = await edgectlOf(box, ['dead-letters', 'retry', '1'])
    assert.equal(hung.code, 2)
    assert.match(hung.stderr, /the daemon does not answer at .*control\.sock/)
    box.gateway.signal('SIGCONT')
    await box.gateway.end('SIGKILL')
    const away = await edgectlOf(box, ['dead-letters', 'retry', '1'])
    assert.equal(away.code, 3)
    assert.match(away.stderr, /the daemon is not running/)
    await box.gateway.start()
    assert.equal((await edgectlOf(box, ['status', '--json'])).code, 1)
    assert.equal(await box.gateway.end('SIGTERM'), 0)
  })
})

test('SIGTERM ends within the drain time although Kafka hangs; a second one does not wait for it; nothing is lost', limit, async (t) => {
  const box = await openBox(scope, { kafka: kafka.endpoint, config: { shutdown: { drain: '1s' } } })
  const fleet = box.fleet()
  fleet.start()
  await until('a first transaction', async () => (await box.status()).kafka.transactions > 0)
  kafka.pause()
  t.after(() => kafka.resume())
  await until('a transaction that hangs', async () => (await box.status()).kafka.state === 'sending' && fleet.acknowledged > 100)
  assert.equal(await box.gateway.end('SIGTERM'), 0)
  await box.configure({ shutdown: { drain: '10m' } })
  kafka.resume()
  await box.gateway.start()
  await until('another transaction', async () => (await box.status()).kafka.transactions > 0)
  kafka.pause()
  await until('one that hangs', async () => (await box.status()).kafka.state === 'sending')
  box.gateway.signal('SIGTERM')
  const stopping = await verdictIs(box, 'stopping')
  assert.deepEqual([stopping.healthz, stopping.readyz], [200, 503])
  assert.equal(await box.gateway.end('SIGTERM'), 0)
  assert.match(await box.log(), /second signal: work in progress is abandoned/)
  kafka.resume()
  await box.gateway.start()
  fleet.quiet()
  await drained(box, fleet)
  const result = await judged(box, fleet)
  assertExact(result)
  assert.equal(result.inKafka, fleet.published.size)
})

test('the verdict, /healthz and /readyz are honest: ok, buffering while Kafka is gone, and ok again', limit, async (t) => {
  const box = await openBox(scope, { kafka: kafka.endpoint })
  const fleet = box.fleet({ ratePerDevice: 2 })
  fleet.start()
  assert.deepEqual(await verdictIs(box, 'ok').then(({ healthz, readyz }) => [healthz, readyz]), [200, 200])
  t.after(() => kafka.start())
  await kafka.kill('SIGKILL')
  const gone = await verdictIs(box, 'buffering')
  assert.deepEqual([gone.healthz, gone.readyz], [200, 200])
  assert.match(gone.line, /Kafka unreachable since .*, no loss/)
  assert.match(gone.reason ?? '', new RegExp(kafka.endpoint))
  await kafka.start()
  await verdictIs(box, 'ok')
})
