import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { LANES, type Lane, type Stored } from '../../daemon/ports.ts'
import { FIRST_SHARES, planNext, type Outlook, type Plan, type Route, type Shares } from '../../daemon/relay/plan.ts'

const LIMITS = { bytes: 1 << 20, messages: 10_000, epochs: 8 }
const WEIGHTS = { urgent: 4, normal: 4, deferred: 1, internal: 1 }

function stored(position: number, bytes = 200, epoch = 'e1', device = 'dev'): Stored {
  return {
    epoch,
    position,
    envelope: { device, stream: 's', topic: 't', payload: new Uint8Array(bytes), receivedMs: 0, clockTrusted: true, bootMs: 0 },
  }
}

function run(count: number, bytes?: number, epoch?: string, first = 1): Stored[] {
  return Array.from({ length: count }, (_, index) => stored(first + index, bytes, epoch))
}

function sizeOf(message: Stored): number {
  return 'envelope' in message ? message.envelope.payload.length : 0
}

function toOne(message: Stored, partitionMax = { bytes: Infinity, messages: Infinity }): Route {
  return { kind: 'send', topic: 't', partition: 0, bytes: sizeOf(message), partitionMax }
}

function outlook(queues: Partial<Record<Lane, readonly Stored[]>>, changes: Partial<Outlook> = {}): Outlook {
  return {
    queues: { urgent: [], normal: [], deferred: [], internal: [], ...queues },
    weights: WEIGHTS,
    limits: LIMITS,
    isWhole: () => true,
    route: (_, message) => toOne(message),
    ...changes,
  }
}

/** Bytes per lane that `transactions` plans in a row take of endless queues. */
function shareOf(
  lanes: readonly Lane[],
  transactions: number,
  transactionBytes: number,
  weights = WEIGHTS,
  recordBytes = 200,
): Record<Lane, number> {
  const bytes: Record<Lane, number> = { urgent: 0, normal: 0, deferred: 0, internal: 0 }
  const next: Record<Lane, number> = { urgent: 1, normal: 1, deferred: 1, internal: 1 }
  let shares: Shares = FIRST_SHARES
  for (let count = 0; count < transactions; count += 1) {
    const queues = Object.fromEntries(lanes.map((lane) => [lane, run(transactionBytes / recordBytes + 2, recordBytes, 'e1', next[lane])]))
    const plan = planNext(outlook(queues, { weights, limits: { ...LIMITS, bytes: transactionBytes }, isWhole: () => false }), shares)
    shares = plan.shares
    for (const part of plan.parts) {
      next[part.lane] += part.taken
      bytes[part.lane] += part.records.reduce((sum, record) => sum + record.bytes, 0)
    }
  }
  return bytes
}

function positionsOf(plan: Plan, lane: Lane): number[] {
  return (plan.parts.find((part) => part.lane === lane)?.records ?? []).map((record) => record.stored.position)
}

