/**
 * A gateway's worth of load on an outbox, to be killed: `node store-writer.ts DIR PREFIX`. Prints a line for each
 * fate once it is durable: `s <text>` settled, `x` shed, `d <lane> <position>` delivered up to there; and `r <text>`
 * for what is about to be delivered.
 */
import { writeSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import type { ShedReason } from '../../daemon/ports.ts'
import { Outbox } from '../../store/outbox.ts'
import { SETTINGS, silent, textOf } from '../fakes/store-rig.ts'

const [directory = '', prefix = ''] = process.argv.slice(2)
const clock = new SystemClock()
const settings = {
  ...SETTINGS,
  commit: { maxDelayMs: 3, maxBytes: 1 << 20 },
  ledgerMaxDevices: 20,
  dedupe: { windowMs: 60_000, maxIds: 10_000 },
}
const outbox = new Outbox({ dataDir: directory, settings, clock, random: systemRandom, log: silent })
outbox.ended.catch((error: unknown) => {
  writeSync(1, `e ${String(error)}\n`)
  process.exit(1)
})
await outbox.start(new AbortController().signal)
writeSync(1, 'ready\n')

let sent = 0
let lines: string[] = []

function submit(): void {
  const number = sent++
  const text = `${prefix}:${number}`
  const shed: ShedReason | undefined = number % 11 === 0 ? 'over-limit' : undefined
  const payload = Buffer.from(text)
  const messageId = Buffer.alloc(16)
  messageId.write(text.slice(-16))
  outbox.submit({
    envelope: {
      device: `dev-${number % 50}`,
      stream: 'app',
      topic: 't',
      payload,
      receivedMs: clock.wallMs(),
      clockTrusted: true,
      bootMs: clock.bootMs(),
    },
    verdict: shed === undefined ? { lane: number % 3 === 0 ? 'urgent' : 'normal' } : { shed },
    bytes: payload.length,
    qos: 1,
    messageId,
    settle: () => lines.push(shed === undefined ? `s ${text}` : 'x'),
  })
}

/** Everything that was settled is told before the event loop goes on. */
function tell(): void {
  if (lines.length > 0) writeSync(1, `${lines.join('\n')}\n`)
  lines = []
}

async function deliver(): Promise<void> {
  for (;;) {
    for (const lane of ['urgent', 'normal'] as const) {
      const rows = await outbox.readAfter(lane, 0, 20_000)
      const half = rows.slice(0, Math.ceil(rows.length / 2))
      const last = half.at(-1)
      if (last === undefined) continue
      writeSync(1, half.map((row) => `r ${textOf(row)}\n`).join(''))
      await outbox.advanceTo([{ lane, epoch: last.epoch, position: last.position }], [])
      writeSync(1, `d ${lane} ${last.position}\n`)
    }
    await pause(10)
  }
}

void deliver()
for (;;) {
  for (let index = 0; index < 40; index++) submit()
  tell()
  await pause(1)
  if (outbox.state().inFlight.messages > 5_000) await pause(20)
}
