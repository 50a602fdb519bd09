import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { brokenView, historyView, holdView, locksView, patchesView, type PatchRow } from '../../daemon/cli/patch-views.ts'
import { deniedIn, historyDocument, patchesDocument } from '../../daemon/compose/patch-documents.ts'
import { NOTHING, type AppliedHere } from '../../daemon/patch/agent/own.ts'
import type { Json } from '../../daemon/patch/memory.ts'

const row: PatchRow = {
  patch: 'july',
  kind: 'config',
  channel: 'limits',
  sequence: 2,
  state: 'waiting',
  because: 'it waits for its lock',
  inForce: false,
}
const AT = Date.UTC(2026, 10, 24, 12)
const june: AppliedHere = { patch: 'june', digest: 'd', channel: 'limits', sequence: 1, atMs: AT, document: undefined }

describe('patches on a terminal', () => {
  it('have one line each, however long a reason is and whatever stands in it', () => {
    const because = `a program said \u001b[31m${'x'.repeat(500)}`
    const lines = patchesView({ schema: 1, running: true, patches: [row, { ...row, patch: 'aug', because }] }).split('\n')
    assert.equal(lines.length, 3)
    assert.ok(lines.every((line) => line.length < 160 && !line.includes('\u001b')))
    assert.match(lines[2] ?? '', /…$/)
  })

  it('say when they are remembered only, or may be old', () => {
    const document = { schema: 1, running: false, stale: 'etcd is not heard', patches: [] } as const
    assert.equal(patchesView(document), 'the daemon is down; this is what it remembers\n\nno patches\n\nthis may be old: etcd is not heard')
  })

  it('and what else there is none of', () => {
    assert.equal(historyView({ schema: 1, runs: [] }), 'no patch has run on this box')
    assert.equal(holdView({ schema: 1 }), 'patches are not held on this box')
    assert.equal(locksView({ schema: 1, locks: [], open: [] }), 'no lock is held')
    const broken = { scope: 'a', gateway: 'gw-9', token: 7, key: 'locks/a/1' }
    assert.match(brokenView({ schema: 1, broken, paused: [] }), /no rollout had to be paused/)
    assert.match(brokenView({ schema: 1, broken, paused: ['july'] }), /paused: july; `edgectl patch resume` lets each go on/)
    const open = [{ scope: 'a', gateway: 'gw-5', patch: 'july', token: 3, at: '2026-11-24T12:00:00.000Z' }]
    assert.match(locksView({ schema: 1, locks: [], open }), /gw-5 began july under a at 2026-11-24T12:00:00.000Z, and has not told yet/)
  })
})

describe('patches from the memory', () => {
  const own = { ...NOTHING, applied: new Map([['june', june]]), undone: new Set(['may']) }
  const denied = deniedIn(new Map<string, Json>([['denied/abc', { patch: 'april', retry: 0, reason: 'no answer', atMs: AT }]]))
  const states = (running: Parameters<typeof patchesDocument>[0]['running']): string[] =>
    patchesDocument({ own, denied, running }).patches.map(({ patch, state, because }) => `${patch} ${state}: ${because}`)

  it('are those in force, taken back, denied, and under way', () => {
    const run = { patch: 'july', step: 'bake', direction: 'forward', attempt: 2, broken: false, since: AT } as const
    assert.deepEqual(states(run), [
      'june in force: it is in force here since 2026-11-24T12:00:00.000Z',
      'april stopped: it failed here (no answer)',
      'july running: it was under way when the gateway ended: step bake since 2026-11-24T12:00:00.000Z, attempt 2; the next start ends it',
      'may over: it was taken back on order',
    ])
    assert.match(states({ ...run, broken: true })[2] ?? '', /^july broken: it could not be taken back: a person is needed/)
  })

  it('and those that ran, the newest first', () => {
    const run = (patch: string, devices?: Json): Json => ({
      patch,
      state: 'completed',
      step: 'commit',
      attempt: 1,
      startedMs: AT,
      finishedMs: AT + 90_000,
      ...(devices !== undefined && { devices }),
    })
    const history = new Map<string, Json>([
      ['history/000000000001', run('june')],
      ['history/000000000002', 'of another version'],
      ['history/000000000010', run('july', { confirmed: 2, refused: 1, silent: 0 })],
    ])
    const document = historyDocument(history, 20)
    assert.deepEqual(
      document.runs.map(({ number, patch, seconds }) => [number, patch, seconds]),
      [
        [10, 'july', 90],
        [1, 'june', 90],
      ],
    )
    assert.match(historyView(document), /july +completed +commit +1 min.*\(devices: 2 confirmed, 1 refused, 0 silent\)/)
    assert.equal(historyDocument(history, 1).runs.length, 1)
  })
})
