/** Presence against a model that keeps no wheel: it looks at every device in every second. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { LOST_GRACE_MS, Presence } from '../../daemon/ingest/presence.ts'
import { piecesOf, remembered } from '../../daemon/ingest/presence-memory.ts'
import type { PresenceSettings } from '../../daemon/ingest/presence-settings.ts'
import { Ending, STATES } from '../../daemon/ingest/presence-table.ts'
import type { SourceState } from '../../daemon/ports.ts'
import { FakeClock } from '../fakes/clock.ts'
import { sourceState } from '../fakes/snapshot.ts'

const SETTINGS: PresenceSettings = {
  silentAfterMs: 60_000,
  maxDevices: 1_000,
  groups: [
    { name: 'cameras', devices: 'cam-*', silentAfterMs: 4_200_000 },
    { name: 'sensors', devices: 'sensor-*', silentAfterMs: Infinity },
  ],
}

interface Rig {
  readonly presence: Presence
  readonly told: string[]
  readonly links: Map<string, number>
  now: number
  hear(device: string, more?: { alive?: boolean; source?: string }): void
  link(device: string, proven?: boolean): void
  unlink(device: string, ending?: number): void
  /** Second by second. */
  pass(seconds: number, sources?: readonly SourceState[]): void
  stateOf(device: string): string | undefined
}

function rig(settings: PresenceSettings = SETTINGS, nowMs = 10_000): Rig {
  const told: string[] = []
  const links = new Map<string, number>()
  const listener = {
    silent: (slot: number, because: string) => void told.push(`${rig.presence.table.ids[slot]} silent: ${because}`),
    returned: (slot: number) => void told.push(`${rig.presence.table.ids[slot]} returned`),
  }
  const rig: Rig = {
    presence: new Presence(settings, listener, (device) => links.get(device) ?? 0, nowMs),
    told,
    links,
    now: nowMs,
    hear: (device, { alive = true, source = 'lan' } = {}) =>
      rig.presence.message({ device, source, bytes: 10, verdict: 'normal', limitedBy: undefined }, alive, rig.now),
    link: (device, proven = true) => {
      links.set(device, (links.get(device) ?? 0) + 1)
      rig.presence.connected(device, 'lan', proven, rig.now)
    },
    unlink: (device, ending = Ending.LOST) => {
      links.set(device, Math.max(0, (links.get(device) ?? 0) - 1))
      rig.presence.disconnected(device, ending, rig.now)
    },
    pass: (seconds, sources = [sourceState()]) => {
      for (let second = 0; second < seconds; second++) {
        rig.now += 1_000
        rig.presence.tick(rig.now, sources)
      }
    },
    stateOf: (device) => STATES[rig.presence.table.state[rig.presence.table.find(device)] ?? -1],
  }
  return rig
}

