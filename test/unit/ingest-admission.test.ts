import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Entry } from '../../daemon/ports.ts'
import type { Bench } from '../fakes/intake.ts'
import { ingestSettings, startIntake } from '../fakes/intake.ts'

function outcome(entry: Entry | undefined): string {
  assert.ok(entry !== undefined)
  return 'lane' in entry.verdict ? entry.verdict.lane : entry.verdict.shed
}

/** Messages that arrived and were not deferred or shed, for devices whose name begins so. */
function admitted(bench: Bench, prefix: string): number {
  return [...bench.outbox.inLane('normal'), ...bench.outbox.inLane('urgent')].filter((entry) => entry.envelope.device.startsWith(prefix))
    .length
}

const SEVERITY = { from: 'json:/level', urgent: ['error'], reserveShare: 0.2 }
const ERROR = '{"level":"error"}'
const rate = (messagesPerSecond: number, burstMs = 1000): { messagesPerSecond: number; bytesPerSecond: number; burstMs: number } => ({
  messagesPerSecond,
  bytesPerSecond: Infinity,
  burstMs,
})

describe('admission: order of the checks', () => {
  it('gives the first reason of: refused, topic, identity, retained, oversize, duplicate, limit', async () => {
    const bench = await startIntake({ dedupeFrom: 'json:/id', limits: { maxMessageBytes: 20, perDevice: rate(0), overLimit: 'shed' } })
    const seen = '{"id":"a"}'
    bench.outbox.submit({ ...(await entryWithId(seen)), settle: () => undefined })
    bench.outbox.submitted.length = 0
    const big = `${seen}${' '.repeat(20)}`
    const steps: readonly [string, Parameters<Bench['offer']>][] = [
      ['not-own-topic', ['d1', big, { refused: { reason: 'not-own-topic', bytes: 5 }, topic: 'nowhere', identity: 'd2', retained: true }]],
      ['malformed-topic', ['d1', big, { topic: 'nowhere', identity: 'd2', retained: true }]],
      ['not-own-topic', ['d1', big, { identity: 'd2', retained: true }]],
      ['retained', ['d1', big, { identity: 'd1', retained: true }]],
      ['oversize', ['d1', big, { identity: 'd1' }]],
      ['duplicate', ['d1', seen, {}]],
      ['over-limit', ['d1', '{"id":"b"}', {}]],
    ]
    for (const [reason, offered] of steps) {
      bench.offer(...offered)
      assert.equal(outcome(bench.outbox.submitted.at(-1)), reason)
    }
  })

  it('costs no tokens what is refused before the limits', async () => {
    const bench = await startIntake({ limits: { maxMessageBytes: 100, perDevice: rate(5) } })
    for (let index = 0; index < 50; index++) {
      bench.offer('d1', 'x'.repeat(101))
      bench.offer('d1', 'x', { identity: 'd2' })
      bench.offer('d1', 'x', { retained: true })
    }
    for (let index = 0; index < 7; index++) bench.offer('d1')
    assert.equal(admitted(bench, 'd1'), 5)
    assert.equal(bench.outbox.inLane('deferred').length, 2)
  })

  it('counts a refusal under who sent it, not under whom it claims to be', async () => {
    const { offer, outbox } = await startIntake()
    offer('victim', 'x', { identity: 'mallory' })
    offer('victim', 'x', { identity: 'mallory', topic: 'bad/topic' })
    offer('victim', 'x', { topic: 'bad/topic' })
    assert.deepEqual(
      outbox.submitted.map(({ envelope }) => [envelope.device, envelope.stream]),
      [
        ['mallory', 'app'],
        ['mallory', ''],
        ['', ''],
      ],
    )
  })

  it('lets a device publish only as itself, byte for byte', async () => {
    const { offer, outbox } = await startIntake()
    for (const identity of ['D1', 'd1 ', 'd', '']) offer('d1', 'x', { identity })
    offer('d1', 'x', { identity: 'd1' })
    assert.deepEqual(outbox.submitted.map(outcome), ['not-own-topic', 'not-own-topic', 'not-own-topic', 'not-own-topic', 'normal'])
  })

  it('sheds a device that is not known: after the topic and the name, before all that costs tokens', async () => {
    const { offer, outbox, notices } = await startIntake(
      { limits: { maxMessageBytes: 5, perDevice: rate(1), overLimit: 'shed' } },
      { isKnown: (device) => device.startsWith('cam-') },
    )
    offer('cam-1')
    for (const more of [{}, { identity: 'd2' }, { retained: true }, { topic: 'nowhere' }]) offer('d1', 'too long', more)
    offer('cam-1', 'x')
    assert.deepEqual(outbox.submitted.map(outcome), [
      'oversize',
      'unknown-device',
      'not-own-topic',
      'unknown-device',
      'malformed-topic',
      'normal',
    ])
    assert.deepEqual(outbox.submitted[1]?.envelope.device, 'd1', 'the ledger tells who it was')
    assert.match(notices.find(({ kind }) => kind === 'unknown-device')?.text ?? '', /not in the file of limits\.knownDevices/)
  })

  it('lets one publish for others whom its source allows that, under the name and the limit of each', async () => {
    const { offer, outbox } = await startIntake({ limits: { perDevice: rate(1), overLimit: 'shed' } })
    for (const device of ['d1', 'd2', 'd2']) offer(device, 'x', { identity: 'admin', speaksForOthers: true })
    offer('d1', 'x', { identity: 'admin', speaksForOthers: true, topic: 'bad/topic' })
    assert.deepEqual(outbox.submitted.map(outcome), ['normal', 'normal', 'over-limit', 'malformed-topic'])
    assert.deepEqual(
      outbox.submitted.map(({ envelope }) => envelope.device),
      ['d1', 'd2', 'd2', 'admin'],
    )
  })
})

