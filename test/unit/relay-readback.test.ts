import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { EpochState } from '../../daemon/ports.ts'
import { ReadBack } from '../../daemon/relay/readback.ts'
import { FakeClock } from '../fakes/clock.ts'

const DAY = 86_400_000

function epoch(clock: FakeClock, changes: Partial<EpochState> = {}): EpochState {
  const nowMs = clock.wallMs()
  return {
    epoch: 'e1',
    bootId: 'b',
    createdMs: nowMs,
    touchedMs: nowMs,
    lanes: { normal: { first: 11, last: 20 }, urgent: { first: 5, last: 5 } },
    ...changes,
  }
}

describe('read back', () => {
  it('lanes advance to what is committed, within the epoch', () => {
    const back = new ReadBack(new FakeClock())
    const advances = back.read(
      epoch(new FakeClock()),
      new Map([
        ['normal', 16],
        ['deferred', 9],
      ]),
    )
    assert.deepEqual(advances, [{ lane: 'normal', epoch: 'e1', position: 15 }])
  })

  it("log path 31: never beyond the epoch's last message, nor below its first", () => {
    const back = new ReadBack(new FakeClock())
    const advances = back.read(
      epoch(new FakeClock()),
      new Map([
        ['normal', 90],
        ['urgent', 5],
      ]),
    )
    assert.deepEqual(advances, [{ lane: 'normal', epoch: 'e1', position: 20 }])
  })

  for (const [name, touched, isTrusted, doubtful] of [
    ['touched lately', 0, true, false],
    ['touched five days ago', -5 * DAY, true, false],
    ['touched seven days ago', -7 * DAY, true, true],
    ['touched in the future: a clock was wrong', DAY, true, true],
    ["while the clock can't be right", 0, false, true],
  ] as const) {
    it(`an epoch of an earlier start without positions, ${name}: ${doubtful ? '' : 'not '}in doubt`, () => {
      const clock = new FakeClock({ wallTrusted: isTrusted })
      const back = new ReadBack(clock)
      const state = epoch(clock, { touchedMs: clock.wallMs() + touched })
      back.inherit([state])
      back.read(state, new Map([['urgent', 5]]))
      assert.equal(back.isDoubtful('normal', 'e1', 11, 100), doubtful)
      assert.equal(back.isDoubtful('urgent', 'e1', 5, 100), false)
    })
  }

  it("a doubt holds for one transaction's worth of bytes, and says the same when asked again", () => {
    const clock = new FakeClock()
    const back = new ReadBack(clock)
    const state = epoch(clock, { touchedMs: 0 })
    back.inherit([state])
    back.read(state, new Map())
    const ask = () => [11, 12, 13, 14].map((position) => back.isDoubtful('normal', 'e1', position, 2 << 20))
    assert.deepEqual(ask(), [true, true, false, false])
    assert.deepEqual(ask(), [true, true, false, false])
    assert.equal(back.isDoubtful('normal', 'e2', 11, 1), false)
    back.passed('normal', 20)
    assert.equal(back.isDoubtful('normal', 'e1', 11, 1), false)
  })

  it('a doubt of this start grows old by the boot clock, whatever the wall clock does', () => {
    const clock = new FakeClock()
    const back = new ReadBack(clock)
    back.begun('e1')
    clock.setWall(0)
    back.read(epoch(clock), new Map())
    assert.equal(back.isDoubtful('normal', 'e1', 11, 1), false)
    back.begun('e1')
    clock.suspend(7 * DAY)
    back.read(epoch(clock), new Map())
    assert.equal(back.isDoubtful('normal', 'e1', 11, 1), true)
  })
})
