import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ServiceState, serviceLine } from '../../daemon/service-state.ts'
import type { VerdictState } from '../../daemon/health.ts'
import { noPatches } from '../../daemon/patch-figures.ts'
import type { Snapshot } from '../../daemon/status.ts'
import { FakeClock } from '../fakes/clock.ts'

function snapshotOf(state: VerdictState, line = 'all delivered'): Snapshot {
  const figures = { rates: { inPerSecond: 84.4, outPerSecond: 0 }, outbox: { usedBytes: 410 << 20, maxBytes: 2 ** 31 } }
  return { verdict: { state, line }, ...figures } as unknown as Snapshot
}

function rig(watchdogMs?: number) {
  const clock = new FakeClock()
  const sent: string[] = []
  const io = { bytes: 0 }
  const notices = { send: (...lines: readonly string[]) => void sent.push(lines.join(' ')) }
  const state = new ServiceState({ notices, clock, watchdogMs, bytesMoved: () => io.bytes })
  const taken = (): string[] => sent.splice(0)
  return { clock, state, io, taken }
}

test('the line of status: verdict, figures, and nothing that a terminal or systemd could take for more', () => {
  assert.equal(
    serviceLine(snapshotOf('buffering', 'Kafka unreachable, no loss')),
    'BUFFERING: Kafka unreachable, no loss; in 84/s, out 0/s, buffer 410 MiB of 2.0 GiB',
  )
  assert.doesNotMatch(serviceLine(snapshotOf('degraded', 'evil\nREADY=1\u001b[31m')), /[\u0000-\u001f]/)
  assert.ok(serviceLine(snapshotOf('degraded', 'x'.repeat(100_000))).length < 1_000)
})

test('signs of life come three times within the limit, and end while the verdict is stuck', () => {
  const { clock, state, taken } = rig(6_000)
  let verdict: VerdictState = 'ok'
  state.running(() => snapshotOf(verdict))
  assert.match(taken().join(), /^READY=1 STATUS=OK: .* WATCHDOG=1$/)
  clock.advance(6_000)
  assert.deepEqual(taken(), ['WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1'])
  verdict = 'stuck'
  clock.advance(6_000)
  assert.deepEqual(taken().length, 1, 'only the new line of status')
  verdict = 'blocked'
  clock.advance(2_000)
  assert.match(taken().join(), /STATUS=BLOCKED: .*WATCHDOG=1/)
})

test('signs of life end while the loop of the patch path hangs, and not for anything else that patches wait for', () => {
  const { clock, state, taken } = rig(6_000)
  const loop: { hangsForMs: number | undefined } = { hangsForMs: undefined }
  state.running(() => ({ ...snapshotOf('degraded'), patches: { ...noPatches('etcd is away', undefined), ...loop } }))
  taken()
  clock.advance(6_000)
  assert.deepEqual(taken(), ['WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1'])
  loop.hangsForMs = 3_700_000
  clock.advance(6_000)
  assert.deepEqual(taken(), [])
})

test('a start is given more time while it reads or writes, and not while it hangs', () => {
  const { clock, state, io, taken } = rig()
  state.starting()
  taken()
  io.bytes += 1 << 20
  clock.advance(5_000)
  assert.match(taken().join(), /EXTEND_TIMEOUT_USEC=20000000/)
  io.bytes += 1_000
  clock.advance(20_000)
  assert.doesNotMatch(taken().join(), /EXTEND/)
  state.failed('no such\nREADY=1')
  assert.deepEqual(taken(), ['STATUS=FAILED: no such\\u000aREADY=1'])
})

test('a stop is given time until the daemon ends itself by force', () => {
  const { clock, state, taken } = rig()
  state.running(() => snapshotOf('ok'))
  taken()
  state.stopping(12_000)
  assert.match(taken().join(), /^STOPPING=1 .*EXTEND_TIMEOUT_USEC/)
  clock.advance(60_000)
  assert.equal(taken().length, 2)
})

test('a reload is told with its time, and its end also when the configuration was bad; not while it starts or stops', async () => {
  const { state, taken } = rig()
  let reloads = 0
  const reload = (): Promise<void> => Promise.resolve(void (reloads += 1))
  state.starting()
  taken()
  await state.reloading(reload)
  assert.deepEqual(taken(), [])
  state.running(() => snapshotOf('ok'))
  taken()
  await state.reloading(reload)
  const [begin, end] = taken()
  assert.match(begin ?? '', /^RELOADING=1 MONOTONIC_USEC=\d+$/)
  assert.match(end ?? '', /^READY=1/)
  state.stopping(1_000)
  taken()
  await state.reloading(reload)
  assert.deepEqual([taken(), reloads], [[], 3])
})
