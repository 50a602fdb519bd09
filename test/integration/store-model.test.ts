/**
 * The outbox against a simple model: random appends, reads, advances, dead letters, evictions and crashes. After
 * each step the rows on the disk, the positions and the ledger must be what the model says (G3, G4).
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { test } from 'node:test'
import BetterSqlite from 'better-sqlite3'
import fc from 'fast-check'
import { DEVICE_LANES } from '../../daemon/ports.ts'
import type { DeviceLane, ShedReason } from '../../daemon/ports.ts'
import { decodeGroup } from '../../store/frames.ts'
import { openGroup } from '../../store/group.ts'
import { imbalance, StoreRig, textOf } from '../fakes/store-rig.ts'

interface Row {
  readonly position: number
  readonly text: string
  readonly bytes: number
}

interface LaneModel {
  rows: Row[]
  highest: number
  /** Rows up to here are in the relay's hands, or were there at a start of which the relay has said nothing yet. */
  handedTo: number
  guardedTo: number
}

const emptyCounts = (): Record<'received' | 'delivered' | 'dead' | 'evicted' | 'over-limit' | 'dropped', number> => ({
  received: 0,
  delivered: 0,
  dead: 0,
  evicted: 0,
  'over-limit': 0,
  dropped: 0,
})

class Model {
  readonly lanes: Record<DeviceLane, LaneModel> = { urgent: emptyLane(), normal: emptyLane(), deferred: emptyLane() }
  readonly counts = emptyCounts()
  readonly letters: { id: number; lane: DeviceLane; text: string }[] = []
  nextText = 0
}

function emptyLane(): LaneModel {
  return { rows: [], highest: 0, handedTo: 0, guardedTo: 0 }
}

type Command =
  | { readonly kind: 'append'; readonly lane: DeviceLane; readonly count: number; readonly size: number; readonly shed: number }
  | { readonly kind: 'read'; readonly lane: DeviceLane; readonly from: number; readonly maxBytes: number }
  | { readonly kind: 'advance'; readonly lane: DeviceLane; readonly share: number; readonly letter: number }
  | { readonly kind: 'unprotect' }
  | { readonly kind: 'retry' | 'drop'; readonly pick: number }
  | { readonly kind: 'restart'; readonly end: 'stop' | 'crash' }
  | { readonly kind: 'tick' }

const lane = fc.constantFrom(...DEVICE_LANES)
const share = fc.integer({ min: 0, max: 20 }).map((twentieths) => twentieths / 20)
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      lane,
      count: fc.nat(120).map((count) => count + 1),
      size: fc.constantFrom(1, 20, 200, 900),
      shed: fc.nat(3),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('read' as const), lane, from: share, maxBytes: fc.integer({ min: 1, max: 20_000 }) }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('advance' as const), lane, share, letter: share }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'unprotect' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('retry' as const, 'drop' as const), pick: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const), end: fc.constantFrom('stop' as const, 'crash' as const) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'tick' as const }) },
)

/** What lies on the disk, read past the outbox so that nothing is handed out (and so protected). */
function onDisk(directory: string, name: DeviceLane, watermark: number): Map<number, string> {
  const db = new BetterSqlite(join(directory, 'outbox.db'), { readonly: true })
  try {
    const index = DEVICE_LANES.indexOf(name)
    const holes = new Set(db.prepare('SELECT position FROM holes WHERE lane = ?').pluck().all(index) as number[])
    const found = new Map<number, string>()
    for (const row of db.prepare(`SELECT * FROM outbox_${name} ORDER BY first`).all() as {
      first: number
      count: number
      epoch: number
      bytes: number
      frames: Buffer
    }[]) {
      decodeGroup(openGroup(row.frames, { ...row, lane: index }), 0, row.count).forEach((message, at) => {
        const position = row.first + at
        assert.ok('envelope' in message)
        if (position > watermark && !holes.has(position)) found.set(position, Buffer.from(message.envelope.payload).toString())
      })
    }
    return found
  } finally {
    db.close()
  }
}

