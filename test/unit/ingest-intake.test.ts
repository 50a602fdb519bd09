import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LANES } from '../../daemon/ports.ts'
import type { Delivery } from '../../daemon/ports.ts'
import { FakeSource, ingestSettings, startIntake } from '../fakes/intake.ts'

const TRACE = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

describe('intake: envelope', () => {
  it('keeps what came, and when', async () => {
    const { offer, outbox, clock } = await startIntake({ topics: [{ name: 'logs', pattern: '{site}/{device}/{stream}' }] })
    clock.advance(1234)
    const payload = Buffer.from([0, 0xff, 10, 13])
    offer('', '', {
      topic: 'berlin/cam 1/App',
      payload,
      qos: 2,
      exchange: 'c\x007',
      contentType: 'text/plain',
      userProperties: [
        ['a', '1'],
        ['traceparent', TRACE],
        ['a', '2'],
      ],
    })
    const entry = outbox.submitted[0] ?? assert.fail()
    assert.deepEqual(
      { ...entry, settle: undefined },
      {
        envelope: {
          device: 'cam 1',
          stream: 'App',
          parts: { site: 'berlin' },
          topic: 'berlin/cam 1/App',
          payload,
          receivedMs: clock.wallMs(),
          clockTrusted: true,
          bootMs: clock.bootMs(),
          contentType: 'text/plain',
          traceparent: TRACE,
          userProperties: [
            ['a', '1'],
            ['traceparent', TRACE],
            ['a', '2'],
          ],
        },
        verdict: { lane: 'normal' },
        bytes: 4,
        qos: 2,
        exchange: 'c\x007',
        settle: undefined,
      },
    )
  })

  it('has no empty members, and no payload when it is shed', async () => {
    const { offer, outbox } = await startIntake()
    offer('d1')
    offer('d1', 'secret', { retained: true, userProperties: [['a', 'b']] })
    offer('d1', 'cut', { refused: { reason: 'oversize', bytes: 4711 } })
    assert.deepEqual(
      outbox.submitted.map(({ envelope }) => Object.keys(envelope)),
      Array(3).fill(['device', 'stream', 'topic', 'payload', 'receivedMs', 'clockTrusted', 'bootMs']),
    )
    assert.deepEqual(
      outbox.submitted.map(({ envelope, bytes }) => [envelope.payload.length, bytes]),
      [
        [6, 6],
        [0, 6],
        [0, 4711],
      ],
    )
    assert.deepEqual(
      outbox.submitted.map((entry) => Object.keys(entry)),
      Array(3).fill(['envelope', 'verdict', 'bytes', 'qos', 'settle']),
    )
  })
})

