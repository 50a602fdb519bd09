/**
 * `kill -9` of the daemon at each moment of a patch: around each record of the journal, and of the telling. After the
 * restart the box is the old one or the new one, whole; etcd has one end; nothing is left behind; no message is lost.
 * By default each way and kind is killed at some of its moments, all of them together; `PATCH_KILLS=all` takes each.
 */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { PREFIX, readHistory, toolsFor } from '../contract/etcd-kit.ts'
import { until } from '../fleet/box.ts'
import { MortalBox, mortalProgram, TERMINAL, type Tools, type Way } from '../fleet/patch-kills.ts'
import { serviceScope } from '../services/index.ts'
import { PATCH_KINDS } from '../../daemon/patch/document.ts'

const scope = serviceScope()
const isWhole = process.env['PATCH_KILLS'] === 'all'
const WAYS: readonly Way[] = ['forward', 'back', 'undo']
let tools: Tools

before(async () => {
  const service = await scope.etcd()
  const { etcd } = toolsFor(service.port)
  scope.atEnd(() => etcd.close())
  const program = await mortalProgram(join(scope.folder(), 'program'))
  tools = { scope, etcd, service, prefix: PREFIX, program, key: generateKeyPairSync('ed25519').privateKey }
})

describe('killed in the middle of a patch', { concurrency: 3, timeout: isWhole ? 3_600_000 : 300_000 }, () => {
  for (const [offset, kind] of PATCH_KINDS.entries()) {
    test(`${kind}: old or new whole, told once, nothing left behind`, async (t) => {
      const mortal = await MortalBox.start(tools, kind)
      const devices = mortal.box.fleet({ devices: 2, ratePerDevice: 5 })
      devices.start()
      const kills: string[] = []
      for (const way of WAYS) {
        const skip = isWhole ? 1 : way === 'undo' ? 6 : 9
        kills.push(`${way} ${await mortal.killAlong(way, isWhole ? 0 : (offset * 2) % skip, skip)}`)
      }
      t.diagnostic(`killed: ${kills.join(', ')}`)
      devices.quiet()
      await until('all acknowledged', () => devices.pending === 0)
      const { lanes } = await mortal.box.status()
      const kept = Object.entries(lanes).reduce((sum, [name, { messages }]) => (name === 'internal' ? sum : sum + messages), 0)
      assert.equal(kept, devices.published.size)
      await assertToldOnce(mortal)
    })
  }
})

/** One end for each start, in etcd's own history. */
async function assertToldOnce({ gateway, told }: MortalBox): Promise<void> {
  const history = await readHistory(tools.service.endpoint)
  for (const id of told) {
    const key = `gateways/${gateway}/results/${id}`
    const states = history
      .filter((event) => event.key === key)
      .map(({ value }) => (JSON.parse(Buffer.from(value).toString()) as { state: string }).state)
    const ends = states.filter((state) => TERMINAL.includes(state))
    const wanted = id.includes('-undo-') ? ['completed', 'rolled-back'] : ends.slice(0, 1)
    assert.deepEqual([states[0], ends], ['applying', wanted], id)
    const failures = new Set(history.filter(({ key: one }) => one.startsWith(`failures/${id}/`)).map(({ key: one }) => one))
    assert.equal(failures.size, ends.includes('failed') ? 1 : 0, id)
  }
}
