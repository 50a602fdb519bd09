import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GatewayError } from '../../daemon/errors.ts'
import { ExportDesk, type ExportNote } from '../../daemon/move/export-desk.ts'
import type { Json } from '../../daemon/patch/memory.ts'
import type { OutboxMoves } from '../../daemon/ports.ts'
import { FakeClock } from '../fakes/clock.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'

const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const END = { lane: 'normal', epoch: 'a'.repeat(16), position: 7 } as const
const FACTS = { messages: 7, bytes: 70, lanes: {}, files: ['/media/stick/x.ndjson'], sha256: '0'.repeat(64) }

const oldNote = (index: number): ExportNote => ({
  ...{ ...FACTS, id: `old-${index}`, state: 'done', gateway: 'gw', ends: [] },
  at: new Date(index * 1_000).toISOString(),
})

function rig(memory: FakeMemory) {
  const moved: unknown[] = []
  const holds: unknown[] = []
  const reports: object[] = []
  const span = { first: 1, last: END.position }
  const epoch = { epoch: END.epoch, bootId: 'b', createdMs: 1, touchedMs: 1, lanes: { normal: span } }
  const moves = {
    closeEpoch: () => Promise.resolve([epoch]),
    keep: () => undefined,
    moveOut: (ends: unknown) => Promise.resolve(moved.push(ends) > 0),
  } as unknown as OutboxMoves
  const desk = new ExportDesk({
    ...{ moves, memory, clock: new FakeClock(), log: SILENT, version: '1', draw: () => 'f'.repeat(16) },
    origin: () => ({ gateway: 'gw', prefix: 'edge', topic: undefined, allowedTopics: [] }),
    hold: (why) => void holds.push(why),
    report: (type, document) => void reports.push({ ...document, type }),
  })
  return { desk, moved, holds, reports }
}

/** What is told as failed must not happen later: the file may be gone by then. */
test('an export whose old notes find no room to be forgotten is carried out, not refused and done at the next start', async () => {
  const memory = new FakeMemory(
    Object.fromEntries(Array.from({ length: 105 }, (_, at) => [`exports/old-${at}`, oldNote(at) as unknown as Json])),
  )
  memory.fault = (changes) => {
    if (Object.values(changes).includes(undefined)) throw new GatewayError('saturated', 'the disk is full')
  }
  const { desk, moved, holds, reports } = rig(memory)
  const { id } = await desk.begin({ lanes: [], epochs: [] })
  await desk.take(id, FACTS)
  await desk.stop()
  assert.deepEqual(moved, [[END]])
  assert.deepEqual(
    reports.map((one) => ({ ...one, at: '' })),
    [{ schema: 1, type: 'exported', at: '', export: id, messages: FACTS.messages, bytes: FACTS.bytes, files: FACTS.files }],
  )
  assert.equal(holds.at(-1), undefined)
  assert.equal((await desk.note(id))?.state, 'done')
})

test('of exports that are done the last hundred are remembered', async () => {
  const memory = new FakeMemory(
    Object.fromEntries(Array.from({ length: 105 }, (_, at) => [`exports/old-${at}`, oldNote(at) as unknown as Json])),
  )
  const { desk } = rig(memory)
  const { id } = await desk.begin({ lanes: [], epochs: [] })
  await desk.take(id, FACTS)
  // Whoever asks for a note waits for nothing; the move goes on beside.
  for (let turns = 0; turns < 50 && memory.below('exports/').size > 100; turns += 1) await new Promise(setImmediate)
  const ids = (await desk.notes()).map((note) => note.id)
  assert.deepEqual([ids.length, ids[0], ids.at(-1)], [100, 'old-6', id])
  await desk.stop()
})
