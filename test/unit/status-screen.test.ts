/** `edgectl status` fits one screen in every state, and leads with the verdict. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { statusView } from '../../daemon/cli/status-view.ts'
import type { Verdict } from '../../daemon/health.ts'
import { noPatches } from '../../daemon/patch-figures.ts'
import { statusDocument, type Snapshot } from '../../daemon/status.ts'
import { NOW_MS, outboxState, relayStatus, snapshot, sourceState } from '../fakes/snapshot.ts'

const LONG = 'TCP timeout to kafka-2.plant-7.example.com:9092 (advertised), bootstrap ok; '.repeat(4)

function verdict(state: Verdict['state']): Verdict {
  return { state, line: `Kafka unreachable since 14:02 (3 h 10 min), no loss: ${LONG}`, reason: LONG, remedy: LONG }
}

const OVERRIDE = {
  key: 'limits.perDevice.messagesPerSecond',
  value: 500,
  until: '2026-11-24T18:00:00Z',
  remainingSeconds: 9,
  by: 'root',
  reason: LONG,
}
const CASES: Readonly<Record<string, Partial<Snapshot>>> = {
  ok: {},
  ...Object.fromEntries(
    (['buffering', 'blocked', 'stuck', 'degraded', 'starting', 'stopping'] as const).map((state) => [state, { verdict: verdict(state) }]),
  ),
  'with everything at once': {
    verdict: verdict('blocked'),
    clockTrusted: false,
    configuration: {
      overrides: Array.from({ length: 9 }, () => OVERRIDE),
      leftOut: Array.from({ length: 9 }, () => ({ label: 'patch p1', reason: LONG })),
    },
    sources: Array.from({ length: 30 }, (_, number) =>
      sourceState({ name: `plant-${number}`, state: 'down', reason: LONG, notices: [{ text: LONG, count: 3, lastMs: NOW_MS }] }),
    ),
    outbox: outboxState(
      { notices: Array.from({ length: 20 }, () => ({ text: LONG, atMs: NOW_MS })) },
      { normal: { messages: 12_345_678, bytes: 1e9, blocked: true } },
    ),
    relay: relayStatus({ reason: LONG }),
    patches: noPatches(undefined, undefined),
  },
}

describe('the status on a screen', () => {
  for (const [name, change] of Object.entries(CASES)) {
    for (const [columns, rows] of [
      [80, 24],
      [60, 24],
      [60, 40],
    ] as const) {
      it(`fits ${columns}x${rows}: ${name}`, () => {
        const document = statusDocument(snapshot(change))
        const lines = statusView(document, { columns, rows }).split('\n')
        assert.ok(lines.length < rows, `${lines.length} lines and a prompt`)
        const wide = lines.filter((line) => line.length > columns)
        assert.deepEqual(wide, [])
        assert.ok(lines[0]?.startsWith(`${document.verdict.state.toUpperCase()}: `))
      })
    }
  }

  it('leaves nothing out where no terminal is', () => {
    const text = statusView(statusDocument(snapshot(CASES['with everything at once'])), undefined)
    assert.equal(text.match(/override limits/g)?.length, 9)
    assert.match(text, /devices {2}3 online, 1 silent, 0 offline/)
  })
})
