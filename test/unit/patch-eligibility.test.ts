/** What a box decides to do, held against rules that are written down anew here. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { decide } from '../../daemon/patch/agent/eligibility.ts'
import type { Action, Candidate, Decided } from '../../daemon/patch/agent/eligibility.ts'
import { NOTHING } from '../../daemon/patch/agent/own.ts'
import type { Own } from '../../daemon/patch/agent/own.ts'
import type { ResultSeen } from '../../daemon/patch/agent/results.ts'
import { candidatesOf } from '../../daemon/patch/agent/sight.ts'
import type { ConfigPatch } from '../../daemon/patch/document.ts'
import type { Windows } from '../../daemon/patch/kinds.ts'
import type { KeyValue } from '../../daemon/patch/ports.ts'
import { keys } from '../../daemon/patch/records.ts'
import type { RolloutPhase, ResultState } from '../../daemon/patch/records.ts'
import { plainReader } from '../fakes/patch-agent.ts'
import { digestOf, encode, NOW_MS, patchFor, result, stateOf } from '../fakes/rollout.ts'

interface Story {
  readonly patch: ConfigPatch
  readonly control: 'active' | 'paused' | 'cancelled'
  readonly phase: RolloutPhase | undefined
  /** Of another document that once stood under the id. */
  readonly isForeign: boolean
  readonly cohort: number | undefined
  readonly stage: number
  readonly told: { readonly state: ResultState; readonly attempt: number; readonly agoMs: number } | undefined
  readonly applied: boolean
  readonly denied: boolean
  readonly undone: boolean
}

const box = { gateway: 'gw-1', site: 'plant-7', labels: {}, fleet: 'acme', timezone: 'UTC', version: '1', controller: false }
const HOUR_MS = 3_600_000
const digest = ({ patch }: Story): string => digestOf(encode(patch))

/** A box in the middle of such stories: what etcd holds, and what it remembers. */
class Scene {
  readonly stories: readonly Story[]
  readonly isOpen: boolean
  own: Own
  readonly results = new Map<string, ResultSeen>()

  constructor(stories: readonly Story[], { held = false, isOpen = true } = {}) {
    this.stories = stories
    this.isOpen = isOpen
    const hold = held ? { untilMs: NOW_MS + HOUR_MS, by: 'ada', reason: 'a repair' } : undefined
    const of = (has: (story: Story) => boolean): readonly Story[] => stories.filter(has)
    const denied = new Map(of((one) => one.denied).map((one) => [digest(one), { retry: 0, reason: 'its checks failed', atMs: NOW_MS }]))
    this.own = { ...NOTHING, denied, undone: new Set(of((one) => one.undone).map(({ patch }) => patch.id)), hold }
    for (const one of of((story) => story.applied)) this.#commit(one)
    for (const one of of((story) => story.told !== undefined)) this.#tell(one, one.told?.state ?? 'completed', one.told)
  }

  decide(only?: string): Decided {
    const entries = new Map<string, KeyValue>()
    const put = (key: string, value: Uint8Array): void => void entries.set(key, { key, value, createRevision: 3, modRevision: 3 })
    for (const { patch, control } of this.stories) {
      put(keys.spec(patch.id), encode(patch))
      if (control !== 'active') put(keys.control(patch.id), Buffer.from(control))
    }
    const find = (id: string): Story | undefined => this.stories.find(({ patch }) => patch.id === id)
    const rollouts = {
      state: (id: string) => seenOf(find(id)),
      cohort: (id: string) => find(id)?.cohort,
      beganMs: () => NOW_MS - HOUR_MS,
    }
    const clock = { wallMs: NOW_MS, trusted: true, floorMs: 0 }
    const sources = { box, reader: plainReader(), own: this.own, results: this.results, rollouts, clock }
    const candidates = candidatesOf(entries, sources).filter(({ id }) => only === undefined || id === only)
    return decide({ candidates, own: this.own, nowMs: NOW_MS, windows: windowsOf(this.isOpen) })
  }

  /** As the runner would, and it succeeds. */
  carryOut({ do: what, candidate: { id } }: Action): void {
    const story = this.stories.find(({ patch }) => patch.id === id)
    assert.ok(story)
    if (what === 'apply') this.#commit(story)
    else {
      const applied = new Map(this.own.applied)
      applied.delete(id)
      this.own = { ...this.own, applied, undone: new Set([...this.own.undone, id]) }
    }
    this.#tell(story, what === 'apply' ? 'completed' : 'rolled-back')
  }

  #commit(story: Story): void {
    const { id, channel, sequence } = story.patch
    const here = { patch: id, digest: digest(story), channel, sequence, atMs: NOW_MS - HOUR_MS, document: story.patch }
    const floors = new Map(this.own.floors)
    if ((floors.get(channel)?.sequence ?? 0) < sequence) floors.set(channel, { sequence, patch: id })
    this.own = { ...this.own, applied: new Map([...this.own.applied, [id, here]]), floors }
  }

  #tell(story: Story, state: ResultState, { attempt = 1, agoMs = 0 } = {}): void {
    const { id } = story.patch
    const at = new Date(NOW_MS - agoMs).toISOString()
    this.results.set(id, { result: result('gw-1', state, { patch: id, digest: digest(story), attempt, at }), mod: 50 })
  }
}