describe('admission: what must not happen', () => {
  it('log path 12: one oversize message is counted and settled; its neighbours go on whole', async () => {
    const { offer, outbox, intake } = await startIntake({ limits: { maxMessageBytes: 100 } })
    const settled = ['ok', 'x'.repeat(101), 'x'.repeat(100), ''].map((payload) => offer('d1', payload))
    outbox.commit()
    assert.deepEqual(outbox.committed.map(outcome), ['normal', 'oversize', 'normal', 'normal'])
    assert.deepEqual(
      outbox.committed.map((entry) => entry.envelope.payload.length),
      [2, 0, 100, 0],
    )
    assert.equal(outbox.committed[1]?.bytes, 101, 'the ledger counts what came')
    assert.deepEqual(
      settled.map((one) => one.settled()),
      [1, 1, 1, 1],
    )
    assert.deepEqual(intake.counters().shed, { oversize: { messages: 1, bytes: 101 } })
  })

  it('counts user properties as bytes, so that no flood hides in them', async () => {
    const { offer, outbox } = await startIntake({
      limits: { maxMessageBytes: 100, perDevice: { messagesPerSecond: Infinity, bytesPerSecond: 150, burstMs: 1000 } },
    })
    offer('d1', 'x', { userProperties: [['key', 'v'.repeat(90)]] })
    offer('d1', 'x', { userProperties: [['key', 'v'.repeat(90)]] })
    offer('d1', 'x', { userProperties: [['key', 'v'.repeat(97)]] })
    assert.deepEqual(outbox.submitted.map(outcome), ['normal', 'deferred', 'oversize'])
    assert.deepEqual(
      outbox.submitted.map((entry) => entry.bytes),
      [1, 1, 1],
    )
  })

  it('log path 16: what is above a limit waits behind, and live messages of others do not', async () => {
    const bench = await startIntake({ limits: { global: rate(1000), perDevice: rate(20) } })
    for (let second = 0; second < 10; second++) {
      for (let index = 0; index < 2000; index++) bench.offer('noisy')
      for (let device = 0; device < 40; device++) for (let index = 0; index < 10; index++) bench.offer(`quiet-${device}`)
      bench.clock.advance(1000)
    }
    assert.equal(admitted(bench, 'quiet-'), 10 * 400)
    assert.equal(admitted(bench, 'noisy'), 10 * 20)
    assert.equal(bench.outbox.inLane('deferred').length, 20_000 - 200)
    assert.deepEqual(bench.intake.counters().overLimit, { device: 20_000 - 200, global: 0 })
  })

  it('one device that shouts "error" among 100 quiet ones gets its own limit and takes nothing of theirs', async () => {
    const bench = await startIntake({ severity: SEVERITY, limits: { global: rate(1000), perDevice: rate(50) } })
    for (let tick = 0; tick < 100; tick++) {
      for (let index = 0; index < 500; index++) bench.offer('shouting', ERROR)
      for (let device = 0; device < 100; device++) bench.offer(`quiet-${device}`, device % 10 === tick % 10 ? ERROR : '{"level":"info"}')
      bench.clock.advance(200)
    }
    assert.equal(admitted(bench, 'quiet-'), 100 * 100)
    assert.equal(bench.outbox.inLane('urgent').filter(({ envelope }) => envelope.device.startsWith('quiet-')).length, 1000)
    const seconds = 99 * 0.2
    const shouted = admitted(bench, 'shouting')
    assert.ok(shouted <= 50 + 50 * seconds && shouted > 0.95 * 50 * seconds, `${shouted}`)
  })

  it('keeps the device reserve for its urgent messages, and no more than the reserve', async () => {
    const bench = await startIntake({ severity: SEVERITY, limits: { perDevice: rate(10) } })
    for (let index = 0; index < 20; index++) bench.offer('d1')
    for (let index = 0; index < 20; index++) bench.offer('d1', ERROR)
    assert.deepEqual(
      [bench.outbox.inLane('normal').length, bench.outbox.inLane('urgent').length, bench.outbox.inLane('deferred').length],
      [8, 2, 30],
    )
  })

  it('keeps the global reserve for urgent messages when normal ones have used up all else', async () => {
    const bench = await startIntake({ severity: SEVERITY, limits: { global: rate(100), perDevice: rate(50), overLimit: 'shed' } })
    for (let device = 0; device < 20; device++) for (let index = 0; index < 20; index++) bench.offer(`normal-${device}`)
    assert.equal(admitted(bench, 'normal-'), 80)
    for (let index = 0; index < 30; index++) bench.offer('alarm', ERROR)
    assert.equal(admitted(bench, 'alarm'), 20)
    assert.deepEqual(bench.intake.counters().overLimit, { device: 0, global: 330 })
    for (let index = 0; index < 100; index++) bench.offer('alarm', ERROR)
    assert.equal(bench.outbox.shed('over-limit').length, 430)
  })

  it('takes no device tokens when the global bucket is empty', async () => {
    const bench = await startIntake({
      severity: { ...SEVERITY, reserveShare: 0 },
      limits: { global: rate(10, 1000), perDevice: rate(1, 10_000) },
    })
    for (let index = 0; index < 10; index++) bench.offer('other')
    for (let index = 0; index < 50; index++) bench.offer('d1')
    assert.equal(admitted(bench, 'd1'), 0)
    bench.clock.advance(1000)
    for (let index = 0; index < 50; index++) bench.offer('d1')
    assert.equal(admitted(bench, 'd1'), 10)
  })

  it('log path 21: a redelivery is a second acceptance unless the device gave an id', async () => {
    const plain = await startIntake()
    plain.offer('d1', '{"id":1}')
    plain.offer('d1', '{"id":1}')
    assert.deepEqual(plain.outbox.submitted.map(outcome), ['normal', 'normal'])
    const keyed = await startIntake({ dedupeFrom: 'json:/id' })
    for (const [device, payload] of [
      ['d1', '{"id":1}'],
      ['d1', '{"id":1}'],
      ['d2', '{"id":1}'],
      ['d1', '{}'],
      ['d1', '{}'],
    ] as const)
      keyed.offer(device, payload)
    assert.deepEqual(keyed.outbox.submitted.map(outcome), ['normal', 'duplicate', 'normal', 'normal', 'normal'])
    assert.equal(keyed.intake.counters().withoutMessageId, 2)
    assert.equal(keyed.notices.filter(({ kind }) => kind === 'no-message-id').length, 2)
  })

  it('settles a duplicate with or after its first, never before', async () => {
    const { offer, outbox } = await startIntake({ dedupeFrom: 'json:/id' })
    const first = offer('d1', '{"id":1}')
    const second = offer('d1', '{"id":1}')
    assert.deepEqual([first.settled(), second.settled()], [0, 0])
    outbox.commit(1)
    assert.deepEqual([first.settled(), second.settled()], [1, 0])
    outbox.commit()
    assert.deepEqual([first.settled(), second.settled()], [1, 1])
  })

  it('what a limit shed stays shed when it comes again: it would else overtake', async () => {
    const bench = await startIntake({
      dedupeFrom: 'json:/id',
      limits: { perDevice: rate(1), overLimit: 'shed' },
      severity: { ...SEVERITY, reserveShare: 0 },
    })
    bench.offer('d1', '{"id":1}')
    bench.offer('d1', '{"id":2}')
    bench.clock.advance(1000)
    bench.offer('d1', '{"id":2}')
    assert.deepEqual(bench.outbox.submitted.map(outcome), ['normal', 'over-limit', 'duplicate'])
    assert.deepEqual(
      bench.outbox.submitted.map((entry) => entry.messageId?.length),
      [16, 16, undefined],
    )
  })

  it('log path 22: the wall clock moves no limit', async () => {
    const bench = await startIntake({ limits: { perDevice: rate(10) }, severity: { ...SEVERITY, reserveShare: 0 } })
    for (const wallMs of [0, Date.UTC(2026, 0), 5000, Date.UTC(2099, 0)]) {
      bench.clock.setWall(wallMs, wallMs > 5000)
      for (let index = 0; index < 20; index++) bench.offer('d1')
    }
    assert.equal(admitted(bench, 'd1'), 10)
    bench.clock.advance(500)
    for (let index = 0; index < 20; index++) bench.offer('d1')
    assert.equal(admitted(bench, 'd1'), 15)
    assert.deepEqual(
      bench.outbox.submitted.filter((_, index) => index % 20 === 0).map(({ envelope }) => [envelope.receivedMs, envelope.clockTrusted]),
      [
        [0, false],
        [Date.UTC(2026, 0), true],
        [5000, false],
        [Date.UTC(2099, 0), true],
        [Date.UTC(2099, 0) + 500, true],
      ],
    )
  })

  it('log path 27: retained messages are counted and not kept, unless their source says so', async () => {
    const { offer, outbox } = await startIntake({ retained: { plant: 'accept', old: 'ignore' } })
    for (const source of ['plant', 'old', 'another', 'constructor']) offer('d1', 'x', { source, retained: true })
    assert.deepEqual(outbox.submitted.map(outcome), ['normal', 'retained', 'retained', 'retained'])
  })

  it('reads no severity from a device that is beyond all its limits: its flood costs no parsing', async () => {
    let looks = 0
    const payload = Object.assign(Buffer.from(ERROR), {
      indexOf: () => {
        looks++
        return -1
      },
    })
    const bench = await startIntake({ severity: { ...SEVERITY, reserveShare: 0 }, limits: { perDevice: rate(5) } })
    for (let index = 0; index < 100; index++) bench.offer('d1', '', { payload })
    assert.equal(bench.outbox.inLane('deferred').length, 95)
    assert.equal(looks, 5)
  })

  it('has no reserve where nothing can be urgent', async () => {
    const bench = await startIntake({ severity: { ...SEVERITY, from: 'none' }, limits: { perDevice: rate(10) } })
    for (let index = 0; index < 20; index++) bench.offer('d1')
    assert.equal(admitted(bench, 'd1'), 10)
  })
})

