/**
 * The box loses its power again and again, on a file system that forgets what was not fsynced. What was acknowledged
 * must be in Kafka, once and in order. A longer run by hand:
 *
 *     POWER_CUTS=200 POWER_SEED=7 node --test test/integration/box-power-cut.test.ts
 */
import assert from 'node:assert/strict'
import { closeSync, fsyncSync, openSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Dice } from '../chaos/dice.ts'
import { assertExact, drained, judged, openBox, until, type Box } from '../fleet/box.ts'
import type { Fleet } from '../fleet/fleet.ts'
import { patchedProgram } from '../fleet/patched.ts'
import { serviceScope, type KafkaService, type ServiceScope } from '../services/index.ts'
import { mountForgetful, type ForgetfulMount } from '../services/forgetful.ts'

const CUTS = Number(process.env['POWER_CUTS'] ?? 6)
const SEED = Number(process.env['POWER_SEED'] ?? 1)

const scope = serviceScope()

function synced(path: string, text: string): void {
  const fd = openSync(path, 'w')
  writeSync(fd, text)
  fsyncSync(fd)
  closeSync(fd)
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r')
  fsyncSync(fd)
  closeSync(fd)
}

test('the forgetful file system keeps what was fsynced, and forgets the rest: bytes, sizes, names', async () => {
  const mount = await mountForgetful(scope, join(scope.folder(), 'disk'))
  const at = (name: string): string => join(mount.path, name)
  for (const name of ['kept', 'renamed', 'deleted', 'grown']) synced(at(name), name)
  syncFolder(mount.path)
  writeFileSync(at('grown'), 'more than before')
  renameSync(at('renamed'), at('new-name'))
  rmSync(at('deleted'))
  synced(at('nameless'), 'its bytes are safe, its name is not')
  assert.deepEqual(readdirSync(mount.path).sort(), ['grown', 'kept', 'nameless', 'new-name'])
  const report = await mount.cut()
  await mount.restore()
  assert.deepEqual(report, { unsynced: 2, damaged: 2, names: 3 })
  assert.deepEqual(readdirSync(mount.path).sort(), ['deleted', 'grown', 'kept', 'renamed'])
  for (const name of ['kept', 'renamed', 'deleted', 'grown']) assert.equal(readFileSync(at(name), 'utf8'), name)
})

test('the forgetful file system tears un-synced writes by sectors, and an fsync that fails is an error', async () => {
  const mount = await mountForgetful(scope, join(scope.folder(), 'disk'))
  const path = join(mount.path, 'file')
  synced(path, 'a'.repeat(8_192))
  syncFolder(mount.path)
  const fd = openSync(path, 'r+')
  for (let at = 0; at < 8_192; at += 2_048) writeSync(fd, Buffer.alloc(2_048, 'b'), 0, 2_048, at)
  await mount.fail({ operation: 'fsync', name: 'file' })
  assert.throws(() => fsyncSync(fd), { code: 'EIO' })
  await mount.fail(undefined)
  const { unsynced, damaged } = await mount.cut(3)
  await mount.restore()
  assert.equal(unsynced, 4)
  assert.ok(damaged > 0, 'the seed must be one that damages something')
  const sectors = readFileSync(path, 'latin1').match(/.{512}/gs) ?? []
  assert.equal(sectors.length, 16)
  assert.ok(
    sectors.every((sector) => /^(a+|b+)$/.test(sector)),
    'a sector is old or new, never both',
  )
  assert.ok(sectors.includes('a'.repeat(512)) && sectors.includes('b'.repeat(512)), 'the seed must be one that tears')
})

interface Stage {
  readonly box: Box
  readonly fleet: Fleet
  readonly mount: ForgetfulMount
  readonly kafka: KafkaService
}

async function setTheStage(stage: ServiceScope, program?: string): Promise<Stage> {
  const kafka = await stage.kafka()
  const mount = await mountForgetful(stage, join(stage.folder(), 'disk'))
  const box = await openBox(stage, {
    kafka: kafka.endpoint,
    dataDir: join(mount.path, 'state'),
    ...(program === undefined ? {} : { launch: { program } }),
  })
  const fleet = box.fleet({ devices: 20, ratePerDevice: 20 })
  fleet.start()
  return { box, fleet, mount, kafka }
}

/** The power goes at an instant under load; returns how many writes did not survive. */
async function cutPower(stage: Stage, seed: number | undefined, waitMs: number): Promise<number> {
  const { fleet } = stage
  const before = fleet.acknowledged
  await until('acknowledgements', () => fleet.acknowledged > before + 50)
  await sleep(waitMs)
  return powerIsGone(stage, seed)
}

async function powerIsGone({ box, mount }: Stage, seed: number | undefined): Promise<number> {
  const { damaged } = await mount.cut(seed)
  box.gateway.signal('SIGKILL')
  await mount.restore()
  await box.gateway.ended()
  return damaged
}

/** And goes again while the daemon looks at what the first cut left. */
async function cutDuringStart(stage: Stage, seed: number, waitMs: number): Promise<number> {
  stage.box.gateway.launch()
  await sleep(waitMs)
  return powerIsGone(stage, seed)
}

test(
  'log path 1: what was acknowledged survives power cuts that forget or tear all un-synced writes',
  { timeout: 60_000 + CUTS * 10_000 },
  async (t) => {
    const stage = await setTheStage(serviceScope((release) => t.after(release)))
    const { box, fleet, kafka } = stage
    const dice = new Dice(SEED)
    const seed = (): number => Math.floor(dice.between(1, 1e9))
    let damaged = 0
    for (let cut = 0; cut < CUTS; cut += 1) {
      // Half of them while Kafka does not answer, so that a cut also meets a full outbox and an undecided transaction.
      if (cut % 2 === 0) kafka.pause()
      damaged += await cutPower(stage, cut % 3 === 0 ? undefined : seed(), dice.between(0, 400))
      if (cut % 2 === 1) damaged += await cutDuringStart(stage, seed(), dice.between(100, 1_200))
      kafka.resume()
      await box.gateway.start()
      const { equation, totals } = await box.ledger()
      assert.ok(equation.holds, `after cut ${cut} the ledger is off by ${equation.difference}`)
      assert.equal(totals.lost.messages, 0, `cut ${cut} of seed ${SEED} made the buffer unreadable`)
    }
    fleet.quiet()
    await drained(box, fleet)
    const verdict = await judged(box, fleet)
    assertExact(verdict)
    assert.equal(verdict.inKafka, fleet.published.size)
    t.diagnostic(
      `${CUTS} cuts under load, ${Math.floor(CUTS / 2)} more during a start, ${fleet.published.size} messages, ${damaged} un-synced writes gone or torn`,
    )
  },
)

test('log path 1: a store that does not fsync each commit is found out by the same cuts', { timeout: 120_000 }, async (t) => {
  const own = serviceScope((release) => t.after(release))
  const program = await patchedProgram(join(own.folder(), 'patched'), [
    { file: 'store/database.ts', from: 'synchronous = FULL', to: 'synchronous = NORMAL' },
    { file: 'store/database.ts', from: 'synchronous: 2', to: 'synchronous: 1' },
  ])
  const stage = await setTheStage(own, program)
  const { box, fleet, kafka } = stage
  kafka.pause()
  const damaged = await cutPower(stage, undefined, 200)
  kafka.resume()
  await box.gateway.start()
  fleet.quiet()
  await drained(box, fleet)
  const { lost } = await judged(box, fleet)
  assert.ok(damaged > 0)
  assert.ok(lost.length > 0, 'acknowledged messages must be missing, or this test would not notice a store without fsync')
})