function seenOf(story: Story | undefined): Candidate['rollout'] {
  if (story?.phase === undefined) return undefined
  const state = stateOf(story.phase, story.stage, {
    digest: story.isForeign ? 'f'.repeat(64) : digest(story),
    at: new Date(NOW_MS).toISOString(),
  })
  return { state: { ...state, patch: story.patch.id }, mod: 90 }
}

function windowsOf(isOpen: boolean): Windows {
  return { remainingMs: () => (isOpen ? HOUR_MS : 0), opensMs: () => NOW_MS + HOUR_MS }
}

const WINDOW = { timezone: 'UTC', cron: '0 1 * * *', durationMs: HOUR_MS }
const IDS = ['p1', 'p2', 'p3', 'p4', 'p5']
const plain = { control: 'active', phase: 'completed', isForeign: false, cohort: undefined, stage: 0, told: undefined } as const
const untouched = { applied: false, denied: false, undone: false } as const

function inForce(id: string, changes: Partial<ConfigPatch> = {}): Story {
  return { ...plain, ...untouched, patch: patchFor(id, { sequence: Number(id.slice(1)), ...changes }) }
}

const told = fc.record({
  state: fc.constantFrom<ResultState>('completed', 'failed', 'interrupted', 'inconclusive', 'rolled-back', 'refused', 'broken', 'applying'),
  attempt: fc.integer({ min: 1, max: 4 }),
  agoMs: fc.integer({ min: 0, max: 4 * HOUR_MS }),
})

/** Weighted towards what may start: a story that is barred in five ways tells nothing. */
function story(id: string): fc.Arbitrary<Story> {
  const rarely = (): fc.Arbitrary<boolean> => fc.nat(5).map((number) => number === 0)
  return fc
    .record({
      channel: fc.constantFrom('a', 'a', 'b'),
      isElsewhere: rarely(),
      requires: fc.subarray(IDS, { maxLength: 1 }).map((ids) => ids.filter((other) => other !== id)),
      hasRequires: rarely(),
      supersedes: fc.subarray(IDS, { maxLength: 1 }).map((ids) => ids.filter((other) => other < id)),
      hasSuccessor: rarely(),
      window: rarely(),
      control: fc.constantFrom('active' as const, 'active' as const, 'active' as const, 'paused' as const, 'cancelled' as const),
      phase: fc.constantFrom<RolloutPhase | undefined>(
        'completed',
        'completed',
        'running',
        'running',
        'waiting',
        'paused',
        'rolling-back',
        'rolled-back',
        'cancelled',
        undefined,
      ),
      isForeign: rarely(),
      cohort: fc.constantFrom(0, 0, 1, undefined),
      stage: fc.constantFrom(0, 1),
      told: fc.option(told, { nil: undefined, freq: 2 }),
      applied: rarely(),
      denied: rarely(),
      undone: rarely(),
    })
    .map(({ channel, isElsewhere, requires, hasRequires, supersedes, hasSuccessor, window, ...rest }) => {
      const patch = patchFor(id, {
        channel,
        sequence: Number(id.slice(1)),
        requires: hasRequires ? requires : [],
        supersedes: hasSuccessor ? supersedes : [],
        fleet: isElsewhere ? 'other' : 'acme',
        window: window ? WINDOW : undefined,
      })
      return { ...rest, patch }
    })
}

const scene = fc
  .tuple(fc.tuple(...IDS.map(story)), fc.integer({ min: 1, max: 5 }), fc.nat(5), fc.boolean())
  .map(([stories, count, held, isOpen]) => new Scene(stories.slice(0, count), { held: held === 0, isOpen }))

describe('what a box decides', () => {
  it('property: only what every rule allows, and never before one that comes first', () => {
    let applies = 0
    let undos = 0
    const check = (one: Scene): void => {
      const { actions } = one.decide()
      assert.equal(new Set(actions.map(({ candidate }) => candidate.id)).size, actions.length)
      for (const action of actions) {
        if (action.do === 'apply') applies += 1
        else undos += 1
        assertAllowed(one, action)
      }
    }
    fc.assert(fc.property(scene, check), { numRuns: 4_000 })
    assert.ok(applies > 200 && undos > 100, `${applies} applies and ${undos} undos are too few to tell anything`)
  })

  it('property: each patch has one sentence, and what it may do stands as next', () => {
    fc.assert(
      fc.property(scene, (one) => {
        const { actions, why } = one.decide()
        assert.deepEqual([...why.keys()].sort(), one.stories.map(({ patch }) => patch.id).sort())
        for (const { because, standing, untilMs } of why.values()) {
          assert.ok(because.length > 3 && !because.includes('undefined'), because)
          if (untilMs !== undefined) assert.ok(untilMs > NOW_MS && standing === 'waiting', because)
        }
        const next = [...why.values()].filter(({ standing }) => standing === 'next').map(({ patch }) => patch)
        assert.deepEqual(next.sort(), actions.map(({ candidate }) => candidate.id).sort())
      }),
      { numRuns: 1_000 },
    )
  })

  it('property: one after the other, each channel goes upward, and none that could come is passed over for good', () => {
    fc.assert(
      fc.property(scene, (one) => {
        const highest = new Map<string, number>()
        for (let turn = 0; turn < 12; turn++) {
          const before = one.decide()
          const [action] = before.actions
          if (action === undefined) return
          one.carryOut(action)
          if (action.do === 'undo') continue
          const { channel, sequence } = action.accepted.patch
          assert.ok(sequence > (highest.get(channel) ?? 0), `${sequence} after ${highest.get(channel)}`)
          highest.set(channel, sequence)
          for (const { patch, standing, because } of one.decide().why.values()) {
            const was = before.why.get(patch)?.standing
            const isLost = standing === 'refused' && because.includes('is not above') && (was === 'next' || comesLater(before, patch))
            assert.ok(!isLost, `${patch} was ${was} (${before.why.get(patch)?.because}); after ${action.candidate.id}: ${because}`)
          }
        }
        assert.fail('it goes on for ever')
      }),
      { numRuns: 2_000 },
    )
  })
})

