import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { GroupEncoder } from '../../store/frames.ts'
import { KnownShares, Shares } from '../../store/shares.ts'

interface Message {
  readonly device: string
  readonly stream: string
  readonly size: number
}

const message = fc.record({
  device: fc.constantFrom('a', 'b', 'ü', 'x'.repeat(200)),
  stream: fc.constantFrom('app', 'sys', ''),
  size: fc.nat(300),
})

function groupOf(messages: readonly Message[]): Uint8Array {
  const encoder = new GroupEncoder()
  for (const { device, stream, size } of messages) {
    encoder.add({ device, stream, topic: 't', payload: new Uint8Array(size), receivedMs: 1_000, clockTrusted: true, bootMs: 5 })
  }
  return encoder.finish()
}

function sums(messages: readonly Message[]): Map<string, [number, number]> {
  const expected = new Map<string, [number, number]>()
  for (const { device, stream, size } of messages) {
    const [count, bytes] = expected.get(`${device}/${stream}`) ?? [0, 0]
    expected.set(`${device}/${stream}`, [count + 1, bytes + size])
  }
  return expected
}

function known(book: KnownShares, first: number): Map<string, [number, number]> | undefined {
  const visited = new Map<string, [number, number]>()
  const isKnown = book.visit(first, (device, stream, messages, bytes) => visited.set(`${device}/${stream}`, [messages, bytes]))
  return isKnown ? visited : undefined
}

describe('shares of a group', () => {
  it('are the sums per device and stream of the frames that count', () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 40 }), fc.nat(40), fc.nat(40), fc.func(fc.boolean()), (messages, low, high, skip) => {
        const counted = messages.filter((_, index) => index >= low && index <= high && !skip(index))
        const shares = new Shares()
        shares.count(groupOf(messages), low, high, skip)
        const seen = new Map<string, [number, number]>()
        shares.each((device, stream, count, bytes) => seen.set(`${device}/${stream}`, [count, bytes]))
        assert.deepEqual(seen, sums(counted))
        assert.deepEqual([shares.messages, shares.bytes], [counted.length, counted.reduce((sum, { size }) => sum + size, 0)])
      }),
    )
  })

  it('are known of a row until it is forgotten', () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 40 }), fc.array(message, { maxLength: 40 }), (one, other) => {
        const book = new KnownShares()
        book.note(1, groupOf(one))
        book.note(41, groupOf(other))
        assert.deepEqual(known(book, 1), sums(one))
        assert.deepEqual(known(book, 41), sums(other))
        book.forget(1)
        assert.equal(known(book, 1), undefined)
        assert.deepEqual(known(book, 41), sums(other))
      }),
    )
  })

  it('are kept of the rows that were read last, however many were read before', () => {
    const book = new KnownShares()
    const rows = 3_000
    for (let first = 0; first < rows; first += 1)
      book.note(first, groupOf([{ device: `device-${first}-${'x'.repeat(900)}`, stream: 's', size: 1 }]))
    const kept = Array.from({ length: rows }, (_, first) => first).filter((first) => known(book, first) !== undefined)
    assert.ok(kept.length > 400 && kept.length < 700, String(kept.length))
    assert.equal(kept[0], rows - kept.length)
  })
})
