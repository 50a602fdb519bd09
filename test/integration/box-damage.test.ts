/** The buffer's files are torn, corrupt or gone: the daemon is up, says what is lost, takes new messages and obeys signals. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  cpSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { LANES, type LedgerTotals } from '../../daemon/ports.ts'
import { syncDirectory } from '../../store/database.ts'
import { Dice } from '../chaos/dice.ts'
import { mountForgetful } from '../services/forgetful.ts'
import { connect } from '../contract/mqtt-listen-kit.ts'
import { openBox, setUpBox, until, type Box } from '../fleet/box.ts'
import { judge, type Published } from '../fleet/judge.ts'
import { serviceScope, type KafkaService } from '../services/index.ts'
import { openStore } from '../../store/opening.ts'
import type { OutboxSettings } from '../../store/settings.ts'

const scope = serviceScope()
const limit = { timeout: 120_000 }
let kafka: KafkaService
/** A data directory after kill -9 under load, and what its devices had published. */
let left: { readonly dataDir: string; readonly published: ReadonlyMap<string, Published> }

before(async () => {
  kafka = await scope.kafka()
  left = await leaveBehind()
}, limit)

/** A part of the messages is in the main file, the rest in the log. */
async function leaveBehind(): Promise<typeof left> {
  const box = await openBox(scope)
  const fleet = box.fleet({ devices: 40, ratePerDevice: 60, payloadOf: () => randomBytes(200) })
  fleet.start()
  await until('a first part', () => fleet.acknowledged > 2_000)
  await box.gateway.end('SIGTERM')
  await box.gateway.start()
  await until('a second part', () => fleet.acknowledged > 4_000)
  fleet.close()
  await box.gateway.end('SIGKILL')
  return { dataDir: box.dataDir, published: fleet.published }
}

/** Overwrites `bytes` bytes in the middle of the file. */
function scribble(path: string, bytes: number): void {
  const fd = openSync(path, 'r+')
  writeSync(fd, randomBytes(bytes), 0, bytes, Math.floor(statSync(path).size / 2))
  closeSync(fd)
}

const shorten = (path: string, share: number): void => truncateSync(path, Math.floor(statSync(path).size * share))

interface Damage {
  readonly title: string
  readonly act: (dataDir: string) => void
  /** Undefined: something is lost, and must be stated. */
  readonly lossless?: boolean
}

const db = (dataDir: string): string => join(dataDir, 'outbox.db')
const wal = (dataDir: string): string => join(dataDir, 'outbox.db-wal')

const DAMAGES: readonly Damage[] = [
  { title: 'log path 6: a half-written tail of the log', act: (dir) => appendFileSync(wal(dir), randomBytes(6_000)), lossless: true },
  {
    title: 'log path 6: the shared memory file is garbage',
    act: (dir) => writeFileSync(`${db(dir)}-shm`, randomBytes(32_768)),
    lossless: true,
  },
  { title: 'log path 6: a torn write in the middle of the file', act: (dir) => scribble(db(dir), 16_384) },
  { title: 'log path 6: the file is cut off in the middle', act: (dir) => shorten(db(dir), 0.5) },
  { title: 'log path 6: the file is gone, its log is there', act: (dir) => rmSync(db(dir)) },
  {
    title: 'log path 6: the file and its log are gone',
    act: (dir) =>
      readdirSync(dir)
        .filter((name) => name.startsWith('outbox.db'))
        .forEach((name) => rmSync(join(dir, name))),
  },
  { title: 'log path 7: the file is empty', act: (dir) => truncateSync(db(dir), 0) },
  { title: 'log path 7: the file is garbage from its first byte', act: (dir) => writeFileSync(db(dir), randomBytes(100_000)) },
  { title: 'log path 7: state.db is garbage', act: (dir) => writeFileSync(join(dir, 'state.db'), randomBytes(20_000)), lossless: true },
]

const SETTINGS: OutboxSettings = {
  maxBytes: 2 ** 30,
  minFreeBytes: 2 ** 20,
  maxAgeMs: Infinity,
  commit: { maxDelayMs: 'auto', maxBytes: 2 ** 22 },
  dedupe: undefined,
  ledgerMaxDevices: 1_000,
  lanes: { urgent: { whenFull: 'block' }, normal: { whenFull: 'block' }, deferred: { whenFull: 'drop-oldest' } },
}

async function damagedBox(damage: Damage): Promise<Box> {
  const dataDir = join(scope.folder(), 'state')
  cpSync(left.dataDir, dataDir, { recursive: true })
  damage.act(dataDir)
  return setUpBox(scope, { kafka: kafka.endpoint, dataDir })
}

describe('a data directory that is not as we left it', { concurrency: 3 }, () => {
  for (const damage of DAMAGES) {
    test(damage.title, limit, async (t) => {
      const box = await damagedBox(damage)
      await box.gateway.start()
      const client = await connect(t, box.port)
      client.publish('devices/new/logs/app/new-1', 1)
      await client.take('puback')
      const { lost, totals } = await outcome(box)
      t.diagnostic(`${lost.length} acknowledged messages are lost, ${totals.lost.messages} are stated`)
      if (damage.lossless === true) assert.deepEqual(lost, [])
      else assert.match(await box.log(), /outbox\.db is (damaged|gone).*\d+ messages were saved, \d+ are lost/)
      // Where the ledger could not be read, the last note tells what there was, and says of when it is.
      if (totals.lost.messages < lost.length)
        assert.match(
          await box.log(),
          /The last totals known apart from it are of .*(the ledger could not be read|nothing of it could be read)/,
        )
      assert.equal(await box.gateway.end('SIGTERM'), 0)
      if (damage.lossless !== true) await keptAside(box)
    })
  }
})