/** It waits for something that ends by itself. */
function comesLater({ why }: Decided, patch: string): boolean {
  return why.get(patch)?.untilMs !== undefined
}

function assertAllowed(one: Scene, action: Action): void {
  const found = one.stories.find(({ patch }) => patch.id === action.candidate.id)
  assert.ok(found)
  const { patch, phase, cohort, stage, isForeign } = found
  assert.equal(one.own.hold, undefined, 'held')
  const isUndo = phase === 'rolling-back' || phase === 'rolled-back'
  assert.equal(action.do, isUndo ? 'undo' : 'apply')
  assert.equal(isForeign, false)
  if (isUndo) return assert.equal(found.applied, true)
  assert.equal(found.control, 'active')
  assert.ok(phase === 'completed' || (phase === 'running' && cohort !== undefined && cohort <= stage))
  assert.deepEqual([found.denied, found.undone, found.applied, patch.fleet], [false, false, false, 'acme'])
  if (found.told !== undefined) assert.ok(['completed', 'interrupted', 'inconclusive', 'applying', 'refused'].includes(found.told.state))
  if (found.told?.state === 'interrupted') assert.ok(found.told.attempt < 3 && found.told.agoMs >= 60_000 * found.told.attempt)
  if (patch.window !== undefined) assert.equal(one.isOpen, true)
  for (const id of patch.requires) assert.ok(one.own.applied.has(id))
  assert.ok(patch.sequence > (one.own.floors.get(patch.channel)?.sequence ?? 0))
  for (const other of one.stories) assertInOrder(one, found, other)
}

/** None before it in its channel could go by itself, and none that is in force takes its place. */
function assertInOrder(one: Scene, { patch, phase }: Story, other: Story): void {
  if (other.patch.channel !== patch.channel || other.patch.id === patch.id) return
  if (other.patch.supersedes.includes(patch.id) && other.patch.fleet === patch.fleet) {
    const lives = ['waiting', 'running', 'paused', undefined].includes(other.phase)
    assert.ok(!(other.phase === 'completed' || (lives && phase !== 'completed')), `${other.patch.id} supersedes ${patch.id}`)
  }
  if (other.patch.sequence > patch.sequence) return
  const alone = one.decide(other.patch.id)
  assert.ok(
    !alone.actions.some((action) => action.do === 'apply') && alone.why.get(other.patch.id)?.untilMs === undefined,
    `${patch.id} goes before ${other.patch.id}`,
  )
}

describe('a box that comes anew', () => {
  const order = (stories: readonly Story[]): string[] => {
    const one = new Scene(stories)
    const done: string[] = []
    for (let [action] = one.decide().actions; action !== undefined; [action] = one.decide().actions) {
      one.carryOut(action)
      done.push(action.candidate.id)
    }
    return done
  }

  it('patch path 23: takes what is in force in the order of the sequences, one at a time', () => {
    const stories = [inForce('p3'), inForce('p1'), inForce('p2')]
    assert.deepEqual(
      new Scene(stories).decide().actions.map(({ candidate }) => candidate.id),
      ['p1'],
    )
    assert.deepEqual(order(stories), ['p1', 'p2', 'p3'])
  })

  it('patch path 23: one that waits for a patch of another channel is not overtaken in its own', () => {
    const stories = [inForce('p1', { channel: 'a', requires: ['p5'] }), inForce('p2', { channel: 'a' }), inForce('p5', { channel: 'b' })]
    assert.deepEqual(order(stories), ['p5', 'p1', 'p2'])
  })

  it('what requires a patch that never comes, or each other, holds nobody up', () => {
    assert.deepEqual(order([inForce('p1', { requires: ['gone'] }), inForce('p2')]), ['p2'])
    const ring = [
      inForce('p1', { channel: 'a', requires: ['p4'] }),
      inForce('p2', { channel: 'a' }),
      inForce('p4', { channel: 'b', requires: ['p1'] }),
    ]
    assert.deepEqual(order(ring), ['p2'])
  })
})
