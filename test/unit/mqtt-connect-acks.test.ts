import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import mqttPacket from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'
import { AckQueue } from '../../adapters/mqtt/connect-acks.ts'

interface Entry {
  readonly packetId: number
  readonly qos: 1 | 2
  settled: boolean
}

function parse(bytes: Buffer, protocolVersion: 4 | 5): (readonly [string, number | undefined])[] {
  const parsed: (readonly [string, number | undefined])[] = []
  const parser = mqttPacket.parser({ protocolVersion })
  parser.on('packet', (packet: Packet) => parsed.push([packet.cmd, packet.messageId]))
  parser.parse(bytes)
  return parsed
}

test('acknowledgements leave in the order of receipt, each once, and only when settled', () => {
  const action = fc.oneof(
    fc.record({
      kind: fc.constant('receive' as const),
      packetId: fc.integer({ min: 1, max: 65_535 }),
      qos: fc.constantFrom(1 as const, 2 as const),
    }),
    fc.record({ kind: fc.constant('settle' as const), which: fc.nat() }),
    fc.record({ kind: fc.constant('take' as const) }),
  )
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), fc.constantFrom(4 as const, 5 as const), (actions, version) => {
      const queue = new AckQueue()
      const waiting: Entry[] = []
      for (const one of actions) {
        if (one.kind === 'receive') {
          const entry = { packetId: one.packetId, qos: one.qos, settled: false }
          waiting.push(entry)
          queue.push(entry)
        } else if (one.kind === 'settle') {
          const entry = waiting[one.which % Math.max(1, waiting.length)]
          if (entry !== undefined) entry.settled = true
        } else {
          const firstOpen = waiting.findIndex(({ settled }) => !settled)
          const due = waiting.splice(0, firstOpen < 0 ? waiting.length : firstOpen)
          const bytes = queue.take()
          const expected = due.map(({ packetId, qos }) => [qos === 2 ? 'pubrec' : 'puback', packetId])
          assert.deepEqual(bytes === undefined ? [] : parse(bytes, version), expected)
        }
        assert.equal(queue.length, waiting.length)
        for (const { packetId } of waiting) assert.equal(queue.isPending(packetId), true)
      }
      assert.equal(waiting.length > 0 || !queue.isPending(1), true)
    }),
  )
})

test('thousands that wait behind one are kept, and then all leave', () => {
  const queue = new AckQueue()
  const entries = Array.from({ length: 20_000 }, (_, n): Entry => ({ packetId: n + 1, qos: 1, settled: n > 0 }))
  for (const entry of entries) queue.push(entry)
  assert.equal(queue.take(), undefined)
  for (const entry of entries.slice(0, 1)) entry.settled = true
  assert.equal(queue.take()?.length, 80_000)
  assert.equal(queue.length, 0)
  assert.equal(queue.isPending(20_000), false)
})