/** Where a file ends inside a large row decides what SQLite says of it: each of its words must mean damage to us. */
test('log path 6: wherever the file is cut off, the store opens', limit, () => {
  const full = statSync(db(left.dataDir)).size
  const acknowledged = [...left.published.values()].filter((message) => message.acknowledged).length
  let salvaged = 0
  for (let cut = 1; cut <= 40; cut += 1) {
    const directory = join(scope.folder(), 'state')
    cpSync(left.dataDir, directory, { recursive: true })
    truncateSync(db(directory), Math.floor((full * cut) / 41) - ((cut * 511) % 4_096))
    const { engine, guard, state, lock, notices } = openStore({
      directory,
      settings: SETTINGS,
      epoch: 'feedfeedfeedfeed',
      bootId: 'test',
      now: { wallMs: Date.now(), bootMs: 1, trusted: true },
    })
    const told = notices.map(({ text }) => text).join(' ')
    // The log may hold all that is cut off.
    if (told === '') {
      const held = LANES.reduce((sum, lane) => sum + engine.state().lanes[lane].messages, 0)
      assert.ok(held >= acknowledged, `${held} of ${acknowledged} messages are there, and nothing is said`)
      assert.equal(engine.db.pragma('integrity_check', { simple: true }), 'ok')
    } else {
      assert.match(told, /messages were saved, \d+ are lost/)
      salvaged += 1
    }
    for (const opened of [guard, engine.db, state, lock]) opened.close()
  }
  assert.ok(salvaged > 0)
})

/** Copies a data directory, made durable as a disk that had time. */
function copyDurably(from: string, to: string): void {
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(from).filter((entry) => !entry.endsWith('.sock'))) {
    const fd = openSync(join(to, name), 'w')
    writeSync(fd, readFileSync(join(from, name)))
    fsyncSync(fd)
    closeSync(fd)
  }
  for (const folder of [to, dirname(to)]) syncDirectory(folder)
}

test('log path 6: power cuts in the middle of a salvage; the next start finishes it, and loses nothing more', limit, async (t) => {
  const damaged = join(scope.folder(), 'state')
  cpSync(left.dataDir, damaged, { recursive: true })
  scribble(db(damaged), 16_384)
  const whole = await salvagedFrom(damaged, join(scope.folder(), 'state'))
  const mount = await mountForgetful(scope, join(scope.folder(), 'disk'))
  const dataDir = join(mount.path, 'state')
  copyDurably(damaged, dataDir)
  const box = await setUpBox(scope, { kafka: kafka.endpoint, dataDir })
  const dice = new Dice(6)
  let torn = 0
  for (let cut = 0; cut < 8; cut += 1) {
    box.gateway.launch()
    await salvageBegan(dataDir)
    await sleep(dice.between(0, 80))
    torn += (await mount.cut(cut % 2 === 0 ? undefined : cut)).damaged
    box.gateway.signal('SIGKILL')
    await mount.restore()
    await box.gateway.ended()
  }
  assert.ok(torn > 0, 'no cut met a salvage')
  t.diagnostic(`${torn} un-synced writes gone or torn`)
  await box.gateway.start()
  const { lost, totals } = await outcome(box)
  assert.equal(lost.length, whole.lost.length)
  assert.ok(totals.lost.messages >= whole.totals.lost.messages)
  assert.equal(await box.gateway.end('SIGTERM'), 0)
})

/** Or the daemon is up, since a former start had finished it. */
async function salvageBegan(dataDir: string): Promise<void> {
  const names = ['outbox.salvaging', 'control.sock']
  rmSync(join(dataDir, 'control.sock'), { force: true })
  while (!names.some((name) => existsSync(join(dataDir, name)))) await sleep(1)
}

interface Outcome {
  readonly lost: readonly string[]
  readonly totals: LedgerTotals
}

/** What is lost once everything that was saved is in Kafka; nothing else may be wrong. */
async function outcome(box: Box): Promise<Outcome> {
  await until('everything that was saved is in Kafka', async () =>
    Object.values((await box.status()).lanes).every((lane) => lane.messages === 0),
  )
  const { totals, equation } = await box.ledger()
  const { lost, duplicates, altered, outOfOrder } = judge(
    left.published,
    (await box.consumed()).filter(({ key }) => key !== 'new'),
  )
  assert.deepEqual([duplicates, altered, outOfOrder], [[], [], []])
  assert.ok(equation.holds, `the ledger is off by ${equation.difference}`)
  return { lost, totals }
}

async function salvagedFrom(source: string, dataDir: string): Promise<Outcome> {
  cpSync(source, dataDir, { recursive: true })
  const box = await openBox(scope, { kafka: kafka.endpoint, dataDir })
  const seen = await outcome(box)
  await box.gateway.end('SIGTERM')
  return seen
}

/** What was damaged is kept for a person to look at, and the next start has nothing to say. */
async function keptAside(box: Box): Promise<void> {
  const aside = readdirSync(box.dataDir).filter((name) => name.startsWith('outbox.corrupt-'))
  assert.ok(aside.length > 0 || !existsSync(db(left.dataDir)) || /gone/.test(await box.log()))
  const before = (await box.log()).length
  await box.gateway.start()
  assert.doesNotMatch((await box.log()).slice(before), /damaged|gone|lost/)
  assert.equal(await box.gateway.end('SIGTERM'), 0)
}
