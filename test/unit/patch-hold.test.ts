import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Holds } from '../../daemon/compose/holds.ts'
import { anchoredHold, HOLD, holdIn, holdLeftMs, newHold } from '../../daemon/patch/agent/hold.ts'
import type { StoredHold } from '../../daemon/patch/agent/hold.ts'
import type { Log } from '../../daemon/ports.ts'
import { FakeClock } from '../fakes/clock.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'

const HOUR = 3_600_000
const words = { forMs: 2 * HOUR, by: 'carol', reason: 'on the press' }
const silent: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const nextBoot = '6f1c1d5e-0000-4000-8000-000000000002'

function seen(hold: StoredHold, clock: FakeClock): ReturnType<typeof holdIn> {
  return holdIn(new Map([[HOLD, { ...hold }]]), clock)
}

describe('a hold', () => {
  it('ends when its time has passed, and not when the wall clock is set', () => {
    const clock = new FakeClock()
    const hold = newHold(words, clock)
    clock.setWall(clock.wallMs() + 24 * HOUR)
    assert.equal(holdLeftMs(hold, clock), 2 * HOUR)
    // People are told the end by the clock as it is now.
    assert.ok(Math.abs((seen(hold, clock)?.untilMs ?? 0) - clock.wallMs() - 2 * HOUR) <= 60_000)
    clock.advance(2 * HOUR - 1_000)
    assert.equal(seen(hold, clock)?.by, 'carol')
    clock.advance(1_000)
    assert.equal(seen(hold, clock), undefined)
  })

  it('keeps the end that was told while the clocks drift', () => {
    const clock = new FakeClock()
    const hold = newHold(words, clock)
    clock.setWall(clock.wallMs() + 300)
    assert.equal(seen(hold, clock)?.untilMs, hold.untilMs)
  })

  it('goes on after a reboot, by the wall clock, and where that is lost for its whole length at most', () => {
    const before = new FakeClock()
    const hold = newHold(words, before)
    const after = (wallMs: number, wallTrusted: boolean): FakeClock =>
      new FakeClock({ bootId: nextBoot, bootMs: 10_000, wallMs, wallTrusted })
    assert.equal(holdLeftMs(hold, after(before.wallMs() + HOUR, true)), HOUR)
    assert.equal(holdLeftMs(hold, after(before.wallMs() + 3 * HOUR, true)), 0)
    assert.equal(holdLeftMs(hold, after(0, false)), 2 * HOUR - 10_000)
    const late = after(0, false)
    late.advance(2 * HOUR)
    assert.equal(holdLeftMs(hold, late), 0)
  })

  it('is bound to the boot that it goes on in', () => {
    const clock = new FakeClock({ bootId: nextBoot, wallMs: Date.UTC(2026, 10, 24, 13) })
    const hold = newHold(words, new FakeClock())
    const bound = anchoredHold(hold, clock)
    assert.deepEqual([bound?.bootId, bound === undefined ? 0 : holdLeftMs(bound, clock)], [nextBoot, HOUR])
    assert.equal(anchoredHold({ ...hold, untilMs: hold.setMs + 1 }, clock), undefined)
  })

  it('holds nothing when nobody can read it', () => {
    for (const value of ['text', null, [], { by: 'carol' }]) assert.equal(holdIn(new Map([[HOLD, value]]), new FakeClock()), undefined)
  })
})

describe('the hold of a box', () => {
  function rig(memory = new FakeMemory(), clock = new FakeClock()) {
    const told: object[] = []
    let changes = 0
    const holds = new Holds({
      memory,
      clock,
      log: silent,
      onChange: () => (changes += 1),
      report: (_, document) => void told.push(document),
    })
    return { holds, memory, clock, told, changes: () => changes }
  }

  it('is kept, told, replaced and cleared', async () => {
    const { holds, memory, told, changes } = rig()
    await holds.start()
    assert.equal(holds.current(), undefined)
    assert.equal(await holds.clear('carol'), false)
    await holds.set(words)
    await holds.set({ ...words, by: 'dave' })
    assert.equal(holds.current()?.by, 'dave')
    const { holds: again } = rig(memory)
    await again.start()
    assert.equal(again.current()?.by, 'dave')
    assert.equal(await holds.clear('dave'), true)
    assert.deepEqual([changes(), told.length, (await memory.read(HOLD)).size], [3, 3, 0])
  })

  it('is refused for no time, or for ever', async () => {
    const { holds, memory } = rig()
    for (const forMs of [0, 31 * 24 * HOUR, NaN]) await assert.rejects(holds.set({ ...words, forMs }), /--for takes a time/)
    assert.equal((await memory.read(HOLD)).size, 0)
  })

  it('that is over is forgotten at the next start', async () => {
    const { holds, memory, clock } = rig()
    await holds.set(words)
    const later = rig(memory, new FakeClock({ bootId: nextBoot, wallMs: clock.wallMs() + 3 * HOUR }))
    await later.holds.start()
    assert.deepEqual([later.holds.current(), (await memory.read(HOLD)).size], [undefined, 0])
  })
})