describe('admission: live change', () => {
  it('takes a new global limit, and keeps its level', async () => {
    const bench = await startIntake({ limits: { global: rate(10) } })
    for (let device = 0; device < 50; device++) bench.offer(`d-${device}`)
    bench.intake.configure(ingestSettings({ limits: { global: rate(100) } }))
    for (let device = 0; device < 50; device++) bench.offer(`d-${device}`)
    assert.equal(admitted(bench, 'd-'), 10)
    bench.clock.advance(200)
    for (let device = 0; device < 50; device++) bench.offer(`d-${device}`)
    assert.equal(admitted(bench, 'd-'), 30)
  })

  it('acts from the next message on, and keeps levels', async () => {
    const bench = await startIntake({ limits: { perDevice: rate(10) }, severity: { ...SEVERITY, reserveShare: 0 } })
    for (let index = 0; index < 20; index++) bench.offer('d1')
    bench.intake.configure(
      ingestSettings({
        limits: { perDevice: rate(1000), overrides: [{ name: 'mute', devices: 'bad-*', messagesPerSecond: 0 }] },
        topics: [
          { name: 't', pattern: 'new/{device}' },
          { name: 'old', pattern: 'devices/{device}/logs/{stream}' },
        ],
      }),
    )
    assert.deepEqual(bench.intake.topicFilters(), ['new/+', 'devices/+/logs/+'])
    bench.offer('d1')
    assert.equal(admitted(bench, 'd1'), 10, 'no fresh burst')
    bench.clock.advance(100)
    for (let index = 0; index < 200; index++) bench.offer('d1', 'x', { topic: 'new/d1' })
    assert.equal(admitted(bench, 'd1'), 10 + 100, 'a tenth of a second at the new rate')
    bench.offer('bad-1')
    assert.equal(outcome(bench.outbox.submitted.at(-1)), 'deferred')
  })

  it('log path 18: is all or nothing; settings that can not work change nothing and stop nothing', async () => {
    const bench = await startIntake()
    const good = ingestSettings()
    const wrong = [
      ingestSettings({ topics: [] }),
      ingestSettings({ topics: [{ name: 'x', pattern: 'no-device' }] }),
      ingestSettings({ severity: { ...SEVERITY, from: 'xml:/' } }),
      ingestSettings({ severity: { ...SEVERITY, reserveShare: 1 } }),
      ingestSettings({ dedupeFrom: 'topic:{none}' }),
      ingestSettings({ limits: { perDevice: rate(-1) } }),
      ingestSettings({ limits: { perDevice: rate(Number.NaN) } }),
      ingestSettings({ limits: { global: rate(5, 0) } }),
      ingestSettings({ limits: { overrides: [{ name: 'x', devices: '', messagesPerSecond: 1 }] } }),
      ingestSettings({ limits: { overrides: [{ name: 'x', devices: 'a*', burstMs: -5 }] } }),
      ingestSettings({ limits: { maxMessageBytes: 0 } }),
      ingestSettings({ limits: { inFlight: { messages: 0, bytes: 1 } } }),
    ]
    for (const settings of wrong) {
      assert.throws(
        () => bench.intake.configure({ ...good, ...settings }),
        (error: Error & { kind?: string; remedy?: string }) => error.kind === 'rejected' && (error.remedy ?? '') !== '',
      )
      bench.offer('d1')
      assert.equal(outcome(bench.outbox.submitted.at(-1)), 'normal')
    }
  })
})

