import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { exposition } from '../../adapters/control/metrics.ts'
import { statusView } from '../../daemon/cli/status-view.ts'
import { verdictOf } from '../../daemon/health.ts'
import { metricsOf } from '../../daemon/metrics.ts'
import { noPatches, patchTrouble, type PatchFigures } from '../../daemon/patch-figures.ts'
import { statusDocument } from '../../daemon/status.ts'
import { NOW_MS, relayStatus, snapshot, sourceState, verdictInput } from '../fakes/snapshot.ts'

function figures(change: Partial<PatchFigures> = {}): PatchFigures {
  return { ...noPatches(undefined, undefined), feed: { state: 'current', sinceMs: NOW_MS }, inForce: 2, waiting: 1, ...change }
}

const run = { patch: 'july', step: 'bake', since: NOW_MS - 180_000, attempt: 1, direction: 'forward', broken: false } as const
const duplicate = { kind: 'duplicate', reason: 'the id "gw-1" belongs to another box', remedy: 'give this box its own gateway.id' } as const
const refused = { state: 'refused', reason: 'etcd: list: permission denied', remedy: 'look at etcd.username', sinceMs: NOW_MS } as const

const denied = { reason: 'etcd: transaction: permission denied', remedy: 'look at the roles', isRefused: true } as const

function linesOf(change: Partial<PatchFigures>): string[] {
  const text = statusView(statusDocument(snapshot({ patches: figures(change) })))
  return text.split('\n').flatMap((line) => /^ {2}patches {2}(.*)$/.exec(line)?.[1] ?? [])
}

describe('patches in the status', () => {
  it('take one line, and a second one while something happens', () => {
    assert.deepEqual(linesOf({}), ['2 in force, 1 waiting, etcd current'])
    assert.deepEqual(linesOf({ running: run }), ['2 in force, 1 waiting, etcd current', 'july runs: bake for 3 min, attempt 1'])
    const hold = { untilMs: NOW_MS + 60_000, by: 'carol', reason: '' }
    assert.equal(linesOf({ hold })[1], 'held until 2026-11-24T12:01:00.000Z by carol')
    assert.equal(linesOf({ trouble: denied })[1], denied.reason)
    assert.equal(linesOf({ waitsForLock: 'july' })[1], 'july waits for its lock')
    const feed = { state: 'unreachable', reason: 'etcd: list: no answer', sinceMs: NOW_MS - 3_600_000 } as const
    assert.equal(linesOf({ feed })[0], '2 in force, 1 waiting, etcd unreachable for 1 h 0 min: etcd: list: no answer')
    assert.equal(linesOf({ controller: { state: 'deciding' } })[0], '2 in force, 1 waiting, etcd current, leads the rollouts')
  })

  it('are absent where no etcd is named', () => {
    assert.equal(statusDocument(snapshot()).patches, undefined)
    assert.doesNotMatch(statusView(statusDocument(snapshot())), /patches/)
  })

  it('are trouble when a person must act, with what to do, and otherwise not', () => {
    assert.equal(patchTrouble(figures()), undefined)
    assert.equal(patchTrouble(figures({ trouble: { ...denied, isRefused: false } })), undefined)
    assert.equal(patchTrouble(figures({ feed: { state: 'unreachable', reason: 'x', sinceMs: NOW_MS } })), undefined)
    for (const change of [
      { running: { ...run, broken: true } },
      { belonging: duplicate },
      { feed: refused },
      { off: 'no key' },
      { trouble: denied },
    ]) {
      const trouble = patchTrouble(figures(change))
      assert.deepEqual([trouble?.state, (trouble?.remedy ?? '') !== ''], ['degraded', true])
      assert.equal(verdictOf(verdictInput({ patchTrouble: trouble })).state, 'degraded')
    }
  })

  it('are trouble when their loop hangs, before all else that is said of them', () => {
    const verdict = patchTrouble(figures({ hangsForMs: 3_720_000, belonging: duplicate }))
    assert.match(verdict?.line ?? '', /^patches have stood still for 1 h 2 min, .*messages flow$/)
    assert.match(verdict?.remedy ?? '', /restart the service/)
  })

  it('never hide what is wrong with the messages', () => {
    const trouble = patchTrouble(figures({ feed: refused }))
    const held = relayStatus({ phase: 'holding', reason: duplicate.reason, remedy: duplicate.remedy })
    const verdict = verdictOf(verdictInput({ relay: held, patchTrouble: trouble }))
    assert.deepEqual([verdict.state, verdict.reason, verdict.remedy], ['buffering', duplicate.reason, duplicate.remedy])
  })
})

describe('metrics of patches', () => {
  it('have bounded labels, and tell feed, step and outcomes', async () => {
    const tally = { outcomes: { completed: 3, broken: 1 }, lockWaits: 4 }
    const text = await exposition(metricsOf(snapshot({ patches: figures({ running: run, tally }) })))
    assert.match(text, /^edge_gateway_patch_feed\{state="current"\} 1$/m)
    assert.match(text, /^edge_gateway_patch_feed\{state="refused"\} 0$/m)
    assert.match(text, /^edge_gateway_patch_step\{step="bake"\} 1$/m)
    assert.match(text, /^edge_gateway_patch_in_force 2$/m)
    assert.match(text, /^edge_gateway_patch_outcomes_total\{state="completed"\} 3$/m)
    assert.match(text, /^edge_gateway_patch_outcomes_total\{state="failed"\} 0$/m)
    assert.match(text, /^edge_gateway_patch_lock_waits_total 4$/m)
    assert.ok(!text.includes('july'))
  })

  it('count the answers of devices by source', async () => {
    const sources = [sourceState({ answers: { taken: 5, refused: 1 } }), sourceState({ name: 'plant' })]
    const text = await exposition(metricsOf(snapshot({ sources })))
    assert.match(text, /^edge_gateway_source_answers_total\{source="lan",outcome="taken"\} 5$/m)
    assert.match(text, /^edge_gateway_source_answers_total\{source="lan",outcome="refused"\} 1$/m)
    assert.deepEqual(statusDocument(snapshot({ sources })).sources[0]?.answers, { taken: 5, refused: 1 })
  })
})
