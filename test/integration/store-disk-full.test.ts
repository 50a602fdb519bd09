/** FAILURES, log path 8: a disk that is really full. Deletes still work, nothing is acknowledged, intake resumes by itself. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { imbalance, StoreRig, textOf } from '../fakes/store-rig.ts'

/** A small file system of its own; the test fails where it can't be mounted. */
async function withSmallDisk(
  mib: number,
  body: (directory: string, ballast: (leaveBytes: number) => void) => Promise<void>,
): Promise<void> {
  const mount = mkdtempSync(join(tmpdir(), 'store-disk-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', mount])
  try {
    const directory = join(mount, 'gateway')
    mkdirSync(directory)
    await body(directory, (leaveBytes) => {
      const { bavail, bsize } = statfsSync(mount)
      const size = Math.max(0, bavail * bsize - leaveBytes)
      writeFileSync(join(mount, 'ballast'), Buffer.alloc(size, 1))
    })
  } finally {
    execFileSync('umount', ['-l', mount])
    rmSync(mount, { recursive: true })
  }
}

function noise(bytes: number): string {
  return randomBytes(bytes / 2).toString('hex')
}

test('a full disk blocks intake, keeps what was settled, lets deletes through and resumes by itself', async (t) => {
  await withSmallDisk(48, async (directory, ballast) => {
    const rig = await new StoreRig(
      { maxBytes: 1 << 30, lanes: { urgent: { whenFull: 'block' }, normal: { whenFull: 'block' }, deferred: { whenFull: 'block' } } },
      directory,
    ).start(t)
    await rig.append(500, {}, (index) => `before ${index} ${noise(1_000)}`)
    // Not a byte is left: even what is only counted finds no room in the log.
    ballast(0)
    const before = rig.settled.length
    let rooms = 0
    rig.outbox.onRoomChange(() => rooms++)
    for (let index = 0; index < 500; index++) rig.send(`shed ${index}`, { shed: 'over-limit', device: `device-${noise(100)}` })
    await rig.until(() => {
      rig.clock.advance(rig.delayMs)
      return rig.outbox.state().blockedReason !== undefined
    })
    for (let index = 0; index < 2_000; index++) rig.send(`during ${index} ${noise(2_000)}`)
    await rig.commit()
    const state = rig.outbox.state()
    assert.match(state.blockedReason ?? '', /the disk is full/)
    assert.equal(state.lanes.normal.blocked, true)
    assert.equal(rooms, 1)
    assert.equal(existsSync(join(directory, 'reserve')), false, 'the reserve was given up')
    const settledThen = rig.settled.length
    assert.equal(settledThen, before)
    assert.equal(state.inFlight.messages, 2_500, 'what is not settled is in flight')
    await rig.tick()
    assert.equal(rig.settled.length, settledThen, 'nothing more is settled on a full disk')
    assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
    rig.outbox.submitInternal({ destination: 'events', key: 'gw', value: Buffer.from('x'), headers: [], receivedMs: 1 })
    await rig.tick()
    assert.deepEqual(rig.warnings.slice(1), [
      "records of the gateway's own (events, ledger) were dropped: their share of the buffer is full, or Kafka refuses them",
    ])

    // Deletes work on the full disk.
    const rows = await rig.readAll('normal')
    const some = rows[Math.floor(rows.length / 2)]
    assert.ok(some !== undefined && 'envelope' in some)
    await rig.outbox.advanceTo([{ lane: 'normal', epoch: some.epoch, position: some.position }], [])
    assert.equal(rig.outbox.state().lanes.normal.watermark, some.position)
    assert.equal(existsSync(join(directory, 'reserve')), false)

    // Room comes back from outside.
    rmSync(join(directory, '..', 'ballast'))
    await rig.until(() => {
      rig.clock.advance(1_000)
      return rig.settled.length === 3_000
    })
    assert.equal(rig.outbox.state().blockedReason, undefined)
    assert.equal(rooms, 2)
    assert.equal(statSync(join(directory, 'reserve')).size, 4 << 20, 'the reserve is back')
    const all = [...rows.slice(0, rows.indexOf(some) + 1), ...(await rig.readAll('normal', some.position))]
    assert.deepEqual(
      all.map((row) => row.position),
      Array.from({ length: 2_500 }, (_, index) => index + 1),
      'a commit that failed took no position',
    )
    assert.deepEqual(
      all.map((row) => textOf(row).split(' ', 2).join(' ')),
      [...Array.from({ length: 500 }, (_, index) => `before ${index}`), ...Array.from({ length: 2_000 }, (_, index) => `during ${index}`)],
    )
    assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
    assert.equal((await rig.outbox.ledger.totals()).shed['over-limit']?.messages, 500)
    assert.deepEqual(rig.failures, [])
    await rig.close()
  })
})

test('a start on a full disk succeeds, and delivering makes room', async (t) => {
  await withSmallDisk(40, async (directory, ballast) => {
    const first = await new StoreRig({}, directory).start(t)
    await first.append(3_000, {}, (index) => `${index} ${noise(1_000)}`)
    await first.close()
    ballast(0)
    const rig = await new StoreRig({}, directory).start(t)
    const rows = await rig.readAll('normal')
    assert.equal(rows.length, 3_000)
    const last = rows.at(-1)
    assert.ok(last !== undefined)
    await rig.outbox.advanceTo([{ lane: 'normal', epoch: last.epoch, position: last.position }], [])
    assert.equal(rig.outbox.state().lanes.normal.messages, 0)
    assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
    await rig.close()
  })
})

test('a start with the disk full and no reserve left by the life before', async (t) => {
  await withSmallDisk(24, async (directory, ballast) => {
    const first = await new StoreRig({}, directory).start(t)
    await first.append(100)
    await first.close()
    rmSync(join(directory, 'reserve'))
    ballast(0)
    const rig = new StoreRig({}, directory)
    await assert.rejects(rig.start(), /can't be opened: .*(full|SHM|disk I\/O)/)
    rmSync(join(directory, '..', 'ballast'))
    const again = await new StoreRig({}, directory).start(t)
    assert.equal((await again.readAll('normal')).length, 100)
    await again.close()
  })
})
