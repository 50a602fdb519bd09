import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { exposition } from '../../adapters/control/metrics.ts'
import { ledgerDocument, ledgerView } from '../../daemon/cli/ledger-view.ts'
import { statusView } from '../../daemon/cli/status-view.ts'
import { printable, size, table } from '../../daemon/cli/text.ts'
import { metricsOf } from '../../daemon/metrics.ts'
import type { LedgerTotals } from '../../daemon/ports.ts'
import { statusDocument } from '../../daemon/status.ts'
import { NOW_MS, outboxState, relayStatus, snapshot, sourceState } from '../fakes/snapshot.ts'

describe('the status document', () => {
  it('has what a program needs, under a schema number', () => {
    const document = JSON.parse(JSON.stringify(statusDocument(snapshot()))) as Record<string, unknown>
    for (const key of ['schema', 'pid', 'version', 'gateway', 'uptimeSeconds', 'verdict', 'sources', 'lanes', 'rates', 'buffer', 'kafka'])
      assert.ok(key in document, key)
    assert.equal(document['uptimeSeconds'], 3_600)
    assert.ok(!('startedMs' in document))
  })

  it('says when the buffer will be full only while it grows and does not drain', () => {
    const rates = { inPerSecond: 0, outPerSecond: 0, shedPerSecond: 0, growthBytesPerSecond: 1_000 }
    const waiting = (ageMs: number) =>
      outboxState({ usedBytes: 1_000_000, maxBytes: 2_000_000 }, { normal: { messages: 1, oldestMs: NOW_MS - ageMs } })
    const fullIn = (change: Parameters<typeof snapshot>[0]) => statusDocument(snapshot({ rates, ...change })).buffer.fullInSeconds
    assert.equal(fullIn({ outbox: waiting(65_000) }), 1_000)
    assert.equal(fullIn({ outbox: waiting(5_000), relay: relayStatus({ reason: 'Kafka is away' }) }), 1_000)
    assert.equal(fullIn({ outbox: waiting(5_000) }), undefined)
    assert.equal(fullIn({ outbox: waiting(65_000), rates: { ...rates, growthBytesPerSecond: 0 } }), undefined)
  })

  it('leads with the verdict, and fits one screen', () => {
    const verdict = { state: 'buffering', line: 'Kafka unreachable since 14:02 (3 h 10 min), no loss', remedy: 'check the uplink' } as const
    const outbox = outboxState({}, { normal: { messages: 12_345, oldestMs: NOW_MS - 65_000 } })
    const lines = statusView(statusDocument(snapshot({ verdict, outbox }))).split('\n')
    assert.equal(lines[0], 'BUFFERING: Kafka unreachable since 14:02 (3 h 10 min), no loss')
    assert.ok(lines.length <= 24)
    assert.ok(lines.some((line) => /remedy +check the uplink/.test(line)))
    assert.ok(lines.some((line) => /normal +12,345/.test(line)))
  })

  it('log path 7: shows what the buffer has to say, the newest last', () => {
    const notices = [
      { text: 'outbox.db is damaged. 20 are lost', atMs: NOW_MS },
      { text: 'lane normal is empty', atMs: NOW_MS + 1_000 },
    ]
    const document = statusDocument(snapshot({ outbox: outboxState({ notices }) }))
    assert.deepEqual(document.buffer.notices[0], { text: 'outbox.db is damaged. 20 are lost', at: '2026-11-24T12:00:00.000Z' })
    assert.match(
      statusView(document),
      /notice {3}buffer: outbox.db is damaged. 20 are lost \(2026-11-24T12:00:00.000Z\)\n {2}notice {3}buffer: lane normal is empty \(/,
    )
  })
})

describe('metrics', () => {
  it('log path 20: every shed reason has its series, and no label comes from a device', async () => {
    const text = await exposition(metricsOf(snapshot()))
    assert.match(text, /^edge_gateway_shed_messages_total\{reason="oversize"\} 1$/m)
    assert.match(text, /^edge_gateway_shed_messages_total\{reason="evicted"\} 0$/m)
    const labels = new Set([...text.matchAll(/[{,](\w+)="/g)].map((match) => match[1]))
    assert.deepEqual([...labels].sort(), ['gateway', 'lane', 'reason', 'source', 'state', 'version'])
  })

  it('tells what left on a medium and what came by one, apart from the own messages', async () => {
    const some = { id: 'a', gateway: 'gw-7', importedAt: '', messages: 9, state: 'delivering', deadLetters: 0 } as const
    const text = await exposition(
      metricsOf(
        snapshot({
          ledger: { shed: {}, lost: { messages: 0, bytes: 0 }, exported: { messages: 4, bytes: 40 } },
          imports: [
            { ...some, left: 3, leftBytes: 30, reason: 'we are not allowed to use the topic' },
            { ...some, left: 0, leftBytes: 0, state: 'dead-letters', deadLetters: 2 },
            { ...some, left: 9, leftBytes: 90, state: 'waiting' },
          ],
          importTally: { taken: { messages: 20, bytes: 200 }, delivered: { messages: 8, bytes: 80 } },
        }),
      ),
    )
    const told = [...text.matchAll(/^edge_gateway_((?:export|import)\w+) (\d+)$/gm)].map(([, name, value]) => `${name} ${value}`)
    assert.deepEqual(told, [
      ...['exported_messages_total 4', 'exported_bytes_total 40', 'imported_messages_total 20', 'imported_bytes_total 200'],
      ...['import_delivered_messages_total 8', 'import_delivered_bytes_total 80'],
      ...['import_waiting_messages 12', 'import_waiting_bytes 120', 'import_dead_letters 2', 'import_stands 1'],
    ])
  })

  it('log path 20: connects that a listener refused have their series', async () => {
    const text = await exposition(
      metricsOf(snapshot({ sources: [sourceState({ refused: { held: 2, 'bad-credentials': 1 } }), sourceState({ name: 'plant' })] })),
    )
    assert.match(text, /^edge_gateway_source_refused_connects_total\{source="lan",reason="held"\} 2$/m)
  })

  it('escapes what a config may name', async () => {
    const text = await exposition(metricsOf(snapshot({ sources: [sourceState({ name: 'a"b\\c\n' })] })))
    assert.match(text, /source="a\\"b\\\\c\\n"/)
  })
})

describe("the ledger's equation", () => {
  const some = (messages: number): { messages: number; bytes: number } => ({ messages, bytes: messages * 10 })
  const totals: LedgerTotals = {
    received: some(100),
    delivered: some(60),
    buffered: some(20),
    inFlight: some(5),
    deadLettered: some(1),
    shed: { 'over-limit': some(10), oversize: some(2) },
    lost: some(2),
    exported: some(0),
  }

  it('holds when every message has an outcome', () => {
    const document = ledgerDocument(totals, [])
    assert.deepEqual(document.equation, { holds: true, difference: 0 })
    assert.match(
      ledgerView(document),
      /^received 100 = delivered 60 \+ buffered 20 \+ in flight 5 \+ dead letters 1 \+ lost 2 \+ exported 0 \+ shed 12$/m,
    )
  })

  it('says by how much it is off', () => {
    const document = ledgerDocument({ ...totals, delivered: some(57) }, [])
    assert.deepEqual(document.equation, { holds: false, difference: 3 })
    assert.match(ledgerView(document), /3 messages are not accounted for/)
  })
})

describe('text for a terminal', () => {
  it('can not be steered by a device', () => {
    assert.equal(printable('\u001b[31mred\u0007'), '\\u001b[31mred\\u0007')
    assert.equal(table(['device'], [['a\nb']]).split('\n').length, 2)
  })

  it('shows sizes in binary units', () => {
    assert.deepEqual([0, 1_023, 1_536, 410 * 1024 ** 2, 2 * 1024 ** 3].map(size), ['0 B', '1023 B', '1.5 KiB', '410 MiB', '2.0 GiB'])
  })
})