describe('intake: backpressure', () => {
  it('holds all sources at the limit of messages, and lets them go on at three quarters', async () => {
    const { offer, outbox, intake } = await startIntake({ limits: { inFlight: { messages: 100, bytes: 1e9 } } })
    const [one, two] = [new FakeSource(), new FakeSource()]
    intake.add(one)
    intake.add(two)
    for (let index = 0; index < 99; index++) offer('d1')
    assert.deepEqual(one.told, [])
    offer('d1')
    assert.ok(one.held && two.held)
    assert.match(intake.counters().held ?? '', /100 messages/)
    for (let index = 0; index < 20; index++) offer('d1')
    outbox.commit(45)
    assert.ok(one.held, '75 are still on their way')
    outbox.commit(1)
    assert.equal(one.told.length, 2)
    assert.deepEqual(
      two.told.map((text) => text.split(':')[0]),
      ['hold', 'release'],
    )
    assert.equal(intake.counters().held, undefined)
    outbox.commit()
    assert.deepEqual(intake.counters().inFlight, { messages: 0, bytes: 0 })
  })

  it('holds at the limit of bytes, and a single message above it passes', async () => {
    const { offer, outbox, intake } = await startIntake({ limits: { inFlight: { messages: 1e6, bytes: 1000 } } })
    const source = new FakeSource()
    intake.add(source)
    offer('d1', 'x'.repeat(5000))
    assert.ok(source.held)
    assert.equal(intake.counters().inFlight.bytes, 5000)
    outbox.commit()
    assert.ok(!source.held)
    offer('d1', '', { userProperties: [['k', 'v'.repeat(999)]] })
    assert.ok(source.held, 'properties are memory too')
  })

  it('holds while the outbox has no room, with its reason', async () => {
    const { outbox, intake } = await startIntake()
    const source = new FakeSource()
    intake.add(source)
    outbox.block('the buffer is full')
    outbox.block('the disk is full')
    const late = new FakeSource()
    const remove = intake.add(late)
    outbox.unblock()
    remove()
    outbox.block('again')
    assert.deepEqual(source.told, ['hold: the buffer is full', 'hold: the disk is full', 'release', 'hold: again'])
    assert.deepEqual(late.told, ['hold: the disk is full', 'release'])
  })

  it('is held from the start when the outbox begins without room, and listens no more after the stop', async () => {
    const { outbox, intake } = await startIntake()
    await intake.start()
    assert.equal(outbox.listeners, 1)
    await intake.stop()
    await intake.stop()
    assert.equal(outbox.listeners, 0)
    outbox.block('full')
    const source = new FakeSource()
    intake.add(source)
    assert.deepEqual(source.told, [])
    await intake.start()
    assert.deepEqual(source.told, ['hold: full'])
  })

  it('stays held until both causes are gone', async () => {
    const { offer, outbox, intake } = await startIntake({ limits: { inFlight: { messages: 4, bytes: 1e9 } } })
    const source = new FakeSource()
    intake.add(source)
    for (let index = 0; index < 4; index++) offer('d1')
    outbox.block('full')
    outbox.commit()
    assert.ok(source.held)
    outbox.unblock()
    assert.ok(!source.held)
    for (let index = 0; index < 4; index++) offer('d1')
    outbox.block('full')
    outbox.unblock()
    assert.ok(source.held)
  })

  it('leaves no source released when one of them fills it again at once', async () => {
    const bench = await startIntake({ limits: { inFlight: { messages: 4, bytes: 1e9 } } })
    let refill = 1
    const eager = new FakeSource(() => {
      if (refill-- > 0) for (let index = 0; index < 4; index++) bench.offer('d1')
    })
    const other = new FakeSource()
    bench.intake.add(eager)
    bench.intake.add(other)
    for (let index = 0; index < 4; index++) bench.offer('d1')
    bench.outbox.commit(2)
    assert.ok(eager.held && other.held)
    bench.outbox.commit()
    assert.ok(!eager.held && !other.held)
  })

  it('takes a new limit live, in either direction', async () => {
    const { offer, intake } = await startIntake()
    const source = new FakeSource()
    intake.add(source)
    for (let index = 0; index < 10; index++) offer('d1')
    intake.configure(ingestSettings({ limits: { inFlight: { messages: 10, bytes: 1e9 } } }))
    assert.ok(source.held)
    intake.configure(ingestSettings())
    assert.ok(!source.held)
  })

  it('sheds QoS 0 of a lane that is blocked, and nothing else', async () => {
    const { offer, outbox } = await startIntake({ severity: { from: 'json:/level', urgent: ['error'], reserveShare: 0.2 } })
    const error = '{"level":"error"}'
    offer('d1', 'x', { qos: 0 })
    outbox.block('full', ['normal'])
    offer('d1', 'x', { qos: 0 })
    offer('d1', error, { qos: 0 })
    offer('d1', 'x', { qos: 1 })
    offer('d1', 'x', { qos: 2 })
    outbox.unblock()
    offer('d1', 'x', { qos: 0 })
    assert.equal(outbox.shed('buffer-full').length, 1)
    assert.deepEqual([outbox.inLane('normal').length, outbox.inLane('urgent').length], [4, 1])
    assert.equal(LANES.length, 4)
  })
})

