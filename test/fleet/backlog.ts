/** A long outage in a few seconds: messages put into a box's outbox by the store itself, while its daemon is down. */
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { Outbox } from '../../store/outbox.ts'
import { SETTINGS, silent } from '../fakes/store-rig.ts'

const CHUNK = 5_000
const DEVICES = 100

/** Writes `count` messages of devices `backlog-0` and on; `payloadOf` gives a message's payload by its number. */
export async function writeBacklog(dataDir: string, count: number, payloadOf: (index: number) => Buffer): Promise<void> {
  const clock = new SystemClock()
  const settings = { ...SETTINGS, maxBytes: 2 ** 31, commit: { maxDelayMs: 0, maxBytes: 2 ** 22 } }
  const outbox = new Outbox({ dataDir, settings, clock, random: systemRandom, log: silent })
  await outbox.start(new AbortController().signal)
  for (let first = 0; first < count; first += CHUNK) {
    await new Promise<void>((resolve) => {
      const numbers = Array.from({ length: Math.min(CHUNK, count - first) }, (_, index) => first + index)
      let open = numbers.length
      for (const index of numbers) submit(outbox, clock, index, payloadOf(index), () => (open -= 1) === 0 && resolve())
    })
  }
  await outbox.stop(clock.monotonicMs() + 60_000)
}

function submit(outbox: Outbox, clock: SystemClock, index: number, payload: Buffer, settle: () => void): void {
  const device = `backlog-${index % DEVICES}`
  const topic = `devices/${device}/logs/app/${device}-${Math.floor(index / DEVICES) + 1}`
  outbox.submit({
    envelope: { device, stream: 'app', topic, payload, receivedMs: clock.wallMs(), clockTrusted: true, bootMs: clock.bootMs() },
    verdict: { lane: 'normal' },
    bytes: payload.length,
    qos: 1,
    settle,
  })
}