describe('presence', () => {
  it('tells once of a device that sends nothing for its time, and once that it is back', () => {
    const box = rig()
    box.hear('pump-1')
    box.pass(59)
    box.hear('pump-1')
    box.pass(59)
    assert.deepEqual(box.told, [], 'its time runs from the last message')
    box.pass(300)
    box.hear('pump-1')
    box.hear('pump-1')
    assert.deepEqual(box.told, ['pump-1 silent: no-traffic', 'pump-1 returned'])
    assert.equal(box.stateOf('pump-1'), 'online')
  })

  it('has times by group, also longer than the wheel; off is never told', () => {
    const box = rig()
    for (const device of ['cam-1', 'sensor-1']) box.hear(device)
    box.pass(4_199)
    assert.deepEqual([box.told, box.stateOf('sensor-1')], [[], 'offline'])
    box.pass(2)
    assert.deepEqual(box.told, ['cam-1 silent: no-traffic'])
    box.hear('sensor-1')
    assert.deepEqual([box.told.length, box.stateOf('sensor-1')], [1, 'online'])
  })

  it('counts a connection as a sign of life, and its breaking off as news soon; a goodbye is none', () => {
    const box = rig()
    for (const device of ['a', 'b', 'c']) box.link(device)
    box.pass(600)
    assert.deepEqual(box.told, [])
    box.unlink('a', Ending.LOST)
    box.unlink('b', Ending.GOODBYE)
    box.unlink('c', Ending.LOST)
    box.pass(5)
    box.link('c')
    assert.equal(box.stateOf('b'), 'offline')
    box.pass(LOST_GRACE_MS / 1_000)
    assert.deepEqual(box.told, ['a silent: connection-lost'])
    box.pass(60)
    assert.deepEqual(box.told, ['a silent: connection-lost', 'b silent: no-traffic'])
  })

  it('takes no last will, and nothing that a broker kept, for a sign of life', () => {
    const box = rig()
    box.hear('a')
    box.pass(61)
    box.hear('a', { alive: false })
    box.hear('old', { alive: false })
    assert.deepEqual([box.stateOf('a'), box.stateOf('old')], ['silent', 'unknown'])
  })

  it('makes no entry for a client id that nobody proved, and knows of its connection once a message came', () => {
    const box = rig()
    box.link('whoever', false)
    assert.equal(box.stateOf('whoever'), undefined)
    box.hear('whoever')
    box.pass(500)
    assert.deepEqual([box.told, box.stateOf('whoever')], [[], 'online'])
  })

  it('judges nobody whose source can not hear, and gives each its whole time once it can', () => {
    const box = rig()
    for (let device = 0; device < 50; device++) box.hear(`d-${device}`)
    box.hear('other', { source: 'plant' })
    box.pass(300, [sourceState({ state: 'held', reason: 'the buffer is full' }), sourceState({ name: 'plant', kind: 'connect' })])
    assert.deepEqual(box.told, ['other silent: no-traffic'])
    box.pass(59)
    assert.equal(box.told.length, 1)
    box.pass(121)
    assert.equal(box.told.length, 51)
  })

  it('blames nobody for a time in which the box itself stood still', () => {
    const box = rig()
    box.hear('a')
    box.now += 3_600_000
    assert.equal(box.presence.tick(box.now, [sourceState()]).away, true)
    box.pass(59)
    assert.deepEqual(box.told, [])
    box.pass(61)
    assert.equal(box.told.length, 1)
  })

  it('forgets the one that has been silent longest when it is full, and follows no new one while all are there', () => {
    const box = rig({ ...SETTINGS, maxDevices: 3 })
    for (const device of ['a', 'b', 'c']) {
      box.hear(device)
      box.pass(2)
    }
    box.hear('d')
    assert.deepEqual([box.stateOf('d'), box.presence.totals.untracked], [undefined, 1])
    box.pass(70)
    box.hear('d')
    assert.deepEqual([box.stateOf('a'), box.stateOf('b'), box.stateOf('d')], [undefined, 'silent', 'online'])
    assert.equal(box.presence.totals.evicted, 1)
    assert.deepEqual([...box.presence.counts], [1, 0, 2, 0])
  })

  it('takes new times over live, and unsays nothing', () => {
    const box = rig()
    for (const device of ['a', 'b']) box.hear(device)
    box.presence.configure({ ...SETTINGS, groups: [{ name: 'quick', devices: 'a', silentAfterMs: 10_000 }] }, box.now)
    box.pass(15)
    assert.deepEqual(box.told, ['a silent: no-traffic'])
    assert.throws(() => box.presence.configure({ ...SETTINGS, silentAfterMs: 5 }, box.now), /presence\.silentAfter/)
    box.presence.configure({ ...SETTINGS, silentAfterMs: Infinity }, box.now)
    box.pass(600)
    assert.deepEqual([box.told.length, box.stateOf('a'), box.stateOf('b')], [1, 'offline', 'offline'])
  })
})

describe('presence over a restart', () => {
  it('repeats no news, gives the others their time anew, and still knows when it saw them', () => {
    const clock = new FakeClock()
    const before = rig(SETTINGS, clock.monotonicMs())
    before.hear('quiet')
    before.pass(100)
    clock.advance(100_000)
    before.hear('alive')
    const pieces = JSON.parse(JSON.stringify([...piecesOf(before.presence, clock)])) as unknown[]
    clock.advance(7_200_000)
    const after = rig(SETTINGS, clock.monotonicMs())
    after.presence.restore(remembered([null, { schema: 9 }, ...pieces], clock))
    assert.deepEqual([after.stateOf('quiet'), after.stateOf('alive')], ['silent', 'unknown'])
    const slot = after.presence.table.find('alive')
    assert.equal(clock.monotonicMs() - (after.presence.table.heardMs[slot] ?? 0), 7_200_000)
    after.pass(59)
    assert.deepEqual(after.told, [])
    after.hear('quiet')
    after.pass(2)
    assert.deepEqual(after.told, ['quiet returned', 'alive silent: no-traffic'])
  })

  it('does not know when, if no clock can tell; and is not misled by a wall clock of 1970', () => {
    const clock = new FakeClock()
    const before = rig(SETTINGS, clock.monotonicMs())
    before.hear('a')
    const pieces = [...piecesOf(before.presence, clock)]
    const next = new FakeClock({ bootId: 'another', wallMs: 5_000, wallTrusted: false, bootMs: 1_000, monotonicMs: 1_000 })
    const [only] = [...remembered(pieces, next)]
    assert.deepEqual(only, { device: 'a', source: 'lan', heardMs: -Infinity, told: false })
  })
})

