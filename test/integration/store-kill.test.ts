/** FAILURES, log path 1, 6, 9, 14: `kill -9` under load loses nothing that was settled, and the ledger stays exact. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { imbalance, makeDirectory, StoreRig, textOf } from '../fakes/store-rig.ts'
import { FakeRandom } from '../fakes/clock.ts'

interface Heard {
  settled: string[]
  shed: number
  /** What was read for a delivery. */
  read: Set<string>
  delivered: Record<string, number>
}

async function runAndKill(directory: string, prefix: string, aliveMs: number, heard: Heard): Promise<void> {
  const child = spawn(process.execPath, [new URL('./store-writer.ts', import.meta.url).pathname, directory, prefix], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk
  })
  const closed = once(child, 'close')
  while (!output.includes('ready\n') && child.exitCode === null) await pause(5)
  await pause(aliveMs)
  child.kill('SIGKILL')
  await closed
  for (const line of output.split('\n').slice(0, -1)) note(line, heard)
}

function note(line: string, heard: Heard): void {
  const [kind, what = '', position] = line.split(' ')
  assert.notEqual(kind, 'e', line)
  if (kind === 's') heard.settled.push(what)
  if (kind === 'r') heard.read.add(what)
  if (kind === 'x') heard.shed++
  if (kind === 'd') heard.delivered[what] = Number(position)
}

test('settled messages survive kill -9 at random instants, and every message is accounted for', async () => {
  const directory = makeDirectory()
  const random = new FakeRandom(Number(process.env['SEED'] ?? 7))
  const heard: Heard = { settled: [], shed: 0, read: new Set(), delivered: {} }
  const found = new Map<string, string>()
  try {
    for (let round = 0; round < 8; round++) {
      await runAndKill(directory, `r${round}`, 20 + random.unit() * 250, heard)
      await judge(directory, heard, found)
    }
    assert.ok(heard.settled.length > 500, `only ${heard.settled.length} messages were settled`)
    assert.ok(found.size > heard.settled.length / 2)
  } finally {
    rmSync(directory, { recursive: true })
  }
})

async function judge(directory: string, heard: Heard, found: Map<string, string>): Promise<void> {
  const rig = await new StoreRig({ ledgerMaxDevices: 20 }, directory).start()
  assert.deepEqual(rig.outbox.state().notices, [], 'nothing to salvage after a kill')
  const { lanes } = rig.outbox.state()
  let buffered = 0
  for (const lane of ['urgent', 'normal'] as const) {
    const rows = await rig.readAll(lane)
    buffered += rows.length
    assert.ok(lanes[lane].watermark >= (heard.delivered[lane] ?? 0), 'a delivery that was told is durable')
    assert.equal(rows[0]?.position ?? lanes[lane].highest + 1, lanes[lane].watermark + 1)
    for (const row of rows) {
      // A position belongs to one message for ever.
      const key = `${lane} ${row.position}`
      assert.equal(found.get(key) ?? textOf(row), textOf(row))
      found.set(key, textOf(row))
    }
    assert.equal(lanes[lane].highest, lanes[lane].watermark + rows.length, 'no position is missing')
  }
  const totals = await rig.outbox.ledger.totals()
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
  assert.equal(totals.buffered.messages, buffered, 'the ledger counts what is there')
  assert.ok((totals.shed['over-limit']?.messages ?? 0) >= heard.shed)
  assert.ok(totals.received.messages >= heard.settled.length + heard.shed)
  const stored = totals.delivered.messages + totals.buffered.messages
  assert.equal(stored, lanes.urgent.highest + lanes.normal.highest, 'each position was given to one stored message')
  const texts = new Set(found.values())
  const lost = heard.settled.filter((text) => !texts.has(text) && !heard.read.has(text))
  assert.deepEqual(lost, [], 'settled messages that are neither here nor were ever delivered')
  await rig.close()
}
