import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { countsOf, gateOf } from '../../daemon/patch/rollout/counts.ts'
import type { RolloutPhase } from '../../daemon/patch/records.ts'
import { decide } from '../../daemon/patch/rollout/decide.ts'
import type { Move } from '../../daemon/patch/rollout/decide.ts'
import { rolloutOverview } from '../../daemon/patch/rollout/overview.ts'
import { findSilent } from '../../daemon/patch/rollout/silence.ts'
import { isTarget } from '../../daemon/patch/rollout/targets.ts'
import type { OtherRollout } from '../../daemon/patch/rollout/view.ts'
import { box, failure, NOW_MS, patchFor, stateOf, told, viewFrom } from '../fakes/rollout.ts'
import type { ViewParts } from '../fakes/rollout.ts'

const names = (count: number, from = 0): string[] => Array.from({ length: count }, (_, index) => `gw-${index + from}`)

function next(parts: ViewParts): Move | undefined {
  return decide(viewFrom(parts))
}

function other(changes: Partial<OtherRollout>): OtherRollout {
  return { id: 'o', channel: 'limits', sequence: 0, supersedes: [], phase: 'running', stage: 0, ...changes }
}

const SIGNED = { schema: 1, state: 'active', signed: true } as const

describe('a rollout begins', () => {
  it('with a frozen cohort of boxes that are online', () => {
    const move = next({ boxes: [box('a', { online: false }), box('b'), box('c', { online: false })] })
    assert.equal(move?.phase, 'running')
    assert.deepEqual(move?.cohort, ['b'])
  })

  it('and waits when nobody is online: nobody is no success', () => {
    const move = next({ boxes: [box('a', { online: false })] })
    assert.equal(move?.phase, 'waiting')
    assert.match(move?.because ?? '', /online/)
    assert.equal(next({ boxes: [] })?.phase, 'waiting')
  })

  it('not always with the same box', () => {
    const first = new Set<string>()
    for (let number = 0; number < 20; number++) {
      const view = { ...viewFrom({ boxes: names(10).map((name) => box(name)) }), id: `patch-${number}` }
      const [one = ''] = decide(view)?.cohort ?? []
      first.add(one)
      assert.deepEqual(decide(view)?.cohort, [one])
    }
    assert.ok(first.size > 3, `the first boxes of 20 patches were ${[...first].join(', ')}`)
  })

  it('not before its time, not before what it requires, and says so once', () => {
    const early = next({ patch: { notBefore: NOW_MS + 1 }, boxes: [box('a')] })
    assert.equal(early?.phase, 'waiting')
    assert.match(early?.because ?? '', /not to begin before/)
    const state = stateOf('waiting', -1, { reason: early?.because ?? '' })
    assert.equal(next({ patch: { notBefore: NOW_MS + 1 }, boxes: [box('a')], state }), undefined)
    const requires = { patch: { requires: ['o'] }, boxes: [box('a')] }
    assert.match(next(requires)?.because ?? '', /requires o, which is not known/)
    assert.equal(next({ ...requires, others: [other({ phase: 'completed', channel: 'x' })] })?.phase, 'running')
  })

  it('after what superseded the patch that it requires, once that is completed', () => {
    const requires = { patch: { requires: ['o'] }, boxes: [box('a')] }
    const gone = other({ phase: 'superseded', channel: 'x' })
    const next1 = other({ id: 'o2', phase: 'superseded', channel: 'x', supersedes: ['o'] })
    const next2 = (phase: RolloutPhase, channel = 'x') => other({ id: 'o3', phase, channel, supersedes: ['o2'] })
    assert.match(next({ ...requires, others: [gone, next1, next2('running')] })?.because ?? '', /requires o, which is superseded/)
    assert.match(next({ ...requires, others: [gone, next1, next2('completed', 'y')] })?.because ?? '', /requires o, which is superseded/)
    assert.equal(next({ ...requires, others: [gone, next1, next2('completed')] })?.phase, 'running')
  })

  it('one at a time in a channel, unless it supersedes the other', () => {
    const boxes = [box('a')]
    assert.match(next({ boxes, others: [other({})] })?.because ?? '', /o of the same channel is running/)
    assert.match(next({ boxes, others: [other({ phase: 'paused' })] })?.because ?? '', /paused/)
    assert.equal(next({ boxes, others: [other({ channel: 'other' })] })?.phase, 'running')
    assert.equal(next({ boxes, patch: { supersedes: ['o'] }, others: [other({ phase: 'paused' })] })?.phase, 'running')
  })

  it('never for a document that is refused, or has expired', () => {
    const refused = { ...viewFrom({ boxes: [box('a')] }), spec: { refused: 'signed by nobody', digest: 'd' } }
    assert.equal(decide(refused)?.phase, 'refused')
    assert.equal(next({ boxes: [box('a')], patch: { expires: NOW_MS } })?.phase, 'expired')
  })
})

