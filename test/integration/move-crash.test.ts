/** An export that ends at each of its steps by a crash: either the box still has the messages, or they are exported. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { ExportDesk, type ExportFacts } from '../../daemon/move/export-desk.ts'
import { imbalance, silent, StoreRig } from '../fakes/store-rig.ts'

const FACTS: ExportFacts = { files: ['/stick/x.ndjson'], sha256: 'f'.repeat(64), messages: 45_000, bytes: 1, lanes: {} }
const ALL = { lanes: [], epochs: [] }

class Stick {
  readonly rig: StoreRig
  readonly holds: boolean[] = []
  desk: ExportDesk
  #drawn = 0

  constructor(rig: StoreRig) {
    this.rig = rig
    this.desk = this.#make()
  }

  async crash(): Promise<void> {
    await this.rig.restart('crash')
    this.desk = this.#make()
    await this.desk.start(new AbortController().signal)
  }

  async lines(id: string): Promise<number> {
    let count = 0
    for await (const text of this.desk.lines(id)) count += text.split('\n').length - 1
    return count
  }

  /** Every message is in the buffer or exported; returns how many are exported. */
  async exported(): Promise<number> {
    assert.deepEqual(await imbalance(this.rig.outbox), { messages: 0, bytes: 0 })
    return (await this.rig.outbox.ledger.totals()).exported.messages
  }

  #make(): ExportDesk {
    const { moves, memory } = this.rig.outbox
    return new ExportDesk({
      ...{ moves, memory, clock: this.rig.clock, log: silent, version: '1' },
      draw: () => `${(this.#drawn += 1)}`.padStart(16, '0'),
      origin: () => ({ gateway: 'gw', prefix: 'edge', topic: 'logs', allowedTopics: [] }),
      hold: (why) => this.holds.push(why !== undefined),
      report: () => undefined,
    })
  }
}

async function filled(t: TestContext): Promise<Stick> {
  const stick = new Stick(await new StoreRig().start(t))
  for (let round = 0; round < 3; round += 1) await stick.rig.append(15_000)
  return stick
}

test('a crash before the decision leaves all in the buffer; after it, all leaves', async (t) => {
  const stick = await filled(t)
  const first = await stick.desk.begin(ALL)
  await stick.crash()
  assert.equal(await stick.exported(), 0)
  await assert.rejects(stick.desk.take(first.id, FACTS), /not under way any more/)
  const second = await stick.desk.begin(ALL)
  assert.equal(await stick.lines(second.id), 45_000)
  await stick.crash()
  assert.equal(await stick.exported(), 0)
  const third = await stick.desk.begin(ALL)
  // Decided, and dead before the first row went, or in the middle.
  await stick.desk.take(third.id, FACTS)
  await stick.crash()
  await stick.rig.append(5)
  await stick.rig.until(async () => (await stick.desk.note(third.id))?.state === 'done')
  assert.equal(await stick.exported(), 45_000)
  assert.equal((await stick.rig.readAll('normal')).length, 5)
  await stick.crash()
  assert.equal(await stick.exported(), 45_000)
})

test('the relay waits while an export is under way, and not after its command has gone', async (t) => {
  const stick = await filled(t)
  const { id } = await stick.desk.begin(ALL)
  await assert.rejects(stick.desk.begin(ALL), /another export is under way/)
  assert.deepEqual(stick.holds, [true])
  stick.desk.alive(id)
  stick.rig.clock.advance(121_000)
  assert.deepEqual(stick.holds, [true, false])
  const again = await stick.desk.begin(ALL)
  for await (const text of stick.desk.lines(again.id)) {
    assert.ok(text.length > 0)
    break
  }
  assert.deepEqual(stick.holds, [true, false, true, false], 'its reader went away')
  await assert.rejects(stick.desk.begin({ lanes: ['urgent'], epochs: [] }), /nothing to export/)
  assert.deepEqual(stick.holds.at(-1), false)
})

test('one epoch, one lane', async (t) => {
  const stick = new Stick(await new StoreRig().start(t))
  await stick.rig.append(10)
  await stick.rig.append(4, { lane: 'urgent' })
  const [old] = await stick.rig.outbox.moves.closeEpoch()
  await stick.rig.append(6)
  const young = await stick.desk.begin({ lanes: ['normal'], epochs: [old?.epoch ?? ''] })
  assert.equal(await stick.lines(young.id), 10)
  await stick.desk.take(young.id, { ...FACTS, messages: 10 })
  await stick.rig.until(async () => (await stick.desk.note(young.id))?.state === 'done')
  assert.equal(await stick.exported(), 10)
  assert.deepEqual([(await stick.rig.readAll('normal')).length, (await stick.rig.readAll('urgent')).length], [6, 4])
})
