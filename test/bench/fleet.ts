/**
 * A fleet of simulated boxes and one controller on one real etcd: the idle traffic, and rollouts of a signed patch in
 * three stages. Requests and bytes are etcd's own counts (gRPC messages); what goes over the wire is counted by a proxy
 * in front of some of the boxes. `npm run bench -- --only fleet`, or this file by itself.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { EtcdClient } from '../../adapters/etcd/client.ts'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import { keys } from '../../daemon/patch/records.ts'
import type { RolloutState } from '../../daemon/patch/records.ts'
import { CONTROLLER_TIMES, RolloutController } from '../../daemon/patch/rollout/controller.ts'
import { trustingReader } from '../../daemon/patch/rollout/reader.ts'
import { serviceScope, type ServiceScope } from '../services/index.ts'
import type { BoxOrder, BoxReport, RateOrder } from './fleet-box.ts'
import { countersOf, since, type Counters, type Spent } from './fleet-counters.ts'
import { signedPatch, trustIn } from './fleet-patch.ts'
import { rounded } from './measure.ts'
import { countingWire, type Wire } from './wire.ts'

const BOX = fileURLToPath(new URL('fleet-box.ts', import.meta.url))
const MONTH_S = 30 * 86_400
const MIB = 1_048_576
const LOG = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
/** Before the idle traffic is measured, time runs so fast for so long: three times the longest interval. */
const WARM_RATE = 40
const WARM_MS = 60_000

export interface FleetOptions {
  readonly boxes: number
  /** Of them, those behind the proxy. */
  readonly sample: number
  readonly programs: number
  /** One rollout for each. */
  readonly slots: readonly number[]
  readonly applyMs: number
  readonly idleMs: number
}

export const FLEET: FleetOptions = { boxes: 1_000, sample: 150, programs: 4, slots: [10, 50], applyMs: 100, idleMs: 200_000 }

interface Bench {
  readonly client: EtcdClient
  readonly wire: Wire
  readonly programs: readonly ChildProcess[]
  /** What boxes warned of since the last look. */
  readonly warnings: string[]
  readonly privateKey: KeyObject
  readonly options: FleetOptions
  read(): Promise<Counters>
}

export async function measureFleet(scope: ServiceScope, options: FleetOptions = FLEET): Promise<Record<string, unknown>> {
  const bench = await openBench(scope, options)
  const idle = await measureIdle(bench)
  await lead(scope, bench)
  const rollouts: RolloutFigures[] = []
  for (const [index, slots] of options.slots.entries()) rollouts.push(await measureRollout(bench, index + 1, slots))
  return { ...options, idle, rollouts, paper: onPaper(rollouts, idle, options) }
}

async function openBench(scope: ServiceScope, options: FleetOptions): Promise<Bench> {
  const etcd = await scope.etcd()
  const endpoints = [{ host: '127.0.0.1', port: etcd.port, secure: false }]
  const client = new EtcdClient(
    { endpoints, prefix: '/edge/v1/', tls: undefined, username: undefined, passwordFile: undefined, timeoutMs: 10_000 },
    new SystemClock(),
  )
  scope.atEnd(() => client.close())
  const wire = await countingWire(scope, etcd.port)
  const { privateKey } = generateKeyPairSync('ed25519')
  const warnings: string[] = []
  const order = { dir: scope.folder(), publicKey: publicTextOf(privateKey), applyMs: options.applyMs }
  const programs = await startBoxes(scope, warnings, orders(order, { direct: etcd.port, counted: wire.port }, options))
  return { client, wire, programs, warnings, privateKey, options, read: () => countersOf(etcd.endpoint, etcd.pid, client) }
}

type Shared = Omit<BoxOrder, 'port' | 'from' | 'count'>

/** The last ones go through the proxy. */
function orders(
  shared: Shared,
  ports: { direct: number; counted: number },
  { boxes, sample, programs }: FleetOptions,
): readonly BoxOrder[] {
  const direct = boxes - sample
  const count = Math.ceil(direct / programs)
  const all: BoxOrder[] = []
  for (let from = 0; from < direct; from += count) all.push({ ...shared, port: ports.direct, from, count: Math.min(count, direct - from) })
  return [...all, { ...shared, port: ports.counted, from: direct, count: sample }]
}

async function startBoxes(scope: ServiceScope, warnings: string[], all: readonly BoxOrder[]): Promise<readonly ChildProcess[]> {
  const programs: ChildProcess[] = []
  for (const order of all) {
    const child = fork(BOX)
    scope.atEnd(() => void child.kill('SIGKILL'))
    const ready = new Promise<void>((resolve, reject) => {
      child.on('message', (report: BoxReport) => {
        if (report.failed !== undefined) warnings.push(report.failed)
        if (report.ready) resolve()
      })
      child.once('exit', () => reject(new Error(`boxes ended: ${warnings.slice(0, 3).join('; ')}`)))
    })
    child.send(order)
    await ready
    programs.push(child)
  }
  return programs
}

/** By now everybody knows the fleet's time: there are no more than a few starts in the figures. */
async function lead(scope: ServiceScope, { client, privateKey }: Bench): Promise<void> {
  const clock = new SystemClock()
  const controller = new RolloutController(
    { etcd: client, clock, random: systemRandom },
    { owner: { gateway: 'bench', life: '1' }, ttlMs: 15_000, ...CONTROLLER_TIMES },
    trustingReader(trustIn(publicTextOf(privateKey))),
    LOG,
  )
  await controller.start(new AbortController().signal)
  scope.atEnd(() => controller.stop(clock.monotonicMs() + 1_000))
}