describe('a stage', () => {
  const cohorts = [['a']]
  const running = stateOf('running', 0)
  const boxes = [told('a', 'completed'), box('b'), box('c'), box('d')]

  it('ends after its bake, and the next one takes the next boxes', () => {
    assert.equal(next({ state: running, cohorts, boxes }), undefined)
    assert.equal(next({ state: running, cohorts, boxes, facts: { doneForMs: 59_999 } }), undefined)
    const move = next({ state: running, cohorts, boxes, facts: { doneForMs: 60_000 } })
    assert.deepEqual([move?.stage, move?.phase, move?.cohort?.length], [1, 'running', 1])
    assert.ok(!move?.cohort?.includes('a'))
  })

  it('is not done while one applies, and is out of reach when all have answered and too few are done', () => {
    const rollout = { maxFailures: 5 }
    const parts = { state: running, cohorts: [['a', 'b']], rollout, facts: { doneForMs: 1e9 } }
    assert.equal(next({ ...parts, boxes: [told('a', 'completed'), told('b', 'applying', { isQueued: true })] }), undefined)
    const move = next({ ...parts, boxes: [told('a', 'completed'), told('b', 'refused')] })
    assert.deepEqual([move?.phase, move?.pausedBy], ['paused', 'failures'])
  })

  it('waits between stages while nobody of the next one is online', () => {
    const parts = {
      state: running,
      cohorts,
      boxes: [told('a', 'completed'), ...['b', 'c'].map((name) => box(name, { online: false }))],
      facts: { doneForMs: 60_000 },
    }
    assert.equal(next(parts), undefined)
    assert.match(rolloutOverview(viewFrom(parts)).waitsFor.join(), /no gateway of the next stage is online/)
  })

  it('with labels takes all that have them, and waits for the first of them', () => {
    const stages = [{ size: { labels: { ring: 'first' } }, bakeMs: 0, minDone: 1 }]
    const ring = { labels: { ring: 'first' } }
    assert.deepEqual(next({ rollout: { stages }, boxes: [box('a', ring), box('b'), box('c', ring)] })?.cohort?.toSorted(), ['a', 'c'])
    assert.equal(next({ rollout: { stages }, boxes: [box('b')] })?.phase, 'waiting')
  })

  it('that asks for no more boxes than are in is passed', () => {
    const stages = [2, 1, 3].map((count) => ({ size: { count }, bakeMs: 0, minDone: 1 }))
    const parts = { rollout: { stages }, boxes: [told('a', 'completed'), told('b', 'completed'), box('c')], facts: { doneForMs: 0 } }
    const move = next({ ...parts, state: stateOf('running', 0), cohorts: [['a', 'b']] })
    assert.deepEqual([move?.stage, move?.cohort], [1, []])
    const after = next({ ...parts, state: stateOf('running', 1), cohorts: [['a', 'b'], []] })
    assert.deepEqual([after?.stage, after?.cohort], [2, ['c']])
  })

  it('is the last one: completed', () => {
    const parts = { state: stateOf('running', 2), cohorts: [['a'], ['b'], ['c']], facts: { doneForMs: 0 } }
    const move = next({ ...parts, boxes: ['a', 'b', 'c'].map((name) => told(name, 'completed')) })
    assert.equal(move?.phase, 'completed')
  })

  it('opens no more after the time has expired', () => {
    const move = next({ state: running, cohorts, boxes, patch: { expires: NOW_MS }, facts: { doneForMs: 1e9 } })
    assert.equal(move?.phase, 'expired')
  })

  it('patch path 21: 3 % that are offline, and never began, stop nothing', () => {
    const cohort = names(100)
    const fleet = cohort.map((name, index) => (index < 97 ? told(name, 'completed') : box(name, { online: false })))
    const stages = [{ size: { fraction: 1 }, bakeMs: 0, minDone: 1 }]
    const parts = { rollout: { stages }, state: stateOf('running', 0), cohorts: [cohort], boxes: fleet, facts: { doneForMs: 0 } }
    assert.equal(next(parts)?.phase, 'completed')
    assert.equal(viewFrom(parts).failures.size, 0)
    assert.equal(findSilent(viewFrom({ ...parts, facts: { absentForMs: new Map() } })), undefined)
    // Those that are there and have not begun are waited for, and so is a cohort that is gone as a whole.
    const online = fleet.map((one) => ({ ...one, online: true }))
    assert.equal(next({ ...parts, boxes: online }), undefined)
    const gone = cohort.map((name, index) => (index < 40 ? told(name, 'completed') : box(name, { online: false })))
    assert.equal(next({ ...parts, boxes: gone }), undefined)
    assert.equal(gateOf(viewFrom({ ...parts, boxes: gone })).needed, 50)
  })
})

