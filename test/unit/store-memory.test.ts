/** What the main thread of the store keeps in memory: message ids, exchanges, the commit under way. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Entry } from '../../daemon/ports.ts'
import { CommitQueue } from '../../store/commit-queue.ts'
import { Exchanges } from '../../store/exchanges.ts'
import { MessageIds } from '../../store/message-ids.ts'
import type { CommitRequest } from '../../store/protocol.ts'
import { FakeClock } from '../fakes/clock.ts'

const idOf = (number: number): Uint8Array => createHash('md5').update(String(number)).digest()

test('message ids: the window and the number are kept exactly, as a simple list would', () => {
  const step = fc.record({ id: fc.nat(60), passMs: fc.constantFrom(0, 0, 100, 1_000, 7_000), limit: fc.constantFrom(0, 0, 0, 5, 40) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
      let limits = { windowMs: 10_000, maxIds: 20 }
      const ids = new MessageIds(limits)
      let list: { id: number; atMs: number }[] = []
      let nowMs = 5_000
      for (const { id, passMs, limit } of steps) {
        nowMs += passMs
        if (limit > 0) {
          limits = { ...limits, maxIds: limit }
          ids.configure(limits)
          list = list.slice(-limit)
        }
        list = list.filter((entry) => entry.atMs >= nowMs - limits.windowMs)
        assert.equal(
          ids.has(idOf(id), nowMs),
          list.some((entry) => entry.id === id),
        )
        if (list.some((entry) => entry.id === id)) continue
        ids.add(idOf(id), nowMs)
        list = [...list, { id, atMs: nowMs }].slice(-limits.maxIds)
        assert.equal(ids.size, list.length)
      }
      for (let id = 0; id <= 60; id++)
        assert.equal(
          ids.has(idOf(id), nowMs),
          list.some((entry) => entry.id === id),
          `id ${id}`,
        )
    }),
  )
})

test('message ids: growing keeps all; ids that share a first word are told apart', () => {
  const ids = new MessageIds({ windowMs: 1e9, maxIds: 50_000 })
  const clash = (number: number): Uint8Array => {
    const id = Buffer.alloc(16, 1)
    id.writeUInt32LE(number, 12)
    return id
  }
  for (let number = 0; number < 300; number++) ids.add(clash(number), number)
  for (let number = 0; number < 20_000; number++) ids.add(idOf(number), 300)
  for (let number = 0; number < 20_000; number += 97) assert.equal(ids.has(idOf(number), 400), true)
  for (let number = 0; number < 300; number++) assert.equal(ids.has(clash(number), 400), true)
  assert.equal(ids.has(clash(300), 400), false)
  assert.equal(ids.has(idOf(20_000), 400), false)
  assert.throws(() => ids.has(Buffer.alloc(15), 0), /16 bytes, not 15/)
})

test('message ids: a view at an odd offset is read as any other', () => {
  const ids = new MessageIds({ windowMs: 1e9, maxIds: 10 })
  const shifted = Buffer.concat([Buffer.from([0]), idOf(1)])
  ids.add(new Uint8Array(shifted.buffer, shifted.byteOffset + 1, 16), 0)
  assert.equal(ids.has(idOf(1), 0), true)
})

test('exchanges: at the limit the client with the most gives up its oldest, nobody else', () => {
  const exchanges = new Exchanges(10)
  for (let packet = 1; packet <= 3; packet++) assert.deepEqual(exchanges.add(`good\0${packet}`), [])
  for (let packet = 1; packet <= 7; packet++) assert.deepEqual(exchanges.add(`greedy\0${packet}`), [])
  assert.deepEqual(exchanges.add('good\x004'), ['greedy\x001', 'greedy\x002', 'greedy\x003', 'greedy\x004'])
  assert.equal(exchanges.size, 7)
  for (let packet = 1; packet <= 4; packet++) assert.equal(exchanges.has(`good\0${packet}`), true)
  assert.equal(exchanges.has('greedy\x004'), false)
  assert.equal(exchanges.has('greedy\x005'), true)
  exchanges.delete('greedy\x005')
  exchanges.delete('greedy\x005')
  assert.equal(exchanges.size, 6)
  assert.deepEqual(exchanges.add('good\x004'), [], 'a known one changes nothing')
  assert.equal(exchanges.size, 6)
})

interface Bench {
  readonly clock: FakeClock
  readonly queue: CommitQueue
  readonly sent: CommitRequest[]
  readonly settled: string[]
  readonly submit: (text: string, kind?: 'normal' | 'urgent' | 'shed', bytes?: number) => void
  /** The worker stored these kinds of the oldest unanswered request. */
  readonly answer: (kinds?: readonly string[]) => void
}