function setRate({ programs }: Bench, rate: number): void {
  for (const child of programs) child.send({ rate } satisfies RateOrder)
}

interface IdleFigures extends Spent {
  readonly seconds: number
  readonly mibPerBoxAndMonth: number
  /** With TLS and TCP around it. */
  readonly wireMibPerBoxAndMonth: number
  readonly requestsPerBoxAndDay: number
  readonly etcdCpuPercent: number
}

async function measureIdle(bench: Bench): Promise<IdleFigures> {
  const { wire, options } = bench
  setRate(bench, WARM_RATE)
  await sleep(WARM_MS)
  setRate(bench, 1)
  await sleep(5_000)
  const [before, bytes, wireBytes, startMs] = [await bench.read(), wire.bytes(), wire.wireBytes(), performance.now()]
  await sleep(options.idleMs)
  const after = await bench.read()
  const seconds = (performance.now() - startMs) / 1_000
  const aMonth = (all: number): number => rounded((all / options.sample / seconds / MIB) * MONTH_S)
  const spent = since(before, after, options.boxes)
  return {
    seconds: rounded(seconds),
    mibPerBoxAndMonth: aMonth(wire.bytes() - bytes),
    wireMibPerBoxAndMonth: aMonth(wire.wireBytes() - wireBytes),
    requestsPerBoxAndDay: rounded((spent.requestsPerBox * 86_400) / seconds),
    etcdCpuPercent: rounded((spent.etcdCpuSeconds * 100) / seconds),
    ...spent,
  }
}

interface RolloutFigures extends Spent {
  readonly slots: number
  readonly seconds: number
  readonly phase: string
  readonly stages: readonly string[]
  readonly warnings: readonly string[]
  readonly wireBytesPerBox: number
  readonly etcdRssMiB: number
  readonly peakRevisionsPerSecond: number
}

async function measureRollout(bench: Bench, sequence: number, slots: number): Promise<RolloutFigures> {
  const { client, wire, options, warnings } = bench
  const id = `bench-${slots}`
  warnings.length = 0
  const [before, wireBytes, startMs] = [await bench.read(), wire.wireBytes(), performance.now()]
  await client.transact({ compare: [], then: [{ put: keys.spec(id), value: signedPatch(id, sequence, slots, bench.privateKey) }] })
  const { state, peak } = await untilItEnds(client, id, before.revision)
  const seconds = (performance.now() - startMs) / 1_000
  await sleep(2_000) // the last ones hear of its end
  const after = await bench.read()
  return {
    slots,
    seconds: rounded(seconds),
    phase: state.phase,
    stages: state.decisions.map(({ at, decided, because }) => `${at} ${decided}: ${because}`),
    warnings: warnings.slice(0, 5),
    ...since(before, after, options.boxes),
    wireBytesPerBox: Math.round((wire.wireBytes() - wireBytes) / options.sample),
    etcdRssMiB: Math.round(after.rssMiB),
    peakRevisionsPerSecond: peak,
  }
}

async function untilItEnds(client: EtcdClient, id: string, from: number): Promise<{ readonly state: RolloutState; readonly peak: number }> {
  let peak = 0
  for (let last = from; ;) {
    await sleep(1_000)
    const { answers, revision } = await client.transact({ compare: [], then: [{ get: keys.rolloutState(id) }] })
    peak = Math.max(peak, revision - last)
    last = revision
    const value = answers[0]?.entries[0]?.value
    const state = value && (JSON.parse(Buffer.from(value).toString()) as RolloutState)
    if (state !== undefined && state.phase !== 'running' && state.phase !== 'waiting') return { state, peak }
  }
}

/**
 * Ten times the boxes. What a box asks for stays: it waits for its turn with the names of those next to it in the queue,
 * however many there are. What grows is a cohort, which names all of its boxes: the last one three quarters of them.
 */
function onPaper(rollouts: readonly RolloutFigures[], idle: IdleFigures, { boxes }: FleetOptions): Record<string, unknown> {
  const times = 10
  const nameBytes = 9
  const cohortBytes = boxes * nameBytes
  return {
    boxes: boxes * times,
    rollouts: rollouts.map(({ slots, requestsPerBox, bytesPerBox, etcdCpuSeconds }) => ({
      slots,
      requests: Math.round(requestsPerBox * boxes * times),
      bytesPerBox: Math.round(bytesPerBox + cohortBytes * (times - 1)),
      etcdCpuSeconds: rounded(etcdCpuSeconds * times),
    })),
    wireMibPerBoxAndMonth: idle.wireMibPerBoxAndMonth,
    idleRequestsPerSecond: rounded((idle.requestsPerBoxAndDay * boxes * times) / 86_400),
    idleEtcdCpuPercent: rounded(idle.etcdCpuPercent * times),
  }
}

async function main(): Promise<void> {
  let release: () => Promise<void> = () => Promise.resolve()
  const scope = serviceScope((end) => {
    release = end
  })
  const number = (name: string, usual: number): number => Number(process.env[name] ?? usual)
  const slots = process.env['FLEET_SLOTS']?.split(',').map(Number) ?? FLEET.slots
  const boxes = number('FLEET_BOXES', FLEET.boxes)
  const sample = Math.min(FLEET.sample, Math.ceil(boxes / 2))
  const options = {
    ...FLEET,
    boxes,
    sample,
    slots,
    applyMs: number('FLEET_APPLY_MS', FLEET.applyMs),
    idleMs: number('FLEET_IDLE_MS', FLEET.idleMs),
  }
  try {
    console.log(JSON.stringify(await measureFleet(scope, options), undefined, 2))
  } finally {
    await release()
  }
}

if (import.meta.main) await main()