describe('failures', () => {
  const cohorts = [['a', 'b', 'c']]
  const state = stateOf('running', 0)

  it('beyond the allowed number stop it, during a bake as well', () => {
    const boxes = [told('a', 'completed'), told('b', 'completed'), told('c', 'failed')]
    const parts = { state, cohorts, boxes, failures: [failure('c')], facts: { doneForMs: 1e9 } }
    assert.deepEqual([next(parts)?.phase, next(parts)?.pausedBy], ['paused', 'failures'])
    assert.notEqual(next({ ...parts, rollout: { maxFailures: 1 } })?.because, next(parts)?.because)
    assert.equal(next({ ...parts, rollout: { onFailure: 'rollback-stage' } })?.undo, 'stage')
    assert.equal(next({ ...parts, rollout: { onFailure: 'rollback-all' } })?.undo, 'all')
  })

  it('patch path 18: of two boxes in the same instant are two, and stop it', () => {
    const boxes = [told('a', 'failed'), told('b', 'failed'), box('c')]
    const move = next({ state, cohorts, boxes, failures: [failure('a'), failure('b')], rollout: { maxFailures: 1 } })
    assert.equal(move?.phase, 'paused')
    // Although a key was deleted by hand, or cannot be read, or is not there yet.
    assert.equal(next({ state, cohorts, boxes, failures: [failure('a')], rollout: { maxFailures: 1 } })?.phase, 'paused')
    const spoiled = { ...viewFrom({ state, cohorts, boxes: [box('a')] }), failures: new Map([[1, undefined]]) }
    assert.equal(decide(spoiled)?.phase, 'paused')
  })

  it('after it was completed stop the starts of those that come late, and undo nothing', () => {
    const move = next({
      state: stateOf('completed', 0),
      cohorts,
      boxes: [told('x', 'failed')],
      failures: [failure('x')],
      rollout: { onFailure: 'rollback-all' },
    })
    assert.deepEqual([move?.phase, move?.pausedBy], ['paused', 'failures'])
  })

  it('patch path 22: an inconclusive box pauses, and resuming lets it try again', () => {
    const boxes = [told('a', 'inconclusive'), box('b'), box('c')]
    const paused = next({ state, cohorts, boxes })
    assert.deepEqual([paused?.phase, paused?.pausedBy], ['paused', 'inconclusive'])
    const pausedState = stateOf('paused', 0, { pausedBy: 'inconclusive', pausedAt: 0 })
    const resumed = next({ state: pausedState, cohorts, boxes, control: { ...SIGNED, answers: 0, mod: 60 } })
    assert.deepEqual([resumed?.phase, resumed?.resumed], ['running', 60])
    const after = { state: stateOf('running', 0, { resumed: 60 }), cohorts, control: { ...SIGNED, answers: 0, mod: 60 } }
    assert.equal(next({ ...after, boxes }), undefined)
    assert.equal(countsOf(viewFrom({ ...after, boxes }), ['a']).pending, 1)
    const again = [told('a', 'inconclusive', { resultMod: 61 }), box('b'), box('c')]
    assert.equal(next({ ...after, boxes: again })?.phase, 'paused')
  })

  it('patch path 14: a box that began and fell silent is one', () => {
    const silentBox = told('a', 'applying', { markerMod: 51 })
    const parts = { state, cohorts, boxes: [silentBox] }
    const patienceMs = 30_000 + 10_000 + 60_000
    const at = (ms: number, changes = {}): ReturnType<typeof findSilent> =>
      findSilent(viewFrom({ ...parts, boxes: [{ ...silentBox, ...changes }], facts: { absentForMs: new Map([['a', ms]]) } }))
    assert.equal(at(patienceMs - 1), undefined)
    assert.deepEqual([at(patienceMs)?.failure?.number, at(patienceMs)?.markerMod, at(patienceMs)?.failure?.kind], [1, 51, 'silent'])
    assert.equal(at(patienceMs, { isQueued: true }), undefined)
    assert.equal(at(60_000, { online: false })?.gateway, 'a')
    const counted = viewFrom({ ...parts, failures: [failure('a', { kind: 'silent' })] })
    assert.equal(decide(counted)?.phase, 'paused')
    assert.equal(findSilent({ ...counted, facts: { ...counted.facts, absentForMs: new Map([['a', 1e9]]) } })?.failure, undefined)
  })

  it('patch path 8: a box that was removed while it held the lock keeps nobody waiting for ever', () => {
    const gone = told('a', 'applying', { online: false, markerMod: 51 })
    const view = viewFrom({ state: stateOf('paused', 0), cohorts, boxes: [gone], facts: { absentForMs: new Map([['a', 60_000]]) } })
    assert.deepEqual(findSilent(view)?.failure?.token, 7)
    const marker = box('b', { markerMod: 9 })
    const orphan = viewFrom({ state, cohorts, boxes: [marker], facts: { absentForMs: new Map([['b', 100_000]]) } })
    assert.deepEqual(findSilent(orphan), { gateway: 'b', resultMod: 0, markerMod: 9 })
  })
})

