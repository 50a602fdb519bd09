/** The outbox ports as their callers see them: one suite for the real store and for the fakes that flows are tested with. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import type { DeviceLane, Entry, OutboxReader, OutboxWriter, Stored } from '../../daemon/ports.ts'
import { FakeClock } from '../fakes/clock.ts'
import { FakeOutboxWriter } from '../fakes/outbox.ts'
import { FakeOutboxReader } from '../fakes/outbox-reader.ts'
import { imbalance, StoreRig, textOf } from '../fakes/store-rig.ts'

interface ReaderSubject {
  readonly reader: () => OutboxReader
  readonly append: (lane: DeviceLane, texts: readonly string[]) => Promise<void>
  readonly restart: () => Promise<void>
  /** received − all outcomes. */
  readonly balance: () => Promise<number>
  readonly letters: () => Promise<number>
}

async function realReader(t: TestContext): Promise<ReaderSubject> {
  const rig = await new StoreRig().start(t)
  return {
    reader: () => rig.outbox,
    append: async (lane, texts) => {
      for (const text of texts) rig.send(text, { lane })
      await rig.commit()
    },
    restart: () => rig.restart('crash'),
    balance: async () => (await imbalance(rig.outbox)).messages,
    letters: async () => (await rig.outbox.deadLetters.list(100)).length,
  }
}

async function fakeReader(): Promise<ReaderSubject> {
  const fake = new FakeOutboxReader(new FakeClock())
  return {
    reader: () => fake,
    append: async (lane, texts) => void fake.append(lane, ...texts.map((text) => ({ payload: Buffer.from(text) }))),
    restart: async () => fake.restart(),
    balance: async () => fake.balance,
    letters: async () => fake.letters.length,
  }
}

const texts = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, index) => `${prefix}${index}`)
const seen = (rows: readonly Stored[]): (string | number)[][] => rows.map((row) => [row.position, textOf(row)])

for (const [name, make] of [
  ['the store', realReader],
  ['the fake', fakeReader],
] as const) {
  describe(`OutboxReader: ${name}`, () => {
    test('reads in order, dense, within the byte budget, at least one', async (t) => {
      const { reader, append } = await make(t)
      await append('normal', texts('a', 10))
      await append('urgent', texts('u', 2))
      assert.deepEqual(seen(await reader().readAfter('normal', 0, 8)), [
        [1, 'a0'],
        [2, 'a1'],
        [3, 'a2'],
        [4, 'a3'],
      ])
      assert.deepEqual(seen(await reader().readAfter('normal', 4, 0)), [[5, 'a4']])
      assert.deepEqual(seen(await reader().readAfter('normal', 9, 1e6)), [[10, 'a9']])
      assert.deepEqual(await reader().readAfter('normal', 10, 1e6), [])
      assert.deepEqual(seen(await reader().readAfter('urgent', 0, 1e6)), [
        [1, 'u0'],
        [2, 'u1'],
      ])
      assert.deepEqual(await reader().readAfter('deferred', 0, 1e6), [])
    })

    test('an advance deletes up to the position and moves the watermark; positions go on', async (t) => {
      const { reader, append, balance } = await make(t)
      await append('normal', texts('a', 10))
      const epoch = (await reader().readAfter('normal', 0, 1))[0]?.epoch ?? ''
      await reader().advanceTo([{ lane: 'normal', epoch, position: 4 }], [])
      assert.equal(reader().state().lanes.normal.watermark, 4)
      assert.equal(reader().state().lanes.normal.messages, 6)
      assert.deepEqual(seen(await reader().readAfter('normal', 0, 2)), [[5, 'a4']])
      await reader().advanceTo([{ lane: 'normal', epoch, position: 4 }], [])
      await reader().advanceTo([{ lane: 'normal', epoch, position: 2 }], [])
      assert.equal(reader().state().lanes.normal.messages, 6, 'saying it again, or less, changes nothing')
      await reader().advanceTo([{ lane: 'normal', epoch, position: 10 }], [])
      await append('normal', ['b'])
      assert.deepEqual(seen(await reader().readAfter('normal', 0, 100)), [[11, 'b']])
      assert.equal(await balance(), 0)
    })

    test('each start has its own epoch; an answer holds one, and an advance touches one', async (t) => {
      const { reader, append, restart } = await make(t)
      await append('normal', texts('a', 3))
      await restart()
      await append('normal', texts('b', 3))
      const first = await reader().readAfter('normal', 0, 1e6)
      const second = await reader().readAfter('normal', 3, 1e6)
      assert.deepEqual(seen(first), [
        [1, 'a0'],
        [2, 'a1'],
        [3, 'a2'],
      ])
      assert.deepEqual(seen(second), [
        [4, 'b0'],
        [5, 'b1'],
        [6, 'b2'],
      ])
      const [one, two] = [first[0]?.epoch ?? '', second[0]?.epoch ?? '']
      assert.notEqual(one, two)
      assert.match(one, /^[0-9a-f]{16}$/)
      const epochs = await reader().epochs()
      assert.deepEqual(
        epochs.map(({ epoch, lanes }) => [epoch, lanes]),
        [
          [one, { normal: { first: 1, last: 3 } }],
          [two, { normal: { first: 4, last: 6 } }],
        ],
      )
      await reader().advanceTo([{ lane: 'normal', epoch: one, position: 1_000 }], [])
      assert.deepEqual(seen(await reader().readAfter('normal', 0, 1e6)), [
        [4, 'b0'],
        [5, 'b1'],
        [6, 'b2'],
      ])
      assert.deepEqual(
        (await reader().epochs()).map(({ epoch }) => epoch),
        [two],
        'an epoch without rows is forgotten',
      )
    })

    test('a dead letter leaves a hole that no answer crosses, and counts once', async (t) => {
      const { reader, append, balance, letters } = await make(t)
      await append('normal', texts('a', 5))
      const epoch = (await reader().readAfter('normal', 0, 1))[0]?.epoch ?? ''
      const letter = { lane: 'normal' as const, epoch, position: 3, reason: 'too large' }
      await reader().advanceTo([], [letter])
      await reader().advanceTo([], [letter])
      assert.equal(await letters(), 1)
      assert.deepEqual(seen(await reader().readAfter('normal', 0, 1e6)), [
        [1, 'a0'],
        [2, 'a1'],
      ])
      assert.deepEqual(seen(await reader().readAfter('normal', 2, 1e6)), [
        [4, 'a3'],
        [5, 'a4'],
      ])
      assert.equal(reader().state().lanes.normal.messages, 4)
      assert.equal(await balance(), 0)
      await reader().advanceTo([{ lane: 'normal', epoch, position: 5 }], [{ ...letter, position: 4 }])
      assert.equal(await letters(), 2)
      assert.equal(reader().state().lanes.normal.messages, 0)
      assert.equal(await balance(), 0)
    })

    test('tells of appends until it is told to stop', async (t) => {
      const { reader, append } = await make(t)
      let calls = 0
      const stop = reader().onAppend(() => calls++)
      await append('normal', ['a'])
      assert.ok(calls > 0)
      const before = calls
      stop()
      await append('normal', ['b'])
      assert.equal(calls, before)
    })
  })
}

