/**
 * A fleet of simulated boxes and one controller on one real etcd: a rollout of three stages, and the idle traffic.
 * Bytes are those of gRPC messages, as etcd counts them: HTTP/2, TLS and TCP come on top, measured for a few boxes by a
 * proxy in front of the idle ones. `npm run bench -- --only fleet`, or this file by itself with the same `--json`.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { EtcdClient } from '../../adapters/etcd/client.ts'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { keys } from '../../daemon/patch/records.ts'
import type { RolloutState } from '../../daemon/patch/records.ts'
import { CONTROLLER_TIMES, RolloutController } from '../../daemon/patch/rollout/controller.ts'
import { encode, patchFor, plainReader, plan } from '../fakes/rollout.ts'
import { serviceScope, type ServiceScope } from '../services/index.ts'
import type { BoxOrder, BoxReport } from './fleet-box.ts'
import { rounded, usageOf } from './measure.ts'

const BOX = fileURLToPath(new URL('fleet-box.ts', import.meta.url))
const PATCH = 'bench'
const MONTH_S = 30 * 86_400
const LOG = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const STAGES = [
  { size: { count: 1 }, bakeMs: 1_000, minDone: 1 },
  { size: { fraction: 0.25 }, bakeMs: 1_000, minDone: 1 },
  { size: { fraction: 1 }, bakeMs: 1_000, minDone: 0.9 },
]

export interface FleetOptions {
  readonly boxes: number
  readonly programs: number
  readonly slots: number
  readonly applyMs: number
  readonly idleMs: number
}

export const FLEET: FleetOptions = { boxes: 1_000, programs: 4, slots: 50, applyMs: 100, idleMs: 180_000 }

interface Counters {
  readonly requests: number
  readonly received: number
  readonly sent: number
  readonly cpuSeconds: number
  readonly rssMiB: number
  readonly revision: number
}

export async function measureFleet(scope: ServiceScope, options: FleetOptions = FLEET): Promise<Record<string, unknown>> {
  const etcd = await scope.etcd()
  const clock = new SystemClock()
  const endpoints = [{ host: '127.0.0.1', port: etcd.port, secure: false }]
  const client = new EtcdClient(
    { endpoints, prefix: '/edge/v1/', tls: undefined, username: undefined, passwordFile: undefined, timeoutMs: 10_000 },
    clock,
  )
  scope.atEnd(() => client.close())
  const read = (): Promise<Counters> => countersOf(etcd.endpoint, etcd.pid, client)
  const fleet = await startBoxes(scope, etcd.port, options)
  const sample = await startSample(scope, etcd.port, options)
  const idle = await measureIdle(read, sample.bytes, options)
  const controller = new RolloutController(
    { etcd: client, clock, random: systemRandom },
    { owner: { gateway: 'bench', life: '1' }, ttlMs: 15_000, ...CONTROLLER_TIMES },
    plainReader,
    LOG,
  )
  await controller.start(new AbortController().signal)
  scope.atEnd(() => controller.stop(clock.monotonicMs() + 1_000))
  const rollout = await measureRollout(client, read, fleet, options)
  return { ...options, rollout, idle, paper: onPaper(rollout, idle, options) }
}

async function startBoxes(scope: ServiceScope, port: number, options: FleetOptions): Promise<readonly ChildProcess[]> {
  const count = Math.ceil(options.boxes / options.programs)
  const children: ChildProcess[] = []
  for (let from = 0; from < options.boxes; from += count) {
    const order = { port, from, count: Math.min(count, options.boxes - from), applyMs: options.applyMs, lockTtlMs: 30_000 }
    children.push(await startProgram(scope, order))
  }
  return children
}

async function startProgram(scope: ServiceScope, order: BoxOrder): Promise<ChildProcess> {
  const child = fork(BOX)
  scope.atEnd(() => void child.kill('SIGKILL'))
  child.send(order)
  const [report] = (await once(child, 'message')) as [BoxReport]
  if (report.failed !== undefined) throw new Error(report.failed)
  return child
}

/** Some more boxes behind a proxy that counts every byte of their connections. They take part like all others. */
async function startSample(scope: ServiceScope, port: number, options: FleetOptions): Promise<{ readonly bytes: () => number }> {
  const proxy = await scope.proxy({ target: port })
  await startProgram(scope, { port: proxy.port, from: options.boxes, count: SAMPLE, applyMs: options.applyMs, lockTtlMs: 30_000 })
  return { bytes: () => proxy.bytes.toServer + proxy.bytes.toClient }
}
const SAMPLE = 50