describe('what people order', () => {
  const cohorts = [['a']]
  const running = stateOf('running', 0)
  const boxes = [box('a')]

  it('pauses and cancels without a signature', () => {
    const paused = next({ state: running, cohorts, boxes, control: { schema: 1, state: 'paused', mod: 40, reason: 'smoke' } })
    assert.deepEqual([paused?.phase, paused?.pausedBy, paused?.pausedAt], ['paused', 'operator', 40])
    assert.match(paused?.because ?? '', /smoke/)
    const cancelled = next({ state: running, cohorts, boxes, control: { schema: 1, state: 'cancelled', mod: 40 } })
    assert.equal(cancelled?.phase, 'cancelled')
  })

  it('resumes only with a signature that answers the pause', () => {
    const state = stateOf('paused', 0, { pausedBy: 'operator', pausedAt: 40 })
    const phase = (control: NonNullable<ViewParts['control']>): string | undefined => next({ state, cohorts, boxes, control })?.phase
    assert.equal(phase({ schema: 1, state: 'active', mod: 41, answers: 40 }), 'paused')
    assert.equal(phase({ schema: 1, state: 'active', mod: 0 }), undefined, 'a deleted control resumes nothing')
    assert.equal(phase({ ...SIGNED, mod: 41, answers: 39 }), 'paused', 'an old order, put there again')
    assert.equal(phase({ ...SIGNED, mod: 41 }), 'paused')
    assert.equal(phase({ ...SIGNED, mod: 41, answers: 40 }), 'running')
  })

  it('tries again: failures are forgiven, by number', () => {
    const state = stateOf('paused', 0, { pausedBy: 'failures', pausedAt: 0 })
    const parts = { state, cohorts, boxes: [told('a', 'failed')], failures: [failure('a')] }
    const move = next({ ...parts, control: { ...SIGNED, mod: 41, answers: 0, retry: 1 } })
    assert.deepEqual([move?.phase, move?.retry, move?.forgives], ['running', 1, true])
    assert.equal(next({ ...parts, control: { schema: 1, state: 'active', mod: 41, answers: 0, retry: 1 } })?.phase, 'paused')
    const after = { ...parts, failures: [], control: { ...SIGNED, mod: 41, answers: 0, retry: 1 } }
    assert.equal(next({ ...after, state: stateOf('running', 0, { retry: 1, resumed: 41 }) }), undefined)
    const resumedOnly = next({ ...parts, control: { ...SIGNED, mod: 41, answers: 0 } })
    assert.equal(resumedOnly?.phase, 'running')
    const stopped = next({ ...parts, state: stateOf('running', 0, { resumed: 41 }), control: { ...SIGNED, mod: 41, answers: 0 } })
    assert.equal(stopped?.phase, 'paused')
  })

  it('takes it back everywhere, and ends when nobody has it any more', () => {
    const control = { schema: 1, state: 'cancelled', rollback: true, mod: 40 } as const
    const all = [told('a', 'completed'), told('b', 'completed'), box('c')]
    const move = next({ state: stateOf('completed', 0), cohorts, boxes: all, control })
    assert.deepEqual([move?.phase, move?.undo], ['rolling-back', 'all'])
    const state = stateOf('rolling-back', 0, { undo: 'all' })
    assert.equal(next({ state, cohorts, boxes: [told('a', 'rolled-back'), told('b', 'completed')], control }), undefined)
    const end = next({ state, cohorts, boxes: [told('a', 'rolled-back'), told('b', 'broken')], control })
    assert.equal(end?.phase, 'rolled-back')
    assert.equal(
      next({ state: stateOf('rolled-back', 0, { undo: 'all' }), cohorts, boxes: [told('a', 'rolled-back')], control }),
      undefined,
    )
    const late = next({ state: stateOf('rolled-back', 0, { undo: 'all' }), cohorts, boxes: [told('a', 'completed')], control })
    assert.equal(late?.phase, 'rolling-back')
  })

  it('takes a stage back, and leaves the earlier ones alone', () => {
    const state = stateOf('rolling-back', 1, { undo: 'stage' })
    const move = next({ state, cohorts: [['a'], ['b']], boxes: [told('a', 'completed'), told('b', 'rolled-back')] })
    assert.equal(move?.phase, 'rolled-back')
  })

  it('knows a broken lock from a pause', () => {
    const control = { schema: 1, state: 'paused', mod: 40, by: 'eva', reason: 'lock broken: gw-3 hangs' } as const
    assert.equal(next({ state: running, cohorts, boxes, control })?.pausedBy, 'lock broken')
  })

  it('a newer patch that names it ends it, once that is on its way', () => {
    const newer = other({ id: 'q', sequence: 2, supersedes: ['p'] })
    const parts = { state: running, cohorts, boxes }
    assert.equal(next({ ...parts, others: [newer] })?.phase, 'superseded')
    assert.equal(next({ ...parts, others: [{ ...newer, phase: 'waiting' }] }), undefined)
    assert.equal(next({ ...parts, state: stateOf('completed', 0), others: [{ ...newer, phase: 'completed' }] })?.phase, 'superseded')
  })
})

it('a target is all that is given, and never what is excluded', () => {
  const none = patchFor('p').target
  const one = { gateway: 'a', site: 's', labels: { role: 'x' } }
  assert.ok(isTarget(none, one))
  assert.ok(!isTarget({ ...none, exclude: ['a'] }, one))
  assert.ok(!isTarget({ ...none, all: false }, one))
  assert.ok(isTarget({ ...none, all: false, sites: ['s'], labels: { role: 'x' }, gateways: ['a'] }, one))
  assert.ok(!isTarget({ ...none, all: false, sites: ['s'], labels: { role: 'y' } }, one))
  assert.ok(!isTarget({ ...none, all: false, labels: { toString: 'x' } }, one))
})