interface WriterSubject {
  readonly writer: OutboxWriter
  /** Makes everything durable that was submitted. */
  readonly commit: () => Promise<void>
}

async function realWriter(t: TestContext): Promise<WriterSubject> {
  const rig = await new StoreRig({ dedupe: { windowMs: 60_000, maxIds: 100 } }).start(t)
  return {
    writer: rig.outbox,
    commit: () =>
      rig.until(() => {
        rig.clock.advance(rig.delayMs)
        return rig.outbox.state().inFlight.messages === 0
      }),
  }
}

async function fakeWriter(): Promise<WriterSubject> {
  const fake = new FakeOutboxWriter()
  return { writer: fake, commit: async () => fake.commit() }
}

function entry(text: string, verdict: Entry['verdict'], settle: () => void, more: Partial<Entry> = {}): Entry {
  return {
    envelope: { device: 'd', stream: 's', topic: 't', payload: Buffer.from(text), receivedMs: 1_000, clockTrusted: true, bootMs: 1 },
    verdict,
    bytes: text.length,
    qos: 1,
    settle,
    ...more,
  }
}

for (const [name, make] of [
  ['the store', realWriter],
  ['the fake', fakeWriter],
] as const) {
  describe(`OutboxWriter: ${name}`, () => {
    test('settles each entry once, in the order of submission, and not before the commit', async (t) => {
      const { writer, commit } = await make(t)
      const settled: number[] = []
      const verdicts: Entry['verdict'][] = [{ lane: 'normal' }, { shed: 'over-limit' }, { lane: 'urgent' }, { lane: 'deferred' }]
      for (let index = 0; index < 40; index++)
        writer.submit(entry(`m${index}`, verdicts[index % 4] ?? { lane: 'normal' }, () => settled.push(index)))
      assert.deepEqual(settled, [])
      assert.deepEqual(writer.state().inFlight.messages, 40)
      await commit()
      assert.deepEqual(
        settled,
        Array.from({ length: 40 }, (_, index) => index),
      )
      await commit()
      assert.equal(settled.length, 40)
      assert.equal(writer.state().lanes.normal.messages, 10)
    })

    test('an entry may be submitted from a settle', async (t) => {
      const { writer, commit } = await make(t)
      const settled: string[] = []
      writer.submit(
        entry('first', { lane: 'normal' }, () => {
          settled.push('first')
          writer.submit(entry('second', { lane: 'normal' }, () => settled.push('second')))
        }),
      )
      await commit()
      await commit()
      assert.deepEqual(settled, ['first', 'second'])
    })

    test('knows exchanges until their release and ids once submitted', async (t) => {
      const { writer, commit } = await make(t)
      const id = Buffer.alloc(16, 7)
      assert.equal(writer.seen(id), false)
      assert.equal(writer.hasExchange('c\x001'), false)
      writer.submit(entry('x', { lane: 'normal' }, () => undefined, { qos: 2, exchange: 'c\x001', messageId: id }))
      await commit()
      assert.equal(writer.seen(id), true)
      assert.equal(writer.hasExchange('c\x001'), true)
      let released = false
      writer.releaseExchange('c\x001', () => (released = true))
      assert.equal(writer.hasExchange('c\x001'), false)
      writer.submit(entry('y', { lane: 'normal' }, () => undefined))
      await commit()
      assert.equal(released, true)
    })
  })
}