describe('admission: G4', () => {
  it('log path 20: every message has exactly one outcome, and every outcome is counted', async () => {
    const topic = fc.constantFrom('devices/a/logs/x', 'devices/b/logs/y', 'devices//logs/x', 'other', 'devices/\uFFFD/logs/x')
    const message = fc.record({
      topic,
      payload: fc.constantFrom('', 'x', '{"level":"error","id":1}', '{"level":50}', '{"id":2}', '{', 'x'.repeat(40)),
      qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
      retained: fc.boolean(),
      source: fc.constantFrom('lan', 'plant'),
      identity: fc.constantFrom(undefined, 'a'),
      waitMs: fc.constantFrom(0, 0, 10, 1000),
      refused: fc.constantFrom(undefined, undefined, { reason: 'oversize' as const, bytes: 999 }),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(message, { maxLength: 60 }),
        fc.constantFrom('defer' as const, 'shed' as const),
        async (messages, overLimit) => {
          const bench = await startIntake({
            severity: SEVERITY,
            dedupeFrom: 'json:/id',
            limits: { overLimit, maxMessageBytes: 30, perDevice: rate(3), global: rate(5) },
          })
          const offered = messages.map(({ payload, waitMs, identity, refused, ...rest }) => {
            bench.clock.advance(waitMs)
            return bench.offer('', payload, {
              ...rest,
              ...(identity === undefined ? {} : { identity }),
              ...(refused === undefined ? {} : { refused }),
            })
          })
          const { received, bySource, accepted, shed, inFlight } = bench.intake.counters()
          const outcomes = [...Object.values(accepted), ...Object.values(shed)]
          assert.equal(received.messages, messages.length)
          assert.equal(
            outcomes.reduce((sum, one) => sum + one.messages, 0),
            received.messages,
          )
          assert.equal(
            outcomes.reduce((sum, one) => sum + one.bytes, 0),
            received.bytes,
          )
          assert.equal(
            Object.values(bySource).reduce((sum, one) => sum + one.messages, 0),
            received.messages,
          )
          assert.equal(bench.outbox.submitted.length, messages.length)
          assert.equal(
            bench.outbox.submitted.reduce((sum, entry) => sum + entry.bytes, 0),
            received.bytes,
          )
          assert.equal(inFlight.messages, messages.length)
          bench.outbox.commit()
          assert.ok(offered.every((one) => one.settled() === 1))
          assert.deepEqual(bench.intake.counters().inFlight, { messages: 0, bytes: 0 })
          assert.equal(bench.intake.counters().faults, 0)
        },
      ),
    )
  })

  it('log path 20: no counter grows with the number of devices', async () => {
    const bench = await startIntake({ limits: { perDevice: rate(1) } })
    const size = (): number => JSON.stringify(bench.intake.counters()).length
    bench.offer('d', 'x', { topic: 'nowhere' })
    bench.offer('d')
    const before = size()
    for (let device = 0; device < 5000; device++) {
      bench.offer(`device-${device}`)
      bench.offer(`device-${device}`, 'x', { topic: `nowhere/${device}` })
    }
    assert.ok(size() - before < 60, 'only digits were added')
  })
})

async function entryWithId(payload: string): Promise<Entry> {
  const { offer, outbox } = await startIntake({ dedupeFrom: 'json:/id' })
  offer('d1', payload)
  return outbox.submitted[0] as Entry
}
