/** A damaged buffer while the daemon is down: no command sets it aside or changes it; the daemon's start does. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { connect } from '../contract/mqtt-listen-kit.ts'
import { edgectlOf, openBox, type Box } from '../fleet/box.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
const LOOKS = [['status'], ['buffer'], ['ledger'], ['dead-letters'], ['devices'], ['patches'], ['history'], ['config', 'show']]

/** What a command could harm; `-shm` is rebuilt at will. */
function files(box: Box): Readonly<Record<string, string>> {
  const folder = join(box.dir, 'state')
  const names = readdirSync(folder).filter((name) => /\.db(-wal)?$|corrupt|salvag/.test(name))
  return Object.fromEntries(
    names.map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ]),
  )
}

async function assertLeftAlone(box: Box): Promise<void> {
  const before = files(box)
  for (const args of LOOKS) {
    await edgectlOf(box, args)
    assert.deepEqual(files(box), before, args.join(' '))
  }
  for (const name of ['export', 'backup']) {
    const out = join(box.dir, name === 'export' ? 'out.ndjson' : 'copy')
    const { code, stderr } = await edgectlOf(box, [name, '--out', out])
    assert.ok(code !== 0, name)
    assert.match(
      stderr,
      /outbox\.db is damaged \(.*nothing was changed\n {2}try: start the daemon .*sets the file aside, saves what can be saved/,
    )
    assert.equal(existsSync(out), false, `${name} leaves nothing half-made`)
    assert.deepEqual(files(box), before, name)
  }
  await box.gateway.start()
  assert.match(await box.log(), /outbox\.db is damaged .* It is set aside as/)
}

describe('a damaged buffer of a daemon that is down', { concurrency: 2 }, () => {
  test('a file that is no database', limit, async () => {
    const box = await openBox(scope)
    await box.gateway.end('SIGTERM')
    writeFileSync(join(box.dir, 'state/outbox.db'), 'this is no database '.repeat(500))
    await assertLeftAlone(box)
  })

  test('an empty file beside a log, which SQLite would throw away if it opened them', limit, async (t) => {
    const box = await openBox(scope)
    const client = await connect(t, box.port)
    client.publish('devices/a/logs/app/a-1', 1, 1)
    await client.take('puback')
    await box.gateway.end('SIGKILL')
    truncateSync(join(box.dir, 'state/outbox.db'), 0)
    await assertLeftAlone(box)
  })
})
