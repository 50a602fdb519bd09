import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import mqttPacket from 'mqtt-packet'
import { encodeFrame, FrameReader, PacketType } from '../../adapters/mqtt/framing.ts'

const LIMITS = { packetBytesMax: 400, connectBytesMax: 300 }
const CONNECT = mqttPacket.generate({ cmd: 'connect', clientId: 'd1', clean: true, keepalive: 30 })

interface Seen {
  readonly result: string
  readonly header: number
  readonly length: number
  readonly body: Buffer
}

function readAll(chunks: readonly Buffer[], limits = LIMITS): { seen: Seen[]; reader: FrameReader; heldMax: number } {
  const reader = new FrameReader(limits)
  const seen: Seen[] = []
  let heldMax = 0
  for (const chunk of chunks) {
    reader.feed(chunk)
    for (let result = reader.next(); result !== 'more'; result = reader.next()) {
      if (result === 'broken') return { seen, reader, heldMax }
      seen.push({ result, header: reader.header, length: reader.length, body: Buffer.from(reader.body) })
    }
    heldMax = Math.max(heldMax, reader.heldBytes)
  }
  return { seen, reader, heldMax }
}

function cut(stream: Buffer, points: readonly number[]): Buffer[] {
  const at = [...new Set([0, ...points.map((point) => point % (stream.length + 1)), stream.length])].sort((a, b) => a - b)
  return at.slice(1).map((end, i) => stream.subarray(at[i], end))
}

const publish = fc.record({
  topic: fc.string({ minLength: 1, maxLength: 40 }),
  payload: fc.uint8Array({ maxLength: 700 }),
  qos: fc.constantFrom(0, 1, 2),
  messageId: fc.integer({ min: 1, max: 65_535 }),
})

test('any cut of a stream gives the same packets, and an oversize PUBLISH keeps topic and packet id', () => {
  fc.assert(
    fc.property(fc.array(publish, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 30 }), (messages, points) => {
      const packets = messages.map((message) =>
        mqttPacket.generate({
          cmd: 'publish',
          dup: false,
          retain: false,
          ...message,
          qos: message.qos,
          payload: Buffer.from(message.payload),
        }),
      )
      const { seen, heldMax } = readAll(cut(Buffer.concat([CONNECT, ...packets]), points))
      assert.equal(seen.length, messages.length + 1)
      for (const [i, message] of messages.entries()) {
        const frame = seen[i + 1]
        assert.ok(frame)
        const head = 2 + Buffer.byteLength(message.topic) + (message.qos > 0 ? 2 : 0)
        assert.equal(frame.length, head + message.payload.length)
        assert.equal(frame.result, frame.length > LIMITS.packetBytesMax ? 'oversize' : 'packet')
        const whole = packets[i]
        assert.ok(whole)
        const body = whole.subarray(whole.length - frame.length)
        assert.deepEqual(frame.body, frame.result === 'oversize' ? body.subarray(0, head) : body)
        if (frame.result === 'packet') assert.deepEqual(encodeFrame(frame.header, frame.body), whole)
      }
      assert.ok(heldMax <= LIMITS.packetBytesMax)
    }),
  )
})

test('log path 12: a PUBLISH of 200 MB is read without holding more than its topic', () => {
  const reader = new FrameReader({ packetBytesMax: 1_000, connectBytesMax: 300 })
  reader.feed(CONNECT)
  assert.equal(reader.next(), 'packet')
  const topic = Buffer.from('\0\u0003a/b', 'latin1')
  const length = 200_000_000
  reader.feed(Buffer.concat([header(0x32, length), topic, Buffer.from([0, 9])]))
  const chunk = Buffer.alloc(65_536)
  let left = length - 7
  while (left > 0) {
    assert.equal(reader.next(), 'more')
    assert.ok(reader.heldBytes < 16)
    reader.feed(left > chunk.length ? chunk : chunk.subarray(0, left))
    left -= chunk.length
  }
  assert.equal(reader.next(), 'oversize')
  assert.deepEqual(reader.body, Buffer.concat([topic, Buffer.from([0, 9])]))
  assert.equal(reader.length, length)
  reader.feed(Buffer.from([0xc0, 0]))
  assert.equal(reader.next(), 'packet')
  assert.equal(reader.header >> 4, PacketType.PINGREQ)
})

test('what is no MQTT, too large or malformed breaks the stream at once', () => {
  const first = (bytes: string): string => readAll([Buffer.from(bytes, 'latin1')]).reader.fault
  assert.match(first('GET / HTTP/1.1\r\n'), /no CONNECT/)
  assert.match(first('\x16\x03\x01'), /no CONNECT/)
  assert.match(first('\x10\xff\xff\xff\xff'), /more than four bytes/)
  assert.match(first('\x10\xff\xff\x7f'), /300 are allowed/)
  const after = (bytes: number[]): string => readAll([CONNECT, Buffer.from(bytes)]).reader.fault
  assert.match(after([0x82, 0xff, 0x7f]), /400 are allowed/)
  assert.match(after([0x30, 0xff, 0x7f, 0xff, 0xff]), /shorter than its topic/)
})

test('arbitrary bytes never throw and never hold more than a packet', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), (chunks) => {
      const { heldMax } = readAll([CONNECT, ...chunks.map((chunk) => Buffer.from(chunk))])
      assert.ok(heldMax <= Math.max(LIMITS.packetBytesMax, 65_539))
    }),
  )
})

test('a packet that comes byte by byte takes no more memory than twice its bytes', () => {
  const reader = new FrameReader({ packetBytesMax: 1_000_000, connectBytesMax: 300 })
  reader.feed(Buffer.concat([CONNECT, header(0x30, 300_000)]))
  assert.equal(reader.next(), 'packet')
  for (let sent = 0; sent < 299_999; sent++) {
    reader.feed(Buffer.from([0]))
    assert.equal(reader.next(), 'more')
  }
  assert.equal(reader.heldBytes, 299_999)
  reader.feed(Buffer.from([7]))
  assert.equal(reader.next(), 'packet')
  assert.equal(reader.body[299_999], 7)
})

function header(first: number, length: number): Buffer {
  const bytes = [first]
  for (let rest = length; ; rest = Math.floor(rest / 128)) {
    bytes.push((rest % 128) | (rest > 127 ? 128 : 0))
    if (rest < 128) return Buffer.from(bytes)
  }
}
