/**
 * What the outbox costs: bytes to flash and CPU per message at given rates, the ceiling of appends, and the start
 * with a large backlog. `node test/bench/store.ts [--from FILE] [--seconds N] [--dir D] [--rates 1000,10000] [--backlog N]`
 */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { DEVICE_LANES } from '../../daemon/ports.ts'
import type { Entry } from '../../daemon/ports.ts'
import { Outbox } from '../../store/outbox.ts'
import { SETTINGS, silent } from '../fakes/store-rig.ts'

const { values } = parseArgs({
  options: {
    from: { type: 'string' },
    seconds: { type: 'string', default: '10' },
    dir: { type: 'string' },
    rates: { type: 'string', default: '1000,10000' },
    backlog: { type: 'string', default: '1000000' },
    delay: { type: 'string', default: 'auto' },
    devices: { type: 'string', default: '200' },
  },
})
const seconds = Number(values.seconds)
const devices = Number(values.devices)
const clock = new SystemClock()
const settings = {
  ...SETTINGS,
  maxBytes: 2 * 2 ** 30,
  ledgerMaxDevices: 10_000,
  commit: { maxDelayMs: values.delay === 'auto' ? ('auto' as const) : Number(values.delay), maxBytes: 4 << 20 },
}
const texts = lines()

/** Payloads of 200 bytes: consecutive log lines, cut. */
function lines(): Buffer[] {
  if (values.from === undefined) return Array.from({ length: 20_000 }, (_, index) => syntheticLine(index))
  const text = readFileSync(values.from)
  return Array.from({ length: Math.floor(text.length / 200) }, (_, index) => text.subarray(index * 200, (index + 1) * 200))
}

function syntheticLine(index: number): Buffer {
  const noise = Math.imul(index, 2_654_435_761) >>> 0
  const line = `2026-11-24T12:${String(index % 60).padStart(2, '0')}:07.${noise % 1000}Z info plc[${noise % 9_000}]: cycle ${index} took ${(noise % 977) / 10} ms, temperature ${(noise % 313) / 7} C, valve ${noise.toString(16)} open, `
  return Buffer.from(line.padEnd(200, `pressure ${noise % 41} bar; `).slice(0, 200))
}

function writtenBytes(): number {
  return Number(/^write_bytes: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
}

async function open(directory: string): Promise<Outbox> {
  const outbox = new Outbox({ dataDir: directory, settings, clock, random: systemRandom, log: silent })
  await outbox.start(new AbortController().signal)
  return outbox
}

let sent = 0
let settled = 0
const waits: number[] = []

function submit(outbox: Outbox, timed: boolean): void {
  const index = sent++
  const payload = texts[index % texts.length] as Buffer
  const device = `dev-${(index * 7) % devices}`
  const at = timed && index % 10 === 0 ? performance.now() : 0
  const entry: Entry = {
    envelope: {
      device,
      stream: 'app',
      topic: `devices/${device}/logs/app`,
      payload,
      receivedMs: Date.now(),
      clockTrusted: true,
      bootMs: clock.bootMs(),
    },
    verdict: { lane: 'normal' },
    bytes: payload.length,
    qos: 1,
    settle: () => {
      settled++
      if (at > 0) waits.push(performance.now() - at)
    },
  }
  outbox.submit(entry)
}

/** Reads and delivers all there is, as the relay does: about twice a second. */
async function drain(outbox: Outbox, until: () => boolean, everyMs: number): Promise<number> {
  let delivered = 0
  while (!until()) {
    for (const lane of DEVICE_LANES) {
      const rows = await outbox.readAfter(lane, 0, 4 << 20)
      const last = rows.at(-1)
      if (last === undefined) continue
      delivered += rows.length
      await outbox.advanceTo([{ lane, epoch: last.epoch, position: last.position }], [])
    }
    if (everyMs > 0) await pause(everyMs)
  }
  return delivered
}

async function atRate(rate: number): Promise<object> {
  const directory = mkdtempSync(join(values.dir ?? tmpdir(), 'bench-'))
  const outbox = await open(directory)
  let done = false
  const draining = drain(outbox, () => done, 500)
  await pause(300)
  const before = { written: writtenBytes(), cpu: process.cpuUsage(), sent, at: performance.now() }
  waits.length = 0
  while (performance.now() - before.at < seconds * 1_000) {
    const due = Math.floor(((performance.now() - before.at) / 1_000) * rate)
    while (sent - before.sent < due) submit(outbox, true)
    await pause(2)
  }
  await until(() => settled === sent)
  const count = sent - before.sent
  const cpu = process.cpuUsage(before.cpu)
  const written = writtenBytes() - before.written
  done = true
  await draining
  const state = outbox.state()
  await outbox.stop(Infinity)
  rmSync(directory, { recursive: true })
  waits.sort((a, b) => a - b)
  const share = (part: number): number => Number(waits[Math.floor(waits.length * part)]?.toFixed(1))
  return {
    rate,
    count,
    commits: state.commits,
    bytesPerPayloadByte: Number((written / (count * 200)).toFixed(2)),
    cpuMicrosPerMessage: Number(((cpu.user + cpu.system) / count).toFixed(1)),
    p50Ms: share(0.5),
    p99Ms: share(0.99),
    rssMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await pause(1)
}

/** As fast as it goes with 32 MiB in flight at most. */
async function fill(outbox: Outbox, count: number): Promise<number> {
  const at = performance.now()
  for (let index = 0; index < count; index++) {
    submit(outbox, false)
    if (index % 500 === 0) {
      await pause(0)
      await until(() => outbox.state().inFlight.messages < 20_000)
    }
  }
  await until(() => settled === sent)
  return Math.round(count / ((performance.now() - at) / 1_000))
}

async function backlog(): Promise<object> {
  const directory = mkdtempSync(join(values.dir ?? tmpdir(), 'bench-'))
  const count = Number(values.backlog)
  let outbox = await open(directory)
  const cpu = process.cpuUsage()
  const appendPerSecond = await fill(outbox, count)
  const used = process.cpuUsage(cpu)
  await outbox.stop(0)
  const fileMiB = Math.round(statSync(join(directory, 'outbox.db')).size / 2 ** 20)
  const startAt = performance.now()
  outbox = await open(directory)
  const startSeconds = (performance.now() - startAt) / 1_000
  const rssMiB = Math.round(process.memoryUsage.rss() / 2 ** 20)
  const drainAt = performance.now()
  const delivered = await drain(outbox, () => outbox.state().lanes.normal.messages === 0, 0)
  const drainPerSecond = Math.round(delivered / ((performance.now() - drainAt) / 1_000))
  await outbox.stop(Infinity)
  rmSync(directory, { recursive: true })
  return {
    rows: count,
    appendPerSecond,
    appendCpuMicros: Number(((used.user + used.system) / count).toFixed(1)),
    fileMiB,
    startSeconds: Number(startSeconds.toFixed(2)),
    rssMiB,
    drainPerSecond,
  }
}

for (const rate of values.rates
  .split(',')
  .filter((text) => text !== '')
  .map(Number))
  console.log(JSON.stringify(await atRate(rate)))
if (values.backlog !== '0') console.log(JSON.stringify(await backlog()))
