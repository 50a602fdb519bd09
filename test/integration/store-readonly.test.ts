/** The files of a stopped gateway, read by a member of their group who may not write, without a change to them. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, cpSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { kindOf } from '../../daemon/errors.ts'
import { StoppedOutbox } from '../../store/readonly.ts'
import { makeDirectory, StoreRig } from '../fakes/store-rig.ts'

const NOBODY = 65_534
const LOOK = `
const { StoppedOutbox } = await import(process.argv[1])
const outbox = StoppedOutbox.open(process.argv[2])
const lanes = outbox.lanes()
console.log(JSON.stringify({ uid: process.getuid(), normal: lanes.normal.messages, urgent: lanes.urgent.highest, totals: outbox.totals(), letters: outbox.deadLetters(9).map((letter) => letter.reason), epochs: outbox.epochs().length }))
outbox.close()`

function look(directory: string): {
  uid: number
  normal: number
  urgent: number
  totals: { received: { messages: number }; buffered: { messages: number } }
  letters: string[]
  epochs: number
} {
  const child = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', LOOK, new URL('../../store/readonly.ts', import.meta.url).href, directory],
    { uid: NOBODY, gid: NOBODY, encoding: 'utf8' },
  )
  assert.equal(child.status, 0, child.stderr)
  return JSON.parse(child.stdout) as ReturnType<typeof look>
}

/** As a package would set it up: the group may look, nothing more. */
function giveToGroup(directory: string): void {
  chownSync(directory, 0, NOBODY)
  chmodSync(directory, 0o750)
  for (const name of readdirSync(directory)) {
    chownSync(join(directory, name), 0, NOBODY)
    chmodSync(join(directory, name), 0o640)
  }
}

for (const end of ['clean', 'killed'] as const) {
  test(`a group member reads the files of a gateway that was ${end === 'clean' ? 'stopped' : 'killed'}`, async (t) => {
    assert.equal(process.getuid?.(), 0, 'this test becomes another user, so it needs root')
    const directory = makeDirectory()
    t.after(() => rmSync(directory, { recursive: true }))
    const rig = await new StoreRig().start(t)
    await rig.append(20)
    await rig.append(3, { lane: 'urgent' })
    const [first] = await rig.outbox.readAfter('normal', 0, 1)
    await rig.outbox.advanceTo(
      [{ lane: 'normal', epoch: first?.epoch ?? '', position: 5 }],
      [{ lane: 'normal', epoch: first?.epoch ?? '', position: 9, reason: 'too large' }],
    )
    // A copy under the running outbox is what a kill leaves.
    if (end === 'clean') await rig.outbox.stop(Infinity)
    cpSync(rig.directory, directory, { recursive: true })
    giveToGroup(directory)
    const before = readdirSync(directory)
    const bytes = readFileSync(join(directory, 'outbox.db'))
    const seen = look(directory)
    assert.deepEqual(
      { ...seen, totals: seen.totals.received.messages },
      { uid: NOBODY, normal: 14, urgent: 3, totals: 23, letters: ['too large'], epochs: 1 },
    )
    assert.equal(seen.totals.buffered.messages, 17)
    assert.deepEqual(readdirSync(directory), before)
    assert.deepEqual(readFileSync(join(directory, 'outbox.db')), bytes)
  })
}

test('a running gateway is not read past; an empty directory is named', async (t) => {
  const rig = await new StoreRig().start(t)
  assert.throws(
    () => StoppedOutbox.open(rig.directory),
    (error) => kindOf(error) === 'rejected' && /a daemon \(pid \d+\) uses/.test(String(error)),
  )
  const empty = makeDirectory()
  t.after(() => rmSync(empty, { recursive: true }))
  assert.throws(() => StoppedOutbox.open(empty), /there is no buffer in/)
  assert.deepEqual(readdirSync(empty), [])
})