describe('the wheel', () => {
  it('agrees with a model that looks at everyone each second', () => {
    const device = fc.constantFrom('a', 'b', 'cam-1', 'sensor-1')
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.record({ what: fc.constant('hear' as const), device }) },
      { weight: 1, arbitrary: fc.record({ what: fc.constantFrom('link' as const, 'lose' as const, 'leave' as const), device }) },
      { weight: 3, arbitrary: fc.record({ what: fc.constant('pass' as const), seconds: fc.integer({ min: 1, max: 90 }) }) },
      { weight: 1, arbitrary: fc.record({ what: fc.constant('deaf' as const), seconds: fc.integer({ min: 1, max: 90 }) }) },
      { weight: 1, arbitrary: fc.record({ what: fc.constant('pass' as const), seconds: fc.constant(4_300) }) },
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const box = rig()
        const model = new Model()
        for (const one of steps) {
          if ('seconds' in one) box.pass(one.seconds, [sourceState(one.what === 'deaf' ? { state: 'down' } : {})])
          else if (one.what === 'hear') box.hear(one.device)
          else if (one.what === 'link') box.link(one.device)
          else box.unlink(one.device, one.what === 'lose' ? Ending.LOST : Ending.GOODBYE)
          model.take(one)
          assert.deepEqual(box.told.toSorted(), model.told.toSorted())
        }
      }),
      { numRuns: 150, seed: 42 },
    )
  })
})

interface Known {
  heard: number
  links: number
  lost: number | undefined
  silent: boolean
}

/** By the definition, in seconds; a device is looked at at the end of each second. */
class Model {
  readonly told: string[] = []
  readonly #known = new Map<string, Known>()
  #now = 10
  #hearsSince = 0

  take(step: { what: string; device?: string; seconds?: number }): void {
    if (step.seconds !== undefined) {
      for (let second = 0; second < step.seconds; second++) this.#second(step.what === 'deaf')
      return
    }
    const id = step.device ?? ''
    const isSign = step.what === 'hear' || step.what === 'link'
    if (isSign && !this.#known.has(id)) this.#known.set(id, { heard: this.#now, links: 0, lost: undefined, silent: false })
    const one = this.#known.get(id)
    if (one === undefined) return
    if (step.what === 'link') one.links++
    if (isSign) {
      if (one.silent) this.told.push(`${id} returned`)
      Object.assign(one, { heard: this.#now, silent: false, lost: undefined })
      return
    }
    one.links = Math.max(0, one.links - 1)
    if (one.links > 0) return
    if (!one.silent) one.heard = this.#now
    one.lost = step.what === 'lose' ? this.#now : undefined
  }

  #second(deaf: boolean): void {
    this.#now++
    if (deaf) this.#hearsSince = Infinity
    else if (this.#hearsSince === Infinity) this.#hearsSince = this.#now
    const due = [...this.#known].filter(([id, one]) => !one.silent && this.#isDue(id, one))
    // Several in one second: the order among them is not promised.
    for (const [id, one] of due) {
      one.silent = true
      this.told.push(`${id} silent: ${one.lost === undefined ? 'no-traffic' : 'connection-lost'}`)
    }
  }

  #isDue(id: string, { heard, links, lost }: Known): boolean {
    if (links > 0 || id.startsWith('sensor')) return false
    const after = id.startsWith('cam') ? 4_200 : 60
    const due = Math.max(heard, this.#hearsSince) + after
    const lostDue = lost === undefined ? Infinity : Math.max(lost, this.#hearsSince) + LOST_GRACE_MS / 1_000
    return Math.min(due, lostDue) <= this.#now
  }
}