/** Texts that no compression makes smaller than half. */
function noise(seed: number, size: number): string {
  let text = `${seed}:`
  for (let part = 0; text.length < size; part++) text += createHash('sha256').update(`${seed}/${part}`).digest('hex')
  return text.slice(0, Math.max(size, `${seed}:`.length))
}

async function append(rig: StoreRig, model: Model, { lane: name, count, size, shed }: Extract<Command, { kind: 'append' }>): Promise<void> {
  // Small enough for one commit: its chunk is then stored or shed as a whole.
  const texts = Array.from({ length: Math.min(count, Math.ceil(50_000 / size)) }, () => noise(model.nextText++, size))
  for (const [index, text] of texts.entries()) rig.send(text, { lane: name, device: `dev-${index % 7}` })
  for (let index = 0; index < shed; index++) rig.send('shed', { shed: 'over-limit', device: 'noisy' })
  await rig.commit()
  model.counts.received += texts.length + shed
  model.counts['over-limit'] += shed
  const state = model.lanes[name]
  const { highest } = rig.outbox.state().lanes[name]
  // A lane that never blocks and has nothing to give up sheds the newcomers, all of them.
  if (highest === state.highest) model.counts.evicted += texts.length
  else for (const text of texts) state.rows.push({ position: ++state.highest, text, bytes: text.length })
  assert.equal(highest, state.highest, 'positions are dense and never given twice')
}

async function read(rig: StoreRig, model: Model, { lane: name, from, maxBytes }: Extract<Command, { kind: 'read' }>): Promise<void> {
  const state = model.lanes[name]
  const at = Math.floor(from * (state.highest + 1))
  const answer = await rig.outbox.readAfter(name, at, maxBytes)
  const expected = state.rows.filter((row) => row.position > at).slice(0, answer.length)
  assert.deepEqual(
    answer.map((row) => [row.position, textOf(row)]),
    expected.map((row) => [row.position, row.text]),
  )
  assert.equal(answer.length === 0, !state.rows.some((row) => row.position > at))
  assert.ok(answer.length <= 1 || expected.reduce((sum, row) => sum + row.bytes, 0) <= maxBytes)
  assert.equal(new Set(answer.map((row) => row.epoch)).size <= 1, true)
  const last = answer.at(-1)?.position ?? 0
  assert.ok(answer.length === 0 || last - (answer[0]?.position ?? 0) === answer.length - 1, 'an answer has no gap')
  state.handedTo = Math.max(state.handedTo, last)
}

async function advance(
  rig: StoreRig,
  model: Model,
  { lane: name, share: upTo, letter }: Extract<Command, { kind: 'advance' }>,
): Promise<void> {
  const state = model.lanes[name]
  const [first] = await rig.outbox.readAfter(name, 0, 1)
  if (first === undefined) return
  state.handedTo = Math.max(state.handedTo, first.position)
  const epochs = await rig.outbox.epochs()
  const last = epochs.find((epoch) => epoch.epoch === first.epoch)?.lanes[name]?.last ?? 0
  const position = first.position + Math.floor(upTo * (last - first.position))
  const dead = state.rows.filter((row) => row.position <= last && row.position % 5 === Math.floor(letter * 20)).slice(0, 2)
  const letters = dead.map((row) => ({ lane: name, epoch: first.epoch, position: row.position, reason: 'test' }))
  await rig.outbox.advanceTo([{ lane: name, epoch: first.epoch, position }], letters)
  for (const each of Object.values(model.lanes)) each.guardedTo = 0
  const delivered = state.rows.filter((row) => row.position <= position && !dead.includes(row))
  state.rows = state.rows.filter((row) => row.position > position && !dead.includes(row))
  model.counts.delivered += delivered.length
  model.counts.dead += dead.length
  const listed = await rig.outbox.deadLetters.list(1_000)
  for (const { id, envelope } of listed.slice(model.letters.length))
    model.letters.push({ id, lane: name, text: Buffer.from(envelope.payload).toString() })
}