describe('plan', () => {
  it('log path 16: a backlog in one lane does not starve what is live in another', () => {
    const plan = planNext(outlook({ normal: run(9_000), urgent: run(3), internal: run(1) }), FIRST_SHARES)
    assert.deepEqual(positionsOf(plan, 'urgent'), [1, 2, 3])
    assert.deepEqual(positionsOf(plan, 'internal'), [1])
    assert.ok(positionsOf(plan, 'normal').length > 1_000)
  })

  for (const transactionBytes of [200, 4_000, 1 << 20]) {
    it(`log path 16: lanes share by weight over time, in transactions of ${transactionBytes} bytes`, () => {
      const transactions = Math.ceil((8 << 20) / transactionBytes)
      const bytes = shareOf(['urgent', 'normal', 'deferred', 'internal'], Math.min(transactions, 4_000), transactionBytes)
      const unit = (bytes.urgent + bytes.normal + bytes.deferred + bytes.internal) / 10
      for (const lane of LANES)
        assert.ok(Math.abs(bytes[lane] - WEIGHTS[lane] * unit) < unit * 0.35, `${lane}: ${bytes[lane]} of ${unit * 10}`)
    })
  }

  it('log path 16: a lane of weight 0 gets what the others leave, and nothing else', () => {
    const weights = { ...WEIGHTS, deferred: 0 }
    assert.equal(shareOf(['normal', 'deferred'], 50, 8_000, weights).deferred, 0)
    const plan = planNext(outlook({ normal: run(10), deferred: run(10) }, { weights }), FIRST_SHARES)
    assert.equal(positionsOf(plan, 'deferred').length, 10)
  })

  it('a lane that was empty saves no credit for a burst', () => {
    const before = planNext(outlook({ normal: run(5), urgent: run(5) }), FIRST_SHARES)
    assert.deepEqual(before.shares.credits, { urgent: 0, internal: 0, normal: 0, deferred: 0 })
  })

  it('log path 12: the record that alone is larger than a transaction may be goes alone', () => {
    const plan = planNext(outlook({ normal: [stored(1, 2 << 20), stored(2)] }), FIRST_SHARES)
    assert.deepEqual(positionsOf(plan, 'normal'), [1])
    assert.equal(plan.cut, true)
  })

  it('a partition that is full ends the lane, and the other lanes go on', () => {
    const route = (lane: Lane, message: Stored): Route => ({
      kind: 'send',
      topic: 't',
      partition: lane === 'normal' ? 0 : 1,
      bytes: sizeOf(message),
      partitionMax: { bytes: 1_000, messages: Infinity },
    })
    const plan = planNext(outlook({ normal: run(20), urgent: run(4) }, { route }), FIRST_SHARES)
    assert.deepEqual(positionsOf(plan, 'normal'), [1, 2, 3, 4, 5])
    assert.deepEqual(positionsOf(plan, 'urgent'), [1, 2, 3, 4])
    assert.equal(plan.cut, true)
  })

  it('a partition takes no more messages than the client groups well', () => {
    const route = (_: Lane, message: Stored): Route => toOne(message, { bytes: Infinity, messages: 2_000 })
    const plan = planNext(outlook({ normal: run(3_000, 10) }, { route }), FIRST_SHARES)
    assert.equal(plan.messages, 2_000)
    assert.equal(plan.cut, true)
  })

  it('what must wait ends its lane; what is refused does not', () => {
    const route = (lane: Lane, message: Stored): Route => {
      if (lane === 'urgent' && message.position === 3) return { kind: 'hold' }
      return lane === 'normal' && message.position % 2 === 0 ? { kind: 'refuse', reason: 'no' } : toOne(message)
    }
    const plan = planNext(outlook({ urgent: run(5), normal: run(5) }, { route }), FIRST_SHARES)
    assert.deepEqual(positionsOf(plan, 'urgent'), [1, 2])
    assert.deepEqual(positionsOf(plan, 'normal'), [1, 3, 5])
    assert.deepEqual(
      plan.parts.find((part) => part.lane === 'normal')?.refused.map(({ stored: { position } }) => position),
      [2, 4],
    )
    assert.deepEqual([...(plan.parts.find((part) => part.lane === 'normal')?.ends ?? [])], [['e1', 5]])
    assert.equal(plan.cut, false)
  })

  it('older epochs go first, and the positions of each are kept apart', () => {
    const plan = planNext(outlook({ normal: [...run(2, 10, 'old'), ...run(3, 10, 'new', 3)] }), FIRST_SHARES)
    assert.deepEqual(
      [...(plan.parts[0]?.ends ?? [])],
      [
        ['old', 2],
        ['new', 5],
      ],
    )
  })

  it('the number of epochs is bounded, but the head of each lane may go', () => {
    const limits = { ...LIMITS, epochs: 1 }
    const normal = [...run(1, 10, 'n1', 1), ...run(1, 10, 'n2', 2)]
    const urgent = [...run(1, 10, 'u1', 1), ...run(1, 10, 'u2', 2)]
    const plan = planNext(outlook({ normal, urgent }, { limits }), FIRST_SHARES)
    assert.deepEqual(positionsOf(plan, 'urgent'), [1])
    assert.deepEqual(positionsOf(plan, 'normal'), [1])
  })

  it('whatever waits: lanes keep their order, limits hold, and something goes if anything can', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 3_000 }), { maxLength: 60 })
    fc.assert(
      fc.property(
        fc.record({ urgent: sizes, normal: sizes, deferred: sizes, internal: sizes }),
        fc.integer({ min: 1, max: 20_000 }),
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 6_000 }),
        (given, bytes, messages, partitionMaxBytes) => {
          const queues = Object.fromEntries(LANES.map((lane) => [lane, given[lane].map((size, index) => stored(index + 1, size))]))
          const route = (_: Lane, message: Stored): Route => ({
            kind: 'send',
            topic: 't',
            partition: message.position % 3,
            bytes: sizeOf(message),
            partitionMax: { bytes: partitionMaxBytes, messages: Infinity },
          })
          const plan = planNext(outlook(queues, { limits: { ...LIMITS, bytes, messages }, route }), FIRST_SHARES)
          const waiting = LANES.reduce((sum, lane) => sum + given[lane].length, 0)
          assert.equal(plan.messages > 0, waiting > 0)
          assert.ok(plan.messages <= messages)
          assert.ok(plan.bytes <= bytes || plan.messages === 1)
          const inPartition = [0, 0, 0]
          const countOf = [0, 0, 0]
          for (const part of plan.parts) {
            assert.deepEqual(
              part.records.map((record) => record.stored.position),
              Array.from({ length: part.taken }, (_, index) => index + 1),
            )
            for (const record of part.records) {
              inPartition[record.partition] = (inPartition[record.partition] ?? 0) + record.bytes
              countOf[record.partition] = (countOf[record.partition] ?? 0) + 1
            }
          }
          for (const [partition, sum] of inPartition.entries()) assert.ok(sum <= partitionMaxBytes || countOf[partition] === 1)
          assert.equal(plan.cut, plan.messages < waiting)
        },
      ),
      { numRuns: 200 },
    )
  })
})
