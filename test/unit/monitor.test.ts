import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Monitor, type Watched } from '../../daemon/monitor.ts'
import { noPatches, type PatchFigures } from '../../daemon/patch-figures.ts'
import type { InternalRecord, LedgerLine, LedgerTotals, Log, OutboxNotice } from '../../daemon/ports.ts'
import type { RelayStatus } from '../../daemon/status.ts'
import { FakeClock } from '../fakes/clock.ts'
import { outboxState, relayStatus, snapshot, sourceState } from '../fakes/snapshot.ts'

const NOTHING = { messages: 0, bytes: 0 }
const TOTALS: LedgerTotals = {
  received: NOTHING,
  delivered: NOTHING,
  buffered: NOTHING,
  inFlight: NOTHING,
  deadLettered: NOTHING,
  shed: {},
  lost: NOTHING,
  exported: NOTHING,
}
const QUIET: LedgerLine = { device: 'a', stream: 's', received: NOTHING, delivered: NOTHING, deadLettered: NOTHING, shed: {} }
const SHEDDING: LedgerLine = { ...QUIET, device: 'b', shed: { 'over-limit': { messages: 3, bytes: 30 } } }

function set(): {
  clock: FakeClock
  monitor: Monitor
  records: InternalRecord[]
  lines: string[]
  relay: (next: RelayStatus) => void
  notices: OutboxNotice[]
  patches: (next: PatchFigures) => void
} {
  const clock = new FakeClock({ monotonicMs: 100_000 })
  const records: InternalRecord[] = []
  const lines: string[] = []
  const note = (_: object, message: string): void => void lines.push(message)
  const log: Log = { debug: note, info: note, warn: note, error: note }
  let relay = relayStatus()
  const notices: OutboxNotice[] = []
  let patches: PatchFigures | undefined
  const watched: Watched = {
    identity: snapshot().identity,
    sources: () => [sourceState()],
    intake: () => snapshot().intake,
    devices: () => snapshot().devices,
    outbox: () => outboxState({ notices: [...notices] }, { normal: { messages: 1 } }),
    relay: () => ({ ...relay, lastProgressMs: clock.monotonicMs() }),
    whenFull: () => ({ urgent: 'block', normal: 'block', deferred: 'drop-oldest' }),
    configuration: () => ({ overrides: [], leftOut: [] }),
    patches: () => patches,
    ledger: { totals: async () => TOTALS, lines: async () => [SHEDDING, QUIET] },
    report: (record) => void records.push(record),
  }
  const monitor = new Monitor(watched, clock, log)
  return { clock, monitor, records, lines, relay: (next) => void (relay = next), notices, patches: (next) => void (patches = next) }
}

function read(record: InternalRecord | undefined): Record<string, unknown> {
  return JSON.parse(Buffer.from(record?.value ?? '{}').toString()) as Record<string, unknown>
}

describe('the monitor', () => {
  it('reports a change of verdict once it has stood for 5 s, and not a flap', async () => {
    const { clock, monitor, records, relay } = set()
    await monitor.start()
    monitor.running()
    clock.advance(6_000)
    const before = records.length
    relay(relayStatus({ phase: 'backing-off', reason: 'Kafka unreachable' }))
    clock.advance(3_000)
    relay(relayStatus())
    clock.advance(10_000)
    assert.equal(records.length, before, 'a flap of 3 s is no news')
    relay(relayStatus({ phase: 'backing-off', reason: 'Kafka unreachable' }))
    clock.advance(10_000)
    assert.equal(records.length, before + 1)
    const event = read(records.at(-1))
    assert.equal(records.at(-1)?.destination, 'events')
    assert.deepEqual([event['type'], event['gateway'], (event['verdict'] as { state: string }).state], ['verdict', 'gw-001', 'buffering'])
  })

  it('tells trouble of the patches, but not to the checks that judge a patch by the messages', async () => {
    const { monitor, patches } = set()
    await monitor.start()
    monitor.running()
    patches({ ...noPatches(undefined, undefined), feed: { state: 'refused', reason: 'etcd: permission denied', sinceMs: 0 } })
    assert.deepEqual([monitor.snapshot().verdict.state, monitor.pipeline().state], ['degraded', 'ok'])
  })

  it('sends a status and the ledger after a minute and then every 15 minutes', async () => {
    const { clock, monitor, records } = set()
    await monitor.start()
    monitor.running()
    const kinds = (): string[] => records.map((record) => `${record.destination} ${String(read(record)['type'] ?? 'totals')}`)
    clock.advance(61_000)
    await Promise.resolve()
    clock.advance(15 * 60_000)
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(kinds().filter((kind) => kind === 'events status').length, 2)
    const ledgers = records.filter((record) => record.destination === 'ledger')
    assert.equal(ledgers.length, 2)
    assert.equal(ledgers[0]?.key, 'gw-001.0123456789abcdef', 'one key for each epoch, so a compacted topic keeps the last totals of each')
    assert.deepEqual(
      (read(ledgers[0])['shedding'] as LedgerLine[]).map((line) => line.device),
      ['b'],
    )
  })

  it('log path 7: sends each notice of the buffer as an event, once, also when older ones have gone', async () => {
    const { clock, monitor, records, notices } = set()
    const sent = (): unknown[] =>
      records
        .filter((record) => read(record)['type'] === 'notice')
        .map((record) => [record.destination, read(record)['text'], read(record)['at']])
    notices.push({ text: '20 are lost', atMs: 1_000 })
    await monitor.start()
    monitor.running()
    clock.advance(5_000)
    assert.deepEqual(sent(), [['events', '20 are lost', '1970-01-01T00:00:01.000Z']])
    notices.push({ text: 'lane normal is empty', atMs: 2_000 })
    clock.advance(1_000)
    notices.shift()
    clock.advance(5_000)
    assert.deepEqual(sent().slice(1), [['events', 'lane normal is empty', '1970-01-01T00:00:02.000Z']])
  })

  it('writes the last totals at a stop, and nothing after it', async () => {
    const { clock, monitor, records } = set()
    await monitor.start()
    monitor.running()
    await monitor.stop()
    assert.equal(records.at(-1)?.destination, 'ledger')
    const count = records.length
    clock.advance(3_600_000)
    assert.equal(records.length, count)
  })
})