describe('intake: one message never stops the others', () => {
  it('log path 11: unparseable payloads leak nothing of the in-flight window', async () => {
    const { offer, outbox, intake } = await startIntake({
      dedupeFrom: 'json:/id',
      severity: { from: 'json:/level', urgent: ['error'], reserveShare: 0 },
      limits: { inFlight: { messages: 50, bytes: 10_000 } },
    })
    const source = new FakeSource()
    intake.add(source)
    const payloads = ['{', '{"level":', 'not json', '', '\0', '[[[[', '{"level":"error"', '{"id":{}}']
    for (let index = 0; index < 5000; index++) {
      const { settled } = offer('d1', payloads[index % payloads.length] ?? '')
      outbox.commit()
      assert.equal(settled(), 1)
    }
    assert.equal(outbox.inLane('normal').length, 5000)
    assert.deepEqual(source.told, [])
    assert.deepEqual(intake.counters().inFlight, { messages: 0, bytes: 0 })
  })

  it('keeps a message whose id we fail to make: without an id, under its limits, counted and shown', async () => {
    const perDevice = { messagesPerSecond: 3, bytesPerSecond: Infinity, burstMs: 1000 }
    const { offer, outbox, intake, notices } = await startIntake(
      { dedupeFrom: 'json:/id', limits: { perDevice }, severity: { from: 'none', urgent: [], reserveShare: 0 } },
      {
        hash: () => {
          throw new Error('no hash today')
        },
      },
    )
    for (let index = 0; index < 5; index++) offer('d1', '{"id":1}')
    assert.deepEqual([outbox.inLane('normal').length, outbox.inLane('deferred').length], [3, 2])
    assert.equal(intake.counters().faults, 5)
    assert.match(notices[0]?.text ?? '', /no hash today/)
  })

  it('keeps a message that we fail to look at at all, in the normal lane, under its own name', async () => {
    const { offer, outbox, intake } = await startIntake()
    const broken = { userProperties: [null] as unknown as NonNullable<Delivery['userProperties']> }
    const kept = [
      offer('d1', 'x', broken),
      offer('d2', 'x', { ...broken, identity: 'd1' }),
      offer('d1', 'x', { ...broken, refused: { reason: 'oversize', bytes: 9 } }),
    ]
    const next = offer('d1')
    outbox.commit()
    assert.deepEqual(
      outbox.committed.map(({ envelope, verdict }) => [envelope.device, verdict]),
      [
        ['d1', { lane: 'normal' }],
        ['d1', { shed: 'not-own-topic' }],
        ['d1', { shed: 'oversize' }],
        ['d1', { lane: 'normal' }],
      ],
    )
    assert.deepEqual(
      [...kept, next].map((one) => one.settled()),
      [1, 1, 1, 1],
    )
    assert.equal(intake.counters().faults, 1)
    assert.deepEqual(intake.counters().inFlight, { messages: 0, bytes: 0 })
    assert.equal(intake.counters().received.messages, 4)
  })
})

describe('intake: notices', () => {
  it('log path 20: shows what is refused, a few a minute, and says how many it left out', async () => {
    const { offer, clock, notices, intake } = await startIntake()
    for (let index = 0; index < 1000; index++) {
      offer('d1', 'x', { topic: `nowhere/${index}` })
      offer('d1', 'x', { identity: 'd2' })
    }
    assert.deepEqual(
      ['malformed-topic', 'not-own-topic'].map((kind) => notices.filter((one) => one.kind === kind).length),
      [5, 5],
    )
    assert.equal(notices.length, 10)
    clock.advance(60_000)
    offer('d1', 'x', { topic: 'nowhere' })
    assert.deepEqual(notices.at(-1)?.suppressed, 995)
    assert.equal(intake.counters().shed['malformed-topic']?.messages, 1001)
  })

  it('shows no duplicates: after a lost connection they are what is to be expected', async () => {
    const { offer, notices, intake } = await startIntake({ dedupeFrom: 'json:/id' })
    for (let index = 0; index < 3; index++) offer('d1', '{"id":1}')
    assert.equal(intake.counters().shed.duplicate?.messages, 2)
    assert.deepEqual(notices, [])
  })

  it('writes what a device chose so that it can not forge a line', async () => {
    const { offer, notices } = await startIntake()
    offer('d1', 'x', { topic: `nowhere\n{"level":60}\u001b[31m${'x'.repeat(5000)}` })
    const text = notices[0]?.text ?? ''
    assert.ok(text.length < 400 && !/[\n\u001b]/.test(text), text)
  })
})
