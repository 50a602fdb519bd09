/** A technician's overrides, and layers on trial, in the real daemon. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import BetterSqlite from 'better-sqlite3'
import { edgectlOf, openBox, until, type Box } from '../fleet/box.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
const KEY = 'limits.perDevice.messagesPerSecond'

async function valueOf(box: Box, key: string): Promise<string> {
  const { values } = (await box.gateway.ask('/config')) as { values: { path: string; value: unknown; origin: string }[] }
  const found = values.find(({ path }) => path === key)
  return `${JSON.stringify(found?.value)} from ${found?.origin}`
}

/** Puts a layer into the memory of a stopped box, as a patch would have left it. */
function remember(box: Box, sequence: number, merge: object, trial: boolean): void {
  const db = new BetterSqlite(join(box.dataDir, 'state.db'))
  const layer = { patch: `p${sequence}`, channel: 'c', sequence, merge, trial, replaced: {} }
  const key = `layers/${String(sequence).padStart(12, '0')}-p${sequence}`
  db.prepare('INSERT INTO memory (key, value) VALUES (?, ?)').run(key, JSON.stringify(layer))
  db.close()
}

describe('an override', { concurrency: 3 }, () => {
  test('is in force at once, shown, kept over a restart, and cleared', limit, async () => {
    const box = await openBox(scope)
    const set = await edgectlOf(box, ['config', 'override', KEY, '500', '--for', '8h', '--reason', 'line 3'])
    assert.match(set.stdout, /in force: limits\.perDevice\.messagesPerSecond = 500 until .*, by \w+ \(line 3\)/, set.stderr)
    assert.match(await valueOf(box, KEY), /^500 from override by \w+$/)
    assert.match((await edgectlOf(box, ['status'])).stdout, /override limits\.perDevice\.messagesPerSecond = 500 until/)
    await box.gateway.end('SIGKILL')
    await box.gateway.start()
    assert.match(await valueOf(box, KEY), /^500 from override/)
    assert.match((await edgectlOf(box, ['config', 'override', '--list'])).stdout, /= 500 until/)
    assert.equal((await edgectlOf(box, ['config', 'override', '--clear', KEY])).code, 0)
    assert.match(await valueOf(box, KEY), /^200 from default/)
    assert.match(await box.log(), /"override":"set limits[^"]*= 500","by":"\w+","why":"line 3"/)
  })

  test('ends by itself', limit, async () => {
    const box = await openBox(scope)
    await edgectlOf(box, ['config', 'override', KEY, '500', '--for', '2s'])
    await until('it has ended', async () => (await valueOf(box, KEY)).endsWith('from default'))
    assert.match(await box.log(), /"override":"ended limits\.perDevice\.messagesPerSecond"/)
  })

  test('is refused when it is not valid, may not be set, or can not be taken over; nothing changes', limit, async () => {
    const box = await openBox(scope)
    const port = String(box.port)
    for (const [key, value, said] of [
      [KEY, 'lots', /messagesPerSecond/],
      ['limits.nonsense', '1', /nonsense/],
      ['gateway.id', 'other', /only in the files/],
      ['patches.controller', 'true', /only in the files/],
      ['metrics.listen', `127.0.0.1:${port}`, /./],
    ] as const) {
      const { code, stderr } = await edgectlOf(box, ['config', 'override', key, value, '--for', '1h'])
      assert.notEqual(code, 0, key)
      assert.match(stderr, said)
    }
    assert.equal((await edgectlOf(box, ['config', 'override', '--list'])).stdout.trim(), 'no overrides')
    assert.equal((await box.probe('readyz')).code, 200)
  })
})

describe('layers of patches at a start', { concurrency: 3 }, () => {
  test('patch path 25: a layer that is not valid any more is left out, named, and the daemon starts', limit, async () => {
    const box = await openBox(scope)
    await box.gateway.end()
    remember(box, 1, { abolished: { key: 1 } }, false)
    remember(box, 2, { limits: { perDevice: { messagesPerSecond: 77 } } }, false)
    await box.gateway.start()
    assert.equal(await valueOf(box, KEY), '77 from patch p2')
    const { configuration } = await box.status()
    assert.match(configuration.leftOut[0]?.reason ?? '', /abolished/)
    assert.match((await edgectlOf(box, ['config', 'show', '--origin'])).stdout, /not in force: patch p1: .*abolished/)
    await box.gateway.end()
    assert.match((await edgectlOf(box, ['config', 'show', '--origin'])).stdout, /77 +patch p2/, 'the daemon need not run for it')
  })

  test('patch path 20: a layer on trial that prevents the start is left out of the next one', limit, async (t) => {
    const box = await openBox(scope)
    await box.gateway.end()
    const taken = createServer().listen(0, '127.0.0.1')
    t.after(() => taken.close())
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    remember(box, 1, { mqtt: { listen: { other: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } } } }, true)
    box.gateway.launch()
    assert.equal(await box.gateway.ended(), 75, 'systemd starts it again')
    await box.gateway.start()
    const { sources, configuration } = await box.status()
    assert.deepEqual(
      sources.map(({ name, state }) => [name, state]),
      [['lan', 'up']],
    )
    assert.match(configuration.leftOut[0]?.reason ?? '', /the daemon did not start with it: .*another program has this port/)
  })

  test('patch path 20: a layer on trial that does no harm is in force after a restart', limit, async () => {
    const box = await openBox(scope)
    await box.gateway.end()
    remember(box, 1, { limits: { perDevice: { messagesPerSecond: 78 } } }, true)
    await box.gateway.start()
    assert.equal(await valueOf(box, KEY), '78 from patch p1')
    assert.equal((await box.status()).configuration.leftOut.length, 0)
  })
})