function bench(maxDelayMs = 100): Bench {
  const clock = new FakeClock()
  const sent: CommitRequest[] = []
  const settled: string[] = []
  let answered = 0
  const queue = new CommitQueue(clock, { maxDelayMs, maxBytes: 200_000 }, (request) => sent.push(request))
  const entryOf = (text: string, size: number): Entry => ({
    envelope: { device: 'd', stream: 's', topic: 't', payload: Buffer.alloc(size), receivedMs: 1, clockTrusted: true, bootMs: 1 },
    verdict: { lane: 'normal' },
    bytes: size,
    qos: 1,
    settle: () => settled.push(text),
  })
  return {
    clock,
    queue,
    sent,
    settled,
    submit: (text, kind = 'normal', size = 100) => queue.add(entryOf(text, size), kind, kind === 'shed' ? 'over-limit' : undefined),
    answer: (kinds) => {
      const request = sent[answered++]
      assert.ok(request !== undefined)
      const stored = request.chunks.filter((chunk) => kinds?.includes(chunk.kind) ?? true).map((chunk) => chunk.id)
      for (const entry of queue.committed([...stored, request.releaseId])) entry.settle()
    },
  }
}

test('commits: one lingers for its delay, goes at once when enough waits, and only one is under way', () => {
  const { clock, sent, submit, answer, settled } = bench()
  submit('a')
  clock.advance(99)
  assert.equal(sent.length, 0)
  clock.advance(1)
  assert.equal(sent.length, 1)
  submit('b', 'normal', 70_000)
  clock.advance(1_000)
  assert.equal(sent.length, 1, 'the first is still under way')
  answer()
  assert.equal(sent.length, 2)
  assert.deepEqual(settled, ['a'])
  answer()
  submit('c', 'normal', 70_000)
  assert.equal(sent.length, 3, 'enough for a commit of its own')
  answer()
  assert.deepEqual(settled, ['a', 'b', 'c'])
  assert.equal(clock.pendingTimers, 0)
})

test('commits: what exceeds the size limit is split, in order', () => {
  const { sent, submit, answer, settled, queue } = bench()
  for (let index = 0; index < 30; index++) submit(`${index}`, 'normal', 50_000)
  assert.deepEqual(queue.inFlight, { messages: 30, bytes: 1_500_000 })
  for (let round = 0; round < sent.length; round++) answer()
  assert.ok(sent.length >= 7)
  assert.deepEqual(
    settled,
    Array.from({ length: 30 }, (_, index) => `${index}`),
  )
  assert.deepEqual(queue.inFlight, { messages: 0, bytes: 0 })
})

test('commits: entries of a lane that waits settle later, the others at once, each in order', () => {
  const { clock, sent, submit, answer, settled, queue } = bench()
  submit('n1')
  submit('u1', 'urgent')
  submit('s1', 'shed')
  submit('n2')
  clock.advance(100)
  answer(['urgent', 'shed'])
  assert.deepEqual(settled, ['u1', 's1'])
  assert.deepEqual(queue.inFlight, { messages: 2, bytes: 200 })
  submit('u2', 'urgent')
  clock.advance(100)
  answer()
  assert.deepEqual(settled, ['u1', 's1', 'u2'])
  const waiting = sent[0]?.chunks.find((chunk) => chunk.kind === 'normal')
  for (const entry of queue.stored([waiting?.id ?? -1])) entry.settle()
  assert.deepEqual(settled, ['u1', 's1', 'u2', 'n1', 'n2'])
  assert.deepEqual(queue.inFlight, { messages: 0, bytes: 0 })
})

test('commits: a release goes with the next commit and is told once', () => {
  const { clock, queue, sent, answer } = bench()
  let told = 0
  queue.release('c\x001', () => told++)
  clock.advance(100)
  assert.deepEqual(sent[0]?.releases, ['c\x001'])
  assert.equal(told, 0)
  answer()
  assert.equal(told, 1)
  queue.stored([sent[0]?.releaseId ?? -1])
  assert.equal(told, 1)
})

test('commits: a flush waits for all that was submitted, even while it waits', async () => {
  const { submit, queue, answer, settled } = bench()
  submit('a')
  let flushed = false
  const flush = queue.flush().then(() => (flushed = true))
  submit('b')
  await Promise.resolve()
  assert.equal(flushed, false)
  answer()
  await Promise.resolve()
  answer()
  await flush
  assert.deepEqual(settled, ['a', 'b'])
  await queue.flush()
})