async function countersOf(endpoint: string, pid: number, client: EtcdClient): Promise<Counters> {
  const text = await (await fetch(`${endpoint}/metrics`)).text()
  const sum = (name: string): number =>
    [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.e+]+)$`, 'gm'))].reduce((total, match) => total + Number(match[1]), 0)
  const { revision } = await client.list({ prefix: '~none/', keysOnly: true })
  return {
    requests: sum('grpc_server_msg_received_total'),
    received: sum('etcd_network_client_grpc_received_bytes_total'),
    sent: sum('etcd_network_client_grpc_sent_bytes_total'),
    cpuSeconds: usageOf(pid).cpuSeconds,
    rssMiB: usageOf(pid).rssMiB,
    revision,
  }
}

interface IdleFigures {
  readonly seconds: number
  readonly bytesPerBox: number
  readonly mibPerBoxAndMonth: number
  readonly requestsPerBoxAndDay: number
  readonly etcdCpuPercent: number
}

async function measureIdle(read: () => Promise<Counters>, bytes: () => number, options: FleetOptions): Promise<IdleFigures> {
  const [before, bytesBefore, startMs] = [await read(), bytes(), performance.now()]
  await sleep(options.idleMs)
  const [after, bytesAfter] = [await read(), bytes()]
  const seconds = (performance.now() - startMs) / 1_000
  const perBox = (bytesAfter - bytesBefore) / SAMPLE
  return {
    seconds: rounded(seconds),
    bytesPerBox: rounded(perBox),
    mibPerBoxAndMonth: rounded((perBox * MONTH_S) / seconds / 1_048_576),
    requestsPerBoxAndDay: rounded(((after.requests - before.requests) * 86_400) / seconds / (options.boxes + SAMPLE)),
    etcdCpuPercent: rounded(((after.cpuSeconds - before.cpuSeconds) * 100) / seconds),
  }
}

interface RolloutFigures {
  readonly seconds: number
  readonly phase: string
  readonly requestsPerBox: number
  readonly bytesPerBox: number
  readonly etcdCpuSeconds: number
  readonly etcdRssMiB: number
  readonly peakRevisionsPerSecond: number
}

async function measureRollout(
  client: EtcdClient,
  read: () => Promise<Counters>,
  fleet: readonly ChildProcess[],
  options: FleetOptions,
): Promise<RolloutFigures & Record<string, unknown>> {
  const failed: string[] = []
  for (const child of fleet) child.on('message', ({ failed: why }: BoxReport) => why !== undefined && failed.push(why))
  const rollout = plan({ stages: STAGES, maxFailures: 3, concurrency: { scope: 'bench', slots: options.slots } })
  const patch = patchFor(PATCH, { rollout, expires: Date.now() + 86_400_000 })
  const [before, startMs] = [await read(), performance.now()]
  await client.transact({ compare: [], then: [{ put: keys.spec(PATCH), value: encode(patch) }] })
  let peak = 0
  let state: RolloutState | undefined
  for (let last = before.revision; state === undefined || state.phase === 'running' || state.phase === 'waiting';) {
    await sleep(1_000)
    const { answers, revision } = await client.transact({ compare: [], then: [{ get: keys.rolloutState(PATCH) }] })
    peak = Math.max(peak, revision - last)
    last = revision
    const value = answers[0]?.entries[0]?.value
    if (value !== undefined) state = JSON.parse(Buffer.from(value).toString()) as RolloutState
  }
  const after = await read()
  const boxes = options.boxes + SAMPLE
  return {
    seconds: rounded((performance.now() - startMs) / 1_000),
    phase: state.phase,
    stages: state.decisions.map(({ at, decided, because }) => `${at} ${decided}: ${because}`),
    failed: failed.slice(0, 5),
    requestsPerBox: rounded((after.requests - before.requests) / boxes),
    bytesPerBox: Math.round((after.received + after.sent - before.received - before.sent) / boxes),
    etcdCpuSeconds: rounded(after.cpuSeconds - before.cpuSeconds),
    etcdRssMiB: Math.round(after.rssMiB),
    peakRevisionsPerSecond: peak,
  }
}

/**
 * Ten times the boxes. Requests per box stay (they grow with the slots of the lock: each release wakes the waiters that
 * stand next, as many as there are slots); their number in all is ten times as many. What grows per box is the
 * reading of cohorts: each box reads each cohort once, and a cohort of the last stage holds three quarters of all
 * names, so the bytes of cohorts grow with the square of the fleet.
 */
function onPaper(rollout: RolloutFigures, idle: IdleFigures, { boxes }: FleetOptions): Record<string, unknown> {
  const times = 10
  const nameBytes = 10
  const cohortBytes = boxes * nameBytes
  return {
    boxes: boxes * times,
    requests: Math.round(rollout.requestsPerBox * boxes * times),
    bytesPerBox: Math.round(rollout.bytesPerBox + cohortBytes * (times - 1)),
    etcdCpuSeconds: rounded(rollout.etcdCpuSeconds * times),
    idleMibPerBoxAndMonth: idle.mibPerBoxAndMonth,
    idleRequestsPerSecond: rounded((idle.requestsPerBoxAndDay * boxes * times) / 86_400),
    idleEtcdCpuPercent: rounded(idle.etcdCpuPercent * times),
  }
}

async function main(): Promise<void> {
  let release: () => Promise<void> = () => Promise.resolve()
  const scope = serviceScope((end) => {
    release = end
  })
  const asked = Number(process.env['FLEET_BOXES'] ?? FLEET.boxes)
  try {
    console.log(
      JSON.stringify(await measureFleet(scope, { ...FLEET, boxes: asked, idleMs: Number(process.env['FLEET_IDLE_MS'] ?? FLEET.idleMs) })),
    )
  } finally {
    await release()
  }
}

if (import.meta.main) await main()