async function decide(rig: StoreRig, model: Model, kind: 'retry' | 'drop', pick: number): Promise<void> {
  const index = pick % Math.max(1, model.letters.length)
  const letter = model.letters[index]
  assert.equal(await rig.outbox.deadLetters[kind](letter?.id ?? 9_999_999), letter !== undefined)
  if (letter === undefined) return
  model.letters.splice(index, 1)
  model.counts.dead--
  if (kind === 'drop') model.counts.dropped++
  else model.lanes[letter.lane].rows.push({ position: ++model.lanes[letter.lane].highest, text: letter.text, bytes: letter.text.length })
}

async function run(rig: StoreRig, model: Model, step: Command): Promise<void> {
  switch (step.kind) {
    case 'append':
      return append(rig, model, step)
    case 'read':
      return read(rig, model, step)
    case 'advance':
      return advance(rig, model, step)
    case 'unprotect': {
      rig.outbox.unprotect()
      for (const each of Object.values(model.lanes)) each.handedTo = each.guardedTo = 0
      return
    }
    case 'retry':
    case 'drop':
      return decide(rig, model, step.kind, step.pick)
    case 'restart': {
      await rig.restart(step.end)
      for (const each of Object.values(model.lanes)) {
        each.handedTo = 0
        each.guardedTo = each.highest
      }
      return
    }
    case 'tick':
      return rig.tick()
  }
}

async function check(rig: StoreRig, model: Model): Promise<void> {
  await rig.outbox.epochs()
  const { lanes } = rig.outbox.state()
  for (const name of DEVICE_LANES) {
    const state = model.lanes[name]
    const found = onDisk(rig.directory, name, lanes[name].watermark)
    const gone = state.rows.filter((row) => !found.has(row.position))
    for (const row of gone)
      assert.ok(row.position > Math.max(state.handedTo, state.guardedTo), `${name} ${row.position} was evicted though it was protected`)
    model.counts.evicted += gone.length
    state.rows = state.rows.filter((row) => found.has(row.position))
    assert.deepEqual(
      [...found],
      state.rows.map((row) => [row.position, row.text]),
      `rows of ${name}`,
    )
    assert.equal(lanes[name].messages, state.rows.length)
    assert.equal(
      lanes[name].bytes,
      state.rows.reduce((sum, row) => sum + row.bytes, 0),
    )
    assert.ok(lanes[name].watermark < (state.rows[0]?.position ?? Infinity))
  }
  const totals = await rig.outbox.ledger.totals()
  const shed = (reason: ShedReason): number => totals.shed[reason]?.messages ?? 0
  assert.deepEqual(
    {
      received: totals.received.messages,
      delivered: totals.delivered.messages,
      dead: totals.deadLettered.messages,
      evicted: shed('evicted'),
      'over-limit': shed('over-limit'),
      dropped: shed('dead-letter-dropped'),
    },
    model.counts,
  )
  assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
}

for (const whenFull of ['drop-oldest', 'block'] as const) {
  test(`the outbox does what the model says, under ${whenFull}`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 40, size: 'max' }), async (commands) => {
        const small = whenFull === 'drop-oldest'
        const rig = await new StoreRig({
          maxBytes: small ? 150 << 10 : 64 << 20,
          lanes: { urgent: { whenFull }, normal: { whenFull }, deferred: { whenFull } },
          ledgerMaxDevices: 4,
        }).start()
        try {
          const model = new Model()
          for (const step of commands) {
            await run(rig, model, step)
            await check(rig, model)
          }
        } finally {
          await rig.close()
        }
      }),
      { numRuns: 15, endOnFailure: true },
    )
  })
}
