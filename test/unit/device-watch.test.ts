/** News of devices, refusals, tails, questions to the table, and the words for a technician. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { lineView } from '../../daemon/cli/tail.ts'
import { devicesView } from '../../daemon/cli/devices.ts'
import { topFrame } from '../../daemon/cli/top-view.ts'
import { devicesDocument } from '../../daemon/compose/device-documents.ts'
import { findDevices, similarIds } from '../../daemon/compose/device-query.ts'
import { whyStranger } from '../../daemon/compose/device-why.ts'
import { DeviceWatch, type PresenceMemory } from '../../daemon/ingest/device-watch.ts'
import type { Judgement } from '../../daemon/ingest/admission.ts'
import { LISTED_MAX } from '../../daemon/ingest/presence-news.ts'
import { RefusedDevices } from '../../daemon/ingest/refused-devices.ts'
import type { Delivery, SourceState } from '../../daemon/ports.ts'
import { statusDocument } from '../../daemon/status.ts'
import { FakeClock } from '../fakes/clock.ts'
import { snapshot, sourceState } from '../fakes/snapshot.ts'

const HOSTILE = '<img src=x>\u001b[2J\u202eevil\n'

function delivery(device: string, change: Partial<Delivery> = {}): Delivery {
  return {
    source: 'lan',
    topic: `devices/${device}/logs/app`,
    payload: Buffer.from('a line'),
    qos: 1,
    retained: false,
    settle: () => undefined,
    ...change,
  }
}

function judged(device: string, verdict: Judgement['verdict'] = { lane: 'normal' }): Judgement {
  return { meaning: { device, stream: 'app' }, verdict }
}

async function watching(silentAfterMs = 10_000) {
  const clock = new FakeClock()
  const [records, lines, kept] = [[] as Record<string, unknown>[], [] as string[], [] as object[]]
  const note = (_: object, message: string): void => void lines.push(message)
  let sources: readonly SourceState[] = [sourceState()]
  const memory: PresenceMemory = {
    read: async () => [],
    write: async (pieces) => {
      kept.splice(0, kept.length, ...pieces)
      return 1_000
    },
  }
  const watch = new DeviceWatch(
    { silentAfterMs, maxDevices: 50_000, groups: [{ name: 'cameras', devices: 'cam-*', silentAfterMs }] },
    {
      clock,
      log: { debug: note, info: note, warn: note, error: note },
      sources: () => sources,
      connectionsOf: () => 0,
      report: (type, document) => void records.push({ type, ...document }),
      memory,
    },
  )
  await watch.start()
  const hear = (device: string): void => watch.judged(delivery(device), judged(device), 6, clock.monotonicMs())
  return { clock, watch, records, lines, kept, hear, sourcesAre: (next: readonly SourceState[]) => void (sources = next) }
}

describe('news of devices', () => {
  it('is one record when thousands fall silent at once, with a count and a bounded list', async () => {
    const { clock, records, lines, hear } = await watching()
    for (let device = 0; device < 10_000; device++) hear(`cam-${device}`)
    clock.advance(60_000)
    assert.equal(records.length, 1)
    const [record] = records as [{ count: number; devices: object[]; others: number; bySource: object; byGroup: object }]
    assert.deepEqual([record.count, record.devices.length, record.others], [10_000, LISTED_MAX, 10_000 - LISTED_MAX])
    assert.deepEqual([record.bySource, record.byGroup], [{ lan: 10_000 }, { cameras: 10_000 }])
    assert.ok(JSON.stringify(record).length < 20_000)
    assert.equal(lines.filter((line) => line.includes('fell silent')).length, 1)
  })

  it('comes at most once a minute however much devices flap, and counts all', async () => {
    const { clock, records, hear } = await watching()
    for (let round = 0; round < 20; round++) {
      hear('a')
      clock.advance(15_000)
    }
    const silent = records.filter(({ type }) => type === 'device-silent')
    assert.ok(silent.length <= 6, `${silent.length} records in 5 min`)
    clock.advance(60_000)
    const total = records.reduce((sum, { type, count }) => sum + (type === 'device-silent' ? (count as number) : 0), 0)
    assert.equal(total, 20)
  })

  it('names a source that can not hear once, and none of the devices behind it', async () => {
    const { clock, records, lines, hear, sourcesAre } = await watching()
    for (let device = 0; device < 100; device++) hear(`d-${device}`)
    sourcesAre([sourceState({ state: 'down', reason: 'the cable is cut' })])
    clock.advance(300_000)
    assert.deepEqual([records.length, lines.filter((line) => line.includes('is not judged')).length], [0, 1])
  })

  it('is remembered soon, so that a kill does not make it news again; and at the stop', async () => {
    const { clock, watch, kept, hear } = await watching()
    hear('a')
    clock.advance(45_000)
    await Promise.resolve()
    assert.match(JSON.stringify(kept), /"devices":\["a","lan",\d+,1\]/)
    hear('b')
    await watch.stop()
    assert.match(JSON.stringify(kept), /"b","lan",0,0/)
  })
})

describe('refusals', () => {
  it('are found by any name and by a level of the topic; a flood of names costs a fixed amount and hides no other kind', () => {
    const refused = new RefusedDevices()
    refused.note('connect', 'lan', ['cam-7', 'user'], 'wrong password', 1)
    for (let name = 0; name < 5_000; name++) refused.note('malformed-topic', 'lan', [''], `x/${name}/${'y'.repeat(5_000)}`, name)
    refused.note('malformed-topic', 'lan', [''], 'devices/cam-7/log', 9_000)
    assert.deepEqual(
      refused.about('cam-7').map(({ kind }) => kind),
      ['malformed-topic', 'connect'],
    )
    assert.ok(refused.latest(10_000).length <= 400)
    assert.ok(refused.latest(10_000).every(({ detail }) => detail.length <= 257))
  })

  it('are the reason and the remedy for a device that was never seen', async () => {
    const refusal = { kind: 'connect', source: 'lan', who: 'cam-7', detail: 'wrong password', count: 2, last: '2026-11-24T12:00:00Z' }
    const { sentence, remedy } = whyStranger({
      device: 'cam-7',
      similar: [],
      refusals: [refusal],
      others: [],
      patterns: ['d/{device}'],
      deaf: [],
    })
    assert.match(sentence, /cam-7 was never seen here\. A connect of cam-7 to lan was refused 2 times, .*: wrong password\./)
    assert.match(remedy ?? '', /edgectl device passwd/)
  })
})

describe('a tail', () => {
  it('costs nothing while nobody looks, skips for who is slow and says so, and ends with the daemon', async () => {
    const { watch, hear } = await watching()
    hear('a')
    const stop = new AbortController()
    const lines = watch.tails.lines({ devices: 'cam-*', stream: undefined, payload: true }, stop.signal)
    assert.deepEqual((await lines.next()).value, '{"alive":true}\n', 'what came before it is not kept')
    for (let message = 0; message < 1_500; message++) hear('cam-1')
    hear('pump-1')
    const { value } = await lines.next()
    const shown = String(value).trim().split('\n')
    assert.deepEqual([shown.length, shown.at(-1)], [1_001, '{"skipped":500}'])
    assert.equal((JSON.parse(shown[0] ?? '') as { payloadBase64: string }).payloadBase64, Buffer.from('a line').toString('base64'))
    const last = lines.next()
    watch.tails.close()
    assert.equal((await last).done, true)
  })

  it('keeps no place when its reader has gone', async () => {
    const { watch } = await watching()
    for (let reader = 0; reader < 20; reader++) {
      const lines = watch.tails.lines({ devices: '*', stream: undefined, payload: false }, new AbortController().signal)
      await lines.next()
      await lines.return()
    }
    assert.equal(watch.tails.full, false)
  })

  it('shows what devices write without letting it reach the terminal', () => {
    const text =
      lineView({ at: '2026-11-24T12:00:00Z', device: HOSTILE, topic: HOSTILE, payloadBase64: Buffer.from(HOSTILE).toString('base64') }) ??
      ''
    assert.doesNotMatch(text.replace('\n', ''), /[\u0000-\u001f\u202e]/)
  })
})

describe('questions to the table of devices', () => {
  it('pages through all, in each order, without one twice or missing', async () => {
    const { clock, watch, hear } = await watching()
    for (let device = 0; device < 57; device++) for (let times = 0; times <= device % 7; times++) hear(`dev-${device}`)
    for (const sort of ['id', 'rate', 'seen', 'shed', 'state'] as const) {
      const seen: string[] = []
      let after: string | undefined
      do {
        const found = findDevices(watch.presence, { search: 'DEV', state: 'online', sort, limit: 10, after }, clock.monotonicMs())
        seen.push(...found.slots.map((slot) => watch.presence.table.ids[slot] ?? ''))
        assert.equal(found.matched, 57)
        after = found.next
      } while (after !== undefined)
      assert.deepEqual([seen.length, new Set(seen).size], [57, 57], sort)
    }
    assert.throws(
      () => findDevices(watch.presence, { search: '', state: undefined, sort: 'id', limit: 1, after: 'gone' }, 0),
      /not known any more/,
    )
  })

  it('finds names that are spelt otherwise', async () => {
    const { watch, hear } = await watching()
    for (const device of ['cam-07', 'PUMP_1', 'boiler']) hear(device)
    assert.deepEqual(similarIds(watch.presence, 'pump-1', 5), ['PUMP_1'])
    assert.deepEqual(similarIds(watch.presence, 'cam-7', 5), ['cam-07'])
    assert.deepEqual(similarIds(watch.presence, 'zzz', 5), [])
  })

  it('says that nobody has sent anything yet, and not that a device is missing', async () => {
    const { clock, watch, hear } = await watching()
    const view = (search: string): string => {
      const found = findDevices(watch.presence, { search, state: undefined, sort: 'id', limit: 50, after: undefined }, clock.monotonicMs())
      return devicesView(devicesDocument(watch.presence, found, [sourceState()], clock))
    }
    assert.match(view(''), /no device has sent anything yet/)
    hear('pump-1')
    assert.match(view('cam'), /no such device/)
  })

  it('shows hostile names with their control characters made visible, within the width of the terminal', async () => {
    const { clock, watch, hear } = await watching()
    for (const device of [HOSTILE, 'x'.repeat(256), 'pump-1']) hear(device)
    const found = findDevices(
      watch.presence,
      { search: '', state: undefined, sort: 'id', limit: 50, after: undefined },
      clock.monotonicMs(),
    )
    const devices = devicesDocument(watch.presence, found, [sourceState()], clock)
    assert.doesNotMatch(devicesView(devices).replaceAll('\n', ''), /[\u0000-\u001f\u202e]/)
    for (const [columns, rows] of [
      [60, 12],
      [80, 24],
      [200, 60],
    ] as const) {
      const frame = topFrame({ status: statusDocument(snapshot()), devices, trouble: 'x'.repeat(500), sort: 'rate' }, columns, rows)
      assert.ok(frame.length <= rows && frame.every((line) => line.length <= columns), `${columns}x${rows}`)
      assert.doesNotMatch(frame.join(''), /[\u0000-\u001f\u202e]/)
      assert.match(frame.join('\n'), /pump-1 +online/)
    }
  })
})
